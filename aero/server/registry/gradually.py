"""Work that is done a slice at a time: a generator that yields where others may have a turn, and returns the end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeVar

import gevent

T = TypeVar("T")
Gradual = Generator[None, None, T]
#: Ports that are bound, watched or closed in one go: some 1 to 2 ms.
SLICE = 64


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Closes it."""


def close_gradually(some: Sequence[Closing]) -> None:
    """Closes what there is of one thing: the first slice at once, the others a turn each."""
    for each in some[:SLICE]:
        each.close()
    if len(some) > SLICE:
        gevent.spawn(_close_rest, some[SLICE:])


def _close_rest(some: Sequence[Closing]) -> None:
    for number, each in enumerate(some):
        if not number % SLICE:
            gevent.sleep(0.001)
        each.close()


def at_once(work: Gradual[T]) -> T:
    """All of it in one turn of the loop: for what is small."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
