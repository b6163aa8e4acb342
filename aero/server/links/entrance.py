"""The entrance: from a connection on the server's port to a worker's first bytes, whatever lies around the link.

The first bytes tell a link, TLS and HTTP apart (dialect.py); within TLS they do so again. A WebSocket for the link's
path leads to a link. All of it has one deadline and a bound in bytes, in a greenlet of the gate's.
"""

from __future__ import annotations

from typing import Protocol

import gevent

from aero.core import websocket
from aero.errors import LinkClosed, MessageError, NetworkError
from aero.net.handshake import TIMEOUT_S, say_goodbye
from aero.net.transport import Transport, receive, send_all
from aero.server.links import dialect
from aero.server.links.certificates import Certificates
from aero.server.policy.proxies import Origin, Trust
from aero.server.watch.counters import Counters

_READ_BYTES = 4096

_ANSWER = (
    b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n%s"
    b"Content-Length: %d\r\n\r\n%s"
)
_REASONS = {400: b"Bad Request", 426: b"Upgrade Required", 431: b"Request Header Fields Too Large"}
_NOT_HTTP = (
    "This port is for AeRO-proxy workers (aero client), not for HTTP.\n"
    "Visitors use the address that the worker printed for its target."
)
# SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED (RFC 9113, sections 6.5, 6.8 and 7).
_NOT_HTTP2 = bytes.fromhex("000000040000000000000008070000000000000000000000000d")


class Guest(Protocol):
    """Who comes in, as the gate knows it."""

    transport: Transport  # each layer takes the place of the one below
    ip: str
    origin: Origin
    taken: bool  # its connection is somebody else's from here on

    def reported(self, origin: Origin) -> None:
        """A trusted proxy says who this is."""

    def turn(self) -> None:
        """Blocks until arithmetic may be spent on it."""

    def ends_as(self, result: str, why: object) -> None:
        """Remembers for the log why it ended."""


class Web(Protocol):
    """Who serves visitors by HTTP (httpmux/server.py)."""

    def take_over(self, transport: Transport, origin: Origin, said: bytes) -> None:
        """Serves a connection that has ``said`` the beginning of a request. May raise OSError."""

    def is_targets(self, host: bytes) -> bool:
        """Whether all paths of this host name are a target's."""


