"""Where a server can be reached and how: the transport of a link, an address, and a path for WebSocket.

Here is the one way to read and write such a place, ``wss://aero.example.org/``. Opens no socket, knows no option.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aero.address import Address
from aero.errors import ConfigError

TCP, TLS, WS, WSS = "tcp", "tls", "ws", "wss"
#: The transports, and the port of each where none is given: ours, and those of HTTP and HTTPS, which networks let out.
PORTS = {TCP: 8080, TLS: 443, WS: 80, WSS: 443}
#: What ``auto://`` tries, the best first: what costs least, then what gets through most networks.
AUTO = (TCP, TLS, WSS, WS)
#: The path of a link over WebSocket where none is given. No tag can contain an underscore, so it is nobody's page.
LINK_PATH = "/_aero/link"
#: Beyond any list that people write, and few enough to try all of them within a minute.
MAX_ENDPOINTS = 16

# What a request line may have; no comma, which ends an item of a list.
_PATH = re.compile(r"/[!-+\--~]{0,1023}")
_SCHEMES = "tcp://, tls://, ws://, wss:// or auto://"


class Endpoint(NamedTuple):
    """One way to reach a server. ``path`` is "" where the transport has none, or where it is the usual one."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def address(self) -> Address:
        """Where to connect, unless a proxy does that."""
        return Address(self.host, self.port)

    @property
    def by_tls(self) -> bool:
        """Whether what a network sees of it is TLS."""
        return self.scheme in (TLS, WSS)

    @property
    def by_websocket(self) -> bool:
        """Whether it looks like a browser's WebSocket to a server or proxy that ends TLS."""
        return self.scheme in (WS, WSS)

    def __str__(self) -> str:
        if self.scheme == TCP:
            return str(self.address)
        return f"{self.scheme}://{self.address}{self.path}"


class Header(NamedTuple):
    """A field of a WebSocket's request, for a gateway that wants a token perhaps: its repr does not show the value."""

    name: str
    value: str

    def __repr__(self) -> str:
        return f"Header({self.name!r}, ***)"


class Endpoints(NamedTuple):
    """What ``--server`` names: the ways to the server, the first one preferred; ``text``: as it was written."""

    ways: tuple[Endpoint, ...]
    text: str

    @classmethod
    def at(cls, host: str, port: int) -> Endpoints:
        """One server, straight over TCP."""
        return cls((Endpoint(TCP, host, port),), str(Address(host, port)))

    @classmethod
    def parse(cls, text: str) -> Endpoints:
        """Reads ``HOST:PORT``, URLs, and lists of both. Raises ConfigError."""
        ways: list[Endpoint] = []
        words: list[str] = []
        for part in text.split(","):
            found = _item(part.strip())
            ways += [each for each in found if each not in ways]
            words.append(part.strip() if len(found) > 1 else str(found[0]))
        if len(ways) > MAX_ENDPOINTS:
            raise ConfigError(f"{len(ways)} ways to the server are too many, write at most {MAX_ENDPOINTS}")
        return cls(tuple(ways), ",".join(words))

    def __str__(self) -> str:
        return self.text


def path(text: str) -> str:
    """The path of a link over WebSocket. Raises ConfigError."""
    if not _PATH.fullmatch(text) or text == "/" or "?" in text or "#" in text:
        raise ConfigError(f"{text!r} is no path, write for example {LINK_PATH}")
    return text


def _item(text: str) -> tuple[Endpoint, ...]:
    """One item of the list: a way, or all that ``auto://`` stands for."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        if not text:
            raise ConfigError("there is nothing between two commas, write HOST:PORT or a URL")
        return (Endpoint(TCP, *Address.parse(text, PORTS[TCP])),)
    scheme = scheme.lower()
    if scheme in ("http", "https"):
        raise ConfigError(
            f"{text!r} is a page's address; write {'wss' if scheme == 'https' else 'ws'}:// for WebSocket"
        )
    if scheme != "auto" and scheme not in PORTS:
        raise ConfigError(f"{scheme}:// is unknown, write HOST:PORT, {_SCHEMES}")
    where, slash, path = rest.partition("/")
    path = slash + path
    if "@" in where:
        raise ConfigError(
            "a server's URL has no user or password in it; see --auth, and --header for gateways"
        )
    if any(mark in where for mark in "?#") or "#" in path or (path and not _PATH.fullmatch(path)):
        raise ConfigError(
            f"{text!r} has a path that no request can ask for, write for example {scheme}://HOST/path"
        )
    if path == "/":
        path = ""
    if scheme == "auto":
        return _all_ways(where, path)
    if path and scheme in (TCP, TLS):
        raise ConfigError(f"{text!r} has a path, which only ws:// and wss:// can ask for")
    return (Endpoint(scheme, *Address.parse(where, PORTS[scheme]), path),)


def _all_ways(where: str, path: str) -> tuple[Endpoint, ...]:
    host, port = Address.parse(where, PORTS[TCP])
    if port == Address.parse(where, PORTS[TLS]).port:  # whatever the default, so it was written
        raise ConfigError(
            f"auto://{where} names a port, but each way has its own; write auto://{host}, or a list of URLs"
        )
    return tuple(Endpoint(each, host, PORTS[each], path if each in (WS, WSS) else "") for each in AUTO)
