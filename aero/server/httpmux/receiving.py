"""The way from a visitor: passes a request's body, or raw bytes after an upgrade, from his socket to the target.

A body that needs no parsing is read straight into the session's outbox; any other through one buffer. What the target
cannot take yet stays in the kernel: nothing is read then, so that the stream's window bounds what is kept.
"""

from __future__ import annotations

import socket
from typing import Callable, Protocol

from aero.errors import MessageError
from aero.limits import Limits
from aero.net.loop import READ, Loop, Watcher, stopped
from aero.server.httpmux.body import Transfer, framed
from aero.server.httpmux.head import UNTIL_CLOSE
from aero.server.httpmux.retry import Tries
from aero.server.httpmux.upstream import Upstream

READ_BYTES = 64 * 1024  # one recv of a body that has to be parsed
_NOTHING = b""


class Reader(Protocol):
    """Whose socket it is. Nothing here may raise or block."""

    @property
    def closed(self) -> bool:
        """True when the connection is over."""

    def readable(self) -> None:
        """The loop's callback: the socket has something to read. Reads a head itself, has ``relay`` read a body."""

    def wait(self, limit_s: float) -> None:
        """From now on the next step may take so many seconds."""

    def ended(self) -> None:
        """The visitor sends no more."""

    def lost(self) -> None:
        """The socket is broken."""

    def malformed(self, error: MessageError) -> None:
        """The body's framing is wrong."""


class Receiving:
    """The incoming half of a visitor's connection."""

    __slots__ = ("_raw", "_reader", "_sock", "body", "rest", "watcher")

    def __init__(self, loop: Loop, sock: socket.socket, reader: Reader) -> None:
        """``sock``: non-blocking. Nothing is read before ``start``."""
        self._sock = sock
        self._reader = reader
        self._raw = False  # there was an upgrade: behind the request's body come raw bytes
        # A connection that holds bytes itself (secure.py) makes its own.
        watch: Callable[[], Watcher] | None = getattr(sock, "watch", None)
        self.watcher: Watcher = watch() if watch is not None else loop.io(sock.fileno(), READ)
        self.body: Transfer | None = None  # of the request, while it is incomplete; raw bytes too are one
        self.rest = _NOTHING  # what was read and not yet used: a beginning of a head, or pipelined requests

    def start(self) -> None:
        """Reads when there is something; harmless when it does so already."""
        if not self.watcher.active:
            self.watcher.start(self._reader.readable)

    def stop(self) -> None:
        """Nothing is read any more, ever."""
        stopped(self.watcher)

    @property
    def expects(self) -> bool:
        """True while it is the visitor who is waited for: there is more of the body to come, and it would be read."""
        return self.body is not None and self.watcher.active

    def keep(self, data: bytes, most: int) -> None:
        """Keeps what comes behind a request that is under way; reads no more once that is ``most`` bytes."""
        self.rest += data
        if len(self.rest) >= most:
            self.watcher.stop()

    def take(self) -> bytes:
        """What has come of the body behind its head, framed for the target. Raises MessageError."""
        body = self.body
        if body is None or not self.rest:
            return _NOTHING
        out, used = body.feed(self.rest)
        self.rest = self.rest[used:]
        if body.done:
            self.body = None
        return framed(body, out)

    def switched(self, upstream: Upstream, tries: Tries) -> None:
        """101: from here on bytes are passed on as they come, behind the body if that is not whole yet.

        Raises MessageError.
        """
        self._raw = True
        body = self.body
        if body is None or body.verbatim:
            body = self.body = Transfer(UNTIL_CLOSE)
        if self.rest:
            rest, self.rest = self.rest, _NOTHING
            if body.verbatim:
                upstream.send(rest)
            else:
                self._feed(upstream, tries, body, rest)

    def relay(self, upstream: Upstream, tries: Tries) -> None:
        """Passes on what one recv brings, if the target takes any; else stops reading until it does."""
        body, reader = self.body, self._reader
        if body is None:
            return
        stream = upstream.stream
        room = None
        if not upstream.backlogged:
            room = stream.reserve(body.left) if body.left > 0 else stream.reserve()
        if room is None:
            self.watcher.stop()
            reader.wait(Limits.MUX_ANSWER_S)
            return
        try:
            count = self._receive(upstream, tries, body, room)
        except BlockingIOError:
            stream.heavy = False
            self.start()
            return
        except OSError:
            reader.lost()
            return
        except MessageError as error:
            reader.malformed(error)
            return
        if not count:
            reader.ended()
        elif self.body is None:
            reader.wait(Limits.MUX_ANSWER_S)
            if not self.watcher.active and not reader.closed:
                self.start()
        else:
            reader.wait(Limits.MUX_BODY_S)

    def go_on(self, upstream: Upstream) -> None:
        """The target took more: reads again if it may, or when it is this stream's turn."""
        if self.body is None or self.watcher.active:
            return
        stream = upstream.stream
        if stream.heavy:
            stream.session.wait_turn(stream)
        elif not (stream.waiting or stream.starved or upstream.backlogged):
            self.start()

    def _receive(self, upstream: Upstream, tries: Tries, body: Transfer, room: memoryview) -> int:
        """One recv of a body; how many bytes came, 0 at the end of all. Raises OSError, MessageError."""
        if not body.verbatim:
            data = self._sock.recv(min(len(room), READ_BYTES))
            if data:
                self._feed(upstream, tries, body, data)
            return len(data)
        count = self._sock.recv_into(room)
        if count:
            tries.remember(room[:count])
            body.passed(count)
            upstream.stream.commit(count, not body.done and count == len(room))
            if body.done:
                self.body = None
        return count

    def _feed(self, upstream: Upstream, tries: Tries, body: Transfer, data: bytes) -> None:
        out, used = body.feed(data)
        self.rest = data[used:]
        if body.done:
            self.body = None
        for_target = framed(body, out)
        if for_target:
            tries.remember(for_target)
            upstream.send(for_target)
        if self._raw and self.body is None:  # 101 came before the request was whole; now it is
            self.body = Transfer(UNTIL_CLOSE)
            rest, self.rest = self.rest, _NOTHING
            upstream.send(rest)
