"""A map of ports: a byte for each, whether somebody has a claim to it: free ones are found without a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from aero.core.blocks import pages
from aero.server.registry.ports.ranges import around

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange

PORTS = 65536
_FREE, _TAKEN = b"\0", b"\1"


class PortMap:
    """The ports of one protocol."""

    def __init__(self) -> None:
        """All are free."""
        self._map = pages(PORTS)  # of which only those are resident where somebody has a claim

    def take(self, first: int, row: int) -> None:
        """So many from one on are somebody's."""
        self._map[first : first + row] = _TAKEN * row

    def free(self, first: int, row: int) -> None:
        """So many from one on are nobody's."""
        self._map[first : first + row] = _FREE * row

    def is_free(self, first: int, row: int) -> bool:
        """Whether so many from one on are nobody's."""
        return self._map.find(_TAKEN, first, first + row) < 0

    def left(self, ranges: Iterable[PortRange]) -> int:
        """How many of some ranges are nobody's."""
        return sum(self._map[low : high + 1].count(_FREE) for low, high in ranges)

    def free_from(self, number: int, ranges: tuple[PortRange, ...]) -> Iterator[int]:
        """All free ports of some ranges, once around from the ``number``-th one."""
        for first, last in around(number, ranges):
            at = self._map.find(_FREE, first, last + 1)
            while at >= 0:
                yield at
                at = self._map.find(_FREE, at + 1, last + 1)

    def rows_from(
        self, number: int, ranges: tuple[PortRange, ...], row: int, busy: list[int]
    ) -> Iterator[int]:
        """Where ``row`` free ports in a row begin, once around from the ``number``-th port.

        ``busy``: ports that cannot be had; whoever finds one as he tries a row puts it there before the next.
        """
        for first, last in around(number, ranges, row):
            at = first
            while at + row <= last + 1:
                taken = self._map.find(_TAKEN, at, at + row)
                if taken < 0:
                    taken = _last_within(busy, at, row)
                if taken < 0:
                    yield at
                    taken = max(_last_within(busy, at, row), at)
                at = taken + 1


def _last_within(ports: list[int], first: int, row: int) -> int:
    return max((port for port in ports if first <= port < first + row), default=-1)
