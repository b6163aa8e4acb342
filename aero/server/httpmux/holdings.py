"""What the mux's visitors have it hold: heads that are not whole, requests that wait in a row, bodies to repeat.

One holder for the process' incoming half of --memory (core/memory.py). When it has to give way, repetitions go first,
which cost nobody anything unless a target fails; then connections, those that hold the most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Occupant(Protocol):
    """A visitor, as this module knows him."""

    @property
    def repeated_bytes(self) -> int:
        """Of a request's body: what is kept to send it again elsewhere."""

    @property
    def held_bytes(self) -> int:
        """What else is held for him."""

    def repeat_no_more(self) -> None:
        """Lets go of what is kept to be sent again."""

    def make_room(self) -> None:
        """The connection ends: with a 503 where nothing was asked for yet, else with a reset."""


class Holdings:
    """All visitors of a mux, as one holder."""

    def __init__(self, visitors: Iterable[Occupant]) -> None:
        """``visitors``: those who are here, as a set that changes."""
        self._visitors = visitors

    @property
    def held_bytes(self) -> int:
        """How much all of them hold."""
        return sum(each.held_bytes + each.repeated_bytes for each in self._visitors)

    def give_way(self, count: int) -> int:
        """Lets go of ``count`` bytes or more where there are as many; returns how many bytes that were."""
        freed = 0
        repeated = [(each.repeated_bytes, each) for each in self._visitors]
        for size, visitor in sorted(repeated, key=_size, reverse=True):
            if not size or freed >= count:
                break
            visitor.repeat_no_more()
            freed += size
        held = [(each.held_bytes, each) for each in self._visitors] if freed < count else []
        for size, visitor in sorted(held, key=_size, reverse=True):
            if not size or freed >= count:
                break
            visitor.make_room()
            freed += size
        return freed


def _size(pair: tuple[int, Occupant]) -> int:
    return pair[0]
