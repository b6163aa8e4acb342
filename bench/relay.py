#!/usr/bin/env python3
"""Bare relays on gevent, without protocol, encryption or multiplexing: what any tunnel on this loop costs at least.

`relay.py ADDRESS PORT TO [PORT TO …]` listens on each PORT and leads every connection to port TO of ADDRESS. Two of
them in a row are the limit that aero is measured against: the same event loop, the same number of hops, nothing else.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

import gevent

READ, WRITE = 1, 2
_SCRATCH = memoryview(bytearray(256 * 1024))  # for all: what could not be sent at once is copied


class Pump:
    """One direction of one connection: what `source` has goes to `sink`."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        loop = gevent.get_hub().loop
        self._source, self._sink = source, sink
        self._left = memoryview(b"")
        self._reading = loop.io(source.fileno(), READ)
        self._writing = loop.io(sink.fileno(), WRITE)
        self._reading.start(self._on_readable)

    def _on_readable(self) -> None:
        try:
            count = self._source.recv_into(_SCRATCH)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count:
            self._left = _SCRATCH[:count]
            self._send()
            if self._left:
                self._left = memoryview(bytes(self._left))
        else:
            self._finish()

    def _on_writable(self) -> None:
        self._writing.stop()
        self._reading.start(self._on_readable)
        self._send()

    def _send(self) -> None:
        try:
            self._left = self._left[self._sink.send(self._left) :]
        except BlockingIOError:
            pass
        except OSError:
            self._finish()
            return
        if self._left:
            self._reading.stop()
            self._writing.start(self._on_writable)

    def _finish(self) -> None:
        self._reading.close()
        self._writing.close()
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # its own side has ended


def listen(port: int, to: tuple[str, int]) -> object:
    """Accept on `port` until the process ends; returns what must be kept for that."""
    listener = socket.create_server(("0.0.0.0", port), backlog=1024)
    listener.setblocking(False)
    watcher = gevent.get_hub().loop.io(listener.fileno(), READ)

    def on_visitor() -> None:
        while True:
            try:
                visitor = listener.accept()[0]
            except BlockingIOError:
                return
            try:
                service = socket.create_connection(to)
            except OSError:
                visitor.close()
                continue
            for sock in (visitor, service):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Pump(visitor, service)
            Pump(service, visitor)

    watcher.start(on_visitor)
    return listener, watcher


def main(arguments: Sequence[str]) -> None:
    """Run until killed."""
    address, *numbers = arguments
    ports = [int(text) for text in numbers]
    kept = [listen(port, (address, to)) for port, to in zip(ports[::2], ports[1::2])]
    gevent.get_hub().join()
    del kept


if __name__ == "__main__":
    main(sys.argv[1:])
