"""What stands behind, and beside, the HTTP mux in its benchmark: an event stream, upgrades, and pywsgi alone.

Run as a program: `mux_services.py events PORT` or `mux_services.py pywsgi PORT`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable

import backends
import host

EVENT_GAP_S = 0.02


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/events`: an event each EVENT_GAP_S that says when it was sent. Anything else: an upgrade, then an echo."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /events "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            while True:
                writer.write(b"data: %d\n\n" % time.monotonic_ns())
                await writer.drain()
                await asyncio.sleep(EVENT_GAP_S)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _events(port: int) -> None:
    server = await asyncio.start_server(_serve, host.LOOPBACK, port, backlog=1024)
    await server.serve_forever()


def _pywsgi(port: int) -> None:
    """gevent.pywsgi with an application that only has its answer to give: no proxy on it can be faster."""
    from gevent.pywsgi import WSGIServer

    body = b"x" * backends.SMALL_FILE_BYTES
    fields = [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))]

    def application(_: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", fields)
        return [body]

    listener = socket.create_server((host.LOOPBACK, port), backlog=1024)
    # Without it each answer waits for a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    WSGIServer(listener, application, log=None).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "pywsgi":
        _pywsgi(int(sys.argv[2]))
    else:
        asyncio.run(_events(int(sys.argv[2])))
