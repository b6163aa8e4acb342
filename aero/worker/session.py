"""One session of this worker: what the server calls it, its streams, and until when it is kept without a link.

The core's Session does the work. This is its handler, and what a JOIN has to say to take it over. Lanes carry it.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aero import __version__, logs
from aero.core.codes import CLOSE_NAMES, Reset
from aero.core.control import AddedTargets, Answer, Control, RateLimits, Registered
from aero.core.joining import JoinedAgain, JoinedNew, JoinTakeOver
from aero.core.session import WORKER_FIRST_ID, Session
from aero.core.stream import Stream
from aero.limits import Limits
from aero.net.link import Link
from aero.worker.ground import Ground

if TYPE_CHECKING:
    from aero.core.flows import Flow, Flows

log = logs.get("link")


class Desk(Protocol):
    """Where the events of every session of a worker go. Nothing here may raise or block."""

    def visitor_came(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor wants to reach a target: owes ``session.accept`` or ``stream.abort``, now or later."""

    def flow_came(self, flow: Flow, target_id: int, visitor: str) -> None:
        """A visitor wants to reach a target by UDP: owes the flow a receiver, or its end."""

    def answered(self, answers: tuple[Answer, ...]) -> None:
        """The server's answers to a register message, or some of them."""

    def limited(self, limits: RateLimits) -> None:
        """How fast we may send from now on."""

    def added(self, asked: AddedTargets) -> None:
        """The server asks for targets besides our own."""


class Said(NamedTuple):
    """Control messages that were sent: up to where in the session's sequence, over which link, and when."""

    session: Session
    position: int
    link: Link
    at: float

    @property
    def processed(self) -> bool:
        """True when the server has processed them: it says so, or where nothing is acknowledged, was heard since."""
        if self.session.resumable:
            return self.session.outbox.acked >= self.position
        return self.link.machine.heard_at > self.at


class KeptSession:
    """One session, whether a link carries it or not."""

    def __init__(self, ground: Ground, desk: Desk, joined: JoinedNew) -> None:
        """``joined``: the server's answer to a JOIN for a new session."""
        self.id, self.secret, self.cid = joined.session, joined.secret, joined.cid
        self.resume_s = joined.resume_s  # how long the server keeps it without a link
        self.core = Session(self, WORKER_FIRST_ID, ground.memory, ground.session_limits, monotonic())
        self.core.resumable = self.resume_s > 0
        self._desk = desk
        self._memory = ground.memory
        self._links = 1  # those that failed included: the number says which of two JOINs is newer
        self._lost_at = 0.0  # when its last link was lost; 0 while a link carries it

    # Taking over

    def takeover(self, ping_s: float) -> JoinTakeOver:
        """A JOIN that asks to go on with this session; each one is newer than those before."""
        self._links += 1
        return JoinTakeOver(__version__, ping_s, self.id, self.secret, self._links, self.core.received)

    def go_on(self, link: Link, joined: JoinedAgain) -> None:
        """The server agreed to a takeover: ``link`` carries the session from here on.

        Raises RemoteProtocolError where its position cannot be.
        """
        self.core.take_over(joined.received)
        self._lost_at = 0.0
        link.carry(self.core)

    def say(self, link: Link, messages: Iterable[Control]) -> Said:
        """Sends control messages over ``link``, which carries it.

        Raises LocalProtocolError for one that is too long.
        """
        for message in messages:
            self.core.control(message)
        return Said(self.core, self.core.outbox.written, link, monotonic())

    def lose_link(self) -> None:
        """No link carries it any more."""
        self.core.outbox.shrink()
        if self.core.flows is not None:
            self.core.flows.link_lost()
        self._lost_at = self._lost_at or monotonic()

    @property
    def away_s(self) -> float:
        """Seconds since its last link was lost, 0 while a link carries it."""
        return monotonic() - self._lost_at if self._lost_at else 0.0

    @property
    def hopeless(self) -> bool:
        """True when the server has certainly given it up: nobody needs to ask for it any more."""
        return bool(self._lost_at) and self.away_s > self.resume_s + Limits.RESUME_MARGIN_S

    def end(self, text: str) -> None:
        """It cannot be taken over any more: its streams are reset."""
        self.core.end(Reset.LOST, text)

    # Events

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor came."""
        self._desk.visitor_came(stream, target_id, visitor)

    def datagrams_came(self) -> Flows:
        """The server has opened the first flow."""
        from aero.core.flows import Flows

        flows = Flows(self.core, self._memory.datagrams, self)
        flows.link_up()
        return flows

    def flow_opened(self, flow: Flow, target_id: int, visitor: str) -> None:
        """A visitor came by UDP."""
        self._desk.flow_came(flow, target_id, visitor)

    def control_received(self, message: Control) -> None:
        """PROTOCOL.md, section "Control messages"."""
        if isinstance(message, Registered):
            self._desk.answered(message.targets)
        elif isinstance(message, RateLimits):
            self._desk.limited(message)
        elif isinstance(message, AddedTargets):
            self._desk.added(message)
        else:
            log.debug("! control message without a meaning here", message=message)

    def goaway_received(self, code: int, text: str) -> None:
        """The server takes no new streams; it closes the link when the open ones are done."""
        log.info("the server is sending us away", why=text, code=CLOSE_NAMES.get(code, code))
