"""How much may wait unsent on a link: as much as drains in some milliseconds, so that short messages stay quick.

What stands behind this mark stays in the visitors' own sockets, where the session can still choose whose turn it
is; what has passed it is first in, first out. Time is passed in.
"""

from __future__ import annotations

LEAST_BYTES = (
    16 * 1024
)  # drains in 13 ms at 10 Mbit/s; below it the cost per record outweighs the wait that it saves
MOST_BYTES = 256 * 1024  # one record: more does not make a fast link faster

SLOW_S = (
    0.010  # a small message that comes just then waits that long: what a person begins to notice in a shell
)
FAST_S = 0.003


class Pacing:
    """Finds the amount by halving what took too long to drain and doubling what went quickly."""

    __slots__ = ("_blocked_at", "burst_bytes")

    def __init__(self) -> None:
        self.burst_bytes = MOST_BYTES
        self._blocked_at = 0.0

    def blocked(self, now: float) -> None:
        """The link took only a part of what it was given."""
        self._blocked_at = now

    def drained(self, now: float) -> bool:
        """It has taken the rest; True when ``burst_bytes`` has changed."""
        took_s = now - self._blocked_at
        if took_s > SLOW_S and self.burst_bytes > LEAST_BYTES:
            self.burst_bytes >>= 1
            return True
        if took_s < FAST_S and self.burst_bytes < MOST_BYTES:
            self.burst_bytes <<= 1
            return True
        return False
