"""Connections that are announced: from some networks, a PROXY header stands in front and says who really comes.

It is read before anybody else sees the connection, and exactly it: not one byte of what follows. From these networks a
header is required, from all others none is read, so nobody can say who he is by himself.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from typing import Any, Callable, NamedTuple, Protocol

from aero import logs
from aero.address import Address
from aero.errors import RemoteProtocolError
from aero.limits import Limits
from aero.net import proxyheader
from aero.net.faults import report
from aero.net.loop import READ, Loop, Watcher, stopped
from aero.net.pipe import refuse

log = logs.get("proxy")

OnConnection = Callable[["socket.socket", Any], None]

_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT
_PEEK_BYTES = 512


def told(sock: socket.socket) -> proxyheader.End:
    """Our own end of a connection, as a PROXY header tells it."""
    try:
        name = sock.getsockname()
        ip, port = ("", 0) if isinstance(name, str) else name[:2]
    except (OSError, ValueError):
        return proxyheader.End("", 0)  # the connection is over, or is none of the network's
    return proxyheader.End(ip, port)


class Networks(Protocol):
    """Some addresses."""

    def __bool__(self) -> bool:
        """False where there are none."""

    def covers(self, ip: str) -> bool:
        """Whether this one is among them."""


class Announcers(NamedTuple):
    """Who announces connections, and all those of a process whose headers have not come whole yet."""

    loop: Loop
    networks: Networks
    waiting: OrderedDict[_Waiting, None]

    @classmethod
    def build(cls, loop: Loop, networks: Networks) -> Announcers:
        """With nobody waiting."""
        return cls(loop, networks, OrderedDict())

    def porch(self, then: OnConnection) -> Porch:
        """What stands in front of one listener: ``then(sock, address)`` gets who really comes."""
        return Porch(self, then)


def _closed(sock: socket.socket, _address: Any) -> None:
    """Nobody comes in where this stands."""
    refuse(sock)


class Porch:
    """The way in for one listener's connections."""

    def __init__(self, announcers: Announcers, then: OnConnection) -> None:
        """``then`` gets every connection, with the address of its announcement where one is due."""
        self._announcers = announcers
        self._then = then
        #: What the listener calls: where nobody announces, there is no step in between.
        self.entrance = self._connected if announcers.networks else then

    def _connected(self, sock: socket.socket, address: Any) -> None:
        """A connection came; ``address`` as accept() gives it."""
        if not self._announcers.networks.covers(address[0]):
            self._then(sock, address)
            return
        waiting = self._announcers.waiting
        if len(waiting) >= Limits.PROXY_HEADERS:
            next(iter(waiting)).refuse("too many others wait")
        waiting[_Waiting(self._announcers, self._then, sock, address)] = None

    def close(self) -> None:
        """Ends those whose header has not come."""
        for each in [each for each in self._announcers.waiting if each.then == self._then]:
            each.refuse("the port is closed")
        self._then = self.entrance = (
            _closed  # a porch and what it leads to hold each other, and with it a worker
        )


class _Waiting:
    """One connection whose header has not come whole."""

    def __init__(self, announcers: Announcers, then: OnConnection, sock: socket.socket, address: Any) -> None:
        self.then = then
        self._announcers = announcers
        self._sock = sock
        self._address = address
        self._header = b""
        self._timer: Watcher = announcers.loop.timer(Limits.PROXY_HEADER_S)
        self._timer.start(self._late)
        self._watcher: Watcher = announcers.loop.io(sock.fileno(), READ)
        self._watcher.start(self._on_readable)

    def _late(self) -> None:
        self.refuse(f"no PROXY header within {Limits.PROXY_HEADER_S:.0f} s")

    def _on_readable(self) -> None:
        try:
            data = self._header + self._sock.recv(_PEEK_BYTES, _PEEK)
            if len(data) == len(self._header):
                self.refuse("it left before its PROXY header was whole")
                return
            count, whole = proxyheader.split(data)
            self._header += self._sock.recv(count - len(self._header), socket.MSG_DONTWAIT)
            if not whole:
                return
            peer = proxyheader.parse(self._header)
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError) as error:
            self.refuse(error)
            return
        self._leave()
        address = self._address if peer is None else tuple(peer)
        try:
            self.then(self._sock, address)
        except Exception as error:  # this one is turned away
            report(error)
            self._sock.close()

    def refuse(self, why: object) -> None:
        """Ends the connection, and says why."""
        self._leave()
        log.warning("connection refused", proxy=Address(*self._address[:2]), why=why)
        refuse(self._sock)

    def faulted(self, error: Exception) -> None:
        """Ends the connection after an error of this program in one of our callbacks (net/faults.py)."""
        self.refuse("an error of the program")

    def _leave(self) -> None:
        stopped(self._timer)
        stopped(self._watcher)
        self._announcers.waiting.pop(self, None)
