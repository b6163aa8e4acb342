"""Proxies on the way to a server: how one is written, and when the environment's is used (``HTTPS_PROXY`` and others).

Here is what people write. How a proxy is spoken to is net/proxy.py's. Opens no socket, reads no environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from aero.address import Address, is_ip
from aero.errors import ConfigError

HTTP, SOCKS5, SOCKS5H = "http", "socks5", "socks5h"
#: The port of each where none is given, as curl has it.
PORTS = {HTTP: 1080, SOCKS5: 1080, SOCKS5H: 1080}
#: What SOCKS can say of a name or a password (RFC 1929); no proxy's users have longer ones.
MAX_WORD_BYTES = 255
#: The proxy that is none: the environment's is not used either.
NONE = "none"

_WAYS = "write http://HOST:PORT, socks5://HOST:PORT, socks5h://HOST:PORT or none"


class Proxy(NamedTuple):
    """A proxy. ``socks5h`` looks names up itself, ``socks5`` gets addresses. ``user``: None where it wants none.

    Neither its text nor its repr shows user or password.
    """

    scheme: str
    host: str
    port: int
    user: bytes | None = None
    password: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Reads ``http://user:pass@host:3128``; ``host:3128`` alone is HTTP. Messages never show the text.

        Characters that mean something in a URL stand as %40 and the like in user and password. Raises ConfigError.
        """
        scheme, mark, rest = text.partition("://")
        if not mark:
            scheme, rest = HTTP, text
        scheme = scheme.lower()
        if scheme == "https":
            raise ConfigError(f"a proxy that is itself spoken to by TLS (https://) is not offered, {_WAYS}")
        if scheme == "socks":
            scheme = SOCKS5
        if scheme not in PORTS:
            raise ConfigError(f"this is no proxy that can be used, {_WAYS}")
        login, at, where = rest.rpartition("@")
        where, _, path = where.partition("/")
        if path or any(character in where for character in "?#"):
            raise ConfigError(f"a proxy has no path, {_WAYS}")
        try:
            address = Address.parse(where, PORTS[scheme])
        except ConfigError:  # it may quote what is a password's
            raise ConfigError(f"there is no address in the proxy's URL, {_WAYS}") from None
        user, _, password = login.partition(":")
        return cls(scheme, *address, _word(user) if at else None, _word(password))

    @property
    def by_http(self) -> bool:
        """Whether it is an HTTP proxy; SOCKS5 otherwise."""
        return self.scheme == HTTP

    @property
    def wants_addresses(self) -> bool:
        """Whether names are looked up before it is asked."""
        return self.scheme == SOCKS5

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.host, self.port)

    def __str__(self) -> str:
        return str(self.address) if self.scheme == HTTP else f"{self.scheme}://{self.address}"

    def __repr__(self) -> str:
        return f"Proxy({str(self)!r}{', user=***' if self.user is not None else ''})"


def _word(text: str) -> bytes:
    """A user or password out of a URL. Raises ConfigError, whose text does not show it."""
    word = unquote_to_bytes(text)
    if len(word) > MAX_WORD_BYTES:
        raise ConfigError(f"a proxy's user and password have {MAX_WORD_BYTES} bytes at most")
    if any(byte < 32 or byte == 127 for byte in word):
        raise ConfigError("a control character is no part of a proxy's user or password")
    return word


class Surroundings(NamedTuple):
    """What the environment says of proxies: for what is TLS to a network, and for which hosts none is used."""

    proxy: Proxy | None = None
    variable: str = ""
    exceptions: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Surroundings:
        """Reads ``HTTPS_PROXY``, else ``ALL_PROXY``, and ``NO_PROXY``; of each the lower case comes first, as for curl.

        Raises ConfigError.
        """
        names = [name for upper in ("HTTPS_PROXY", "ALL_PROXY") for name in (upper.lower(), upper)]
        variable = next((name for name in names if environ.get(name)), "")
        proxy = None
        if variable:
            try:
                proxy = Proxy.parse(environ[variable])
            except ConfigError as error:
                raise ConfigError(f"{variable}: {error}; --proxy none ignores it") from None
        return cls(proxy, variable, _exceptions(environ.get("no_proxy") or environ.get("NO_PROXY") or ""))

    def proxy_to(self, host: str, port: int) -> Proxy | None:
        """The proxy by which a host is to be reached, None where it is reached without."""
        if self.proxy is None or any(
            _excepts(each, host.lower().rstrip("."), port) for each in self.exceptions
        ):
            return None
        return self.proxy


def _exceptions(text: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.split(r"[,\s]+", text) if word)


def _excepts(exception: str, host: str, port: int) -> bool:
    """Whether one word of NO_PROXY means a host.

    It is ``*`` for all, a network (10.0.0.0/8), an address, or a name, which stands for the names below it too, with or
    without a dot or ``*.`` before it; ``:PORT`` may follow.
    """
    if exception == "*":
        return True
    if "/" in exception or is_ip(host):
        return _within(exception, host, port)
    name, colon, number = exception.partition(":")
    if colon and number != str(port):
        return False
    name = name.lstrip("*").strip(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _within(exception: str, host: str, port: int) -> bool:
    """Whether an address is, or lies in, what a word of NO_PROXY names."""
    import ipaddress

    bare, bracket, number = exception.partition("]:") if exception.startswith("[") else (exception, "", "")
    if not bracket and exception.count(":") == 1:
        bare, bracket, number = exception.partition(":")
    if bracket and number != str(port):
        return False
    try:
        return ipaddress.ip_address(host.partition("%")[0]) in ipaddress.ip_network(bare.strip("[]"), False)
    except ValueError:
        return False
