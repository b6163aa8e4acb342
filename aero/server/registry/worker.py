"""A worker: everything that has its cid. Its sessions, its mappings, and what it may ask for."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Callable, Protocol

from aero.address import TCP, UDP
from aero.core.buckets import Rates
from aero.core.codes import Close, Reset
from aero.core.control import (
    DENIED,
    INVALID,
    OUT_OF_RANGE,
    TAKEN,
    Answer,
    Decline,
    Look,
    Options,
    Wanted,
)
from aero.core.datagrams import Drops
from aero.core.flows import Flow, FlowReceiver, Flows
from aero.core.stream import Receiver, Stream
from aero.errors import ConfigError, PortError, StreamError
from aero.limits import STANDARD, Limits
from aero.net.link import Figures
from aero.net.loop import Loop
from aero.server.policy.rules import EVERYBODY, Rule
from aero.server.policy.shares import Shares
from aero.server.registry import offer, terms
from aero.server.registry.gradually import Gradual
from aero.server.registry.lobby import Lobby
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports.claims import Holder
from aero.server.registry.ports.grants import Wait
from aero.server.registry.rates import ServerRates
from aero.server.registry.registration import Allowed, Registrar, Registration, Unasked
from aero.server.registry.route import LocalRoute, Route
from aero.server.registry.session import WorkerSession
from aero.server.registry.tenants import Tenant, denial
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

if TYPE_CHECKING:
    from aero.allow import Allow

_CID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
KICK_LOOK_S = 0.1  # a kicked worker that is idle leaves at once, as a person sees it


def new_cid() -> str:
    """A worker's id: "c" and 60 random bits, so that none is ever given twice or guessed."""
    return "c" + "".join(_CID_LETTERS[byte & 31] for byte in os.urandom(12))


class Returning(Protocol):
    """Targets whose workers were away (registry/away.py)."""

    def back(self, mapping: Mapping) -> None:
        """A target is there again, and its worker knows that."""


class Mapper(Protocol):
    """How targets get mappings and lose them (registry/mappings.py)."""

    def add(self, worker: Worker, wanted: Wanted, last: bool) -> Gradual[Mapping | Wait]:
        """Listens for a target's visitors, or says what to wait for. Raises ConfigError, PortError."""

    def drop(self, worker: Worker, mapping: Mapping) -> None:
        """Stops listening for a target's visitors."""


class Home(Protocol):
    """The registry, as a worker in it needs it."""

    loop: Loop
    events: Events
    counters: Counters
    registrar: Registrar
    rates: ServerRates
    permits: offer.Permits | None  # None: nobody is asked

    @property
    def mappings(self) -> Mapper:
        """How targets get mappings and lose them."""

    @property
    def away(self) -> Returning:
        """Targets whose workers were away."""

    lacks: Container[str]  # options of targets that this host cannot honour

    def may_claim(self, worker: Worker, options: Options) -> str:
        """Why a target may not have the host names that it asks for; "" where it may."""

    def remove(self, worker: Worker, why: str) -> None:
        """The worker is gone with all its mappings."""


