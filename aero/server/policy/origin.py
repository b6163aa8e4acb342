"""What counts as one address: whoever holds one IPv6 address holds a whole network of them."""

from __future__ import annotations

import socket
from functools import lru_cache

_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address written as IPv6 (RFC 4291, 2.5.5.2)
#: Bytes of the networks that are handed out: a /64 to a host, a /56 to a household, a /48 to a site (RFC 6177).
_NETWORK_BYTES = (8, 7, 6)


@lru_cache(4096)
def groups_of(ip: str) -> tuple[bytes, ...]:
    """Whom an address belongs to, the smallest first: an IPv4 address, or the /64, /56 and /48 of an IPv6 one.

    The lengths differ, so that no two kinds are mistaken for each other. A text that is no address is its own group.
    """
    try:
        if ":" not in ip:
            return (socket.inet_aton(ip),)
        packed = socket.inet_pton(socket.AF_INET6, ip.partition("%")[0])
    except (OSError, ValueError):
        return (ip.encode("utf-8", "replace"),)
    if packed.startswith(_MAPPED):
        return (packed[12:],)
    return tuple(packed[:length] for length in _NETWORK_BYTES)


def network_of(ip: str) -> str:
    """As text, whom one address is counted as: itself, or the /64 of an IPv6 address."""
    group, others = key_of(ip), groups_of(ip)[1:]
    if not others:
        return socket.inet_ntoa(group) if len(group) == 4 else ip
    return socket.inet_ntop(socket.AF_INET6, group + bytes(8)) + "/64"


def is_near(host: str) -> bool:
    """Whether this is loopback, as the system writes it or as people do. Imports nothing: it is asked for visitors."""
    return host.startswith("127.") or host in ("::1", "localhost")


def key_of(ip: str) -> bytes:
    """The smallest of an address's groups: what one host can fill by itself."""
    return groups_of(ip)[0]
