"""A budget: how often a peer may ask for something. Time is passed in; nothing else is known here."""

from __future__ import annotations


class Budget:
    """So many at once, then so many a second (a token bucket)."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, burst: int, per_s: float, now: float) -> None:
        """``burst`` at once, then ``per_s`` a second; ``now`` in seconds, by the clock that all calls use."""
        self._burst = self._left = float(burst)
        self._per_s = per_s
        self._at = now

    def spend(self, now: float) -> bool:
        """Takes one; returns False when none is left, and takes nothing then."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
