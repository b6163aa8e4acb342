"""The way to a visitor: makes HTTP/1.1 of a response's head, body and end, and writes it to his socket.

What one event of the target's brings is gathered and leaves with one ``send``. What the socket does not take is kept
here; the target gets its credit back as the bytes leave, so that the stream's window bounds what is kept.
"""

from __future__ import annotations

import socket
from typing import Protocol

from aero.net.loop import WRITE, Loop, Watcher, stopped
from aero.server.httpmux.body import Bytes, chunk, last_chunk

_NOTHING = b""


class Writer(Protocol):
    """Whose socket it is. Nothing here may raise or block."""

    def consumed(self, count: int) -> None:
        """So many of the target's bytes have left."""

    def stalled(self) -> None:
        """The socket takes no more now; called again whenever it has taken a part of what waits."""

    def drained(self) -> None:
        """Nothing waits any more, after ``stalled``."""

    def lost(self) -> None:
        """The socket is broken."""

    def broken(self, error: Exception) -> None:
        """A fault of this program's: the connection ends."""


class Sending:
    """The outgoing half of a visitor's connection."""

    __slots__ = (
        "_chunked",
        "_credit",
        "_gathered",
        "_loop",
        "_pending",
        "_sock",
        "_watcher",
        "_writer",
        "busy",
    )

    def __init__(self, loop: Loop, sock: socket.socket, writer: Writer) -> None:
        """``sock``: non-blocking."""
        self._loop = loop
        self._sock = sock
        self._writer = writer
        self._watcher: Watcher | None = None  # most sockets take everything at once and never need it
        self._gathered: list[Bytes] = []  # valid until ``flush``: what is in it may be the session's memory
        self._chunked = False
        # What the socket did not take; no list of pieces: single bytes would make it hundreds of times as large.
        self._pending: bytearray | None = None
        self.busy = False  # something waits for the socket to take it
        self._credit = 0  # owed to the stream for it

    # A response

    def head(self, head: bytes, chunked: bool) -> None:
        """Begins a message with its ready head; ``chunked``: its body is framed in chunks."""
        self._chunked = chunked
        self._gathered.append(head)

    def body(self, data: Bytes) -> None:
        """More of the message's body: one byte at least."""
        if self._chunked:
            self._gathered += chunk(data)
        else:
            self._gathered.append(data)

    @property
    def gathering(self) -> bool:
        """True when something was gathered and is not written yet."""
        return bool(self._gathered)

    def end(self, trailers: bytes) -> None:
        """The message is whole; in chunks it needs saying."""
        if self._chunked:
            self._gathered.append(last_chunk(trailers))

    def flush(self, credit: int) -> None:
        """Writes what was gathered; ``credit``: how many of the target's bytes it accounts for."""
        gathered = self._gathered
        data: Bytes = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        gathered.clear()
        self.put(data, credit)

    def put(self, data: Bytes, credit: int) -> None:
        """Writes ``data`` at once; as ``flush``, where nothing was gathered."""
        if self._pending is None:
            try:
                count = self._sock.send(data) if len(data) else 0
            except BlockingIOError:
                count = 0
            except OSError:
                self._writer.lost()
                return
            if count == len(data):
                if credit:
                    self._writer.consumed(credit)
                return
            self._pending, self.busy = bytearray(), True
            if self._watcher is None:
                self._watcher = self._loop.io(self._sock.fileno(), WRITE)
            self._watcher.start(self._on_writable)
            self._writer.stalled()
            given = credit * count // len(data)
            self._writer.consumed(given)
            credit -= given
            data = memoryview(data)[count:]
        self._credit += credit
        self._pending += data

    def _on_writable(self) -> None:
        try:
            self._write()
        except Exception as error:
            self._writer.broken(error)

    def _write(self) -> None:
        pending = self._pending
        if pending:
            try:
                count = self._sock.send(pending)
            except BlockingIOError:
                return
            except OSError:
                self._writer.lost()
                return
            # In proportion: a chunk is larger than its data. Were every byte written one given back, what waits here
            # would grow by the difference for as long as the target has more.
            given = self._credit * count // len(pending)
            self._credit -= given
            del pending[:count]
            self._writer.consumed(given)
        if self._pending:
            self._writer.stalled()
        elif self._pending is not None:
            self._pending, self.busy = None, False
            if self._watcher is not None:
                self._watcher.stop()
            self._writer.drained()

    def faulted(self, error: Exception) -> None:
        """Gives the connection up after an error of this program in our callback (net/faults.py)."""
        self._writer.lost()

    def stop(self) -> None:
        """Nothing is written any more."""
        stopped(self._watcher)
        self._watcher = self._pending = None
        self.busy = False
        self._gathered.clear()
