"""The connection under a link: an ordered stream of bytes each way, which never blocks. TCP is the one that there is.

A link, its handshake, the gate and the worker's lane know a connection as a Transport and nothing of sockets. So a
layer between TCP and a link (TLS, WebSocket) is one more class here, and the protocol has what such a layer needs from
the first day: it may hold bytes that no event of the descriptor announces (``pending``), it may have to write before
it can receive, and to read before it can send (``receive_waits_for``, ``send_waits_for``).
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Callable, Protocol

import gevent

from aero.net.loop import READ, WRITE

# A peer whose kernel takes nothing for so long is given up by ours, though its machine may live and only its program
# read nothing. A session survives that; shorter would punish a program that is stopped or a path through a tunnel.
USER_TIMEOUT_S = 30.0
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Transport(Protocol):
    """One connection. Its methods raise OSError where it broke, and BlockingIOError where they would have to wait."""

    #: READ or WRITE: the event of the descriptor after which a receive that would block is worth another try.
    receive_waits_for: int
    #: The same for a send that would block.
    send_waits_for: int

    @property
    def pending(self) -> int:
        """Bytes that can be received now and that no event announces. Whoever receives goes on until it is 0."""

    def fileno(self) -> int:
        """The descriptor whose events are waited for."""

    def receive_into(self, buffer: memoryview, /) -> int:
        """Writes what has come to ``buffer``; returns how many bytes, 0 when the peer sends no more."""

    def send(self, data: memoryview, /) -> int:
        """Takes some of ``data``; returns how many bytes. What was refused is to be offered again unchanged."""

    def keep_unsent(self, count: int) -> None:
        """Asks the kernel to take no more than about ``count`` bytes that it cannot send yet. Never raises."""

    def in_flight(self) -> int:
        """Bytes that the peer's kernel has not acknowledged, unsent ones included; -1 where the system hides that."""

    def shut(self) -> None:
        """Sends no more: the peer receives all that was sent, and then the end."""

    def close(self) -> None:
        """Ends both directions at once. Harmless when closed; never raises."""


class TcpTransport:
    """A link straight over TCP."""

    receive_waits_for = READ
    send_waits_for = WRITE
    pending = 0  # the kernel announces everything

    def __init__(self, sock: socket.socket) -> None:
        """``sock``: connected; it belongs to this object from here on."""
        sock.setblocking(False)
        self._sock = sock
        # Not methods around them: these two are called for every record.
        self.receive_into: Callable[[memoryview], int] = sock.recv_into
        self.send: Callable[[memoryview], int] = sock.send
        self.fileno = sock.fileno
        self._set(socket.TCP_NODELAY, 1)
        if _USER_TIMEOUT is not None:
            self._set(_USER_TIMEOUT, round(1000 * USER_TIMEOUT_S))

    def _set(self, option: int, value: int) -> None:
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:
            pass  # a kernel without it, or a peer that is gone: the next call on the connection says so

    def keep_unsent(self, count: int) -> None:
        """See Transport."""
        if (
            _NOTSENT_LOWAT is not None
        ):  # where it is missing the kernel's queue is longer, nothing else changes
            self._set(_NOTSENT_LOWAT, count)

    def in_flight(self) -> int:
        """See Transport."""
        import fcntl
        import termios

        try:  # for a socket this is SIOCOUTQ, see tcp(7)
            return int(struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))[0])
        except (OSError, ValueError):  # not this kind of system, or closed
            return -1

    def shut(self) -> None:
        """See Transport."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See Transport."""
        self._sock.close()


def wait(transport: Transport, event: int) -> None:
    """Blocks the greenlet until READ or WRITE happens."""
    hub: Any = gevent.get_hub()
    watcher = hub.loop.io(transport.fileno(), event)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()
