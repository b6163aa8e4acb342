"""One connection to a target: a stream that speaks HTTP/1, used by one visitor at a time, kept for the next.

It reads what the target says and hands it on as structure: heads, pieces of a body, its end. What becomes of that on
the visitor's side, by which version of HTTP, is the user's; so are routes and repetitions. Receiver of its stream:
callbacks from the session, which never block and never raise.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from aero.core import stream as streams
from aero.core.codes import Reset
from aero.core.stream import Stream
from aero.errors import MessageError
from aero.limits import Limits
from aero.net import proxyheader
from aero.net.proxyheader import Arrived, nowhere
from aero.server.httpmux.body import Bytes, Transfer
from aero.server.httpmux.head import (
    NO_BODY,
    UNTIL_CLOSE,
    Request,
    Response,
    body_length,
    check_answered,
    head_end,
    parse_response,
)
from aero.server.registry.mapping import Mapping
from aero.server.registry.route import Route

_NOTHING = b""
_EMPTY = memoryview(_NOTHING)
_DONE = Transfer(NO_BODY)


class User(Protocol):
    """The visitor, as the connection to its target sees it. Nothing here may raise or block.

    What ``interim``, ``head``, ``switched``, ``body`` and ``end`` say may be gathered until ``flush``, which always
    follows in the same call of the session's; bytes are valid until then.
    """

    def interim(self, response: Response) -> None:
        """A 1xx other than 101."""

    def head(self, response: Response, length: int) -> None:
        """The final head; ``length`` of the body to come, as head.body_length gives it."""

    def switched(self, response: Response) -> None:
        """101: from here on bytes pass both ways, as ``body``."""

    def body(self, data: Bytes) -> None:
        """More of the body, without its framing."""

    def end(self, trailers: bytes) -> None:
        """The response is whole; ``trailers``: the lines behind its body."""

    def whole(self, response: Response, body: Bytes, credit: int) -> None:
        """All of a response at once, as most are: ``head``, ``body``, ``end`` and ``flush`` in one."""

    def flush(self, credit: int) -> None:
        """That is all for now. Owes ``stream.consume`` of ``credit`` when what was gathered is written."""

    def resume(self) -> None:
        """The target takes more."""

    def failed(self, kind: str, reached: bool, why: str) -> None:
        """There will be no (more) response: a page's kind, whether the target may have got something of the request,
        words. The connection is over.
        """

    def broken(self, error: Exception) -> None:
        """A fault of this program's: the visitor's connection ends."""


class Keeper(Protocol):
    """Where connections go that are not in use."""

    head_bytes: int  # the longest head that a target may send

    def opened(self, upstream: Upstream) -> None:
        """A new connection is on its way to the target."""

    def answered(self, upstream: Upstream) -> None:
        """The target has answered on this connection for the first time."""

    def put(self, upstream: Upstream) -> None:
        """Keeps a connection for the next request, or retires it."""

    def drop(self, upstream: Upstream) -> None:
        """Forgets a connection that waits there; harmless when it does not."""

    def ended(self, upstream: Upstream) -> None:
        """The target has ended a connection that waits there, or that nobody uses."""

    def retired(self, upstream: Upstream) -> None:
        """The connection has sent its last byte and waits for the target's end."""

    def over(self, upstream: Upstream) -> None:
        """The connection's stream has ended."""


