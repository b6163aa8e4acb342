"""A lane: one of the worker's parallel links, kept up for as long as the worker runs. Dials, joins, takes over.

A lane has a session or none. While its session lives, every new link takes it over; where that is refused, a lane
asks for a session beside a sister's, or, when no lane has any, for a new worker's first.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent.event import AsyncResult, Event

from aero import __version__, logs
from aero.core import messages
from aero.core.codes import CLOSE_NAMES, RESUMABLE, Close, Reset
from aero.core.messages import Join, JoinBeside, Joined, JoinedAgain, JoinedNew, JoinNew, JoinTakeOver
from aero.core.session import WORKER_FIRST_ID, Session
from aero.core.stream import Stream
from aero.errors import (
    AeroError,
    LinkClosed,
    NetworkError,
    ProtocolError,
    Rejected,
    RemoteProtocolError,
    SecurityError,
)
from aero.limits import Limits
from aero.net.dial import dial
from aero.net.handshake import greet_server
from aero.net.link import Link
from aero.net.pipe import prepare

if TYPE_CHECKING:
    from aero.worker.app import WorkerApp

log = logs.get("link")

_REFUSED = (Close.AUTH, Close.DENIED, Close.REPLACED)
# The server answers a JOIN at once, or when a former link of ours had its two seconds to show that it lives.
_JOIN_ANSWER_S = 10.0


class Lane:
    """Owner of one link at a time; handler of one session at a time."""

    def __init__(self, app: WorkerApp, number: int) -> None:
        self.app = app
        self.number = number
        self.session: Session | None = None
        self.session_id = self.secret = ""
        self.resume_s = 0.0  # how long the server keeps our session without a link, and so do we
        self.link: Link | None = None
        self.hurry = Event()  # set when another lane has reached the server: do not wait any longer
        self._links = 0  # of this session, those included that failed: says which of two is newer
        self._asked: Session | None = None  # what our JOIN wants to take over
        self._beside = ""  # or the session that it wants one beside
        self._failures = 0  # in a row
        self._joined_at = 0.0  # when this link got its JOINED; 0: it did not
        self._was_good = False
        self._answered = Event()  # our JOIN, by JOINED or by the link's end
        self._over: AsyncResult[AeroError] = AsyncResult()
        self._lost: Any = None  # the timer of a session that no link carries

    def run(self) -> None:
        """Keeps a link up until the greenlet is killed. Raises what ends a worker that runs with --once."""
        delay = 0.0
        while True:
            self.app.wait_turn(self, delay)
            error = self._connect_and_wait()
            if self.app.stopping:
                return
            if self.app.config.once:
                log.warning("link down", lane=self.number, why=error)
                raise error
            delay = self._delay_after(error)
            log.warning("link down", lane=self.number, why=error, retry_s=round(delay, 1))

    def _delay_after(self, error: AeroError) -> float:
        """Seconds until the next try."""
        code = error.code if isinstance(error, Rejected) else None
        if isinstance(error, SecurityError) or code in _REFUSED:
            self._failures = 1
            return Limits.RETRY_REFUSED_S * random.uniform(1.0, 1.5)
        if code == Close.KICKED:
            self._failures = 1
            return Limits.RETRY_KICKED_S * random.uniform(1.0, 1.5)
        if code == Close.GONE and (self._asked is not None or self._beside):
            return 0.0  # what we asked for is forgotten by now, so this cannot go on for long
        if self._was_good:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        doubled: float = Limits.RETRY_FIRST_S * 2.0 ** min(self._failures - 2, 16)
        return min(doubled, Limits.RETRY_MOST_S) * random.uniform(0.5, 1.0)

    def _connect_and_wait(self) -> AeroError:
        """One link from dial to end; the reason why it ended or never began."""
        config = self.app.config
        self._over = AsyncResult()
        self._joined_at, self._was_good = 0.0, False
        self._answered.clear()
        sock = None
        try:
            sock = dial(config.server.host, config.server.port)
            prepare(sock)
            keyed = greet_server(sock, self.app.password, "", self.app.backend, self._join().pack())
            link = self.link = Link(
                sock,
                self,
                keyed.writer,
                keyed.reader,
                config.ping_s,
                keyed.early,
                messages.WE_ASKED,
                keyed.features,
            )
            sock = None
        except (AeroError, OSError) as failure:
            return failure if isinstance(failure, AeroError) else LinkClosed(failure.strerror or str(failure))
        finally:
            if sock is not None:
                sock.close()
        link.start()
        if not self._answered.wait(_JOIN_ANSWER_S):
            link.abandon(NetworkError(f"the server did not answer our JOIN ({_JOIN_ANSWER_S:.0f} s)"))
        error: AeroError = self._over.get()
        return error

    def _join(self) -> Join:
        config = self.app.config
        self._asked, self._beside = self.session, ""
        if self.session is not None:
            self._links += 1
            received = self.session.received
            return JoinTakeOver(
                __version__, config.ping_s, self.session_id, self.secret, self._links, received
            )
        sister = self.app.sister(self)
        if sister is not None:
            self._beside = sister.session_id
            return JoinBeside(__version__, config.ping_s, sister.session_id, sister.secret)
        return JoinNew(__version__, config.ping_s, self.app.identity, config.tag, config.host)

    # Link events

    def joining(self, message: Join | Joined) -> None:
        """PROTOCOL.md, section "Joining"."""
        link = self.link
        if link is None:
            return
        if self._asked is not None and self._asked is not self.session:
            link.close(Close.GONE, "the session ended here in the meantime")
            return
        self._joined_at = monotonic()
        self._answered.set()
        if isinstance(message, JoinedAgain) and self.session is not None:
            self.session.take_over(message.received)
            self._stop_waiting()
            link.carry(self.session)
            log.info("link resumed", lane=self.number)
        elif isinstance(message, JoinedNew) and self.session is None:
            self._begin_session(link, message)
        else:
            raise RemoteProtocolError(Close.STATE, "JOINED answers another JOIN than ours")
        self.app.reached(self)

    def _begin_session(self, link: Link, joined: JoinedNew) -> None:
        self.resume_s = joined.resume_s
        self.session_id, self.secret, self._links = joined.session, joined.secret, 1
        self.session = Session(self, WORKER_FIRST_ID, self.app.pool, self.app.session_limits, monotonic())
        self.session.resumable = self.resume_s > 0
        link.carry(self.session)
        log.info("link up", lane=self.number, server=self.app.config.server, cid=joined.cid)
        self.app.joined(self, joined.cid)

    def pong_received(self, number: int, round_trip_s: float) -> None:
        """The server is there."""
        if log.debugging:
            log.debug("% pong", lane=self.number, ms=round(1000 * round_trip_s, 3))

    def close_received(self, code: int, text: str) -> None:
        """The server ends the link, and says why."""
        if self.link is not None:
            text = f"the server closed the link: {text}"
            self.link.abandon(Rejected(code, text, final=code == Close.DENIED))

    def link_ended(self, link: Link, error: AeroError) -> None:
        """The socket is closed."""
        self.link = None
        up_s = monotonic() - self._joined_at if self._joined_at else 0.0
        carried = link.sent_bytes + link.received_bytes
        self._was_good = up_s >= Limits.RETRY_GOOD_S or (up_s > 0.0 and carried >= Limits.RETRY_GOOD_BYTES)
        code = error.code if isinstance(error, (ProtocolError, Rejected)) else Close.SILENT
        if code == Close.GONE and self._beside:
            self.app.session_gone(self._beside, str(error))
            self.app.reached(self)
        elif code not in RESUMABLE and (self._asked is None or self._asked is self.session):
            self.end_session(str(error))
            if code == Close.GONE:
                self.app.reached(self)
        elif self.session is not None and self._lost is None:
            if self.resume_s:
                self._lost = self.app.loop.timer(self.resume_s)
                self._lost.start(self.end_session, f"not resumed within {self.resume_s:.0f} s")
            else:
                self.end_session(str(error))
        self._answered.set()
        self._over.set(error)

    def gone(self, text: str) -> None:
        """The server does not know our session any more."""
        if self.link is not None:
            self.link.abandon(Rejected(Close.GONE, text, final=False))
        self.end_session(text)

    def end_session(self, text: str) -> None:
        """The session cannot be taken over any more: its streams are reset."""
        self._stop_waiting()
        if self.session is not None:
            self.session.end(Reset.LOST, text)
            self.session = None
            self.app.session_lost(self)

    def _stop_waiting(self) -> None:
        if self._lost is not None:
            self._lost.stop()
            self._lost.close()
            self._lost = None

    # Session events

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor came."""
        self.app.services.connect(stream, target_id, visitor)

    def control_received(self, message: messages.Control) -> None:
        """PROTOCOL.md, section "Control messages"."""
        if isinstance(message, messages.Registered):
            self.app.registered(message.targets)
        else:
            log.debug("! control message without a meaning here", message=message)

    def goaway_received(self, code: int, text: str) -> None:
        """The server takes no new streams; it closes the link when the open ones are done."""
        log.info("the server is sending us away", why=text, code=CLOSE_NAMES.get(code, code))
