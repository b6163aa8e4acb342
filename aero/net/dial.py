"""Outgoing connections: a greenlet's blocking dial over all addresses, and a callback's connect for known ones."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Callable

import gevent
from gevent.event import Event

from aero.errors import DialError
from aero.net.loop import WRITE, Loop, Watcher, event_loop, stopped
from aero.net.transport import TcpTransport, Transport

DIAL_TIMEOUT_S = 15.0  # all addresses together
STAGGER_S = 0.25  # RFC 8305, section 5: the next address gets its chance while the first is still silent
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)

SockAddr = tuple[int, Any]  # address family, what connect() takes


def addresses(host: str, port: int) -> list[SockAddr]:
    """All addresses of a host, families in turn (RFC 8305, section 4). A name blocks the greenlet, never the loop.

    Raises DialError when the name does not resolve.
    """
    known = numeric(host, port)
    if known:
        return known
    try:
        found = gevent.get_hub().resolver.getaddrinfo(host.encode(), port, 0, socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(f"the name {host} does not resolve: {error.strerror or error}") from error
    families: dict[int, list[SockAddr]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append((family, address))
    rows = list(families.values())
    return [row[i] for i in range(max(map(len, rows))) for row in rows if i < len(row)]


def numeric(host: str, port: int) -> list[SockAddr]:
    """The address where ``host`` is one already, [] where it is a name; never blocks."""
    try:  # as bytes, since text would go through Python's IDNA tables: 1.5 MB of memory for ASCII
        found = socket.getaddrinfo(host.encode(), port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [(found[0][0], found[0][4])]


class Connector:
    """One connect that is under way: ``done(sock, error)`` is called once, later or at once."""

    def __init__(
        self,
        loop: Loop,
        where: SockAddr,
        timeout_s: float,
        done: Callable[[socket.socket | None, int], None],
    ) -> None:
        """``done`` gets a connected, non-blocking socket and 0, or None and the errno."""
        self._done = done
        self._sock: socket.socket | None = None
        self._writing: Watcher | None = None
        self._timer: Watcher | None = None
        family, address = where
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM | _NONBLOCK)
            if not _NONBLOCK:
                self._sock.setblocking(False)
            code = self._sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                # On one machine the connection stands by now: asking once more is cheaper than waiting for the loop.
                code = self._sock.connect_ex(address)
        except OSError as error:
            code = error.errno or errno.EIO
        if self._sock is None or code not in _UNDER_WAY:
            self._finish(code)
        else:
            self._writing = loop.io(self._sock.fileno(), WRITE)
            self._writing.start(self._on_writable)
            self._timer = loop.timer(timeout_s)
            self._timer.start(self._finish, errno.ETIMEDOUT)

    def _on_writable(self) -> None:
        if self._sock is not None:
            self._finish(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def cancel(self) -> None:
        """Stops caring; ``done`` will not be called any more."""
        self._done = _ignore
        self._finish(errno.ECANCELED)

    def _finish(self, code: int) -> None:
        stopped(self._writing)
        stopped(self._timer)
        self._writing = self._timer = None
        sock, self._sock = self._sock, None
        if sock is not None and code:
            sock.close()
            sock = None
        done, self._done = self._done, _ignore
        done(sock, code)


def _ignore(sock: socket.socket | None, code: int) -> None:
    if sock is not None:
        sock.close()


def dial(host: str, port: int, timeout_s: float = DIAL_TIMEOUT_S) -> Transport:
    """A connection to the first address that answers, for a link; blocks the greenlet.

    Raises DialError with every address's reason.
    """
    where = addresses(host, port)
    loop = event_loop()
    moved = Event()
    connected: list[socket.socket] = []
    failed: list[str] = []

    def done_for(address: Any) -> Callable[[socket.socket | None, int], None]:
        def done(sock: socket.socket | None, code: int) -> None:
            if sock is not None:
                connected.append(sock)
            else:
                failed.append(f"{address[0]}: {os.strerror(code)}")
            moved.set()

        return done

    connectors: list[Connector] = []
    try:
        with gevent.Timeout(timeout_s, False):
            for family, address in where:
                connectors.append(Connector(loop, (family, address), timeout_s, done_for(address)))
                moved.wait(STAGGER_S)
                moved.clear()
                if connected:
                    break
            while not connected and len(failed) < len(where):
                moved.wait()
                moved.clear()
    finally:
        for connector in connectors:
            connector.cancel()
        for late in connected[1:]:
            late.close()
    if not connected:
        reasons = ", ".join(failed) or f"no answer within {timeout_s:.0f} s"
        raise DialError(f"cannot reach {host} port {port} ({reasons})")
    return TcpTransport(connected[0])
