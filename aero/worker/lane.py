r"""A lane: one of the worker's parallel links, kept up for as long as the worker runs. Dials, joins, takes over.

A lane has a session or none. While it has one, every new link takes it over. Where that is refused, the lane asks for
a session beside a sister's, or, when no lane has any, for a new worker's first.

While a link is doubted (core/doubt.py), a lane dials another beside it. With our proof on that one, the first is over
and the lane is DIALLING; where it speaks before that, nothing has happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple, Protocol

from gevent.event import AsyncResult, Event

from aero import __version__, logs
from aero.core import features
from aero.core.codes import RESUMABLE, Close
from aero.core.control import Control
from aero.core.doubt import DOUBTED
from aero.core.joining import Join, JoinBeside, Joined, JoinedAgain, JoinedNew, JoinNew
from aero.errors import (
    AeroError,
    LinkClosed,
    LocalProtocolError,
    NetworkError,
    ProtocolError,
    Rejected,
    RemoteProtocolError,
)
from aero.limits import Limits
from aero.net.link import Link
from aero.worker import patience
from aero.worker.dialling import open_link
from aero.worker.ground import Ground
from aero.worker.naming import Naming
from aero.worker.patience import Patience, between, ending
from aero.worker.session import Desk, KeptSession, Said
from aero.worker.states import DIAL, DIALLING, ENDED, JOINED, JOINING, KEYED, RESTING, STATE_NAMES, UP, moved

log = logs.get("link")

# The server answers a JOIN at once, or when a former link of ours had its two seconds to show that it lives.
_JOIN_ANSWER_S = 10.0


class Sisters(Protocol):
    """What a lane asks and tells the worker's other lanes. Only ``wait_turn`` may block; nothing may raise."""

    stopping: bool

    def wait_turn(self, lane: Lane, delay_s: float) -> None:
        """Blocks a lane until it may dial: for ``delay_s`` at the most, unless it has nobody to join yet."""

    def sister(self, lane: Lane) -> KeptSession | None:
        """The session of another lane."""

    def reached(self, lane: Lane) -> None:
        """The lane has reached the server."""

    def session_begun(self, session: KeptSession) -> None:
        """A lane has a new session, and its link carries it."""

    def session_lost(self) -> None:
        """A lane's session is gone for good; the lane does not have it any more."""

    def session_gone(self, session: KeptSession, text: str) -> None:
        """The server does not know this session any more, whichever lane has it."""


class _Try(NamedTuple):
    """One try to have a link: what its JOIN asks for, and what it has come to.

    ``takes``: the lane's session, to go on with it; or ``beside``: a sister's, to have another beside it.
    """

    takes: KeptSession | None
    beside: KeptSession | None
    answered: Event  # the JOIN, by JOINED or by the link's end
    over: AsyncResult[tuple[str, AeroError]]  # how the link ended or never began
    stirred: Event  # the link is over or doubted


#: What the log says of a try or a link that is over, how it ended for our patience, and why.
_Outcome = tuple[str, str, AeroError]


