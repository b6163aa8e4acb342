"""Through a proxy to a server: HTTP CONNECT (RFC 9110, section 9.3.6) with Basic, SOCKS5 (RFC 1928) with a password or
without (RFC 1929). Two small machines that know no sockets, and what moves them over a connection.

Each begins with ``start()``, takes what the proxy says by ``receive`` and returns what to say to it, until it is
``done``. Everything that a proxy may say in place of yes is a PassageError, one line that a tired person understands.
In what goes through a proxy afterwards we speak first, so what it sends behind its yes is a page nobody asked for.
"""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from typing import Protocol

from aero.address import Address, is_ip
from aero.errors import LinkClosed, PassageError
from aero.net.transport import Transport, receive, send_all
from aero.proxies import Proxy

MAX_HEAD_BYTES = (
    16 * 1024
)  # what proxies say beside a yes has some hundred bytes, a page's head some thousand
_READ_BYTES = 4096
_WORDS_CHARS = 60  # of a proxy's own words in ours

_STATUS = re.compile(rb"HTTP/1\.[01] +([1-9][0-9]{2})(?: +([^\r\n]*))?\r?\n")
_FIELD = re.compile(rb"^([A-Za-z0-9-]+)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")

_SOCKS, _LOGIN, _CONNECT = 5, 1, 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_NO_LOGIN, _BY_PASSWORD, _NOTHING_SUITS = 0, 2, 0xFF
#: What SOCKS5 says in place of yes (RFC 1928, section 6).
_REFUSALS = {
    1: "could not connect to {server} (general failure)",
    2: "does not allow connections to {server}",
    3: "has no network on which {server} is",
    4: "cannot reach {server}",
    5: "was refused by {server}: nothing listens there",
    6: "got no answer from {server}",
    7: "does not offer connections (command not supported)",
    8: "does not know this kind of address; try socks5h:// in place of socks5://, or the other way round",
}


class Machine(Protocol):
    """One conversation with a proxy, until it has let us through."""

    done: bool

    def start(self) -> bytes:
        """What we say first."""

    def receive(self, data: bytes, /) -> bytes:
        """Takes what the proxy says; returns what to answer. Raises PassageError."""


