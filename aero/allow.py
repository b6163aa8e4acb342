"""``--allow``: the addresses that a worker's targets may have, whoever names them. Pure; loaded when it is used."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from aero.address import LOOPBACK, LocalPlace, UnixPath, host, is_ip, is_loopback, socket_path
from aero.errors import ConfigError

ITEMS = 256  # more is a mistake in a list
_ITEM = re.compile(r"(?:\[([^\]]*)\]|([^\[\]:]*)):(?:(\*)|([0-9]{1,5})(?:-([0-9]{1,5}))?)")


class Item(NamedTuple):
    """One part of what is allowed: a name as it is written, or a network, and ports, both included; or a socket, as
    ``unix:/PATH`` with no ports, and where that ends in a slash, every socket below it.
    """

    where: str | IPv4Network | IPv6Network
    low: int
    high: int


class Allow(NamedTuple):
    """What is allowed. A name matches a target's name literally, and then whatever it resolves to."""

    items: tuple[Item, ...]
    text: str

    def names(self, name: str, port: int, row: int = 1) -> bool:
        """Whether a target's host name is allowed as it is written, for one port or ``row`` from there on."""
        return any(
            each.where == name.lower() and each.low <= port and port + row - 1 <= each.high
            for each in self.items
        )

    def permits(self, ip: str, port: int, row: int = 1) -> bool:
        """Whether an address is in one of the networks, with all those ports. IPv4 written as IPv6 is IPv4."""
        address: IPv4Address | IPv6Address = ip_address(ip.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(
            not isinstance(each.where, str)
            and address in each.where
            and each.low <= port
            and port + row - 1 <= each.high
            for each in self.items
        )

    def socket(self, path: str) -> bool:
        """Whether a socket in the file system is allowed. No path with ``..`` is below a folder."""
        where = f"unix:{path}"
        steps = path.split("/")
        return any(
            isinstance(each.where, str)
            and (each.where == where or (each.where.endswith("/") and where.startswith(each.where)))
            for each in self.items
            if ".." not in steps
        )

    def covers(self, local: str) -> bool:
        """Whether a target may be where it is (`LocalPlace`), as far as can be told without a look-up: a name that is
        not allowed as it is written is not. Ports in a row have to be in one item all. Raises ConfigError for another
        kind of address.
        """
        place = LocalPlace.parse(local)
        if isinstance(place.at, UnixPath):
            return self.socket(place.at.path)
        name, port = place.at
        known = (name,) if is_ip(name) else LOOPBACK if is_loopback(name) else ()
        return self.names(name, port, place.row) or any(self.permits(ip, port, place.row) for ip in known)

    def __str__(self) -> str:
        return self.text


def allow(text: str) -> Allow:
    """``127.0.0.1:*+10.0.0.0/24:22+db.lan:5432``; IPv6 as ``[fd00::/8]:22``. Raises ConfigError."""
    parts = text.split("+")
    if len(parts) > ITEMS:
        raise ConfigError(f"{len(parts)} items are too many, write at most {ITEMS}")
    return Allow(tuple(_item(part.strip()) for part in parts), text)


def _item(text: str) -> Item:
    sock = socket_path(text)
    if sock is not None:
        return Item(str(sock), 0, 0)
    match = _ITEM.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text[:80]!r} is not HOST:PORT, write for example 127.0.0.1:*, 10.0.0.0/24:22, [::1]:80-89"
            " or unix:/run/app.sock"
        )
    low, high = (1, 65535) if match[3] else (int(match[4]), int(match[5] or match[4]))
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"{text[:80]!r}: write a port from 1 to 65535, a range of them, or * for all")
    where = match[1] if match[1] is not None else match[2]
    if match[1] is None and not re.fullmatch(r"[0-9./]+", where):
        return Item(host(where).lower(), low, high)
    try:
        return Item(ip_network(where), low, high)
    except ValueError as error:
        raise ConfigError(f"{text[:80]!r}: {error}") from None
