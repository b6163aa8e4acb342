"""The visits to one UDP mapping: who is there, who goes when there is no place, who has been silent too long. Pure.

A visit is **proven** once its visitor has said something after it was answered, and **fresh** before: a spoofed source
never gets that far by itself. Who is fresh goes before anybody who is proven, so a flood of made-up visitors costs
the others nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Visiting(Protocol):
    """One visitor's conversation, as the table needs it."""

    key: Hashable  # the visitor
    whose: str  # whose share it is, "" for nobody's
    proven: bool
    used_at: float


V = TypeVar("V", bound=Visiting)


class Visits(Generic[V]):
    """All visits to one mapping, the least recently used first."""

    def __init__(self, places: int, each: int) -> None:
        """``places`` of all, ``each`` of one address."""
        self._places = places
        self._each = each
        self._fresh: OrderedDict[Hashable, V] = OrderedDict()
        self._proven: OrderedDict[Hashable, V] = OrderedDict()
        self._by_address: dict[str, set[V]] = {}

    def __len__(self) -> int:
        return len(self._fresh) + len(self._proven)

    def __iter__(self) -> Iterator[V]:
        yield from list(self._fresh.values())
        yield from list(self._proven.values())

    def get(self, key: Hashable) -> V | None:
        """The visit of a visitor."""
        return self._proven.get(key) or self._fresh.get(key)

    def touch(self, visit: V, now: float) -> None:
        """A datagram went either way."""
        visit.used_at = now
        (self._proven if visit.proven else self._fresh).move_to_end(visit.key)

    def prove(self, visit: V) -> None:
        """The visitor has answered an answer."""
        if not visit.proven:
            del self._fresh[visit.key]
            visit.proven = True
            self._proven[visit.key] = visit

    def room_for(self, whose: str) -> V | None:
        """Who has to go before one more can be there; None where there is a place."""
        mine = self._by_address.get(whose)
        if mine is not None and len(mine) >= self._each:
            return min(mine, key=lambda each: (each.proven, each.used_at))
        return self.first_to_go if len(self) >= self._places else None

    @property
    def first_to_go(self) -> V | None:
        """Who goes where a place is needed."""
        return next(iter((self._fresh or self._proven).values()), None)

    def add(self, visit: V) -> None:
        """One more; ``room_for`` has said that there is a place."""
        (self._proven if visit.proven else self._fresh)[visit.key] = visit
        if visit.whose:
            self._by_address.setdefault(visit.whose, set()).add(visit)

    def remove(self, visit: V) -> None:
        """A visit is over. Harmless when it was before."""
        if self.get(visit.key) is not visit:
            return
        del (self._proven if visit.proven else self._fresh)[visit.key]
        mine = self._by_address.get(visit.whose)
        if mine is not None:
            mine.discard(visit)
            if not mine:
                del self._by_address[visit.whose]

    def silent_since(self, at: float) -> list[V]:
        """Those that were last used before ``at``."""
        found = []
        for table in (self._fresh, self._proven):
            for visit in table.values():
                if visit.used_at >= at:
                    break
                found.append(visit)
        return found
