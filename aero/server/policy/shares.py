"""Shares: how many of a limited number of places one address may hold. Knows numbers, no sockets.

Whoever comes may hold half of what is free, or a few places in any case. So one address alone gets a third of an
empty house, two get a third and some less, and there is always room for the next one. A network that is handed out
to a household or a site gets two and four times as much as one host in it.
"""

from __future__ import annotations

from collections import Counter

from aero.server.policy.origin import groups_of


class Shares:
    """Places by the addresses that hold them."""

    def __init__(self, places: int, minimum: int, of_free: float = 0.5) -> None:
        """``minimum``: what each address may hold even when little is free; ``of_free`` 0: that and never more."""
        self.places = places
        self.taken = 0  # by addresses of all kinds, those of whom no share is asked included
        self._minimum = minimum
        self._of_free = of_free
        self._held: Counter[bytes] = Counter()  # by group

    def full(self, ip: str) -> bytes | None:
        """The group of ``ip`` that may hold no more, as ``groups_of`` names it; None where there is a place."""
        free = max(self.places - self.taken, 0)
        for level, group in enumerate(groups_of(ip)):
            share = max(self._minimum, int(free * self._of_free)) << level
            if self._held[group] >= share:
                return group
        return None

    def take(self, ip: str) -> None:
        """One place is taken, whether ``full`` allows it or not; ``give`` ends it. ``ip``: "" for nobody's share."""
        self.taken += 1
        if ip:
            self._held.update(groups_of(ip))

    def give(self, ip: str) -> None:
        """A place is free again."""
        self.taken -= 1
        for group in groups_of(ip) if ip else ():
            self._held[group] -= 1
            if not self._held[group]:
                del self._held[group]