class Worker:
    """One worker: everything that has its cid."""

    def __init__(
        self,
        home: Home,
        user: str,
        tag: str,
        host: str,
        identity: str,
        address: str,
        limits: Limits = STANDARD,
        tenant: Tenant | None = None,
        login: str = "",
    ) -> None:
        """``address``: where it dialled from, as text; ``tenant``: its user as he is here, None for anybody;
        ``login``: the name under which it has proved itself; the other names are what it said of itself.
        """
        self.tenant = tenant if tenant is not None else Tenant(user)
        self.login = login
        self.bounds: Allow | None = None  # where its targets may be: what its invitation said
        self.limits = limits
        self.cid = new_cid()
        self.user = user
        self.tag = tag
        self.host = host
        self.identity = identity
        self.key = identity  # the registry gives another to one of two that are alike
        self.address = address
        self.connected_at = time()
        self.ping_s = 0.0  # last measured round trip
        self.sessions: list[WorkerSession] = []
        self.mappings: dict[int, Mapping] = {}  # by target id
        self.silent_at = float("-inf")  # when none of its links gave a sign of life that was asked for
        self.lobby = Lobby(home.loop)
        #: Who waits to hear what becomes of a target, by its name and protocol.
        self.awaited: dict[tuple[str, str], Callable[[Answer], None]] = {}
        self.shares = Shares(limits.VISITORS_PER_WORKER, limits.VISITORS_PER_ADDRESS)
        self._by_name: dict[tuple[str, str], Mapping] = {}
        self._home = home
        self._registration = Registration(home.registrar)
        self._kicked: Any = None  # the timer that looks for the end of its streams

    @property
    def names(self) -> tuple[str, str, str, str]:
        """User, tag, host and identity: who has the same ones may be the same worker, started anew."""
        return self.user, self.tag, self.host, self.identity

    @property
    def rule(self) -> Rule:
        """What holds for its user now."""
        return self.tenant.rule

    @property
    def ip(self) -> str:
        """Where it came from, without the port."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def links(self) -> int:
        """Links that are up."""
        return sum(each.alive for each in self.sessions)

    @property
    def linked(self) -> bool:
        """True while a link is up."""
        for each in self.sessions:  # noqa: SIM110  # a generator costs 0.3 us, and this is asked for each request
            if each.alive:
                return True
        return False

    @property
    def transports(self) -> list[str]:
        """What those links lie on, each once: of "tcp", "tls", "ws" and "wss"."""
        return sorted({each.transport for each in self.sessions} - {""})

    @property
    def paths(self) -> list[Figures]:
        """How its links fare, one for each that is up."""
        return [found for each in self.sessions if (found := each.figures) is not None]

    @property
    def streams(self) -> int:
        """Open streams."""
        return sum(len(each.session.streams) for each in self.sessions)

    @property
    def flows(self) -> int:
        """Open flows, of its UDP targets."""
        return sum(each.streams for each in self.mappings.values() if each.owner.proto == UDP)

    @property
    def full(self) -> str:
        """Why its user may have no further stream or flow; "" where he may."""
        return self.tenant.full

    def leave(self, session: WorkerSession, why: str) -> None:
        """A session is over; with the last one the worker is gone."""
        self.sessions.remove(session)
        if not self.sessions:
            self._home.remove(self, why)

    def state(self) -> dict[str, object]:
        """For people who ask: who it is, and what it has and keeps now."""
        return {
            "cid": self.cid,
            "tag": self.tag,
            "host": self.host,
            "address": self.address,
            "links": self.links,
            "transports": ",".join(self.transports),
            "sessions": len(self.sessions),
            "streams": self.streams,
            "waiting": len(self.lobby),
            "kept_kib": sum(each.session.outbox.kept_bytes for each in self.sessions) >> 10,
            "paths": "; ".join(map(str, self.paths)),
            "targets": ",".join(f"{mapping.called}:{mapping.port}" for mapping in self.mappings.values()),
        }

    def mapping(self, name: str, proto: str = TCP) -> Mapping | None:
        """The mapping of a target by its name and protocol."""
        return self._by_name.get((name, proto))

    def open_stream(self, receiver: Receiver, target_id: int, visitor: str, offset: int = 0) -> Stream:
        """A stream over the best session, to the ``offset``-th port of a target. Raises StreamError when no session
        takes it.
        """
        stream = self._best().session.open(receiver, target_id + offset, visitor, monotonic())
        rates = self._home.rates.of(self, target_id, visitor)
        if rates is not None:
            stream.rates = rates
        return stream

    def route(self, target_id: int) -> Route:
        """A way to a target over the best session. Raises StreamError when all sessions are leaving."""
        return LocalRoute(self._best(), target_id, partial(self._home.rates.of, self, target_id))

    def open_flow(
        self, receiver: FlowReceiver, target_id: int, visitor: str, drops: Drops, offset: int = 0
    ) -> Flow | None:
        """A flow over the session with the fewest, a link of which is up; None where there is none."""
        found: tuple[tuple[bool, int], Flows] | None = None
        for each in list(self.sessions):
            flows = each.flows
            if flows is None or each.session.leaving:
                continue
            if flows.used_up:  # after 2^32 of them; the worker comes back with a new session at once
                each.end(Close.LIMIT, "every flow id of the session was given")
                continue
            rank = (each.doubtful, len(flows.by_id))
            if found is None or rank < found[0]:
                found = rank, flows
        return found[1].open(receiver, target_id + offset, visitor, drops) if found is not None else None

    def flow_rates(self, target_id: int, visitor: str) -> Rates | None:
        """How fast a flow's datagrams may go to a target; None: at any."""
        return self._home.rates.of(self, target_id, visitor)

    def _best(self) -> WorkerSession:
        """The least busy session; one whose link is doubtful only where there is no better one, and one whose link is
        down only where there is no other at all. Raises StreamError.
        """
        if self.tenant.rule is EVERYBODY and len(self.sessions) == 1 and not self.sessions[0].session.leaving:
            return self.sessions[0]  # as nearly always
        ready = [each for each in self.sessions if not each.session.leaving]
        if not ready:
            raise StreamError(Reset.LOST, "the worker is leaving")
        if self.tenant.rule.max_streams and self.tenant.full:
            raise StreamError(Reset.LIMIT, self.tenant.full)
        if len(ready) == 1:
            return ready[0]
        return min(ready, key=lambda each: (not each.alive, each.doubtful, len(each.session.streams)))

    @property
    def steady(self) -> bool:
        """True while a link is up that is not doubted."""
        return any(each.alive and not each.doubtful for each in self.sessions)

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of the doors: its sessions have enough streams to open."""
        linked = False
        for each in self.sessions:  # no generator: it is asked before each visitor
            if each.alive:
                if not each.session.rushed:
                    return False
                linked = True
        return linked

    def holder(self) -> Holder:
        """Whether it is there, for whoever claims a port of its."""
        now = monotonic()
        alive = any(each.alive and now - each.lived_at < Limits.PROOF_OF_LIFE_S for each in self.sessions)
        silent = now - self.silent_at < Limits.PROOF_OF_LIFE_S
        return Holder(linked=self.links > 0 and not silent, alive=alive)

    def register(self, wanted: Iterable[Wanted | Answer], reply: Callable[[Iterable[Answer]], None]) -> None:
        """Makes mappings of a register message's targets; each gets an answer (PROTOCOL.md, "Control messages").

        What stands there as an answer already could not be read as a target. Raises RemoteProtocolError where more
        targets are waiting than anybody needs.
        """
        self._registration.register(self, wanted, reply)

    def registering(self, wanted: Wanted | Answer | Allowed, last: bool) -> Gradual[Answer | Wait | Unasked]:
        """One target's answer, or what to wait for; ``last``: not to be waited for any more."""
        if isinstance(wanted, Answer):
            answer: Answer | Wait | Unasked = wanted
        elif isinstance(wanted, Allowed):
            answer = yield from self._register_one(wanted.wanted, last, asked=True)
        else:
            answer = yield from self._register_one(wanted, last, asked=self._home.permits is None)
        if self.awaited and isinstance(answer, Answer):
            said = wanted.wanted if isinstance(wanted, Allowed) else wanted
            self._settle(said.proto if isinstance(said, Wanted) else "", answer)
        if isinstance(answer, Answer) and answer.error:
            self._home.counters.error("target not mapped")
            self._home.events.fault(
                "target refused", cid=self.cid, tag=self.tag, target=answer.name, why=answer.text
            )
        return answer

    def _register_one(self, wanted: Wanted, last: bool, asked: bool) -> Gradual[Answer | Wait | Unasked]:
        target_id, name = wanted.id, wanted.name
        try:
            options = terms.read(wanted.options, wanted.proto, self._home.lacks)
        except ConfigError as error:
            return Answer(target_id, name, error=INVALID, text=str(error))
        known = offer.known(self, wanted, options, partial(self._home.may_claim, self, options))
        if known is not None:
            return known
        if not asked:
            return Unasked(wanted)
        try:
            mapping = yield from self._home.mappings.add(self, wanted._replace(options=options), last)
        except ConfigError as error:
            return Answer(target_id, name, error=INVALID, text=str(error))
        except PortError as error:
            return Answer(target_id, name, error=OUT_OF_RANGE if error.final else TAKEN, text=str(error))
        if isinstance(mapping, Wait):
            return mapping
        return Answer(target_id, name, mapping.port, tuple(mapping.addresses), mapping.told)

    def ask(self, wanted: Wanted) -> Answer | Allowed:
        """What the operator's hook says of a target; blocks the greenlet."""
        permits = self._home.permits
        return offer.ask(permits, self, wanted) if permits is not None else Allowed(wanted)

    def declined(self, refusals: Iterable[Decline]) -> None:
        """The worker does not offer some of the targets that it was asked for."""
        for each in refusals:
            answer = Answer(0, each.name, error=DENIED, text=each.why)
            self._settle(each.proto, answer)
            self._home.events.fault(
                "target refused", cid=self.cid, tag=self.tag, target=each.name, why=each.why
            )

    def _settle(self, proto: str, answer: Answer) -> None:
        """``proto``: "" for any."""
        for key in [each for each in self.awaited if each[0] == answer.name and proto in ("", each[1])]:
            self.awaited.pop(key)(answer)

    def told(self, answers: Iterable[Answer]) -> None:
        """These answers are on their way to the worker: who has waited for the targets comes behind them."""
        for each in answers:
            mapping = self.mappings.get(each.id)
            if mapping is not None:
                self._home.away.back(mapping)

    def seen(self, looks: Iterable[Look]) -> None:
        """The worker has looked at some of its targets."""
        for each in looks:
            mapping = self.mappings.get(each.id)
            if mapping is not None:
                mapping.looked(each.why)

    def unregister(self, target_ids: Iterable[int]) -> None:
        """Closes mappings: no new visitors; open streams go on. Raises RemoteProtocolError as ``register``."""
        self._registration.unregister(self, target_ids)

    def unregister_one(self, target_id: int) -> None:
        """Closes one mapping, if there is one."""
        if target_id in self.mappings:
            self._home.mappings.drop(self, self.mappings[target_id])

    def added(self, mapping: Mapping) -> None:
        """One more target can be reached."""
        self.mappings[mapping.target_id] = self._by_name[mapping.name, mapping.owner.proto] = mapping

    def dropped(self, mapping: Mapping) -> bool:
        """A target can be reached no more. False where it could not before."""
        if self.mappings.get(mapping.target_id) is not mapping:
            return False
        del self.mappings[mapping.target_id], self._by_name[mapping.name, mapping.owner.proto]
        return True

    def lost(self, mapping: Mapping) -> None:
        """Another worker got the port of a mapping: tells this one, which will ask for another."""
        text = f"port {mapping.port} went to a worker with the same names: this one gave no sign of life"
        for each in self.sessions[:1]:
            each.tell([Answer(mapping.target_id, mapping.name, error=TAKEN, text=text)])

    def deny(self, mapping: Mapping, why: str) -> None:
        """A mapping is not allowed any more: it ends with its streams, and the worker hears why."""
        self._home.mappings.drop(self, mapping)
        mapping.end_streams(Reset.NO_TARGET, why)
        for each in self.sessions[:1]:
            each.tell([denial(mapping, why)])

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._registration.close()
        self.lobby.close()

    def kick(self) -> None:
        """Sends the worker away: no new visitors now, the end when the open streams are done, or after KICK_S.

        The worker comes back by itself, but not before half a minute.
        """
        if self._kicked is not None:
            return
        text = "an operator sent the worker away"
        self._home.events.emit("worker kicked", cid=self.cid, tag=self.tag, streams=self.streams)
        for each in self.sessions:
            each.session.goaway(Close.KICKED, text)
        until = monotonic() + Limits.KICK_S

        def look() -> None:
            if not self.streams or monotonic() >= until or not self.sessions:
                self._stop_looking()
                self.end(Close.KICKED, text)

        self._kicked = self._home.loop.timer(KICK_LOOK_S, KICK_LOOK_S)
        self._kicked.start(look)

    def _stop_looking(self) -> None:
        if self._kicked is not None:
            self._kicked.stop()
            self._kicked.close()

    def end(self, code: int, text: str) -> None:
        """Ends every session; the last one takes the worker off the registry."""
        for each in list(self.sessions):
            each.end(code, text)
