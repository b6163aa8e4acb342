"""A worker's session at the server, and the link that carries it: taking over, freezing, ending.

One uplink is one session. It owns at most one link at a time; when that breaks, the session freezes and waits for
the next. Links come here once they have joined (server/arrival.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import monotonic
from typing import Callable, Protocol

from aero import logs
from aero.core import control, features
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.datagrams import Drops
from aero.core.doubt import TRUSTED
from aero.core.flows import Flows
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.errors import AeroError, RemoteProtocolError
from aero.net.link import Figures, Link
from aero.net.loop import Loop
from aero.server.registry.worker import Worker
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

log = logs.get("link")

_SECRET_BYTES = 16
# Answers for so many targets go into one message: 64 KiB hold them with the longest names, texts and addresses, but for
# long options.
_ANSWERS_A_MESSAGE = 16


class SessionGround(Protocol):
    """What a session needs of the server."""

    @property
    def loop(self) -> Loop:
        """The event loop."""

    @property
    def memory(self) -> Memory:
        """The memory of all sessions."""

    @property
    def session_limits(self) -> SessionLimits:
        """What one session may cost."""

    @property
    def counters(self) -> Counters:
        """What the server counts."""

    @property
    def events(self) -> Events:
        """What happens on the server."""


class SessionTable(Protocol):
    """The table of all sessions, as one of them sees it (links/sessions.py)."""

    def freeze(self, uplink: Uplink) -> None:
        """No link carries a session: its ``look_frozen`` is called once a second from now on."""

    def thaw(self, uplink: Uplink) -> None:
        """A link carries it again, or it is over. Harmless when it was not frozen."""

    def forget(self, uplink: Uplink) -> None:
        """A session is over."""


class Uplink:
    """One session of one worker: the core's session handler, and the registry's WorkerSession."""

    def __init__(self, ground: SessionGround, table: SessionTable, worker: Worker, resume_s: int) -> None:
        """``resume_s``: how long the session waits for its next link when one breaks; 0: not at all."""
        self.worker = worker
        self._ground = ground
        self._table = table
        self.id = os.urandom(8).hex()
        self.secret = os.urandom(_SECRET_BYTES).hex()
        self.resume_s = resume_s
        self.session = Session(self, SERVER_FIRST_ID, ground.memory, ground.session_limits, monotonic())
        self.session.resumable = self.resume_s > 0
        self.session.opens = Budget(worker.limits.OPENS_BURST, worker.limits.OPENS_PER_S, monotonic())
        self.link: Link | None = None
        # The worker counts its session's links, so that one which was held up on its way cannot win over a newer one.
        self.link_number = 1
        self.ended = False
        self._frozen_until = 0.0  # when a session that no link carries is given up, on the monotonic clock
        self.lived_at = 0.0
        self._pongs: dict[
            int, list[Callable[[float], None]]
        ] = {}  # by the number of the ping that they wait for
        self._flows: Flows | None = None  # from the first UDP target on
        self._control = Budget(worker.limits.CONTROL_BURST, worker.limits.CONTROL_PER_S, monotonic())
        self._looks = Budget(worker.limits.HEALTH_BURST, worker.limits.HEALTH_PER_S, monotonic())

    @property
    def alive(self) -> bool:
        """True while a link carries the session."""
        return self.link is not None

    @property
    def transport(self) -> str:
        """What that link lies on: "tcp", "tls", "ws" or "wss"; "" while there is none."""
        return self.link.kind if self.link is not None else ""

    @property
    def figures(self) -> Figures | None:
        """How that link fares; None while there is none."""
        return self.link.figures if self.link is not None else None

    @property
    def doubtful(self) -> bool:
        """True while something waits for an answer of that link, and nothing has come for a second."""
        return self.link is not None and self.link.machine.trust != TRUSTED

    @property
    def flows(self) -> Flows | None:
        """Its flows; None while no link carries it that has agreed on datagrams."""
        if self.link is None or self.ended or not self.link.machine.features & features.DATAGRAMS:
            return None
        if self._flows is None:
            self._flows = Flows(self.session, self._ground.memory.datagrams, None)
            limits = self.worker.limits
            self._flows.ends = Budget(limits.FLOW_ENDS_BURST, limits.FLOW_ENDS_PER_S, monotonic())
            self._flows.drops = Drops(self._ground.counters.drops)
            self._flows.link_up()
            self.session.flows = self._flows
        return self._flows

    # The link

    def attach(self, link: Link) -> None:
        """``link`` carries the session from here on; one that did so before is let go."""
        former, self.link = self.link, link
        if former is not None:
            former.close(Close.REPLACED, "the session goes on over a newer link")
        self._table.thaw(self)
        link.carry(self.session)
        pongs, self._pongs = self._pongs, {}
        self._answer(pongs, self.worker.ping_s)  # who asked the former link for a sign of life has it
        self.worker.lobby.open()

    def detach(self, link: Link, error: AeroError, final: bool) -> None:
        """``link`` is over."""
        if self.link is not link:
            return  # it was replaced already
        self.link = None
        self._pongs.clear()
        if self.ended:
            return
        # A worker that has sent nothing in this session has nothing to resume: its next link begins a new one.
        silent = not self.session.received and not self.session.streams
        if final or silent or not self.resume_s:
            self.end(Close.DONE, str(error))
            return
        self.session.outbox.shrink()
        if self._flows is not None:
            self._flows.link_lost()
        self._ground.counters.error("link lost")
        self._ground.events.fault("link lost", cid=self.worker.cid, tag=self.worker.tag, why=error)
        self._frozen_until = monotonic() + self.resume_s
        self._table.freeze(self)

    def look_frozen(self, now: float, most_bytes: int) -> None:
        """Gives up in time, and earlier where memory has run out and no frozen session keeps more (``most_bytes``)."""
        if now >= self._frozen_until:
            self.end(Close.SILENT, f"not resumed within {self.resume_s} s")
        elif self._ground.memory.blocks.exhausted:
            kept = self.session.outbox.kept_bytes
            if kept and kept >= most_bytes:
                self.end(Close.OVERLOAD, "memory for what was not acknowledged has run out")
        else:
            self.session.outbox.shrink()  # what visitors have sent meanwhile

    def faulted(self, error: Exception) -> None:
        """Ends the session after an error of this program in our timer (net/faults.py)."""
        self.end(Close.INTERNAL, "an error of the program")

    @property
    def received_bytes(self) -> int:
        """What the link that carries it now has read."""
        return self.link.received_bytes if self.link is not None else 0

    def ping(self, on_pong: Callable[[float], None], *, fresh: bool = False) -> bool:
        """Pings the worker, or shares a ping that is under way; ``fresh``: only where another cannot be sent.

        ``on_pong`` gets the round trip in seconds. False when there is no link.
        """
        if self.link is None:
            return False
        number = 0
        if fresh or not self._pongs:
            try:
                number = self.link.ping()
            except RemoteProtocolError:
                pass  # so much waits for this link that not even a ping has room
        # Where none can be sent now, any answer will do: the link's own pings are under way then.
        self._pongs.setdefault(number or max(self._pongs, default=0), []).append(on_pong)
        return True

    def pong(self, number: int, round_trip_s: float) -> None:
        """An answer came."""
        self.worker.ping_s = round_trip_s
        self._ground.counters.pings.observe(round_trip_s)
        # Answers come in order: this one is as good for whoever asked before.
        answered = {asked: self._pongs.pop(asked) for asked in list(self._pongs) if asked <= number}
        self._answer(answered, round_trip_s)

    def _answer(self, pongs: dict[int, list[Callable[[float], None]]], round_trip_s: float) -> None:
        if pongs:
            self.lived_at = monotonic()
        for waiting in pongs.values():
            for on_pong in waiting:
                on_pong(round_trip_s)

    def end(self, code: int, text: str) -> None:
        """The session is over: streams are reset, the link closed, and with the last one the worker is gone."""
        if self.ended:
            return
        self.ended = True
        self._table.thaw(self)
        if self.link is not None:
            self.link.close(code, text)
        self.session.end(Reset.LOST, text)
        self._table.forget(self)
        self.worker.leave(self, text)

    # Session events

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        """Workers open no streams: there is nothing at the server to reach."""
        stream.abort(Reset.NO_TARGET, "the server has no targets")

    def datagrams_came(self) -> Flows | None:
        """Workers open no flows, and none was opened here."""
        return None

    def control_received(self, message: control.Control) -> None:
        """PROTOCOL.md, section "Control messages". Raises RemoteProtocolError when they come too fast."""
        if isinstance(message, control.Seen):
            if not self._looks.spend(monotonic()):
                raise RemoteProtocolError(Close.OVERLOAD, "health messages come faster than once a second")
            self.worker.seen(message.looks)
            return
        if not self._control.spend(monotonic()):
            raise RemoteProtocolError(Close.OVERLOAD, "control messages come faster than anybody needs them")
        if isinstance(message, control.Register):
            self.worker.register(message.targets, self.tell)
        elif isinstance(message, control.Unregister):
            self.worker.unregister(message.ids)
        elif isinstance(message, control.Declined):
            self.worker.declined(message.targets)
        else:
            log.debug("! control message without a meaning here", cid=self.worker.cid, message=message)

    def tell(self, answers: Iterable[control.Answer]) -> None:
        """Tells the worker what became of some of its targets."""
        answers = tuple(answers)
        for first in range(0, len(answers), _ANSWERS_A_MESSAGE):
            some = control.Registered(answers[first : first + _ANSWERS_A_MESSAGE])
            for message in control.fitting(some):
                self.session.control(message)

    def goaway_received(self, code: int, text: str) -> None:
        """The worker takes no new streams; it leaves when the open ones are done."""
        log.info("worker is leaving", cid=self.worker.cid, why=text)