class Entrance:
    """Opens connections, each in its greenlet."""

    def __init__(self, counters: Counters, certificates: Certificates, path: str, trust: Trust) -> None:
        """``path``: of a link by WebSocket; ``trust``: proxies that say for whom they ask."""
        self.trust = trust
        self._certificates = certificates
        self._path = path.encode()
        self.web: Web | None = None  # at this port
        self.secure_web: Web | None = None  # at --mux-tls
        self._openings = counters.openings

    def enter_web(self, guest: Guest) -> bytes | None:
        """Hands a visitor who came to --mux-tls over, once TLS is there; None. Blocks; raises as ``enter``."""
        with gevent.Timeout(TIMEOUT_S, NetworkError(f"no request in time ({TIMEOUT_S:.0f} s)")):
            kind, data = self._first(guest, b"")
            if kind != dialect.TLS:
                if kind == dialect.HTTP:
                    self._refuse(guest, 400, "This port is for HTTPS: write https:// before its name.")
                guest.ends_as("rule broken", "it speaks no TLS")
                return None
            self._begin_tls(guest, data)
            kind, data = self._first(guest, b"")
        if self.secure_web is not None:
            self._hand_over(guest, self.secure_web, data)
        return None

    def _hand_over(self, guest: Guest, web: Web, data: bytes) -> None:
        guest.taken = True
        web.take_over(guest.transport, guest.origin, data)

    def enter(self, guest: Guest) -> bytes | None:
        """A worker's first bytes, which ``guest.transport`` then goes on with; None for others, who have an answer.

        Blocks. Raises LinkClosed, NetworkError, OSError.
        """
        with gevent.Timeout(TIMEOUT_S, NetworkError(f"no handshake in time ({TIMEOUT_S:.0f} s)")):
            kind, data = self._first(guest, b"")
            if kind == dialect.TLS:
                self._begin_tls(guest, data)
                kind, data = self._first(guest, b"")
            if kind in (dialect.LINK, dialect.OTHER, dialect.TLS):
                return data  # what is none of ours is answered there
            if kind == dialect.HTTP:
                return self._begin_http(guest, data)
            return self._begin_http2(guest, data)

    def _first(self, guest: Guest, data: bytes) -> tuple[str, bytes]:
        """Reads until it is clear what comes; counts it."""
        kind = ""
        while not kind:
            data += receive(guest.transport, _READ_BYTES)
            kind = dialect.kind_of(data)
        self._openings[kind] += 1
        return kind, data

    def _begin_tls(self, guest: Guest, data: bytes) -> None:
        """From here on the guest is spoken to in TLS."""
        context = self._certificates.context()
        guest.turn()
        from aero.net.tls import TlsTransport

        below = guest.transport
        guest.transport = secured = TlsTransport(below, context, server_side=True, early=data)
        try:
            secured.handshake()
        except LinkClosed:
            raise
        except OSError as error:
            self._openings[dialect.NO_TLS] += 1
            say_goodbye(below, b"")  # the alert is on its way
            raise NetworkError(f"no TLS: {getattr(error, 'reason', None) or error}") from error

    def _begin_http2(self, guest: Guest, data: bytes) -> bytes | None:
        """Nobody here speaks it; the mux has its own way to say so."""
        if self.web is not None:
            self._hand_over(guest, self.web, data)
        else:
            guest.ends_as("rule broken", "it speaks HTTP/2")
            say_goodbye(guest.transport, _NOT_HTTP2)
        return None

    def _begin_http(self, guest: Guest, data: bytes) -> bytes | None:
        """A link's WebSocket, or somebody to be told where he is."""
        ours = dialect.asks_for(self._path, data)
        while ours is None:
            data += receive(guest.transport, _READ_BYTES)
            ours = dialect.asks_for(self._path, data)
        if not ours:
            return self._visit(guest, data)
        end = data.find(b"\r\n\r\n")
        while end < 0:
            if len(data) > websocket.MAX_HEAD_BYTES:
                if self.web is not None:
                    return self._visit(guest, data)
                return self._refuse(guest, 431, "The request's head is too long.")
            data += receive(guest.transport, _READ_BYTES)
            end = data.find(b"\r\n\r\n")
        head, rest = data[: end + 4], data[end + 4 :]
        try:
            request = websocket.parse_head(head)
            host = request.fields.get(b"host", b"")
            if not websocket.wants_upgrade(request) or (self.web is not None and self.web.is_targets(host)):
                return self._visit(guest, data)
            switch = websocket.answer(request)
        except MessageError as error:
            return self._refuse(guest, error.status, f"{error}.")
        return self._begin_websocket(guest, request, switch, rest)

    def _visit(self, guest: Guest, data: bytes) -> bytes | None:
        """A request that is for the mux."""
        if self.web is None:
            return self._refuse(guest, 400, _NOT_HTTP)
        self._hand_over(guest, self.web, data)
        return None

    def _begin_websocket(
        self, guest: Guest, request: websocket.Head, switch: bytes, rest: bytes
    ) -> bytes | None:
        self._openings[dialect.WEBSOCKET] += 1
        if self.trust.covers(guest.ip):
            origin = self.trust.visitor([request.fields.get(b"x-forwarded-for", b"")])
            if origin is not None:
                guest.reported(origin)
        from aero.net.websocket import WebSocketTransport

        send_all(guest.transport, switch)
        guest.transport = WebSocketTransport(guest.transport, client=False, early=rest)
        return receive(guest.transport, _READ_BYTES)

    def _refuse(self, guest: Guest, status: int, text: str) -> bytes | None:
        """Tells somebody who speaks HTTP what is wrong; None."""
        body = text.encode() + b"\n"
        more = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if status == 426 else b""
        say_goodbye(guest.transport, _ANSWER % (status, _REASONS[status], more, len(body), body))
        guest.ends_as("rule broken", f"it speaks HTTP ({status})")
        return None
