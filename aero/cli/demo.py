"""`aero demo`: server, worker and small local services in one process, a page and datagrams through all of it.

Shows a newcomer the whole way, and tells whether a host can run it: with --check it ends after the self-test.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
from contextlib import suppress
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from aero import __version__, logs
from aero.address import UDP, Address, Target
from aero.config.roles import ClientConfig, ServerConfig
from aero.core.codes import Close
from aero.endpoint import Endpoints
from aero.errors import AeroError, NetworkError
from aero.server.app import Server
from aero.worker.app import WorkerApp
from aero.worker.identity import once

TIMEOUT_S = 15.0
_BULK_BYTES = 8 * 1024 * 1024
_DATAGRAMS = (0, 1200, 9000)  # bytes
_IP = "127.0.0.1"
_PAGE = (
    b"<!doctype html><title>AeRO-proxy demo</title><h1>It works</h1><p>This page came through the tunnel.\n"
)


def run(check: bool, aead: str = "") -> int:
    """Runs the demo; 0 when the self-test passed, 1 when not. With ``check`` ends then, else on Ctrl-C."""
    logs.setup("", "text", 0, False)
    bulk = os.urandom(_BULK_BYTES)
    service = StreamServer((_IP, 0), lambda sock, _: _serve(sock, bulk))
    service.start()
    echo = _echo()
    code = secrets.token_urlsafe(12)
    any_port = Address(_IP, 0)
    server = Server(
        ServerConfig(ips=(_IP,), port=0, auth=code, api=any_port, mux=(any_port,), ports=(0, 0), aead=aead)
    )
    ready: dict[str, int] = {}
    registered = Event()

    def announce(target: Target, port: int) -> None:
        ready[target.name] = port
        if len(ready) == len(targets):
            registered.set()

    targets = (
        Target("web", _IP, service.server_port),
        Target("echo", _IP, echo.getsockname()[1], proto=UDP),
    )
    config = ClientConfig(
        tag="demo",
        host="demo-host",
        server=Endpoints.at(_IP, server.port),
        targets=targets,
        auth=code,
        aead=aead,
    )
    worker = WorkerApp(config, announce, once())
    worker.start()
    try:
        return _show(server, service.server_port, registered, ready, bulk, check)
    finally:
        worker.stop()
        worker.close()
        server.close(Close.DONE)
        service.stop()
        echo.close()


def _show(
    server: Server, service_port: int, registered: Event, ready: dict[str, int], bulk: bytes, check: bool
) -> int:
    print(f"AeRO-proxy {__version__} demo, everything on this machine, AES-GCM by {server.aead}")
    print(f"  service behind NAT   http://{_IP}:{service_port}/  (target web)")
    print(f"  server, for workers  {_IP}:{server.port}")
    if not registered.wait(TIMEOUT_S):
        print("FAILED: the worker did not get its mappings; the lines above say why")
        return 1
    print(f"  for visitors         http://{_IP}:{ready['web']}/")
    print(f"  the same, by name    http://{server.mux_address}/demo/web/")
    print(f"  a UDP echo           {_IP}:{ready['echo']}  (nc -u {_IP} {ready['echo']})")
    print(f"  page and API         http://{server.api_address}/")
    try:
        pages = [_fetch(ready["web"], "/")]
        if server.mux_address is not None:
            pages.append(_fetch(server.mux_address.port, "/demo/web/"))
        same = hashlib.sha256(_fetch(ready["web"], "/bulk")).digest() == hashlib.sha256(bulk).digest()
        same = same and all(_ask(ready["echo"], bulk[:size]) == bulk[:size] for size in _DATAGRAMS)
    except (AeroError, OSError) as error:
        print(f"FAILED: {error}")
        return 1
    if any(page != _PAGE for page in pages) or not same:
        print("FAILED: what came through the tunnel is not what the service sent")
        return 1
    print(
        f"OK: the page, by port and by name, {_BULK_BYTES >> 20} MiB, and datagrams:"
        " visitor -> server -> worker -> service"
    )
    if not check:
        print("Open these addresses in a browser; Ctrl-C ends the demo.", flush=True)
        stop = Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, stop.set)
        stop.wait()
    return 0


def _echo() -> socket.socket:
    """A UDP service that sends everything back, until its socket is closed."""
    from gevent import socket as green

    sock: socket.socket = green.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((_IP, 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                data, visitor = sock.recvfrom(65_536)
                sock.sendto(data, visitor)

    gevent.spawn(serve)
    return sock


def _ask(port: int, data: bytes) -> bytes:
    """What a UDP service answers. Raises OSError."""
    from gevent import socket as green

    with green.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.sendto(data, (_IP, port))
        return bytes(sock.recv(65_536))


def _serve(sock: Any, bulk: bytes) -> None:
    """A service as small as one can be: one request a connection."""
    request = b""
    while b"\r\n\r\n" not in request and len(request) < 8192:
        data = sock.recv(4096)
        if not data:
            return
        request += data
    body = bulk if request.startswith(b"GET /bulk ") else _PAGE
    kind = "application/octet-stream" if body is bulk else "text/html"
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    sock.sendall(head.encode() + body)
    sock.shutdown(socket.SHUT_WR)


def _fetch(port: int, path: str) -> bytes:
    """The body of a page. Raises NetworkError, OSError."""
    from gevent.socket import create_connection

    with gevent.Timeout(TIMEOUT_S, NetworkError("no answer through the tunnel in time")):
        sock = create_connection((_IP, port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = bytearray()
        while True:
            data = sock.recv(65536)
            if not data:
                break
            answer += data
        sock.close()
    return bytes(answer).partition(b"\r\n\r\n")[2]
