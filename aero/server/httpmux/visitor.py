"""A visitor's connection: requests in, one after the other, each to a target or to a page of the mux's own.

Bytes move as in net/pipe.py, by persistent watchers and straight into the session's outbox; no greenlet, nothing
here blocks or raises. Where the connection stands is its state (states.py); how a request's body goes to the target is
receiving.py's, how bytes are written to the visitor sending.py's, which tries are made for a request retry.py's.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import Callable

from aero import logs
from aero.errors import MessageError
from aero.limits import Limits
from aero.net.announced import told
from aero.net.pipe import refuse
from aero.net.proxyheader import End
from aero.server.httpmux import rewrite, states, sticky
from aero.server.httpmux.body import Bytes, Transfer
from aero.server.httpmux.doorman import BUSY, LET_IN, Trial
from aero.server.httpmux.head import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Request,
    Response,
    end_of_head,
    parse_request,
    prefers_wait,
)
from aero.server.httpmux.http2 import PREFACE_HEAD, Refusal
from aero.server.httpmux.login import Login
from aero.server.httpmux.note import Note
from aero.server.httpmux.pages import TEXTS, Page, render
from aero.server.httpmux.receiving import Receiving
from aero.server.httpmux.retry import Tries
from aero.server.httpmux.rewrite import Peer, Place
from aero.server.httpmux.routing import Destination, address_in, admitted
from aero.server.httpmux.sending import Sending
from aero.server.httpmux.shared import NEVER, Shared, end_well
from aero.server.httpmux.upstream import Upstream
from aero.server.policy.passwords import Logins
from aero.server.registry.lobby import Lobby
from aero.server.registry.mapping import Mapping

log = logs.get("mux")

_NOTHING = b""


class Visitor:
    """One connection to the mux."""

    __slots__ = (
        "_checked", "_complete", "_discarded", "_doubted", "_eof", "_last", "_lobbies", "_login", "_mux", "_note",
        "_patience_s", "_trial", "_receiving", "_refusal", "_request", "_sending", "_sock", "_tries", "_until",
        "_upstream", "_waits_until", "_wanted", "address", "connected", "counted", "deadline", "peer", "state",
    )  # fmt: skip

    def __init__(self, mux: Shared, sock: socket.socket, address: str, peer: Peer, counted: str = "") -> None:
        """``sock``: prepared, abrupt, non-blocking; ``address``: ip:port as text. Begins to read."""
        self.connected = address
        self.address = address  # who asks: behind a trusted proxy, whom it speaks for in the present request
        self.counted = counted  # the address among whose connections this one counts, "" for nobody's
        self.peer = peer
        self.state = states.WAITING
        self.deadline = monotonic() + Limits.MUX_HEAD_S  # when ``expired`` is to be called
        self._mux = mux
        self._sock = sock
        self._sending = Sending(mux.loop, sock, self)
        self._receiving = Receiving(mux.loop, sock, self)
        self._checked = 0  # how much of a beginning was looked at
        self._eof = False  # the visitor sends no more
        self._login: Login | None = None
        self._discarded = 0  # bytes thrown away while lingering
        self._until = 0.0  # when a request under way has taken too long
        self._waits_until = 0.0  # how long it may wait for a worker
        self._doubted = False  # its link was found to be down
        self._patience_s = NEVER  # silence that ends the present response
        self._lobbies: list[
            Lobby | Trial
        ] = []  # where it is waited for a link, or for what a password is worth
        self._refusal: Refusal | None = None
        self._forget()
        self._receiving.start()

    @property
    def closed(self) -> bool:
        """True when the connection is over."""
        return self.state == states.CLOSED

    @property
    def idle(self) -> bool:
        """True between two requests."""
        return self.state == states.WAITING and not self._receiving.rest

    def _forget(self) -> None:
        """No request is under way."""
        self._request: Request | None = None
        self._wanted: Destination | None = None
        self._receiving.body = None
        self._tries: Tries | None = None
        self._upstream: Upstream | None = None
        self._note: Note | None = None
        self._trial: Trial | None = None  # whether the request's password is right
        self._last = False  # the connection ends after this response
        self._complete = False  # all of the response is written or about to be

    def _enter(self, event: str) -> None:
        self.state = states.TRANSITIONS[self.state, event]

    # From the visitor: heads

    def readable(self) -> None:
        """The loop's callback: the socket has something to read."""
        receiving, upstream, tries = self._receiving, self._upstream, self._tries
        try:
            if receiving.body is not None and upstream is not None and tries is not None:
                receiving.relay(upstream, tries)
                return
            data = self._sock.recv(self._mux.head_bytes)
            if not data:
                self.ended()
            elif self.state == states.WAITING:
                receiving.rest += data
                self._next()
            else:
                self._overhear(data)
        except BlockingIOError:
            return
        except OSError:
            self.lost()
        except Exception as error:
            self.broken(error)

    def begin(self, data: bytes) -> None:
        """The first bytes, where others have received them."""
        self._receiving.rest = data
        try:
            self._next()
        except Exception as error:
            self.broken(error)

    def _overhear(self, data: bytes) -> None:
        """What the visitor says while no more is to be read into it."""
        if self.state == states.LINGERING:
            self._discarded += len(data)
            if self._discarded > Limits.MUX_LINGER_BYTES:
                self.close()
        elif self._refusal is not None:
            self._refuse(data)
        else:
            self._receiving.keep(data, self._mux.head_bytes)
            self._mux.grew(len(data))

    def _next(self) -> None:
        """Looks for the next request in what was read."""
        if self.state != states.WAITING:
            return
        receiving = self._receiving
        data = receiving.rest
        if not self._checked and data.startswith(b"\r\n"):
            data = receiving.rest = data[2:]  # old programs put it behind a body (RFC 9112, section 2.2)
        try:
            end = end_of_head(data, self._checked, self._mux.head_bytes)
            if not end:
                if data and not self._checked:
                    self.deadline = monotonic() + Limits.MUX_HEAD_S
                more, self._checked = len(data) - self._checked, len(data)
                if self._eof:
                    self.close()
                else:
                    self._mux.grew(more)
                return
            receiving.rest = data[end:]
            self._checked = 0
            head = data[:end]
            if head == PREFACE_HEAD:
                self._begin_refusal()
                return
            self._begin(parse_request(head, Limits.MUX_HEAD_FIELDS))
        except MessageError as error:
            self.malformed(error)

    def _begin(self, request: Request) -> None:
        self._request = request
        self._last = not request.keep_alive
        if self._mux.access is not None:
            self._note = Note(request)
        if request.length > 0 or request.length == CHUNKED:
            self._receiving.body = Transfer(request.length)
        if self.peer.trusted:
            said = request.visitors
            if said and not self._mux.introduce(self, said):
                self._answer(Page("busy", {}))
                return
        wanted = self._mux.router.wanted(request, self.peer.trusted and request.says_host)
        if isinstance(wanted, Page):
            self._answer(wanted)
            return
        self._wanted = wanted
        self._go_on()

    def _go_on(self) -> None:
        """Makes the request, or waits for a link that leads to its target. Raises MessageError."""
        request, wanted = self._request, self._wanted
        if request is None or wanted is None:
            return
        mux, receiving, body = self._mux, self._receiving, _NOTHING
        alone = mux.router.alone(wanted)
        mappings = [alone] if alone is not None else self._chosen(request, wanted)
        if mappings is None:
            return
        if receiving.body is not None:
            body = receiving.take()
            if self._eof and receiving.body is not None:
                self.close()  # the rest of it will never come
                return
        self._tries = Tries(mappings, request.method, body, mux.grew)
        self._ask()

    def _chosen(self, request: Request, wanted: Destination) -> list[Mapping] | None:
        """The mappings to try, in turn; None where none can be had now: the visitor waits, or is answered."""
        mappings = self._mux.router.mappings(wanted, request, self.address)
        if isinstance(mappings, Page):
            self._hold(mappings, wanted)
            return None
        mappings = admitted(mappings, self.address, wanted)
        if isinstance(mappings, Page):
            self._answer(mappings)
            return None
        logins = mappings[0].logins
        if logins is not None and not self._is_let_in(logins, mappings[0], request, wanted):
            return None
        return mappings

    def _hold(self, page: Page, wanted: Destination) -> None:
        """Waits in the lobbies of the workers that have the target, where those lack a link or are to come back."""
        now = monotonic()
        if page.kind in ("link down", "no worker") and (
            self.state == states.WAITING or now < self._waits_until
        ):
            lobbies, wait_s = self._mux.router.lobbies(wanted)
            if self.state == states.WAITING:
                prefers = prefers_wait(self._request.kept) if self._request is not None else None
                self._waits_until = now + (wait_s if prefers is None else min(wait_s, prefers))
            left_s = self._waits_until - now
            self._lobbies = [lobby for lobby in lobbies if lobby.wait(self.admit, self.admit, left_s)]
            if self._lobbies:
                if self.state == states.WAITING:
                    self._enter(states.STOPPED)
                self.deadline = NEVER  # the lobby has its own
                return
        self._answer(page)

    def _is_let_in(self, logins: Logins, mapping: Mapping, request: Request, wanted: Destination) -> bool:
        """Whether the request has a right name and password; else it waits until that is known, or is answered."""
        found = self._mux.doorman.ask(logins, request.kept, address_in(self.address), self._trial)
        if isinstance(found, Trial):
            self._trial = found
            found.wait(self.admit)
            self._lobbies = [found]
            if self.state == states.WAITING:
                self._enter(states.STOPPED)
            self.deadline = NEVER  # there is a bound to what is waited for
        elif found == BUSY:
            why = "many passwords from this address are being looked at"
            self._answer(Page("too many", {**wanted.said(why), "retry_s": "5"}))
        elif found != LET_IN:
            if self._trial is not None:
                mapping.refuse("login")
            realm = f"{wanted.who}/{wanted.name}".encode()
            extra = b'WWW-Authenticate: Basic realm="%b", charset="UTF-8"\r\n' % realm
            self._answer(Page("login", wanted.said(), extra))
        return found == LET_IN

    def admit(self) -> None:
        """A link is up; or none came in time, or the worker is gone: then there may be another by now. Or it is known
        whether a password is right.
        """
        self._leave_lobbies()
        try:
            self._go_on()
        except MessageError as error:
            self.malformed(error)
        except Exception as error:
            self.broken(error)

    def _leave_lobbies(self) -> None:
        for lobby in self._lobbies:
            lobby.leave(self.admit)
        self._lobbies = []

    # To the target

    def _ask(self) -> None:
        """Sends the request to the next mapping, as far as it has come; answers when there is none left to try."""
        request, wanted, tries = self._request, self._wanted, self._tries
        if request is None or wanted is None or tries is None:
            return
        upstream = self._login.take(request, tries) if self._login is not None else None
        upstream = upstream or tries.next(self._mux.kept, self.address, self._arrived)
        if upstream is None:
            kind, why = tries.failure
            self._answer(self._page(kind, why))
            return
        self.state = states.TRANSITIONS[self.state, states.ASKED]
        self._doubted = False
        self._upstream = upstream
        mapping = upstream.mapping
        passed = sticky.without(request) if mapping.sticky else request
        called, change = _NOTHING, mapping.alteration
        if change is not None:
            called = change.host
            kept, forwarded = change.lines_of(passed.kept), change.fields_of(passed.forwarded)
            passed = passed._replace(kept=kept, forwarded=forwarded)
        head = rewrite.request_head(
            passed, wanted.path, wanted.host, mapping.authority, self.peer, wanted.prefix, called
        )
        sent = tries.sent or _NOTHING
        if self._note is not None:
            self._note.asked(upstream)
        upstream.begin(self, request, head + sent)
        if len(sent) > Limits.MUX_REPLAY_BYTES:
            tries.begun()
        if not self._sending.busy:
            now = monotonic()
            self.deadline = now + Limits.MUX_LINK_S
            self._until = now + Limits.MUX_ANSWER_S
        if self._receiving.body is not None:
            self.wait(Limits.MUX_BODY_S)
            self._receiving.start()
        if log.debugging:
            cid, stream = mapping.worker.cid, upstream.stream.id
            log.debug(
                "> request", visitor=self.address, tag=wanted.who, target=wanted.name, cid=cid, stream=stream
            )

    def _arrived(self) -> End:
        """Where the visitor's connection came to."""
        return told(self._sock)

    def _page(self, kind: str, why: str = "") -> Page:
        return Page(kind, self._wanted.said(why) if self._wanted is not None else {"why": why})

    def wait(self, limit_s: float) -> None:
        """Until the visitor or the target does something; once the response has begun both may take their time."""
        if self._sending.busy:
            return
        now = monotonic()
        if self.state == states.ASKING:
            self._until = now + limit_s
            self.deadline = min(self._until, now + Limits.MUX_LINK_S)
        else:
            self.deadline = now + self._patience_s

    def resume(self) -> None:
        """The target takes more."""
        if self.state == states.RAW and self._eof:
            self._end_raw()
            return
        upstream, tries = self._upstream, self._tries
        if upstream is None or tries is None:
            return
        self._receiving.relay(upstream, tries)
        if self._upstream is not None and not self._eof:
            self._receiving.go_on(upstream)

    # From the target

    def interim(self, response: Response) -> None:
        """A 1xx other than 101."""
        self._sending.head(rewrite.interim_head(response, self._place(response)), chunked=False)

    def head(self, response: Response, length: int) -> None:
        """The target's final head."""
        chunked = length in (CHUNKED, UNTIL_CLOSE) and self._request is not None and self._request.minor == 1
        # To HTTP/1.0 the connection's end ends what is not counted.
        self._last = self._last or (length in (CHUNKED, UNTIL_CLOSE) and not chunked)
        self._sending.head(self._head_of(response, length, chunked), chunked)

    def whole(self, response: Response, body: Bytes, credit: int) -> None:
        """A response that came whole."""
        head = self._head_of(response, len(body), chunked=False)
        if self.state != states.ANSWERING or self._sending.gathering:
            self._sending.head(head, chunked=False)
            self._sending.body(body)
            self._complete = True
            self.flush(credit)
            return
        self._complete = True
        self._sending.put(b"".join((head, body)), credit)
        if not self._sending.busy and self.state == states.ANSWERING:
            self._finish()

    def _head_of(self, response: Response, length: int, chunked: bool) -> bytes:
        """The response begins: its head for the visitor."""
        upstream, tries, request, wanted = self._upstream, self._tries, self._request, self._wanted
        if upstream is None or tries is None or request is None:
            return _NOTHING
        self.state = states.TRANSITIONS[self.state, states.BEGUN]
        upstream.mapping.tally.requests += 1
        if self._note is not None:
            self._note.status = response.status
        tries.sent = None  # there will be no other try
        self._patience_s = patience_s = self._mux.idle_s
        if not self._sending.busy:
            self.deadline = NEVER if patience_s == NEVER else monotonic() + patience_s
        if self._receiving.body is not None:
            upstream.serve_last()
            self._last = True
        elif self._mux.draining or (self._eof and not self._receiving.rest):
            self._last = True
        connection = b"close" if self._last else b"keep-alive" if request.minor == 0 else _NOTHING
        place = self._place(response) if response.places else None
        if upstream.mapping.sticky and wanted is not None and not wanted.is_cid:
            response = sticky.marked(response, request, upstream.mapping, wanted.prefix)
        return rewrite.response_head(response, length, chunked, connection, place)

    def _place(self, response: Response) -> Place | None:
        """Where the visitor has found the target, for a response that has addresses in it."""
        request, wanted, upstream = self._request, self._wanted, self._upstream
        if not response.places or request is None or wanted is None or upstream is None:
            return None
        host = rewrite.visited_host(request, self.peer)
        change = upstream.mapping.alteration
        called = change.host if change is not None else _NOTHING
        return Place(wanted.prefix, host, upstream.mapping.authority, called)

    def switched(self, response: Response) -> None:
        """101: from here on bytes pass both ways."""
        self._enter(states.SWITCHED)
        if self._upstream is not None:
            self._upstream.mapping.tally.requests += 1
        if self._note is not None:
            self._note.status = 101
        if self._tries is not None:
            self._tries.begun()
        self._patience_s = self._mux.idle_s
        self.wait(NEVER)
        head = rewrite.response_head(response, NO_BODY, False, b"Upgrade", self._place(response))
        self._sending.head(head, chunked=False)
        if self._upstream is not None and self._tries is not None:
            self._receiving.switched(self._upstream, self._tries)
        if self._eof:
            self._end_raw()
        else:
            self._receiving.start()

    def body(self, data: Bytes) -> None:
        """Part of the response's body, or raw bytes."""
        if len(data):
            self._sending.body(data)

    def end(self, trailers: bytes) -> None:
        """The response is whole."""
        self._sending.end(trailers)
        self._complete = True

    def flush(self, credit: int) -> None:
        """Writes what came at once."""
        if self.state == states.CLOSED:
            return
        sending = self._sending
        sending.flush(credit)
        if self._patience_s != NEVER and self.state in (states.ANSWERING, states.RAW):
            self.wait(NEVER)
        if self._complete and not sending.busy and self.state != states.CLOSED:
            self._finish()

    def failed(self, kind: str, reached: bool, why: str) -> None:
        """There will be no (more) response: the next mapping if that is safe, else a page; late, a reset."""
        upstream, self._upstream = self._upstream, None
        if self._complete and self.state != states.RAW:
            return  # all of the response is here, and only has to be written
        tries = self._tries
        if self.state != states.ASKING or upstream is None or tries is None:
            self._abort()
        elif tries.failed(upstream, kind, reached, why):
            self._ask()
        else:
            kind, why = tries.failure
            self._answer(self._page(kind, why))

    def broken(self, error: Exception) -> None:
        """A fault of this program's: it costs this visitor his connection, and nobody else anything."""
        self._mux.broken(error)
        self._abort()

    # To the visitor

    def consumed(self, count: int) -> None:
        """So many of the target's bytes were written."""
        if count and self._upstream is not None:
            self._upstream.stream.consume(count, monotonic())

    def stalled(self) -> None:
        """The visitor's socket takes no more now."""
        self.deadline = monotonic() + self._patience_s

    def drained(self) -> None:
        """The visitor has taken everything that waited."""
        self.wait(Limits.MUX_ANSWER_S)
        if self._complete:
            self._finish()

    def _answer(self, page: Page, status: int = 0) -> None:
        """Says something of the mux's own, in place of a target."""
        if self.state not in (states.WAITING, states.HELD, states.ASKING):
            self._abort()
            return
        if self._receiving.body is not None or (self._eof and not self._receiving.rest):
            self._last = True
        if log.debugging:
            log.debug("! answered", visitor=self.address, what=page.kind, **page.fields)
        self._mux.count(page)
        if self._note is not None:
            self._note.status, self._note.end = status or TEXTS[page.kind].status, page.kind
        self._enter(states.BEGUN)
        self._complete = True
        self._patience_s = Limits.MUX_SEND_S
        self._sending.head(render(page, self._request, not self._last, status), chunked=False)
        self.flush(0)

    def malformed(self, error: MessageError) -> None:
        """What was said can be read in more than one way, or in none: nothing after it is looked at."""
        self._drop_upstream()
        self._last = True
        self._receiving.rest = _NOTHING
        self._receiving.body = Transfer(UNTIL_CLOSE)  # whatever follows belongs to nothing
        self._answer(Page("malformed", {"why": str(error)}), error.status)

    # Ends

    def _finish(self) -> None:
        """The response is written."""
        if self.state == states.RAW:
            self._end_raw()
            return
        request, body = self._request, self._receiving.body
        if self._note is not None:
            self._write_note("ok")
        upstream, self._upstream = self._upstream, None
        if upstream is not None and upstream.release(clean=body is None):
            if self._login is not None:
                self._login.end()
            self._login = Login(upstream, request.forwarded if request is not None else ())
        if self._last or (self._eof and not self._receiving.rest):
            # Who has said that this was the last request sends no more. Others may just be sending the next one.
            said = request is not None and not request.keep_alive
            if said and body is None and not self._receiving.rest:
                self.close()
            else:
                self._linger()
            return
        self._forget()
        if self.peer.trusted:
            self._mux.rested(self)
        self.state = states.TRANSITIONS[self.state, states.WRITTEN]
        self.deadline = monotonic() + Limits.MUX_IDLE_S
        if not self._eof and not self._receiving.watcher.active:
            self._receiving.start()
        if self._receiving.rest:
            self._mux.loop.run_callback(self._take_turn)  # not at once: others have their turn

    def _take_turn(self) -> None:
        try:
            self._next()
        except Exception as error:
            self.broken(error)

    def _end_raw(self) -> None:
        """One direction has ended after an upgrade: it ends on the other side too; both, and all is over."""
        upstream = self._upstream
        if upstream is None or self.closed:
            return
        if self._eof:
            self._receiving.body = None
            upstream.finish_sending()
        if self._complete and not self._sending.busy:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.lost()
                return
            if self._eof and not upstream.backlogged:
                self._upstream = None
                upstream.release(clean=True)
                self.close()

    def ended(self) -> None:
        """The visitor sends no more. What was asked for is still answered."""
        self._eof = True
        self._receiving.watcher.stop()
        if self.state == states.RAW:
            self._end_raw()
        elif self.state == states.LINGERING:
            self.close()
        elif self.state == states.WAITING:
            self._next()  # what has come whole is still answered, and so is what was malformed
        elif self.state == states.REFUSING:
            self.close()
        elif self._request is None or self.state == states.HELD:
            return  # malformed, and its answer is on its way; or ``_go_on`` will see
        elif self._receiving.body is not None:
            self.lost()
        elif self._upstream is not None and not self._receiving.rest:
            self._upstream.finish_sending()  # whether that means "I am gone" is for the target to say

    def _linger(self) -> None:
        """The visitor may still be sending: closing now would reset the connection and lose it the answer."""
        self._enter(states.LAST)
        self._receiving.rest = _NOTHING
        self.deadline = monotonic() + Limits.MUX_LINGER_S
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if self._eof:
            self.close()
        else:
            self._receiving.start()

    def expired(self) -> None:
        """The deadline has passed."""
        if self.state in (states.LINGERING, states.REFUSING) or self.idle:
            self.close()
        elif self._sending.busy or self.state in (states.ANSWERING, states.RAW):
            self._abort()
        elif self.state == states.ASKING and monotonic() < self._until:
            self._look_at_link()
        elif self.state == states.WAITING or self._receiving.expects:
            self._drop_upstream()
            self._last = True
            self._receiving.body = Transfer(UNTIL_CLOSE)
            self._answer(Page("visitor slow", {}))
        else:
            self._drop_upstream()
            self._answer(self._page("target slow"))

    def _look_at_link(self) -> None:
        """The answer takes long: where the link has been down for a while, the request goes elsewhere if it may."""
        upstream, tries, wanted, request = self._upstream, self._tries, self._wanted, self._request
        if upstream is None or tries is None or wanted is None or request is None:
            return
        self.deadline = min(self._until, monotonic() + Limits.MUX_LINK_S)
        was_down, self._doubted = self._doubted, not upstream.route.alive
        if was_down and self._doubted and tries.may_move(upstream):
            mappings = self._mux.router.mappings(wanted, request, self.address)
            if isinstance(mappings, Page):
                return
            mappings = [each for each in mappings if each.logins == upstream.mapping.logins]
            if mappings:
                tries.move(upstream, mappings)
                self._drop_upstream()
                self._ask()

    # Memory

    @property
    def repeated_bytes(self) -> int:
        """Of the request's body: what is kept to send it again elsewhere."""
        return len(self._tries.sent or _NOTHING) if self._tries is not None else 0

    @property
    def held_bytes(self) -> int:
        """What else is held: a beginning of a head, what waits behind the request, what the target does not take."""
        upstream = self._upstream
        return len(self._receiving.rest) + (upstream.held_bytes if upstream is not None else 0)

    def repeat_no_more(self) -> None:
        """Memory is short: if this try fails, there is no other."""
        if self._tries is not None:
            self._tries.begun()

    def make_room(self) -> None:
        """Memory is short, and much is held here: the connection ends."""
        if self.state == states.WAITING:
            self._last = True
            self._receiving.rest = _NOTHING
            self._answer(Page("busy", {}))
        else:
            self._abort()

    # HTTP/2

    def _begin_refusal(self) -> None:
        self._enter(states.PREFACED)
        self._mux.count(Page("malformed", {}))
        self._refusal = Refusal()
        self.deadline = monotonic() + Limits.MUX_HEAD_S
        self._sending.put(self._refusal.start(), 0)
        self._refuse(self._receiving.rest)

    def _refuse(self, data: bytes) -> None:
        if self._refusal is not None:
            self._sending.put(self._refusal.feed(data), 0)
            if self._refusal.done and not self.closed:
                self._linger()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _abort(self) -> None:
        """The response cannot be completed: a reset, so that it does not look complete."""
        self._end(refuse)

    def faulted(self, error: Exception) -> None:
        """Resets the connection after an error of this program in one of our callbacks (net/faults.py)."""
        self._abort()

    def close(self) -> None:
        """Closes the connection."""
        self._end(end_well)

    lost = close  # the visitor's socket is broken, or he left in the middle of what he was saying

    def _write_note(self, end: str) -> None:
        note, self._note = self._note, None
        if note is not None and self._mux.access is not None:
            note.write(self._mux.access, self._wanted, self.address, end)

    def _end(self, close: Callable[[socket.socket], None]) -> None:
        if self.closed:
            return
        self._write_note("ok" if self._complete and self._eof else "broken off")
        self._enter(states.GONE)
        self.deadline = NEVER
        self._drop_upstream()
        self._leave_lobbies()
        if self._login is not None:
            self._login.end()
        self._receiving.stop()
        self._sending.stop()
        close(self._sock)
        self._mux.gone(self)
