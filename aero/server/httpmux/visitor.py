"""A visitor's connection: requests in, one after the other, each to a target or to an answer of the mux's own.

Bytes move as in net/pipe.py, by persistent watchers and straight into the session's outbox; no greenlet, nothing
here blocks or raises. What may come when is this table; everything else is handled where it is noticed:

    state     request  upstream  ends with
    waiting   None     None      a whole head
    asking    there    there     the final head of a response, an error, or a try with the next mapping
    answering there    or None   the response's last byte
    raw       there    there     both directions' ends (after 101)
    lingering any      None      the visitor's end, or time
"""

from __future__ import annotations

import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any

from aero import logs
from aero.core import frames
from aero.core.codes import Reset
from aero.errors import MessageError, StreamError
from aero.limits import Limits
from aero.net.pipe import refuse
from aero.server.httpmux import rewrite
from aero.server.httpmux.body import Transfer
from aero.server.httpmux.head import (
    CHUNKED,
    IDEMPOTENT,
    UNTIL_CLOSE,
    Request,
    Response,
    check_beginning,
    parse_request,
)
from aero.server.httpmux.pages import Answer, render
from aero.server.httpmux.rewrite import Peer
from aero.server.httpmux.routing import Wanted
from aero.server.httpmux.upstream import Upstream
from aero.server.registry.mapping import Mapping

if TYPE_CHECKING:
    from aero.server.httpmux.server import Mux

log = logs.get("mux")

READ_BYTES = 64 * 1024  # one recv of a body that has to be parsed
NEVER = float("inf")
#: The target saw nothing of the request: it can be made again, whatever it asks for.
NOT_REACHED = (Reset.REFUSED, Reset.UNREACHABLE, Reset.TIMEOUT, Reset.NO_TARGET, Reset.LIMIT)
_READ, _WRITE = 1, 2
_NOTHING = b""
_LINGER_OFF = struct.pack("ii", 0, 0)