class Lane:
    """Owner of at most one link, and of at most one session."""

    def __init__(self, ground: Ground, crew: Sisters, desk: Desk, number: int) -> None:
        """``desk``: where its sessions' events go; ``number``: what the log calls this lane."""
        self.number = number
        self.state = RESTING
        self.link: Link | None = None
        self.way = ""  # by which the latest link goes or went
        self.session: KeptSession | None = None
        self.hurry = Event()  # set when another lane has reached the server: do not wait any longer
        self.patience = Patience()
        self._name = Naming(ground.config.user)
        self._ground = ground
        self._crew = crew
        self._desk = desk
        self._try = _Try(None, None, Event(), AsyncResult(), Event())
        self._joined_at = 0.0  # when the link that is UP got its JOINED

    def _move(self, event: str) -> None:
        self.state = moved(self.state, event)

    def run(self) -> None:
        """Keeps a link up until the greenlet is killed. Raises what ends a worker that runs with --once."""
        delay_s = 0.0
        while True:
            self._crew.wait_turn(self, delay_s)
            what, end, error = self._connect() or self._attend()
            if self._crew.stopping:
                return
            if self._name.other(error):
                delay_s = 0.0
                continue
            if self._ground.config.once:
                log.warning(what, lane=self.number, why=error)
                raise error
            session = self.session
            if session is not None and session.hopeless:
                self.end_session(f"not resumed within {session.resume_s:.0f} s")
                session = None
            resume_s, away_s = (session.resume_s, session.away_s) if session is not None else (0.0, 0.0)
            delay_s = self.patience.after(end, resume_s, away_s)
            log.warning(what, lane=self.number, why=error, retry_s=round(delay_s, 1))

    def _connect(self, doubted: Link | None = None) -> _Outcome | None:
        """Dials, proves who we are, and asks for a session over a link that is ours then; None. Or how that failed.

        ``doubted``: our link, which is up and says nothing. The new one is dialled beside it and takes its place at the
        last moment, with our proof; where it speaks before that, or the new one fails, it stays: None, too.
        """
        if doubted is None:
            self._begin()

        def join(ping_s: int) -> bytes:
            if doubted is not None and self.state not in (DIALLING, JOINING):  # else this is a second way's
                self._step_in(doubted)
            return self._join(ping_s).pack()

        try:
            self.link = open_link(self._ground, self, self._name.user, join, self._keyed)
        except AeroError as error:
            if self.state not in (DIALLING, JOINING):
                log.debug("= no link in place of the doubted one", lane=self.number, why=error)
                return None
            end = self._how(error)
            self._move(ENDED)
            return _words(end), end, error
        self.way = str(self._ground.outlets.last)
        self.link.start()
        return None

    def _keyed(self) -> None:
        """The server has proved that it knows our code, and we that we do."""
        self._name.proved = True
        self._move(KEYED)

    def _begin(self) -> None:
        """A try begins."""
        self._move(DIAL)
        self._try = self._aim()

    def _step_in(self, doubted: Link) -> None:
        """The doubted link goes: nothing that it brings may count any more.

        Raises LinkClosed where it has spoken, or has ended our session.
        """
        if self.link is doubted:
            if doubted.machine.trust != DOUBTED:
                raise LinkClosed("the doubted link has spoken")
            silent_s = round(doubted.machine.silent_s, 1)
            log.info("link is silent, a newer one takes its place", lane=self.number, silent_s=silent_s)
            doubted.abandon(LinkClosed(f"nothing came for {silent_s} s"))
        if self.session is None:  # the server's last word over the doubted link, a kick perhaps, ended it
            raise LinkClosed("there is no session to go on with any more")
        self._begin()

    def _attend(self) -> _Outcome:
        """Waits for the end of our link; while it is doubted, tries to have another in its place."""
        while True:
            attempt, link = self._try, self.link
            if not attempt.answered.wait(_JOIN_ANSWER_S) and link is not None:
                link.abandon(NetworkError(f"the server did not answer our JOIN ({_JOIN_ANSWER_S:.0f} s)"))
            was_up = self.state == UP
            if was_up and link is not None:
                link.on_doubt = attempt.stirred.set
            while not attempt.over.ready():
                attempt.stirred.wait()
                attempt.stirred.clear()
                # So that many workers whose server pauses do not dial in the same moment.
                attempt.over.wait(between(0.0, Limits.DOUBT_JITTER_S))
                if link is None or not self._may_replace(link):
                    continue
                failed = self._connect(link)
                if failed is not None:
                    return failed
                if self._try is not attempt:
                    break
                attempt.over.wait(between(0.5, 1.0) * Limits.RETRY_RESUME_S)
            else:
                end, error = attempt.over.get()
                return "link lost" if was_up else _words(end), end, error

    def _may_replace(self, link: Link) -> bool:
        """Whether ``link`` is ours, doubted, and carries a session that another could take over."""
        session = self.session
        return (
            self.link is link
            and link.machine.trust == DOUBTED
            and session is not None
            and session.resume_s > 0
            and not self._ground.config.once
        )

    def _aim(self) -> _Try:
        beside = self._crew.sister(self) if self.session is None else None
        return _Try(self.session, beside, Event(), AsyncResult(), Event())

    def _join(self, ping_s: int) -> Join:
        """The JOIN of the present try."""
        config, takes, beside = self._ground.config, self._try.takes, self._try.beside
        if takes is not None:
            return takes.takeover(ping_s)
        if beside is not None:
            return JoinBeside(__version__, ping_s, beside.id, beside.secret)
        return JoinNew(__version__, ping_s, self._ground.identity, config.tag, config.host)

    # Link events

    def joining(self, message: Join | Joined) -> None:
        """PROTOCOL.md, section "Joining"."""
        link, takes = self.link, self._try.takes
        if link is None:
            return
        if takes is not None and takes is not self.session:
            link.close(Close.GONE, "the session ended here in the meantime")
            return
        if isinstance(message, JoinedAgain) and takes is not None:
            takes.go_on(link, message)
            log.info("link resumed", lane=self.number, server=self.way)
        elif isinstance(message, JoinedNew) and takes is None:
            self.session = session = KeptSession(self._ground, self._desk, message)
            link.carry(session.core)
            log.info("link up", lane=self.number, server=self.way, cid=session.cid)
            self._crew.session_begun(session)
        else:
            raise RemoteProtocolError(Close.STATE, "JOINED answers another JOIN than ours")
        self._joined_at = monotonic()
        self._move(JOINED)
        self._try.answered.set()
        self._crew.reached(self)

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
        attempt, session = self._try, self.session
        end = self._how(error, link)
        was_up = self.state == UP
        self._move(ENDED)
        code = error.code if isinstance(error, (ProtocolError, Rejected)) else Close.SILENT
        if code == Close.GONE and not was_up and attempt.beside is not None:
            self._crew.session_gone(attempt.beside, str(error))
        elif session is not None and (was_up or attempt.takes is session):
            if code in RESUMABLE and session.resume_s:
                session.lose_link()
            else:
                self.end_session(str(error))
        if code == Close.GONE:
            self._crew.reached(self)
        attempt.answered.set()
        attempt.over.set((end, error))
        attempt.stirred.set()

    def _how(self, error: AeroError, link: Link | None = None) -> str:
        """How a try has ended, in the words of our patience; asked while the state still tells how far it came."""
        carried = link.sent_bytes + link.received_bytes if link is not None else 0
        up_s = monotonic() - self._joined_at if self.state == UP else 0.0
        asked = self._try.takes is not None or self._try.beside is not None
        return ending(error, asked, up_s, carried)

    @property
    def carries_datagrams(self) -> bool:
        """True where the link that is up has agreed on datagrams."""
        return self.link is not None and bool(self.link.machine.features & features.DATAGRAMS)

    def say(self, said: Iterable[Control]) -> Said:
        """Sends control messages; only for a lane that is UP. Raises LocalProtocolError for one that is too long."""
        session, link = self.session, self.link
        if session is None or link is None:
            raise LocalProtocolError(Close.STATE, f"a lane that is {STATE_NAMES[self.state]} says nothing")
        return session.say(link, said)

    # Ends

    def gone(self, text: str) -> None:
        """The server does not know our session any more."""
        if self.link is not None:
            self.link.abandon(Rejected(Close.GONE, text, final=False))
        self.end_session(text)

    def end_session(self, text: str) -> None:
        """The session cannot be taken over any more: its streams are reset."""
        session, self.session = self.session, None
        if session is not None:
            session.end(text)
            self._crew.session_lost()


def _words(end: str) -> str:
    """What the log says of a try that did not come as far as a link that is up."""
    return "cannot reach the server" if end == patience.FAILED else "the server refused the link"
