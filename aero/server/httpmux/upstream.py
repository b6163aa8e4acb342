"""One connection to a target: a stream that speaks HTTP, used by one visitor at a time, kept for the next.

Receiver of its stream: callbacks from the session, which never block and never raise. Knows the visitor by a handful
of verbs; routes and retries are the visitor's.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from aero.core import stream as streams
from aero.core.codes import Reset
from aero.core.stream import Stream
from aero.errors import MessageError
from aero.limits import Limits
from aero.server.httpmux import rewrite
from aero.server.httpmux.body import Transfer
from aero.server.httpmux.head import (
    NO_BODY,
    UNTIL_CLOSE,
    Response,
    body_length,
    check_beginning,
    parse_response,
)
from aero.server.registry.mapping import Mapping
from aero.server.registry.route import Route

_NOTHING = b""
_DONE = Transfer(NO_BODY)


class User(Protocol):
    """The visitor, as the connection to its target sees it. Nothing here may raise or block."""

    def put(self, data: bytes | memoryview, credit: int) -> None:
        """Sends to the visitor; owes ``stream.consume`` of ``credit`` when it is written."""

    def answered(self, response: Response, length: int) -> tuple[bool, bytes, bytes, tuple[bytes, ...]]:
        """The final head came: whether to send chunks, the value of Connection, the prefix, the target's hosts."""

    def upgraded(self) -> None:
        """101 was sent: from here on bytes pass both ways."""

    def resume(self) -> None:
        """The target takes more."""

    def complete(self) -> None:
        """All of the response was given to ``put``."""

    def failed(self, kind: str, code: int, why: str) -> None:
        """There will be no (more) response: an answer's kind, a reset code, words. The connection is over."""