class Connect:
    """HTTP's CONNECT."""

    def __init__(self, proxy: Proxy, server: Address) -> None:
        """``server``: what the proxy is to connect us to."""
        self.done = False
        self._proxy = proxy
        self._server = server
        self._head = b""

    def start(self) -> bytes:
        """See Machine."""
        lines = [f"CONNECT {self._server} HTTP/1.1".encode(), f"Host: {self._server}".encode()]
        if self._proxy.user is not None:
            login = b64encode(self._proxy.user + b":" + self._proxy.password)
            lines.append(b"Proxy-Authorization: Basic " + login)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def receive(self, data: bytes, /) -> bytes:
        """See Machine."""
        self._head += data
        while not self.done:
            if not b"HTTP/1.".startswith(self._head[:7]):
                hint = "; is it a SOCKS proxy? then write socks5h://" if self._head[:1] in b"\0\5" else ""
                raise self._error(f"does not speak HTTP{hint}")
            end = _HEAD_END.search(self._head)
            if end is None:
                if len(self._head) > MAX_HEAD_BYTES:
                    raise self._error("answers without an end")
                return b""
            self._answer(self._head[: end.end()], self._head[end.end() :])
        return b""

    def _answer(self, head: bytes, rest: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise self._error("does not speak HTTP")
        code, reason = int(status[1]), _plain(status[2] or b"")
        if code == 101 or code >= 200:
            fields = [(name.lower(), value) for name, value in _FIELD.findall(head)]
            self._judge(code, f"{code} {reason}".strip(), fields, rest)
            self.done = True
        self._head = rest  # behind an interim answer

    def _judge(self, code: int, said: str, fields: list[tuple[bytes, bytes]], rest: bytes) -> None:
        """Raises PassageError unless the answer is yes."""
        first = dict(reversed(fields))
        page = first.get(b"content-type", b"").lower().startswith(b"text/html")
        if code < 300 and code != 101:
            if rest or (page and first.get(b"content-length") != b"0"):
                raise self._error(
                    "sends a page in place of a connection: does this network want a login in a browser?"
                )
            return
        if code == 407:
            raise self._error(self._login(fields))
        if code == 401 and self._proxy.user is not None:  # tinyproxy's way to say so
            raise self._error(f"does not take this user and password ({said})")
        if code == 511 or 300 <= code < 400:
            place = _plain(first.get(b"location", b"").split(b"?")[0])
            where = f", at {place}" if place else ""
            raise self._error(f"wants a login in a browser first ({said}{where})")
        if code == 403:
            raise self._error(f"does not allow connections to {self._server} ({said})")
        if code in (400, 404, 405, 501):
            raise self._error(f"does not offer CONNECT, or not to this port ({said})")
        if code >= 500:
            raise self._error(f"could not connect to {self._server} ({said})")
        raise self._error(f"says no ({said})")

    def _login(self, fields: list[tuple[bytes, bytes]]) -> str:
        asked = [
            _plain(value.split(None, 1)[0])
            for name, value in fields
            if name == b"proxy-authenticate" and value
        ]
        said = f"407 {', '.join(asked)}".strip()
        if asked and "basic" not in (each.lower() for each in asked):
            return f"wants a kind of login that is not offered here, only Basic is ({said})"
        if self._proxy.user is None:
            return f"wants a password ({said}): write --proxy http://USER:PASSWORD@{self._proxy.address}"
        return f"does not take this user and password ({said})"

    def _error(self, text: str) -> PassageError:
        return PassageError(f"the proxy {self._proxy} {text}")


class Socks:
    """SOCKS5. States: what the next bytes are."""

    def __init__(self, proxy: Proxy, server: Address) -> None:
        """``server``: what the proxy is to connect us to, a name too, which it looks up itself then."""
        self.done = False
        self._proxy = proxy
        self._server = server
        self._data = b""
        self._next = self._method

    def start(self) -> bytes:
        """See Machine."""
        methods = [_NO_LOGIN] if self._proxy.user is None else [_NO_LOGIN, _BY_PASSWORD]
        return bytes([_SOCKS, len(methods), *methods])

    def receive(self, data: bytes, /) -> bytes:
        """See Machine."""
        self._data += data
        answer = b""
        while not self.done:
            said = self._next()
            if said is None:  # for now
                return answer
            answer += said
        return answer

    def _take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def _method(self) -> bytes | None:
        if self._data and self._data[0] != _SOCKS:
            hint = "; it speaks HTTP: write http://" if b"HTTP/".startswith(self._data[:5]) else ""
            raise self._error(f"does not speak SOCKS5{hint}")
        if len(self._data) < 2:
            return None
        method = self._take(2)[1]
        user = self._proxy.user
        if method == _NO_LOGIN:
            return self._ask()
        if method == _BY_PASSWORD and user is not None:
            self._next = self._admitted
            password = self._proxy.password
            return b"".join((bytes([_LOGIN, len(user)]), user, bytes([len(password)]), password))
        if method == _NOTHING_SUITS and user is None:
            where = f"{self._proxy.scheme}://USER:PASSWORD@{self._proxy.address}"
            raise self._error(f"wants a password: write --proxy {where}")
        raise self._error("wants a kind of login that is not offered here, only a password is")

    def _admitted(self) -> bytes | None:
        if len(self._data) < 2:
            return None
        if self._take(2)[1] != 0:
            raise self._error("does not take this user and password")
        return self._ask()

    def _ask(self) -> bytes:
        self._next = self._answer
        host, port = self._server
        if not is_ip(host):
            name = host.encode()
            where = bytes([_NAME, len(name)]) + name
        elif ":" in host:
            where = bytes([_IPV6]) + socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        else:
            where = bytes([_IPV4]) + socket.inet_pton(socket.AF_INET, host)
        return bytes([_SOCKS, _CONNECT, 0]) + where + port.to_bytes(2, "big")

    def _answer(self) -> bytes | None:
        if len(self._data) < 2:
            return None
        if self._data[0] != _SOCKS:
            raise self._error("does not speak SOCKS5")
        if self._data[1]:
            text = _REFUSALS.get(self._data[1], "says no ({code})")
            raise self._error(text.format(server=self._server, code=self._data[1]))
        if len(self._data) < 5:
            return None
        kind = self._data[3]
        length = {_IPV4: 4, _NAME: 1 + self._data[4], _IPV6: 16}.get(kind)
        if length is None:
            raise self._error("does not speak SOCKS5")
        if len(self._data) < 4 + length + 2:
            return None
        self._take(4 + length + 2)
        if self._data:
            raise self._error("sends what nobody asked for behind its yes")
        self.done = True
        return b""

    def _error(self, text: str) -> PassageError:
        return PassageError(f"the proxy {self._proxy} {text}")


def pass_through(transport: Transport, proxy: Proxy, server: Address) -> None:
    """Has the proxy at the other end connect us to ``server``. Blocks the greenlet; whoever has a deadline sets it.

    Raises PassageError.
    """
    machine: Machine = Connect(proxy, server) if proxy.by_http else Socks(proxy, server)
    try:
        send_all(transport, machine.start())
        while not machine.done:
            send_all(transport, machine.receive(receive(transport, _READ_BYTES)))
    except LinkClosed as error:
        cause = error.__cause__
        if isinstance(cause, OSError):
            raise PassageError(
                f"the proxy {proxy} broke the connection ({cause.strerror or cause})"
            ) from error
        raise PassageError(f"the proxy {proxy} hung up in place of an answer") from error


def _plain(words: bytes) -> str:
    """A proxy's own words as text for a line of ours: short, and printable."""
    text = words.decode("latin-1")[:_WORDS_CHARS]
    return "".join(character if character.isprintable() else "?" for character in text).strip()
