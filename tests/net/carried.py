"""Transports for tests: each kind as a pair of ends, over a real connection."""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import gevent

from aero.net.tls import TlsTransport
from aero.net.transport import TcpTransport, Transport
from aero.net.websocket import WebSocketTransport
from aero.server.links import selfmade

KINDS = ("tcp", "tls", "ws", "ws-masked", "wss")


@lru_cache(None)
def certificate() -> Path:
    """A key and a certificate of this process's."""
    return Path(selfmade.kept_in(mkdtemp(prefix="aero-test-")))


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate())
    return context


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def pair(kind: str) -> tuple[Transport, Transport]:
    """Client's and server's end."""
    near, far = (TcpTransport(sock) for sock in connected())
    return layered(near, far, kind)


def layered(near: Transport, far: Transport, kind: str) -> tuple[Transport, Transport]:
    """The layers of a kind above two ends of a connection."""
    if kind in ("tls", "wss"):
        client = TlsTransport(near, client_context(), name="aero")
        server = TlsTransport(far, server_context(), server_side=True)
        both = [gevent.spawn(client.handshake), gevent.spawn(server.handshake)]
        for each in gevent.joinall(both, timeout=30, raise_error=True):
            assert each.ready()
        near, far = client, server
    if kind.startswith("ws"):
        near = WebSocketTransport(near, client=True, mask=kind == "ws-masked")
        far = WebSocketTransport(far, client=False)
    return near, far
