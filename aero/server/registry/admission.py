"""Who is let in to a target now: by the networks of its owner's rule and its own, by number, and by quota.

Every list of networks must allow a visitor's address, and who is denied is not let in. What holds for one target alone
is its fence: made only for targets that ask for one, so that others cost nothing.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from aero.core.control import Options
from aero.errors import ConfigError
from aero.server.policy.origin import key_of

if TYPE_CHECKING:
    from aero.server.policy.rules import Networks

#: Networks of one target at the most.
NETWORKS = 64


class NotAdmitted(NamedTuple):
    """Why somebody is not let in: the word that it is counted by, the words for people, when to come again."""

    reason: str
    text: str
    retry_s: int = 0


NOT_FROM_THERE = NotAdmitted("visitors", "the target does not let in visitors from this address")
NOT_THIS_WAY = NotAdmitted("protocol", "the target is not served this way")


def networks(texts: object) -> Networks:
    """Networks in CIDR notation. Raises ConfigError."""
    import ipaddress

    items = texts if isinstance(texts, list) else [texts]
    if not items or len(items) > NETWORKS:
        raise ConfigError(f"write 1 to {NETWORKS} networks")
    try:
        return tuple(ipaddress.ip_network(each) for each in items if isinstance(each, str))
    except ValueError as error:
        raise ConfigError(f"{error}"[:100]) from None


@lru_cache(4096)
def address_of(ip: str) -> Any:
    """An `ipaddress` address, IPv4 also where it is written as IPv6; None for what is none."""
    import ipaddress

    try:
        found = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


class Fence:
    """What one target asks for: networks, streams of each visitor's address, new streams a second. Knows no clock."""

    __slots__ = ("_allowed", "_begun", "_each", "_held", "_new", "_second")

    def __init__(self, options: Options) -> None:
        """``options``: as terms.py has read them."""
        self._allowed = networks(options["visitors"]) if "visitors" in options else ()
        self._each = int(options.get("visitor-streams", 0))  # type: ignore[arg-type]  # terms.py has read it
        self._new = int(options.get("new-streams", 0))  # type: ignore[arg-type]
        self._held: Counter[bytes] = Counter()
        self._second = 0
        self._begun = 0

    @classmethod
    def of(cls, options: Options) -> Fence | None:
        """A target's fence, None where it asks for none."""
        return cls(options) if {"visitors", "visitor-streams", "new-streams"} & options.keys() else None

    def why_not(self, ip: str, now: float) -> NotAdmitted | None:
        """Why a visitor is not let in now; None where he is."""
        if self._allowed:
            address = address_of(ip)
            if address is None or not any(address in network for network in self._allowed):
                return NOT_FROM_THERE
        if self._each and self._held[key_of(ip)] >= self._each:
            return NotAdmitted("visitor streams", f"the target lets an address have {self._each} streams", 1)
        if self._new and int(now) == self._second and self._begun >= self._new:
            return NotAdmitted("new streams", f"the target takes {self._new} new streams a second", 1)
        return None

    def take(self, ip: str, now: float) -> None:
        """A stream begins; ``give`` ends it."""
        if self._each:
            self._held[key_of(ip)] += 1
        if self._new:
            if int(now) != self._second:
                self._second, self._begun = int(now), 0
            self._begun += 1

    def give(self, ip: str) -> None:
        """A stream is over."""
        if self._each:
            key = key_of(ip)
            self._held[key] -= 1
            if self._held[key] <= 0:
                del self._held[key]
