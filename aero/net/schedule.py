"""Which of several ways to a server is tried next, and when: a pure schedule, as RFC 8305 has it for addresses.

    the way that began last                  the next one begins
    ------------------------------------------------------------------
    is not connected yet                     STAGGER_S after it began
    is connected, and has not got through    PATIENCE_S after that
    any one has failed                       at once

A network that drops what it does not like says nothing: that is what the short wait is for. One that answers for
everybody, as a hotel's does, connects and then says nothing: that is what the long one is for; and a slow path to
a good server must not make a worker try all its ways each time. Time is passed in; knows no sockets.
"""

from __future__ import annotations

STAGGER_S = 0.25  # RFC 8305, section 5
# Four round trips to the other side of the world and the server's arithmetic; a person still waits as long.
PATIENCE_S = 2.0


class Schedule:
    """One attempt to get through by one of ``count`` ways, which are in the order of preference."""

    def __init__(self, count: int, now: float) -> None:
        """``count``: 1 at least; the first is due at ``now``."""
        self._count = count
        self._begun = 0
        self._failed: set[int] = set()
        self._next_at = now

    @property
    def over(self) -> bool:
        """Whether every way has failed."""
        return len(self._failed) == self._count

    def due(self, now: float) -> int | None:
        """The way that is to begin now, which has then begun; None where none is. Ask until it is None."""
        if self.next_at is None or now < self._next_at:
            return None
        way, self._begun = self._begun, self._begun + 1
        self._next_at = now + STAGGER_S
        return way

    @property
    def next_at(self) -> float | None:
        """When to ask ``due`` again, should nothing happen before; None where all have begun."""
        while self._begun < self._count and self._begun in self._failed:
            self._begun += 1
        return self._next_at if self._begun < self._count else None

    def connected(self, way: int, now: float) -> None:
        """A way's connection stands, to the server or to a proxy; it has not got through yet."""
        if way == self._begun - 1:
            self._next_at = now + PATIENCE_S

    def failed(self, way: int, now: float) -> None:
        """A way cannot be used, whether it has begun or not."""
        if way < self._begun and way not in self._failed:
            self._next_at = now
        self._failed.add(way)
