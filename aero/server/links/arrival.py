"""A link at the server from the end of its handshake to its own: what it asks for, and whether it gets it.

A JOIN asks for a new worker's first session, for one beside another of the same worker, or to take one over.
The gate (gate.py) makes arrivals; sessions themselves live in uplink.py.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, Protocol

import gevent

from aero import __version__, logs
from aero.config import values
from aero.core.budget import Budget
from aero.core.codes import CLOSE_NAMES, RESUMABLE, Close
from aero.core.digest import same
from aero.core.joining import (
    Join,
    JoinBeside,
    Joined,
    JoinedAgain,
    JoinedNew,
    JoinInvited,
    JoinNew,
    JoinTakeOver,
)
from aero.core.spake2plus import Verifier
from aero.errors import (
    AeroError,
    LinkClosed,
    LocalProtocolError,
    ProtocolError,
    Rejected,
    RemoteProtocolError,
)
from aero.limits import Limits
from aero.net.faults import report
from aero.net.link import Link
from aero.server.links.invitations import Invitations
from aero.server.links.naming import invited_by, user_of
from aero.server.links.sessions import Sessions
from aero.server.links.uplink import SessionGround, Uplink
from aero.server.present import Present
from aero.server.registry.offer import Permits
from aero.server.registry.registry import Registry
from aero.server.registry.session import WorkerSession
from aero.server.registry.worker import Worker

log = logs.get("link")


class ArrivalGround(SessionGround, Protocol):
    """What a link that joins needs of the server."""

    @property
    def registry(self) -> Registry:
        """Who is here."""

    @property
    def present(self) -> Present:
        """Holds the present configuration."""


class Arrival:
    """The owner of a link, which an uplink gets once it has joined."""

    def __init__(
        self,
        ground: ArrivalGround,
        sessions: Sessions,
        login: str,
        address: str,
        proved: Verifier,
        invitations: Invitations,
    ) -> None:
        """``login``: the name under which it has proved itself; ``proved``: of what its handshake was the proof."""
        self.link: Link  # set by the gate before start()
        self._ground = ground
        self._invitations = invitations
        self._sessions = sessions
        self._login = login
        self._user = user_of(login)
        self._verifier = proved
        self._address = address
        self._uplink: Uplink | None = None
        self._unproved = 0  # former selves of whom no sign of life has come yet
        self._final = False
        self._over = False
        self._deadline: Any = None  # the timer of a link that has not said JOIN

    def start(self) -> None:
        """Begins to listen to the link."""
        self._sessions.link_up(self.link, self._verifier)
        self.link.machine.pings = Budget(Limits.PINGS_BURST, Limits.PINGS_PER_S, monotonic())
        self._deadline = self._ground.loop.timer(Limits.JOIN_S)
        self._deadline.start(self.link.close, Close.SILENT, f"no JOIN within {Limits.JOIN_S:.0f} s")
        self.link.start()

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.stop()
            self._deadline.close()
            self._deadline = None

    # Link events

    def joining(self, message: Join | Joined) -> None:
        """PROTOCOL.md, section "Joining"."""
        self._no_deadline()
        try:
            if isinstance(message, JoinInvited) != bool(invited_by(self._login)):
                raise Rejected(
                    Close.DENIED, "an invitation's code is for aero join, and for that alone", final=True
                )
            if isinstance(message, JoinInvited):
                gevent.spawn(self._accept, message)
                return
            if isinstance(message, (JoinNew, JoinBeside, JoinTakeOver)):
                self.link.machine.ping_s = message.ping_s
            if isinstance(message, JoinTakeOver):
                self._take_over(message)
            elif isinstance(message, JoinBeside):
                self._join_beside(message)
            elif isinstance(message, JoinNew):
                self._join_new(message)
        except Rejected as error:
            self._turn_away(error)

    def pong_received(self, number: int, round_trip_s: float) -> None:
        """The worker is there."""
        if self._uplink is not None:
            self._uplink.pong(number, round_trip_s)

    def close_received(self, code: int, text: str) -> None:
        """The worker ends the link, and says why."""
        self._final = code not in RESUMABLE
        self.link.abandon(LinkClosed(f"the worker closed the link: {text}"))

    def link_ended(self, link: Link, error: AeroError) -> None:
        """The socket is closed."""
        self._no_deadline()
        self._sessions.link_down(link)
        if isinstance(error, LocalProtocolError):
            self._ground.counters.error("internal error")
            self._ground.events.fault("server error", address=self._address, why=error)
            self._final = True
        elif isinstance(error, ProtocolError):
            self._ground.counters.error(f"rule broken: {CLOSE_NAMES.get(error.code, 'other')}")
            self._ground.events.fault("link broke a rule", address=self._address, rule=error)
            self._final = error.code not in RESUMABLE
        if self._uplink is not None:
            self._uplink.detach(link, error, self._final)
        self._over = True
        del self.link  # the two hold each other; keys and buffers must not wait for the garbage collector

    # Joining

    def _accept(self, join: JoinInvited) -> None:
        """A greenlet's: whoever was invited gets a credential, and goes."""
        try:
            welcome = self._invitations.accept(self._login, join, self._address, __version__)
        except Rejected as error:
            if not self._over:
                self._ground.events.fault("worker turned away", address=self._address, why=error)
                self.link.close(error.code, str(error))
            return
        except Exception as error:
            report(error)
            if not self._over:
                self.link.faulted(error)
            return
        if not self._over and self.link.open:
            self.link.machine.joined(welcome)
            self.link.close(Close.DONE, "the credential counts")

    def _join_new(self, join: JoinNew) -> None:
        """Its former selves may be here still: those that give no sign of life make place for it."""
        registry = self._ground.registry
        registry.tenants.check(
            self._user, join.tag, self._login
        )  # before anybody is asked to make place for it
        if registry.permits is not None:
            gevent.spawn(self._ask, registry.permits, join)
        else:
            self._displace(join)

    def _ask(self, permits: Permits, join: JoinNew) -> None:
        """The operator's hook says whether it may come in. A greenlet's."""
        permission = permits.ask(
            "worker", user=self._user, tag=join.tag, host=join.host, address=self._address
        )
        if self._over or not self.link.open:
            return
        try:
            if permission.allowed:
                self._displace(join)
            else:
                self._turn_away(Rejected(Close.DENIED, permission.why, final=False))
        except Exception as error:  # a fault of ours: it must not leave the link waiting
            report(error)
            self.link.faulted(error)

    def _turn_away(self, error: Rejected) -> None:
        self._ground.counters.error("worker turned away")
        self._ground.events.fault("worker turned away", address=self._address, why=error)
        self.link.close(error.code, str(error))

    def _displace(self, join: JoinNew) -> None:
        registry = self._ground.registry
        same = registry.same(self._user, join.tag, join.host, join.identity)
        self._unproved = len(same)
        for worker in same:
            registry.proofs.ask(worker, partial(self._proved, worker, join))
        if not same:
            self._admit(join)

    def _proved(self, worker: Worker, join: JoinNew, silent: list[WorkerSession]) -> None:
        for session in silent:
            log.info("old link does not answer, the new one takes its place", cid=worker.cid)
            session.end(Close.REPLACED, "the worker has started anew")
        if not worker.links:
            worker.end(Close.REPLACED, "the worker has started anew")
        self._unproved -= 1
        if not self._unproved:
            try:
                self._admit(join)
            except (
                Exception
            ) as error:  # it is ours to end, and not the former self's whose answer brought us here
                report(error)
                self.link.faulted(error)

    def _admit(self, join: JoinNew) -> None:
        """The worker gets a cid, a session and the ports that are free for it."""
        if self._over or not self.link.open:
            return
        try:
            worker = self._ground.registry.add(
                self._user, join.tag, join.host, join.identity, self._address, self._login
            )
        except Rejected as error:
            self.link.close(error.code, str(error))
            return
        self._begin_session(worker)
        self._ground.registry.additions.greet(worker)

    def _join_beside(self, join: JoinBeside) -> None:
        beside = self._find(join.beside, join.secret)
        if len(beside.worker.sessions) >= values.POOL_LINKS:
            raise Rejected(Close.LIMIT, f"a worker may have {values.POOL_LINKS} links", final=False)
        self._begin_session(beside.worker)

    def _begin_session(self, worker: Worker) -> None:
        resume_s = self._ground.present.config.resume_s
        uplink = self._uplink = Uplink(self._ground, self._sessions, worker, resume_s)
        worker.sessions.append(uplink)
        self._sessions.add(uplink)
        try:
            self.link.machine.joined(
                JoinedNew(__version__, worker.cid, uplink.id, uplink.secret, uplink.resume_s)
            )
            uplink.attach(self.link)
        except Exception:
            uplink.end(Close.INTERNAL, "an error of the program")  # it has no link that would take it along
            raise

    def _take_over(self, join: JoinTakeOver) -> None:
        uplink = self._find(join.session, join.secret)
        if join.link <= uplink.link_number:
            raise Rejected(Close.REPLACED, "a newer link of this session came first", final=False)
        uplink.link_number = join.link
        if uplink.link is not None:
            uplink.link.machine.session = None  # from here on nothing more comes in over the former link
        try:
            uplink.session.take_over(join.received)
        except RemoteProtocolError as error:
            uplink.end(error.code, str(error))  # it asks for bytes that are not kept: nobody can go on
            raise
        self._uplink = uplink
        self.link.machine.joined(JoinedAgain(__version__, uplink.id, uplink.session.received))
        uplink.attach(self.link)
        self._ground.events.emit("link resumed", cid=uplink.worker.cid, tag=uplink.worker.tag)

    def _find(self, session_id: str, secret: str) -> Uplink:
        uplink = self._sessions.uplinks.get(session_id)
        if not same(secret.encode(), uplink.secret.encode() if uplink else bytes(32)):
            uplink = None
        if uplink is not None and self._user and uplink.worker.login != self._login:
            uplink = None  # another credential of the same user: what it began is not ours
        if uplink is None or uplink.worker.user != self._user:
            raise Rejected(Close.GONE, "no such session (any more)", final=False)
        return uplink