def end_well(sock: socket.socket) -> None:
    """Closes a socket that would otherwise end in a reset (net/pipe.py, ``make_abrupt``)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    sock.close()


class Visitor:
    """One connection to the mux."""

    __slots__ = (
        "_body",
        "_checked",
        "_close",
        "_complete",
        "_credit",
        "_discarded",
        "_eof",
        "_failure",
        "_in",
        "_lingering",
        "_mappings",
        "_mux",
        "_pending",
        "_raw",
        "_reading",
        "_replay",
        "_request",
        "_responded",
        "_sock",
        "_stale",
        "_tries",
        "_upstream",
        "_wanted",
        "_writing",
        "address",
        "closed",
        "deadline",
        "peer",
    )

    def __init__(self, mux: Mux, sock: socket.socket, address: str, peer: Peer) -> None:
        """``sock``: prepared, abrupt, non-blocking; ``address``: ip:port as text. Begins to read."""
        self.address = address
        self.peer = peer
        self.closed = False
        self.deadline = monotonic() + Limits.MUX_HEAD_S  # when ``expired`` is to be called
        self._mux = mux
        self._sock = sock
        self._in = _NOTHING  # what was read and not yet used: a beginning of a head, or pipelined requests
        self._checked = 0
        self._eof = False
        self._lingering = False
        self._discarded = 0
        # What the socket did not take; no list of pieces: single bytes would make it hundreds of times as large.
        self._pending: bytearray | None = None
        self._credit = 0  # owed to the stream for it
        self._writing: Any = None
        self._raw = False
        self._mappings: list[Mapping] = []
        self._wanted: Wanted | None = None
        self._upstream: Upstream | None = None
        self._forget()
        self._reading = mux.loop.io(sock.fileno(), _READ)
        self._reading.start(self._on_readable)

    @property
    def idle(self) -> bool:
        """True between two requests."""
        return self._request is None and not self._in and not self._responded

    def _forget(self) -> None:
        """No request is under way."""
        self._request: Request | None = None
        self._body: Transfer | None = None  # of the request, while it is incomplete
        self._replay: bytes | None = None  # what was sent of it, while that is little
        self._stale = False
        self._tries = 0
        self._failure: Answer | None = None  # what went wrong at the last try
        self._close = False  # the connection ends after this response
        self._responded = False  # the visitor has got the final head, or part of it
        self._complete = False  # all of the response is written or pending

    # ------------------------------------------------------------------------
    # From the visitor: heads
    # ------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._body is not None and self._upstream is not None:
            self._relay()
            return
        try:
            data = self._sock.recv(Limits.MUX_HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not data:
            self._on_eof()
        elif self._lingering:
            self._discarded += len(data)
            if self._discarded > Limits.MUX_LINGER_BYTES:
                self.close()
        else:
            self._in += data
            if self._request is None and not self._responded:
                self._next()
            elif len(self._in) >= Limits.MUX_HEAD_BYTES:
                self._reading.stop()  # so much may wait behind a request that is under way

    def _next(self) -> None:
        """Looks for the next request in what was read."""
        if self.closed or self._lingering or self._responded or self._request is not None:
            return
        if not self._checked and self._in.startswith(b"\r\n"):
            self._in = self._in[2:]  # old programs put a line end behind a body (RFC 9112, section 2.2)
        data = self._in
        end = data.find(b"\r\n\r\n", max(self._checked - 3, 0)) + 4
        try:
            if end < 4:
                check_beginning(data, self._checked, Limits.MUX_HEAD_BYTES)
                if data and not self._checked:
                    self.deadline = monotonic() + Limits.MUX_HEAD_S
                self._checked = len(data)
                if self._eof:
                    self.close()
                return
            if end > Limits.MUX_HEAD_BYTES:
                raise MessageError(431, f"the head is longer than {Limits.MUX_HEAD_BYTES} bytes")
            self._in = data[end:]
            self._checked = 0
            self._begin(parse_request(data[:end], Limits.MUX_HEAD_FIELDS))
        except MessageError as error:
            self._malformed(error)

    def _begin(self, request: Request) -> None:
        self._request = request
        self._close = not request.keep_alive
        if request.length > 0 or request.length == CHUNKED:
            self._body = Transfer(request.length, chunked_out=request.length == CHUNKED)
        wanted = self._mux.router.wanted(request)
        if isinstance(wanted, Answer):
            self._answer(wanted)
            return
        self._wanted = wanted
        mappings = self._mux.router.mappings(wanted)
        if isinstance(mappings, Answer):
            self._answer(mappings)
            return
        self._mappings = mappings
        self._replay = self._take_body() if self._body is not None else _NOTHING
        if self._eof and self._body is not None:
            self.close()  # the rest of it will never come
            return
        self._connect()

    def _take_body(self) -> bytes:
        """What has come of the body already, framed for the target. Raises MessageError."""
        if self._body is None or not self._in:
            return _NOTHING
        out, used = self._body.feed(self._in)
        self._in = self._in[used:]
        if self._body.done:
            self._body = None
        return bytes(out)

    # ------------------------------------------------------------------------
    # To the target
    # ------------------------------------------------------------------------

    def _connect(self) -> None:
        """Sends the request to the next mapping, as far as it has come; answers when there is none left to try."""
        request, wanted, sent = self._request, self._wanted, self._replay
        if request is None or wanted is None or sent is None:
            return
        upstream = self._take() if self._tries < Limits.MUX_TRIES else None
        if upstream is None:
            self._answer(self._failure or Answer("no worker", self._fields()))
            return
        self._tries += 1
        self._upstream = upstream
        local = upstream.mapping.local.encode()
        head = rewrite.request_head(request, wanted.path, wanted.host, local, self.peer, wanted.prefix)
        upstream.begin(self, request.method, request.minor, bool(request.upgrade), head + sent)
        if len(sent) > Limits.MUX_REPLAY_BYTES:
            self._replay = None
        self.deadline = monotonic() + (Limits.MUX_ANSWER_S if self._body is None else Limits.MUX_BODY_S)
        if log.debugging:
            log.debug(
                "> request",
                visitor=self.address,
                method=request.method.decode(),
                tag=wanted.who,
                target=wanted.name,
                cid=upstream.mapping.worker.cid,
                stream=upstream.stream.id,
            )

    def _take(self) -> Upstream | None:
        """A connection to the first mapping that gives one: a kept one at first, after that failed a new one."""
        request = self._request
        longest_s = (
            Limits.MUX_POOLED_S
            if request is not None and request.method in IDEMPOTENT
            else Limits.MUX_POOLED_FRESH_S
        )
        while self._mappings:
            mapping = self._mappings[0]
            if not self._stale:
                upstream = self._mux.pool.take(mapping, longest_s)
                if upstream is not None:
                    return upstream
            self._stale = False
            del self._mappings[0]
            try:
                return Upstream(self._mux.pool, mapping, self.address)
            except StreamError as error:
                self._failure = Answer("busy" if error.code == Reset.LIMIT else "no worker", self._fields())
        return None

    def _fields(self, why: str = "") -> dict[str, str]:
        wanted = self._wanted
        return {"tag": wanted.who, "name": wanted.name, "why": why} if wanted is not None else {"why": why}

    def _relay(self) -> None:
        """The request's body, or raw bytes: one recv."""
        upstream, body = self._upstream, self._body
        if upstream is None or body is None:
            return
        stream = upstream.stream
        session = stream.session
        want = 0 if upstream.backlogged else session.allowance(stream)
        if not want:
            self._reading.stop()
            self._wait(Limits.MUX_ANSWER_S)
            return
        if 0 <= body.left < want and body.verbatim:
            want = body.left
        try:
            if body.verbatim:
                block = session.room(want)
                at = block.end + frames.HEADER_BYTES
                count = self._sock.recv_into(block.view[at : at + want])
                if count:
                    self._remember(block.view[at : at + count])
                    body.passed(count)
                    heavy = not body.done and (count == want or at + count == len(block.data))
                    session.commit(stream, block, count, heavy)
            else:
                data = self._sock.recv(min(want, READ_BYTES))
                count = len(data)
                if count:
                    self._feed(upstream, body, data)
        except BlockingIOError:
            stream.heavy = False
            if not self._reading.active:
                self._reading.start(self._on_readable)
            return
        except OSError:
            self._lost()
            return
        except MessageError as error:
            self._malformed(error)
            return
        if not count:
            self._on_eof()
        elif body.done:
            self._body = None
            self._wait(Limits.MUX_ANSWER_S)
            if not self._reading.active and not self.closed:
                self._reading.start(self._on_readable)
        else:
            self._wait(Limits.MUX_BODY_S)

    def _feed(self, upstream: Upstream, body: Transfer, data: bytes) -> None:
        out, used = body.feed(data)
        self._in = data[used:]
        if out:
            self._remember(out)
            upstream.send(bytes(out))

    def _remember(self, data: bytes | memoryview) -> None:
        """Keeps a small body until the response begins, to send it again elsewhere."""
        if self._replay is not None:
            kept = len(self._replay) + len(data) <= Limits.MUX_REPLAY_BYTES
            self._replay = self._replay + data if kept else None

    def _wait(self, limit_s: float) -> None:
        """Until the visitor or the target does something; once the response has begun both may take their time."""
        if self._pending is None:
            self.deadline = NEVER if self._responded else monotonic() + limit_s

    def resume(self) -> None:
        """The target takes more."""
        if self._raw and self._eof:
            self._end_raw()
            return
        self._relay()
        upstream = self._upstream
        if self._body is None or upstream is None or self._eof or self._reading.active:
            return
        stream = upstream.stream
        if stream.heavy:
            stream.session.wait_turn(stream)
        elif not (stream.waiting or stream.starved or upstream.backlogged):
            self._reading.start(self._on_readable)

    # ------------------------------------------------------------------------
    # From the target
    # ------------------------------------------------------------------------

    def answered(self, response: Response, length: int) -> tuple[bool, bytes, bytes, tuple[bytes, ...]]:
        """The final head came: whether to send chunks, the value of Connection, the prefix, the target's hosts."""
        request, wanted, upstream = self._request, self._wanted, self._upstream
        if request is None or wanted is None or upstream is None:
            return False, b"close", _NOTHING, ()
        self._responded = True
        self._replay = None
        self._wait(NEVER)
        unbounded = length in (CHUNKED, UNTIL_CLOSE)
        chunked = unbounded and request.minor == 1  # to HTTP/1.0 the connection's end ends the body
        if self._body is not None:
            upstream.serve_last()
        ended = self._eof and not self._in
        if self._body is not None or ended or (unbounded and not chunked) or self._mux.draining:
            self._close = True
        connection = b"close" if self._close else b"keep-alive" if request.minor == 0 else _NOTHING
        hosts: tuple[bytes, ...] = ()
        if response.rooted and wanted.prefix:
            hosts = (request.host.lower(), upstream.mapping.local.encode())
        return chunked, connection, wanted.prefix, hosts

    def upgraded(self) -> None:
        """101 was sent: from here on bytes pass both ways."""
        self._responded = self._raw = True
        self._body = Transfer(UNTIL_CLOSE)
        self._replay = None
        self._wait(NEVER)
        if self._in and self._upstream is not None:
            self._upstream.send(self._in)
            self._in = _NOTHING
        if self._eof:
            self._end_raw()
        elif not self._reading.active:
            self._reading.start(self._on_readable)

    def failed(self, kind: str, code: int, why: str) -> None:
        """There will be no (more) response: the next mapping if that is safe, else an answer; late, a reset."""
        upstream, self._upstream = self._upstream, None
        if self._complete and not self._raw:
            return  # all of the response is here, and only has to be written
        if self._responded:
            self._abort()
            return
        self._failure = Answer(kind, self._fields(why))
        request = self._request
        if self._replay is not None and request is not None and kind != "target talks nonsense":
            not_reached = code in NOT_REACHED
            if not_reached or request.method in IDEMPOTENT:
                self._stale = upstream is not None and upstream.used and not not_reached
                self._connect()
                return
        self._answer(Answer(kind, self._fields(why)))

    def complete(self) -> None:
        """All of the response was given to ``put``."""
        self._complete = True
        if self._pending is None:
            self._finish()

    # ------------------------------------------------------------------------
    # To the visitor
    # ------------------------------------------------------------------------

    def put(self, data: bytes | memoryview, credit: int) -> None:
        """Sends at once what the socket takes and keeps the rest, which the stream's credit bounds."""
        if self.closed or self._lingering:
            return
        if self._pending is None:
            try:
                count = self._sock.send(data) if data else 0
            except BlockingIOError:
                count = 0
            except OSError:
                self._lost()
                return
            if count == len(data):
                self._consume(credit)
                return
            self._pending = bytearray()
            if self._writing is None:
                self._writing = self._mux.loop.io(self._sock.fileno(), _WRITE)
            self._writing.start(self._on_writable)
            self.deadline = monotonic() + Limits.MUX_SEND_S
            given = credit * count // len(data)
            self._consume(given)
            credit -= given
            data = memoryview(data)[count:]
        self._credit += credit
        self._pending += data

    def _consume(self, count: int) -> None:
        if count and self._upstream is not None:
            self._upstream.stream.consume(count, monotonic())

    def _on_writable(self) -> None:
        pending = self._pending
        if pending:
            try:
                count = self._sock.send(pending)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self.deadline = monotonic() + Limits.MUX_SEND_S
            # In proportion: a chunk is larger than its data. Were every byte written one given back, what waits here
            # would grow by the difference for as long as the target has more.
            given = self._credit * count // len(pending)
            self._credit -= given
            self._consume(given)
            del pending[:count]
        if not pending:
            self._pending = None
            self._writing.stop()
            self._wait(Limits.MUX_ANSWER_S)
            if self._complete:
                self._finish()

    def _answer(self, answer: Answer, status: int = 0) -> None:
        """Says something of the mux's own, in place of a target."""
        if self._responded:
            self._abort()
            return
        if self._body is not None or (self._eof and not self._in):
            self._close = True
        if log.debugging:
            log.debug("! answered", visitor=self.address, what=answer.kind, **answer.fields)
        self._mux.count(answer)
        self._responded = self._complete = True
        self.put(render(answer, self._request, not self._close, status), 0)
        if self._pending is None and not self.closed:
            self._finish()

    def _malformed(self, error: MessageError) -> None:
        """What was said can be read in more than one way, or in none: nothing after it is looked at."""
        self._drop_upstream()
        self._close = True
        self._in = _NOTHING
        self._body = Transfer(UNTIL_CLOSE)  # whatever follows belongs to nothing
        self._answer(Answer("malformed", {"why": str(error)}), error.status)

    # ------------------------------------------------------------------------
    # Ends
    # ------------------------------------------------------------------------

    def _finish(self) -> None:
        """The response is written."""
        if self._raw:
            self._end_raw()
            return
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(clean=self._body is None)
        if self._close or (self._eof and not self._in):
            # Who has said that this was the last request sends no more. Others may just be sending the next one.
            said = self._request is not None and not self._request.keep_alive
            if said and self._body is None and not self._in:
                self.close()
            else:
                self._linger()
            return
        self._forget()
        self.deadline = monotonic() + Limits.MUX_IDLE_S
        if not self._eof and not self._reading.active:
            self._reading.start(self._on_readable)
        if self._in:
            self._mux.loop.run_callback(self._next)  # not at once: others have their turn

    def _end_raw(self) -> None:
        """One direction has ended after an upgrade: it ends on the other side too; both, and all is over."""
        upstream = self._upstream
        if upstream is None or self.closed:
            return
        if self._eof:
            self._body = None
            upstream.finish_sending()
        if self._complete and self._pending is None:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._lost()
                return
            if self._eof and not upstream.backlogged:
                self._upstream = None
                upstream.release(clean=True)
                self.close()

    def _on_eof(self) -> None:
        """The visitor sends no more. What was asked for is still answered."""
        self._eof = True
        self._reading.stop()
        if self._raw:
            self._end_raw()
        elif self._lingering:
            self.close()
        elif self._request is None:
            self._next()  # what has come whole is still answered, and so is what was malformed
        elif self._body is not None:
            self._lost()
        elif self._upstream is not None and not self._in:
            self._upstream.finish_sending()  # whether that means "I am gone" is for the target to say

    def _linger(self) -> None:
        """The visitor may still be sending: closing now would reset the connection and lose it the answer."""
        self._lingering = True
        self._in = _NOTHING
        self.deadline = monotonic() + Limits.MUX_LINGER_S
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if self._eof:
            self.close()
        elif not self._reading.active:
            self._reading.start(self._on_readable)

    def expired(self) -> None:
        """The deadline has passed."""
        if self._lingering or self.idle:
            self.close()
        elif self._pending is not None or self._responded:
            self._abort()
        elif self._request is None or (self._body is not None and self._reading.active):
            self._drop_upstream()
            self._close = True
            self._body = Transfer(UNTIL_CLOSE)
            self._answer(Answer("visitor slow", {}))
        else:
            self._drop_upstream()
            self._answer(Answer("target slow", self._fields()))

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _lost(self) -> None:
        """The visitor is gone."""
        self._drop_upstream()
        self.close()

    def _abort(self) -> None:
        """The response cannot be completed: a reset, so that it does not look complete."""
        if not self.closed:
            self._drop_upstream()
            self._stop()
            refuse(self._sock)

    def close(self) -> None:
        """Closes the connection."""
        if not self.closed:
            self._drop_upstream()
            self._stop()
            end_well(self._sock)

    def _stop(self) -> None:
        self.closed = True
        self.deadline = NEVER
        self._reading.stop()
        self._reading.close()
        if self._writing is not None:
            self._writing.stop()
            self._writing.close()
        self._pending = None
        self._mux.gone(self)
