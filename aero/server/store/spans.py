"""What has one port or several in a row, found by any of them. Pure; knows nothing of what it holds."""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

T = TypeVar("T")

_PORTS = 65536


class Spans(Generic[T]):
    """Things by their ports, none of which two share.

    One with a single port costs an entry in a dictionary. The first with more makes an array for all ports, 128 KiB,
    that has each port's first one: so 10,000 ports in a row cost no more than one does.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self._items: dict[int, tuple[int, T]] = {}  # by the first port: how many, and what
        self._firsts: array[int] | None = None

    def __contains__(self, port: int) -> bool:
        return self.at(port) is not None

    def put(self, first: int, count: int, item: T) -> None:
        """``item`` has ``count`` ports from ``first`` on; what had ``first`` as its own first one is gone."""
        self.take(first)
        self._items[first] = count, item
        if count > 1:
            if self._firsts is None:
                self._firsts = array("H", bytes(2 * _PORTS))
            self._firsts[first : first + count] = array("H", [first]) * count

    def take(self, first: int) -> int:
        """What begins there is gone; how many ports it had, 0 where there was nothing."""
        count, _ = self._items.pop(first, (0, None))
        if count > 1 and self._firsts is not None:
            self._firsts[first : first + count] = array("H", bytes(2 * count))
        return count

    def at(self, port: int) -> T | None:
        """What has a port."""
        found = self._items.get(port)
        if found is None and self._firsts is not None:
            found = self._items.get(self._firsts[port])
        return found[1] if found is not None else None

    def begins(self, first: int, count: int) -> list[int]:
        """The first port of whatever has one of some ports, in their order."""
        end = first + count
        if len(self._items) < count:
            each = self._items.items()
            return sorted(begun for begun, (row, _) in each if begun < end and first < begun + row)
        found: list[int] = []
        port = first
        while port < end:
            begun = port if port in self._items or self._firsts is None else self._firsts[port]
            if begun in self._items:
                found.append(begun)
                port = begun + self._items[begun][0]
            else:
                port += 1
        return found

    def over(self, first: int, count: int) -> list[T]:
        """Whatever has one of some ports, each once, in the order of their ports."""
        return [self._items[begun][1] for begun in self.begins(first, count)]
