"""Who is who behind proxies: the address that a visitor is known by, in shares, limits, logs and at the target.

Whoever is connected is a visitor, or a proxy that speaks for others. What a proxy says of them counts only where an
operator trusts it. Pure: texts in, an address out.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from typing import Union

    Ip = Union[IPv4Address, IPv6Address]
    Networks = tuple[Union[IPv4Network, IPv6Network], ...]

#: Proxies in a row that are looked through: a CDN, a balancer, an ingress and a sidecar are four.
MAX_HOPS = 16
_MAPPED = bytes(10) + b"\xff\xff"  # what an IPv4 address as IPv6 begins with (RFC 4291, section 2.5.5.2)


class Origin(NamedTuple):
    """Where somebody comes from. ``ip``: as the system writes it, an IPv4 address never as IPv6; ``port``: 0 where
    nobody says which.
    """

    ip: str
    port: int = 0

    def __str__(self) -> str:
        """As a target's worker and the log get it."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def origin_of(address: Sequence[object]) -> Origin:
    """Who is connected. ``address``: as ``accept`` gives it, or any host and port; the host has to be an IP address."""
    host, port = address[:2]
    ip = _written(str(host).partition("%")[0])
    if not ip or not isinstance(port, int):
        raise ValueError(f"{host!r} is no IP address")
    return Origin(ip, port)


class Trust:
    """The proxies whose word is taken."""

    def __init__(self, networks: Networks) -> None:
        """``networks``: where they are."""
        self._networks = networks

    def __bool__(self) -> bool:
        """False where none is trusted."""
        return bool(self._networks)

    def covers(self, ip: str) -> bool:
        """Whether the proxy at ``ip`` is believed."""
        parsed = _parsed(ip) if self._networks else None
        return parsed is not None and self._includes(parsed)

    def visitor(self, chain: Sequence[bytes]) -> Origin | None:
        """Whom a trusted proxy speaks for. ``chain``: the values of its X-Forwarded-For, in order.

        Each proxy appends who was connected to it. So the last address is its own word, and so is the one before where
        the last is a trusted proxy too. What stands further to the left is what a visitor says himself. None where no
        address is said that can be read; where all are trusted, the first, which then is the visitor.
        """
        found: Origin | None = None
        hops = b",".join(chain[-MAX_HOPS:]).rsplit(b",", MAX_HOPS)[-MAX_HOPS:]
        for hop in reversed(hops):
            text, port = _split(hop.strip(b" \t").decode("latin-1"))
            ip = _parsed(text)
            if ip is None:
                break
            found = Origin(_written(text), port)
            if not self._includes(ip):
                break
        return found

    def _includes(self, ip: Ip) -> bool:
        return any(ip in network for network in self._networks)


def _split(text: str) -> tuple[str, int]:
    """Address and port, 0 for none, of ``IP``, ``IP:PORT``, ``[IP]`` or ``[IP]:PORT``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        digits = rest[1:] if rest.startswith(":") else "" if not rest else "-"
    elif text.count(":") == 1:
        host, _, digits = text.partition(":")
    else:
        return text, 0
    if not digits:
        return host, 0
    good = digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535
    return (host, int(digits)) if good else ("", 0)


def _written(text: str) -> str:
    """An IP address as the system writes it, "" for what is none. Every connection asks; ipaddress would be 0.3 MB."""
    try:
        if ":" not in text:
            return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return ""
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _parsed(text: str) -> Ip | None:
    from ipaddress import IPv4Address, IPv6Address

    try:
        if ":" not in text:
            # Stricter than ipaddress of Python 3.9, which some releases let read leading zeroes as octal.
            return IPv4Address(socket.inet_pton(socket.AF_INET, text))
        ip = IPv6Address(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return None
    return ip.ipv4_mapped or ip