class Upstream:
    """A stream to one target."""

    __slots__ = (
        "_checked",
        "_head",
        "_interim_bytes",
        "_interims",
        "_last",
        "_method",
        "_minor",
        "_reusable",
        "_transfer",
        "_unsent",
        "_upgrade",
        "fin_waits",
        "idle_since",
        "mapping",
        "pool",
        "route",
        "stream",
        "used",
        "user",
    )

    def __init__(self, pool: Pool, mapping: Mapping, visitor: str) -> None:
        """Opens the stream at once. Raises StreamError."""
        self.pool = pool
        self.mapping = mapping
        self.user: User | None = None
        self.used = False  # served a request before: the target may be about to close it
        self.idle_since = 0.0
        self.fin_waits = False
        self._unsent = memoryview(_NOTHING)
        self._forget()
        self.route: Route = mapping.worker.route(mapping.target_id)
        self.stream: Stream = self.route.open(self, visitor)
        mapping.joined(self.stream)

    def _forget(self) -> None:
        self._head: bytes | bytearray = _NOTHING  # the beginning of one
        self._checked = 0  # how much of it was looked at
        self._interims = 0
        self._interim_bytes = 0
        self._last = False
        self._method = _NOTHING
        self._minor = 1
        self._upgrade = False
        self._reusable = False
        self._transfer: Transfer | None = None

    # To the target

    def begin(self, user: User, method: bytes, minor: int, upgrade: bool, data: bytes) -> None:
        """Sends a request: its head, and what there is of its body. ``minor``: the visitor's version."""
        self._forget()
        self.user = user
        self._method, self._minor, self._upgrade = method, minor, upgrade
        self.send(data)

    def send(self, data: bytes) -> None:
        """Sends more; what is not taken at once waits here: look at ``backlogged`` before giving more."""
        view = memoryview(data)
        if not self._unsent:
            view = view[self.stream.send(view) :]
            self._unsent = view
        else:
            self._unsent = memoryview(b"".join((self._unsent, view)))

    @property
    def backlogged(self) -> bool:
        """True while something waits to be sent; the user's ``resume`` ends it."""
        return bool(self._unsent)

    def finish_sending(self) -> None:
        """The visitor sends no more, ever: so do we."""
        if self._unsent:
            self.fin_waits = True
        elif not self.stream.state & streams.OURS_ENDED:
            self.fin_waits = False
            self.stream.finish()
            self._look()

    def serve_last(self) -> None:
        """This response is the connection's last: it began before the request was complete, and who knows whether the
        target takes the rest of it for what it is."""
        self._last = True

    def resume(self) -> None:
        """There is room."""
        if self._unsent:
            self._unsent = self._unsent[self.stream.send(self._unsent) :]
            if self._unsent:
                return
            if self.fin_waits:
                self.finish_sending()
        if self.user is not None:
            self.user.resume()

    # From the target

    def data(self, view: memoryview) -> None:
        """Part of a response."""
        user = self.user
        if user is None:
            self.pool.drop(self)
            self.abort()  # nobody asked
            return
        try:
            if self._transfer is None:
                self._take_head(user, view)
            elif not self._transfer.done:
                out, used = self._transfer.feed(view)
                user.put(out, len(view))
                self._check_end(user, used < len(view))
            else:
                self.stream.consume(len(view), self.stream.session.now)
                self._reusable = False  # the response was over
        except MessageError as error:
            self._fail("target talks nonsense", Reset.CANCELLED, str(error))

    def _take_head(self, user: User, view: memoryview) -> None:
        """Reads heads until the final one is complete."""
        data: bytes | bytearray
        if self._head:
            # In place, and from where it was looked at last: it may come in single bytes.
            data = self._head
            data += view
        else:
            data = bytes(view)
        credit = len(view)
        while True:
            end = data.find(b"\r\n\r\n", max(self._checked - 3, 0)) + 4
            if end > Limits.MUX_HEAD_BYTES:
                raise MessageError(502, f"the head is longer than {Limits.MUX_HEAD_BYTES} bytes")
            if end < 4:
                check_beginning(data, self._checked, Limits.MUX_HEAD_BYTES, b"HTTP/1.")
                self._head = data if self._head else bytearray(data)
                self._checked = len(data)
                self.stream.consume(credit, self.stream.session.now)
                return
            response = parse_response(bytes(data[:end]), Limits.MUX_HEAD_FIELDS)
            data = bytes(data[end:])
            self._head = _NOTHING
            self._checked = 0
            if response.status >= 200 or response.status == 101:
                break
            self._interims += 1
            self._interim_bytes += end
            if self._interims > Limits.MUX_INTERIM_HEADS or self._interim_bytes > Limits.MUX_HEAD_BYTES:
                raise MessageError(502, "too many interim responses")
            if self._minor == 1:
                user.put(rewrite.interim_head(response), 0)
                if self.user is not user:
                    return  # the visitor has gone
        self._take_final(user, response, data, credit)

    def _take_final(self, user: User, response: Response, rest: bytes, credit: int) -> None:
        if response.status == 101:
            if not self._upgrade or not response.upgrade:
                raise MessageError(502, "a change of protocols that nobody asked for")
            self._transfer = Transfer(UNTIL_CLOSE)
            head = rewrite.response_head(response, NO_BODY, False, b"Upgrade", _NOTHING, ())
            user.put(head + rest, credit)
            if self.user is user:
                user.upgraded()
            return
        length = body_length(self._method, response)
        chunked, connection, prefix, hosts = user.answered(response, length)
        # Small bodies mostly come with their head: then there is nothing to follow.
        whole = length == len(rest) > 0
        self._transfer = transfer = _DONE if whole else Transfer(length, chunked)
        self._reusable = response.keep_alive and length != UNTIL_CLOSE and not self._last
        head = rewrite.response_head(response, length, chunked, connection, prefix, hosts)
        used = 0
        if whole:
            head += rest
            used = length
        elif rest and not transfer.done:
            out, used = transfer.feed(rest)
            head += out
        user.put(head, credit)
        self._check_end(user, used < len(rest))

    def _check_end(self, user: User, more: bool) -> None:
        if self.user is user and self._transfer is not None and self._transfer.done:
            if more:
                self._reusable = False  # bytes that belong to no response
            user.complete()

    def finished(self) -> None:
        """The target sends no more."""
        user, transfer = self.user, self._transfer
        if user is None:
            self.pool.drop(self)
            self.retire()
        elif transfer is None:
            self._fail("target failed", Reset.CANCELLED, "it closed the connection")
        elif transfer.done:
            self._reusable = False
        else:
            try:
                last = transfer.finish()
            except MessageError as error:
                self._fail("target failed", Reset.CANCELLED, str(error))
                return
            if last:
                user.put(last, 0)
            if self.user is user:
                user.complete()

    def reset(self, code: int, text: str) -> None:
        """The stream is over."""
        self._look()
        user, self.user = self.user, None
        if user is None:
            self.pool.drop(self)
        else:
            kind = "target slow" if code == Reset.TIMEOUT else "target failed"
            user.failed("no worker" if code == Reset.LOST else kind, code, text or "it reset the connection")

    def _fail(self, kind: str, code: int, why: str) -> None:
        user = self.user
        self.abort()
        if user is not None:
            user.failed(kind, code, why)

    # Ends

    def release(self, clean: bool) -> None:
        """The visitor is done with it; ``clean``: the whole request was sent. Goes to the pool where it can."""
        self.user = None
        if clean and self._reusable and self.stream.state == streams.OPEN and not self._unsent:
            self.used = True
            self.pool.put(self)
        elif clean and not self._unsent:
            self.retire()
        else:
            self.abort()

    def retire(self) -> None:
        """Ends it politely: no more from us, then the target's end. Bounded in time by the pool."""
        self.user = None
        if not self.stream.state & streams.OURS_ENDED:
            self.stream.finish()
        if not self._look():
            self.pool.retiring[self] = monotonic() + Limits.MUX_RETIRE_S

    def abort(self) -> None:
        """Ends it at once."""
        self.user = None
        self.stream.abort(Reset.CANCELLED)
        self._look()

    def _look(self) -> bool:
        """Takes an ended stream off the lists; whether it has ended."""
        if self.stream.state != streams.CLOSED:
            return False
        self.mapping.left(self.stream)
        self.pool.retiring.pop(self, None)
        return True


