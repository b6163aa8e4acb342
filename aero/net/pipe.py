"""A pipe: one TCP socket joined to one stream, bytes moved by persistent watchers.

Socket to stream: one recv per readable event, straight into the session's outbox. Stream to socket: one send from
the opened record; only what the socket does not take at once is copied and kept, and the stream's credit bounds
that. A pipe needs no greenlet: its life is the stream's table (core/stream.py) plus what is still to be written.
"""

from __future__ import annotations

import socket
import struct
from time import monotonic
from typing import Any, Callable

from aero.core import stream as streams
from aero.core.codes import Reset
from aero.core.stream import Stream
from aero.net.loop import READ, WRITE, Loop, Watcher, stopped

_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() sends a reset
_LINGER_OFF = struct.pack("ii", 0, 0)
# Asked for with every call, so that an accepted socket need not be made non-blocking first: one system call less
# for every visitor.
_NOW = socket.MSG_DONTWAIT


def prepare(sock: socket.socket) -> None:
    """Sets what every visitor's and target's socket needs. On a listening socket: what those it accepts inherit."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def make_abrupt(sock: socket.socket) -> None:
    """From here on the socket ends in a reset, also when this process is killed, unless a pipe ends it well.

    What was cut short must not look complete. On a listening socket: what those it accepts inherit.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def refuse(sock: socket.socket) -> None:
    """Closes a socket that leads nowhere, with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    sock.close()


def _nowhere(data: Any, _flags: int) -> int:
    """In place of a socket's ``send`` once that has failed: drops ``data`` and says that it was taken."""
    return len(data)


class Pipe:
    """Receiver of a stream; owner of a socket."""

    __slots__ = (
        "_failure",
        "_fin_waits",
        "_loop",
        "_on_end",
        "_pending",
        "_reading",
        "_recv_into",
        "_send",
        "_sock",
        "_writing",
        "ended",
        "reset_code",
        "stream",
    )

    def __init__(self, loop: Loop, sock: socket.socket, on_end: Callable[[Pipe, str], None]) -> None:
        """``sock``: connected, prepared, blocking or not; ``on_end(pipe, why)`` gets "" for a clean end."""
        self.stream: Stream  # from start() on
        self.ended = False
        self.reset_code: int = Reset.CANCELLED  # why it ended, where that was early
        self._loop = loop
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send: Callable[[Any, int], int] = sock.send
        self._on_end = on_end
        self._reading: Watcher  # from start() on
        self._writing: Watcher | None = None  # most sockets take everything at once and never need it
        self._pending: bytearray | None = None
        self._fin_waits = False
        self._failure: OSError | None = None  # why the socket takes no more while it is still read

    def start(self, stream: Stream) -> None:
        """Joins the socket to ``stream`` and begins to read."""
        self.stream = stream
        self._reading = self._loop.io(self._sock.fileno(), READ)
        self._reading.start(self._on_readable)

    # Socket to stream

    def _on_readable(self) -> None:
        stream = self.stream
        room = stream.reserve()
        if room is None:
            self._reading.stop()
            if self._failure is not None and stream.starved and not stream.held:
                self._broken(self._failure)
            return
        try:
            count = self._recv_into(room, 0, _NOW)
        except BlockingIOError:
            stream.heavy = False
            if not self._reading.active:
                self._reading.start(self._on_readable)
            return
        except OSError as error:
            self._broken(self._failure or error)
            return
        if count:
            stream.commit(count, count == len(room))
            return
        if self._failure is not None:
            self._broken(self._failure)
            return
        self._reading.stop()
        stream.finish()
        self._end_if_done()

    def resume(self) -> None:
        """The stream may send again: reads once. The watcher stays off while the socket has more than is allowed."""
        if self.ended or self.stream.state & streams.OURS_ENDED:
            return
        self._on_readable()
        if not self.ended and not self._reading.active and not self.stream.state & streams.OURS_ENDED:
            stream = self.stream
            if stream.heavy:
                stream.session.wait_turn(stream)
            elif not stream.waiting and not stream.starved:
                self._reading.start(self._on_readable)

    # Stream to socket

    def data(self, view: memoryview) -> None:
        """Sends at once what the socket takes, keeps the rest."""
        stream = self.stream
        if self._pending is None:
            try:
                count = self._send(view, _NOW)
            except BlockingIOError:
                count = 0
            except OSError as error:
                self._deaf(error)
                count = len(view)
            if count:
                stream.consume(count, stream.session.now)
                if count == len(view):
                    return
                view = view[count:]
            # Not a list of pieces: single bytes would make it hundreds of times as large.
            self._pending = bytearray()
            if self._writing is None:
                self._writing = self._loop.io(self._sock.fileno(), WRITE)
            self._writing.start(self._on_writable)
        self._pending += view

    def _on_writable(self) -> None:
        pending = self._pending
        if pending:
            try:
                count = self._send(pending, _NOW)
            except BlockingIOError:
                return
            except OSError as error:
                self._deaf(error)
                if self.ended:
                    return
                count = len(pending)
            del pending[:count]
            self.stream.consume(count, monotonic())
        if not pending:
            self._pending = None
            if self._writing is not None:
                self._writing.stop()
            if self._fin_waits:
                self._shut()

    def finished(self) -> None:
        """The other end sends no more: so do we, once everything is written."""
        if self._pending is not None:
            self._fin_waits = True
        else:
            self._shut()

    def _shut(self) -> None:
        self._fin_waits = False
        if self.stream.state == streams.CLOSED:
            self._end_if_done()  # closing the socket tells its program the same
            return
        if self._failure is None:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._deaf(error)

    # Ends

    def _deaf(self, error: OSError) -> None:
        """The socket takes no more; what its program said before is still read, and then the stream ends.

        A server may answer and close while a request comes in. Nothing waits for a peer that has to read first.
        """
        stream = self.stream
        if stream.state & streams.OURS_ENDED or (stream.starved and not stream.held):
            self._broken(error)
        else:
            self._failure = error
            self._send = _nowhere

    def reset(self, code: int, text: str) -> None:
        """The stream is over, early: the socket gets a reset, not an end that looks complete."""
        self.reset_code = code
        self._end(text or "reset", abrupt=True)

    def faulted(self, error: Exception) -> None:
        """Ends stream and socket after an error of this program in one of our callbacks (net/faults.py)."""
        self.reset_code = Reset.INTERNAL
        try:
            self.stream.abort(Reset.INTERNAL, "an error of the program")
        finally:
            self._end("an error of the program", abrupt=True)

    def _broken(self, error: OSError) -> None:
        text = error.strerror or str(error)
        self.stream.abort(Reset.CANCELLED, text)
        self._end(text, abrupt=True)

    def _end_if_done(self) -> None:
        if self.stream.state == streams.CLOSED and self._pending is None:
            self._end("", abrupt=False)

    def _end(self, why: str, abrupt: bool) -> None:
        if self.ended:
            return
        self.ended = True
        stopped(self._reading)
        stopped(self._writing)
        self._pending = None
        self.stream.receiver = streams.OVER
        if abrupt:
            refuse(self._sock)
        else:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            self._sock.close()
        self._on_end(self, why)
