"""Ranges of ports: pairs of the first and the last one. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange


def without(ranges: Iterable[PortRange], taken: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """What is left of some ranges."""
    left = list(ranges)
    for low, high in taken:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return tuple(left)


def within(port: int, ranges: Iterable[PortRange]) -> bool:
    """Whether a port is in one of some ranges."""
    return any(low <= port <= high for low, high in ranges)


def count(ranges: Iterable[PortRange]) -> int:
    """How many ports there are in some ranges."""
    return sum(high - low + 1 for low, high in ranges)


def shown(ranges: Iterable[PortRange]) -> str:
    """Ranges as people write them: ``443,30000-30099``."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def around(number: int, ranges: tuple[PortRange, ...], row: int = 1) -> Iterator[PortRange]:
    """All ports of some ranges, once around, from the ``number``-th one, counted round and round.

    Where ``row`` ports in a row are looked for, those that begin before that one and end behind it are there, too.
    """
    left = number % (count(ranges) or 1)
    for place, (low, high) in enumerate(ranges):
        if left <= high - low:
            yield low + left, high
            yield from ranges[place + 1 :]
            yield from ranges[:place]
            yield low, min(low + left + row - 2, high)
            return
        left -= high - low + 1
