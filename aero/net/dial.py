"""Outgoing connections: to the first of several addresses that answers, for callbacks and for greenlets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Callable

import gevent
from gevent.event import AsyncResult

from aero.errors import DialError
from aero.limits import Limits
from aero.net.lookup import Found, Names, SockAddr, at_port
from aero.net.loop import WRITE, Loop, Watcher, event_loop, stopped
from aero.net.transport import TcpTransport, Transport

DIAL_TIMEOUT_S = 15.0  # name and all addresses together
STAGGER_S = 0.25  # RFC 8305, section 5: the next address gets its chance while the first is still silent
FULL_S = 0.02  # how soon a socket in the file system whose queue was full is asked again
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)

Failures = list[tuple[SockAddr, int]]  # addresses that could not be connected to, each with its errno


def begin(where: SockAddr) -> tuple[socket.socket | None, int]:
    """Begins to connect: a non-blocking socket and 0 where it is connected, or EINPROGRESS; else None and the errno."""
    family, address = where
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | _NONBLOCK)
        if not _NONBLOCK:
            sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            # On one machine the connection stands by now: asking once more is cheaper than waiting for the loop.
            code = sock.connect_ex(address)
    except OSError as error:
        code = error.errno or errno.EIO
    if code in _UNDER_WAY:
        return sock, errno.EINPROGRESS
    if code and sock is not None:
        sock.close()
        sock = None
    return sock, code


class Connector:
    """One connect that is under way. It waits as long as the system does; who has less patience cancels it."""

    __slots__ = ("_done", "_sock", "_writing")

    def __init__(
        self, loop: Loop, sock: socket.socket, done: Callable[[socket.socket | None, int], None]
    ) -> None:
        """``sock``: as ``begin`` gave it; ``done`` is called once, later: the socket and 0, or None and the errno."""
        self._done = done
        self._sock = sock
        self._writing: Watcher | None = loop.io(sock.fileno(), WRITE)
        self._writing.start(self._on_writable)

    def _on_writable(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._stop()
        if code:
            self._sock.close()
        self._done(None if code else self._sock, code)

    def faulted(self, error: Exception) -> None:
        """An error of this program (net/faults.py): whoever waits hears of a connect that failed, if of nothing yet."""
        self.cancel()
        self._done(None, errno.EIO)

    def cancel(self) -> None:
        """Gives the connect up; ``done`` will not be called any more. Harmless when it was."""
        if self._writing is not None:
            self._stop()
            self._sock.close()

    def _stop(self) -> None:
        stopped(self._writing)
        self._writing = None


class Race:
    """Connects to the first of several addresses that answers.

    The next address is tried when one is refused, and STAGGER_S after the one before it began; the rest is given up
    when one answers. Has no deadline: who has one cancels.
    """

    __slots__ = ("_begun", "_connectors", "_done", "_loop", "_stagger", "_where", "failed")

    def __init__(
        self, loop: Loop, where: Sequence[SockAddr], done: Callable[[socket.socket | None, Failures], None]
    ) -> None:
        """``where``: one address at least. ``done`` is called once, later or before this returns: a connected,
        non-blocking socket, or None when every address has failed; and which ones have, in their order.
        """
        self.failed: Failures = []
        self._loop = loop
        self._where = where
        self._done: Callable[[socket.socket | None, Failures], None] | None = done
        self._begun = 0
        self._connectors: list[Connector] = []
        self._stagger: Watcher | None = None
        self._next()

    def _next(self) -> None:
        """Begins with the next address."""
        stopped(self._stagger)
        self._stagger = None
        where = self._where[self._begun]
        sock, code = begin(where)
        if code == errno.EAGAIN and where[0] == socket.AF_UNIX:  # its queue is full, which TCP would wait for
            self._stagger = self._loop.timer(FULL_S)
            self._stagger.start(self._next)
            return
        self._begun += 1
        if sock is None or not code:
            self._ended(where, sock, code)
            return
        self._connectors.append(Connector(self._loop, sock, partial(self._ended, where)))
        if self._begun < len(self._where):
            self._stagger = self._loop.timer(STAGGER_S)
            self._stagger.start(self._next)

    def faulted(self, error: Exception) -> None:
        """An error of this program as the next address was to be tried: the ones under way have to do."""
        if not self._connectors and self._done is not None:
            done = self._done
            self.cancel()
            done(None, self.failed or [(self._where[0], errno.EIO)])

    def _ended(self, where: SockAddr, sock: socket.socket | None, code: int) -> None:
        if self._done is None:  # an error of this program's comes again as a failed connect
            return
        if sock is None:
            self.failed.append((where, code))
            if self._begun < len(self._where):
                self._next()
                return
            if len(self.failed) < len(self._where):
                return
        done = self._done
        self.cancel()
        if done is not None:
            done(sock, self.failed)

    @property
    def over(self) -> bool:
        """True when ``done`` was called, or will never be."""
        return self._done is None

    def cancel(self) -> None:
        """Gives up; ``done`` will not be called any more. Harmless when it was."""
        self._done = None
        stopped(self._stagger)
        self._stagger = None
        connectors, self._connectors = self._connectors, []
        for connector in connectors:
            connector.cancel()


def dial(names: Names, host: str, port: int, timeout_s: float = DIAL_TIMEOUT_S) -> Transport:
    """A connection to the first address that answers, for a link; blocks the greenlet.

    Raises DialError with every address's reason.
    """
    connected: AsyncResult[socket.socket | None] = AsyncResult()
    race: Race | None = None
    sock: socket.socket | None = None
    until = monotonic() + timeout_s
    found = addresses_of(names, host, timeout_s)
    try:
        with gevent.Timeout(max(until - monotonic(), 0.001), False):
            race = Race(event_loop(), at_port(found, port), lambda sock, _: connected.set(sock))
            sock = connected.get()
    finally:
        if race is not None:
            race.cancel()
        late = connected.value
        if sock is None and late is not None:  # it came in the moment in which we gave up
            late.close()
    if sock is not None:
        return TcpTransport(sock)
    failed = race.failed if race is not None else []
    reasons = ", ".join(f"{address[0]}: {os.strerror(code)}" for (_, address), code in failed)
    raise DialError(f"cannot reach {host} port {port} ({reasons or f'no answer within {timeout_s:.0f} s'})")


def addresses_of(names: Names, host: str, timeout_s: float = DIAL_TIMEOUT_S) -> tuple[SockAddr, ...]:
    """What a name has, one address at least, the ports 0; blocks the greenlet. Raises DialError."""
    answer: AsyncResult[Found] = AsyncResult()
    found: Found = Found((), f"no answer within {timeout_s:.0f} s")
    question = names.ask(host, answer.set, Limits.NAME_FRESH_S)  # who dials again waits in between
    try:
        with gevent.Timeout(timeout_s, False):
            found = answer.get()
    finally:
        if question is not None:
            question.cancel()
    if not found.addresses:
        raise DialError(f"the name {host} does not resolve: {found.error}")
    addresses: tuple[SockAddr, ...] = found.addresses
    return addresses
