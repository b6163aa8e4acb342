"""How much may wait unsent on a link: what it sends in some milliseconds, so that short messages stay quick.

What has entered the outbox leaves in its order, so a short message waits for all that is before it. So no more enters
than the link takes in some milliseconds. The rest stays in the visitors' sockets, and the session chooses whose turn it
is.
"""

from __future__ import annotations

# Leaves in 13 ms at 10 Mbit/s. With less, records get so small that their cost outweighs the wait that is saved.
MIN_BYTES = 16 * 1024
# One record of the largest size: more does not make a fast link faster.
MAX_BYTES = 256 * 1024

# How long the waiting bytes may take to leave: a small message that comes behind them waits as long, and a person
# at a shell begins to notice 10 ms. Bytes that leave within FAST_S leave room for twice as many.
SLOW_S = 0.010
FAST_S = 0.003


class Pacing:
    """Finds the amount: halves it when it took over SLOW_S to leave, doubles it when it took less than FAST_S."""

    __slots__ = ("_blocked_at", "burst_bytes")

    def __init__(self) -> None:
        """Begins with the most: what is slow shows at once."""
        self.burst_bytes = MAX_BYTES
        self._blocked_at = 0.0

    def blocked(self, now: float) -> None:
        """The kernel took only a part of what it was given."""
        self._blocked_at = now

    def drained(self, now: float) -> bool:
        """The kernel takes more again; returns True when ``burst_bytes`` has changed."""
        took_s = now - self._blocked_at
        if took_s > SLOW_S and self.burst_bytes > MIN_BYTES:
            self.burst_bytes >>= 1
            return True
        if took_s < FAST_S and self.burst_bytes < MAX_BYTES:
            self.burst_bytes <<= 1
            return True
        return False