class Upstream:
    """A stream to one target."""

    __slots__ = (
        "_begun_at",
        "_checked",
        "_fin_waits",
        "_head",
        "_interim_bytes",
        "_interims",
        "_keeper",
        "_last",
        "_method",
        "_minor",
        "_over",
        "_reusable",
        "_transfer",
        "_unsent",
        "_upgrade",
        "answered",
        "idle_since",
        "mapping",
        "pinned",
        "route",
        "stream",
        "used",
        "user",
    )

    def __init__(self, keeper: Keeper, mapping: Mapping, visitor: str, arrived: Arrived = nowhere) -> None:
        """Opens the stream at once. Raises StreamError. ``arrived``: where the visitor's connection did."""
        self._keeper = keeper
        self.mapping = mapping
        self.user: User | None = None
        self.used = False  # served a request before: the target may be about to close it
        self.idle_since = 0.0
        version = mapping.announces
        # Whoever asks over it may be taken for its first visitor from here on: it is his alone (NTLM, Negotiate, and
        # where a PROXY header has said who that is).
        self.pinned = version is not None
        self._over = False  # the stream has ended, and all that count it know
        self.answered = False  # the target has answered on it: it takes this connection beside its others
        self._begun_at = 0  # where the present request begins in the session's sequence
        self._fin_waits = False
        self._unsent = _EMPTY
        # Of the present request
        self._method = _NOTHING
        self._minor = 1
        self._upgrade = _NOTHING
        self._last = False
        # Of its response
        self._head: bytes | bytearray = _NOTHING  # the beginning of one
        self._checked = 0  # how much of it was looked at
        self._interims = 0
        self._interim_bytes = 0
        self._reusable = False
        self._transfer: Transfer | None = None  # of the response's body, once its head has come
        self.route: Route = mapping.worker.route(mapping.target_id)
        self.stream: Stream = self.route.open(self, visitor)
        mapping.joined(self.stream)
        keeper.opened(self)
        if version is not None:  # in front of the first request, and within the first window
            self.stream.send(
                memoryview(
                    proxyheader.write(1 if version == "v1" else 2, proxyheader.peer(visitor), arrived())
                )
            )

    # To the target

    def begin(self, user: User, request: Request, data: bytes) -> None:
        """Sends a request: ``data`` is its head as the target gets it, and what there is of its body."""
        stream, self.user = self.stream, user
        if request.pins:
            self.pinned = True
        # What else there is of a response is as at the beginning: one that ended in another way was not kept.
        self._transfer, self._reusable = None, False
        self._interims = self._interim_bytes = 0
        self._begun_at = stream.session.outbox.written
        self._method, self._minor, self._upgrade = request.method, request.minor, request.upgrade
        sent = stream.send(data)
        self._unsent = memoryview(data)[sent:] if sent < len(data) else _EMPTY

    def send(self, data: Bytes) -> None:
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

    @property
    def held_bytes(self) -> int:
        """What waits here: a beginning of the target's head, and what the target does not take yet."""
        return len(self._head) + len(self._unsent)

    @property
    def nothing_left(self) -> bool:
        """True while not a byte of the present request was given to any link."""
        return self.stream.session.outbox.ever_sent <= self._begun_at

    def finish_sending(self) -> None:
        """The visitor sends no more, ever: so do we."""
        if self._unsent:
            self._fin_waits = True
        elif not self.stream.state & streams.OURS_ENDED:
            self._fin_waits = False
            self.stream.finish()
            self._forget_if_closed()

    def serve_last(self) -> None:
        """Do not use this connection again: the response began before the request's body was fully sent, so the target
        may take the rest of that body for the next request.
        """
        self._last = True

    def resume(self) -> None:
        """There is room."""
        user = self.user
        try:
            if self._unsent:
                self._unsent = self._unsent[self.stream.send(self._unsent) :]
                if self._unsent:
                    return
                if self._fin_waits:
                    self.finish_sending()
            if user is not None:
                user.resume()
        except Exception as error:
            self._break(user, error)

    # From the target

    def data(self, view: memoryview) -> None:
        """Part of a response."""
        user, transfer = self.user, self._transfer
        if user is None:
            self._keeper.drop(self)
            self.abort()  # nobody asked
            return
        try:
            if transfer is None:
                self._take_head(user, view)
            elif not transfer.done:
                data, used = transfer.feed(view)
                user.body(data)
                self._end_if_done(user, transfer, used < len(view))
                user.flush(len(view))
            else:
                self.stream.consume(len(view), self.stream.session.now)
                self._reusable = False  # the response was over
        except MessageError as error:
            self._fail("target talks nonsense", str(error))
        except Exception as error:
            self._break(user, error)

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
            # The first empty line, whatever ends it (head_end, without the call).
            start = self._checked - 2 if self._checked > 2 else 0
            end = data.find(b"\n\r\n", start) + 3
            if end < 3 or data.find(b"\n\n", start, end) >= 0:
                end = head_end(data, self._checked)
            if end > self._keeper.head_bytes:
                raise MessageError(502, f"the head is longer than {self._keeper.head_bytes} bytes")
            if not end:
                check_answered(data, self._checked, self._keeper.head_bytes)
                self._head = data if self._head else bytearray(data)
                self._checked = len(data)
                user.flush(credit)
                return
            response = parse_response(bytes(data[:end]), Limits.MUX_HEAD_FIELDS)
            data = bytes(data[end:])
            self._head = _NOTHING
            self._checked = 0
            if response.status >= 200 or response.status == 101:
                break
            self._interims += 1
            self._interim_bytes += end
            if self._interims > Limits.MUX_INTERIM_HEADS or self._interim_bytes > self._keeper.head_bytes:
                raise MessageError(502, "too many interim responses")
            if self._minor == 1:
                user.interim(response)
        if not self.answered:
            self.answered = True
            self._keeper.answered(self)
        if response.pins:
            self.pinned = True
        if (
            0 < response.length == len(data)
            and not self._last
            and self._method != b"HEAD"
            and response.may_be_whole
        ):
            self._transfer = _DONE
            self._reusable = response.keep_alive
            user.whole(response, data, credit)
            return
        self._take_final(user, response, data)
        user.flush(credit)

    def _take_final(self, user: User, response: Response, rest: bytes) -> None:
        """``rest``: what came behind the head."""
        if response.status == 101:
            if not self._upgrade or not response.upgrade:
                raise MessageError(502, "a change of protocols that nobody asked for")
            self._transfer = Transfer(UNTIL_CLOSE)
            user.switched(response)
            user.body(rest)
            return
        length = body_length(self._method, response)
        user.head(response, length)
        self._transfer = transfer = Transfer(length, forgiving=True)
        self._reusable = response.keep_alive and length != UNTIL_CLOSE and not self._last
        used = 0
        if rest and not transfer.done:
            data, used = transfer.feed(rest)
            user.body(data)
        self._end_if_done(user, transfer, used < len(rest))

    def _end_if_done(self, user: User, transfer: Transfer, more: bool) -> None:
        """``more``: bytes came that belong to no response."""
        if transfer.done:
            if more:
                self._reusable = False
            user.end(transfer.trailers)

    def finished(self) -> None:
        """The target sends no more."""
        user = self.user
        if user is None:
            self._keeper.ended(self)
            self.retire()
            return
        try:
            self._finish(user)
        except MessageError as error:
            self._fail("target failed", str(error))
        except Exception as error:
            self._break(user, error)

    def _finish(self, user: User) -> None:
        transfer = self._transfer
        if transfer is None:
            self._fail("target failed", "it closed the connection")
        elif transfer.done:
            self._reusable = False
        else:
            transfer.finish()
            user.end(_NOTHING)
            user.flush(0)

    def reset(self, code: int, text: str) -> None:
        """The stream is over."""
        self._forget_if_closed()
        if self.stream.refused:
            self.mapping.outcome(served=False)
        user, self.user = self.user, None
        if user is None:
            self._keeper.ended(self)
            return
        reached = not (self.stream.refused or self.nothing_left)
        kind = "target slow" if code == Reset.TIMEOUT else "target failed"
        if code == Reset.LOST:
            kind = "link lost" if reached else "no worker"
        elif code == Reset.LIMIT and not reached:
            kind = "busy"
        try:
            user.failed(kind, reached, text or "it reset the connection")
        except Exception as error:
            self._break(user, error)

    def _fail(self, kind: str, why: str) -> None:
        """The target's fault: it has got the request."""
        user = self.user
        self.abort()
        if user is not None:
            user.failed(kind, True, why)

    def _break(self, user: User | None, error: Exception) -> None:
        """Our own fault: costs this connection and its visitor's, nobody else's."""
        self.abort()
        if user is not None:
            user.broken(error)

    # Ends

    def release(self, clean: bool) -> bool:
        """The visitor is done with it; ``clean``: the whole request was sent. It is kept where it can be.

        True: it may serve another request, of this visitor only, who has to end it.
        """
        self.user = None
        if clean and self._reusable and self.stream.state == streams.OPEN and not self._unsent:
            self.used = True
            if self.pinned:
                self.idle_since = monotonic()
                return True
            self._keeper.put(self)
        elif clean and not self._unsent:
            self.retire()
        else:
            self.abort()
        return False

    def retire(self) -> None:
        """Ends it politely: no more from us, then the target's end. The keeper bounds how long that may take."""
        self.user = None
        if not self.stream.state & streams.OURS_ENDED:
            self.stream.finish()
        if not self._forget_if_closed():
            self._keeper.retired(self)

    def abort(self) -> None:
        """Ends it at once. Harmless when over already."""
        self.user = None
        self.stream.abort(Reset.CANCELLED)
        self._forget_if_closed()

    def _forget_if_closed(self) -> bool:
        """Removes a stream that has ended from its mapping's tally and from the keeper; whether it has."""
        if self.stream.state != streams.CLOSED:
            return False
        if not self._over:
            self._over = True
            self.mapping.left(self.stream)
            self._keeper.over(self)
        return True
