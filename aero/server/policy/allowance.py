"""Allowances: so much at once, then so much a second, for each of many addresses and for all. Pure; time is passed in.

There are as many addresses as a spoofer likes, so only the latest are remembered: who comes again after the others
begins anew, and what all get together bounds that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Allowance:
    """One bucket: ``burst`` at once, then ``per_s`` a second."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        """It is full at first."""
        self._burst = self._left = burst
        self._per_s = per_s
        self._at = now

    def has(self, amount: float, now: float) -> bool:
        """Whether so much is left."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        return self._left >= amount

    def spend(self, amount: float) -> None:
        """Takes what ``has`` has said is there."""
        self._left -= amount


class Allowances:
    """A bucket for each address."""

    def __init__(self, burst: float, per_s: float, remembered: int) -> None:
        """``remembered``: of how many addresses, some 200 bytes each."""
        self._burst = burst
        self._per_s = per_s
        self._remembered = remembered
        self._of: OrderedDict[Hashable, Allowance] = OrderedDict()

    def of(self, whose: Hashable, now: float) -> Allowance:
        """An address's bucket; a full one for who is not remembered."""
        found = self._of.get(whose)
        if found is None:
            if len(self._of) >= self._remembered:
                self._of.popitem(last=False)
            found = self._of[whose] = Allowance(self._burst, self._per_s, now)
        else:
            self._of.move_to_end(whose)
        return found
