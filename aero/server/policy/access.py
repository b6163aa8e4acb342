"""Whether a target with ``access=closed`` takes visitors now, and from where. Pure: time is passed in.

It opens for a time and closes by itself. What is unclear stays closed: a server that is started anew has nothing open.
"""

from __future__ import annotations

from aero.errors import ConfigError
from aero.server.policy.proxies import Trust

#: The longest that a target may be open for, in seconds: a month.
LONGEST_S = 30 * 24 * 3600


class Access:
    """One closed target."""

    def __init__(self) -> None:
        """Begins closed."""
        self.until = 0.0  # when it closes, on the monotonic clock
        self.cuts = False  # then open streams end, too
        self.whence = ""  # from where visitors may come: a network, "" for anywhere
        self._networks: Trust | None = None

    def open(self, until: float, whence: str, cuts: bool) -> None:
        """Lets visitors in until then, from an address or network or, with "", from anywhere; in place of what held.

        Raises ConfigError for what is neither.
        """
        from ipaddress import ip_network

        try:
            self._networks = Trust((ip_network(whence),)) if whence else None
        except ValueError:
            raise ConfigError(
                f"{whence[:60]!r} is no address or network, write for example 10.0.0.0/8"
            ) from None
        self.until, self.whence, self.cuts = until, whence, cuts

    def close(self) -> None:
        """Lets nobody in."""
        self.until = 0.0

    def is_open(self, now: float) -> bool:
        """Whether anybody may come."""
        return now < self.until

    def lets_in(self, ip: str, now: float) -> bool:
        """Whether a visitor from an address may come."""
        return now < self.until and (self._networks is None or self._networks.covers(ip))
