"""The connection under a link: an ordered stream of bytes each way, which never blocks. TCP, or layers above it.

A link, its handshake, the gate and the worker's lane know a connection as a Transport and nothing of sockets. A layer
between TCP and a link (tls.py, websocket.py) may hold bytes that no event of the descriptor announces (``pending``),
it may have to write before it can receive, and to read before it can send (``receive_waits_for``, ``send_waits_for``).
Neither layer is imported before it is used: a worker whose link is plain TCP has no ssl in its memory.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Callable, Protocol

import gevent

from aero.errors import LinkClosed
from aero.net import congestion
from aero.net.loop import READ, WRITE

# A peer whose kernel takes nothing for so long is given up by ours, though its machine may live and only its program
# read nothing. A session survives that; shorter would punish a program that is stopped or a path through a tunnel.
USER_TIMEOUT_S = 30.0
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_NOTHING = memoryview(b"")


class Transport(Protocol):
    """One connection. Its methods raise OSError where it broke, and BlockingIOError where they would have to wait."""

    #: For people: "tcp", "tls", "ws", or "wss" for WebSocket over TLS.
    kind: str

    @property
    def receive_waits_for(self) -> int:
        """READ or WRITE: the event of the descriptor after which a receive that would block is worth another try."""

    @property
    def send_waits_for(self) -> int:
        """The same for a send that would block."""

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

    def wake_at(self, count: int) -> None:
        """Asks for no event before ``count`` bytes have come, or the end; may do nothing. Never raises."""

    def congest(self, name: str) -> None:
        """Has the kernel run this congestion control. Raises OSError."""

    @property
    def congestion(self) -> str:
        """The congestion control that the kernel runs, "" where the system hides that."""

    def in_flight(self) -> int:
        """Bytes that the peer's kernel has not acknowledged, unsent ones included; -1 where the system hides that."""

    def shut(self) -> None:
        """Sends no more: the peer receives all that was sent, and then the end."""

    def close(self) -> None:
        """Ends both directions at once. Harmless when closed; never raises."""


class TcpTransport:
    """A link straight over TCP."""

    kind = "tcp"
    receive_waits_for = READ
    send_waits_for = WRITE
    pending = 0  # the kernel announces everything

    def __init__(self, sock: socket.socket) -> None:
        """``sock``: connected; it belongs to this object from here on."""
        sock.setblocking(False)
        self.sock = sock
        # Not methods around them: these two are called for every record.
        self.receive_into: Callable[[memoryview], int] = sock.recv_into
        self.send: Callable[[memoryview], int] = sock.send
        self.fileno = sock.fileno
        self._set(socket.TCP_NODELAY, 1)
        if _USER_TIMEOUT is not None:
            self._set(_USER_TIMEOUT, round(1000 * USER_TIMEOUT_S))

    def _set(self, option: int, value: int) -> None:
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:
            pass  # a kernel without it, or a peer that is gone: the next call on the connection says so

    def keep_unsent(self, count: int) -> None:
        """See Transport."""
        if (
            _NOTSENT_LOWAT is not None
        ):  # where it is missing the kernel's queue is longer, nothing else changes
            self._set(_NOTSENT_LOWAT, count)

    def wake_at(self, count: int) -> None:
        """See Transport."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
        except OSError:
            pass

    def congest(self, name: str) -> None:
        """See Transport."""
        congestion.use(self.sock, name)

    @property
    def congestion(self) -> str:
        """See Transport."""
        return congestion.in_use(self.sock)

    def in_flight(self) -> int:
        """See Transport."""
        import fcntl
        import termios

        try:  # for a socket this is SIOCOUTQ, see tcp(7)
            return int(struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0])
        except (OSError, ValueError):  # not this kind of system, or closed
            return -1

    def shut(self) -> None:
        """See Transport."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See Transport."""
        self.sock.close()


class Layer:
    """What TLS and WebSocket have in common: they make one run of bytes into another, and what the connection below
    does not take of it stays here.

    A layer cannot take back what it has framed or sealed. So while some of that waits, ``send`` says that the last byte
    of what it was given was refused, and takes that byte, offered again, when all the rest is out.
    """

    send_waits_for = WRITE

    def __init__(self, under: Transport) -> None:
        """``under``: belongs to this object from here on."""
        self.under = under
        self.fileno = under.fileno
        self.keep_unsent = under.keep_unsent
        self.congest = under.congest
        self.pending = 0  # see Transport
        self._unsent: memoryview = _NOTHING
        self._refused = False  # the last byte that was refused is among the unsent

    def wake_at(self, count: int) -> None:
        """Nothing: how many bytes below ``count`` above are is not known."""

    @property
    def receive_waits_for(self) -> int:
        """See Transport: an answer of the layer's own is written before it is read again."""
        return WRITE if self._unsent else READ

    def _clear(self) -> bool:
        """Passes on what waits; True when nothing does any more. Raises OSError."""
        try:
            self._unsent = self._unsent[self.under.send(self._unsent) :]
        except BlockingIOError:
            return False
        return not self._unsent

    def _begin_send(self) -> int:
        """How many bytes of what ``send`` was given are out already: 1 where it had refused the first one, or 0.

        Raises BlockingIOError while others wait.
        """
        if self._unsent and not self._clear():
            raise BlockingIOError
        refused, self._refused = self._refused, False
        return int(refused)

    def _pass_on(self, made: memoryview, count: int) -> int:
        """Sends what was ``made`` of ``count`` bytes; returns what ``send`` has to return. Keeps what is left over,
        as a copy.
        """
        try:
            sent = self.under.send(made)
        except BlockingIOError:
            sent = 0
        if sent == len(made):
            return count
        self._unsent = memoryview(bytes(made[sent:]))
        self._refused = True
        return count - 1

    def _add(self, made: bytes) -> None:
        """Sends bytes of the layer's own, or has them wait behind others. Raises OSError."""
        self._unsent = memoryview(bytes(self._unsent) + made) if self._unsent else memoryview(made)
        self._clear()

    @property
    def congestion(self) -> str:
        """See Transport."""
        return self.under.congestion

    def in_flight(self) -> int:
        """See Transport."""
        below = self.under.in_flight()
        return below + len(self._unsent) if below >= 0 else below

    def close(self) -> None:
        """See Transport."""
        self._unsent = _NOTHING
        self.under.close()


def receive(transport: Transport, size: int) -> bytes:
    """Some bytes, one at least and ``size`` at most; blocks the greenlet. Raises LinkClosed."""
    buffer = memoryview(bytearray(size))
    while True:
        try:
            count = transport.receive_into(buffer)
        except BlockingIOError:
            if transport.pending:
                gevent.sleep(0)
            else:
                wait(transport, transport.receive_waits_for)
            continue
        except OSError as error:
            raise LinkClosed(f"the connection broke in the handshake: {error.strerror or error}") from error
        if not count:
            raise LinkClosed("the peer hung up in the handshake")
        return bytes(buffer[:count])


def send_all(transport: Transport, data: bytes) -> None:
    """Sends all; blocks the greenlet, for as long as the peer reads nothing. Raises LinkClosed."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[transport.send(rest) :]
        except BlockingIOError:
            wait(transport, transport.send_waits_for)
        except OSError as error:
            raise LinkClosed(f"the connection broke in the handshake: {error.strerror or error}") from error


def wait(transport: Transport, event: int) -> None:
    """Blocks the greenlet until READ or WRITE happens."""
    hub: Any = gevent.get_hub()
    watcher = hub.loop.io(transport.fileno(), event)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()