class Pool:
    """Connections to targets that wait for their next request. Bounded in number and time."""

    def __init__(self) -> None:
        self.retiring: dict[Upstream, float] = {}  # and until when
        self._idle: dict[Mapping, list[Upstream]] = {}
        self._count = 0

    def take(self, mapping: Mapping, longest_s: float) -> Upstream | None:
        """A connection last used at most ``longest_s`` ago, over a link that is up; None when there is none."""
        idle = self._idle.get(mapping)
        if not idle:
            return None
        upstream = idle[-1]
        if not upstream.route.alive or monotonic() - upstream.idle_since > longest_s:
            return None
        self._count -= 1
        idle.pop()
        if not idle:
            del self._idle[mapping]
        return upstream

    def put(self, upstream: Upstream) -> None:
        """Keeps a connection, or retires it when there are enough."""
        idle = self._idle.setdefault(upstream.mapping, [])
        if len(idle) >= Limits.MUX_POOLED_PER_TARGET or self._count >= Limits.MUX_POOLED:
            if not idle:
                del self._idle[upstream.mapping]
            upstream.retire()
            return
        upstream.idle_since = monotonic()
        idle.append(upstream)
        self._count += 1

    def drop(self, upstream: Upstream) -> None:
        """A connection is over; harmless when it does not wait here."""
        idle = self._idle.get(upstream.mapping)
        if idle and upstream in idle:
            idle.remove(upstream)
            self._count -= 1
            if not idle:
                del self._idle[upstream.mapping]

    def sweep(self, now: float) -> None:
        """Retires what was idle for too long, or would keep a worker from leaving; ends what does not end itself."""
        for idle in list(self._idle.values()):
            for upstream in list(idle):
                if now - upstream.idle_since > Limits.MUX_POOLED_S or upstream.stream.session.leaving:
                    self.drop(upstream)
                    upstream.retire()
        for upstream, until in list(self.retiring.items()):
            if now > until:
                upstream.abort()

    def close(self) -> None:
        """Ends everything that waits here."""
        for upstream in [*self.retiring, *(each for idle in self._idle.values() for each in idle)]:
            self.drop(upstream)
            upstream.abort()
