"""A mapping: what the server keeps of one target of one worker, by whichever protocol visitors reach it."""

from __future__ import annotations

from time import monotonic
from typing import Any, Callable, Protocol

from aero.address import TCP, UDP, LocalPlace
from aero.core.buckets import Rates
from aero.core.codes import Reset
from aero.core.control import NO_OPTIONS, Options
from aero.core.datagrams import Drops
from aero.core.flows import Flow, FlowReceiver
from aero.core.stream import Receiver, Stream
from aero.limits import Limits
from aero.server.policy.access import Access
from aero.server.policy.altering import Alteration
from aero.server.policy.health import Health
from aero.server.policy.passwords import Logins
from aero.server.policy.rules import EVERYBODY, HTTP, Rule
from aero.server.policy.shares import Shares
from aero.server.registry.admission import NOT_FROM_THERE, NOT_THIS_WAY, Fence, NotAdmitted, address_of
from aero.server.registry.lobby import Lobby
from aero.server.registry.ports.claims import Holder
from aero.server.registry.route import Route
from aero.server.registry.session import WorkerSession
from aero.server.store.leases import Owner
from aero.server.watch.counters import Counters


class Door(Protocol):
    """Where its visitors come in (registry/doors)."""

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``."""

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""


class Provider(Protocol):
    """The worker that offers the target, as a mapping needs it (registry/worker.py)."""

    cid: str
    tag: str
    identity: str
    key: str  # what visitors are hashed to: the same after a restart, and no other worker's
    sessions: list[WorkerSession]
    silent_at: float
    lobby: Lobby
    shares: Shares  # places of its visitors, whatever they visit
    limits: Limits

    @property
    def links(self) -> int:
        """Links that are up."""

    @property
    def linked(self) -> bool:
        """True while a link is up."""

    @property
    def steady(self) -> bool:
        """True while a link is up that is not doubted."""

    @property
    def rule(self) -> Rule:
        """What holds for its user now."""

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of the doors: its sessions have enough streams to open."""

    @property
    def full(self) -> str:
        """Why its user may have no further stream or flow; "" where he may."""

    def holder(self) -> Holder:
        """How it is."""

    def open_stream(self, receiver: Receiver, target_id: int, visitor: str, offset: int = 0) -> Stream:
        """A stream over one of its sessions, to the ``offset``-th port of a target. Raises StreamError when no session
        takes it.
        """

    def open_flow(
        self, receiver: FlowReceiver, target_id: int, visitor: str, drops: Drops, offset: int = 0
    ) -> Flow | None:
        """A flow over one of its sessions; None where no link is up that carries datagrams."""

    def flow_rates(self, target_id: int, visitor: str) -> Rates | None:
        """How fast a flow's datagrams may go to a target; None: at any."""

    def route(self, target_id: int) -> Route:
        """A way to a target over one of its sessions. Raises StreamError when all are leaving."""


#: The word of a target that takes visitors only while somebody has opened it.
CLOSED = "closed"


def names_in(options: Options) -> list[str]:
    """The host names that a target's options ask for."""
    found = options.get("domain", [])
    return found if isinstance(found, list) else []


class Among(Protocol):
    """Mappings of which one is chosen (registry/pool.py)."""

    how: str
    members: list[Mapping]

    def outcome(self, mapping: Mapping, served: bool) -> None:
        """What became of a visitor who was sent to one of them."""


class Allotment(Protocol):
    """The quotas of all users (registry/quotas.py)."""

    def why_not(self, rule: Rule, user: str) -> NotAdmitted | None:
        """Why a user's targets take no new streams now; None where they do."""


class Mapping:
    """One target of one worker, as the server keeps it."""

    def __init__(
        self,
        worker: Provider,
        owner: Owner,
        target_id: int,
        local: str,
        port: int,
        counters: Counters,
        give_way: Callable[[Mapping], None],
        options: Options = NO_OPTIONS,
        turned: Callable[[Mapping, str], None] | None = None,
    ) -> None:
        """``local``: the target's address as the worker wrote it; ``give_way`` drops the mapping for another's sake;
        ``options``: those that are honoured, read by terms.py; ``turned(mapping, why)``: it does not work any more, or,
        with "", does again.

        Whoever makes it owes it its ``door``.
        """
        self.worker = worker
        self.owner = owner
        self.target_id = target_id
        self.name = owner.name
        self.local = local
        place = LocalPlace.parse(local)
        self.authority = place.authority.encode()  # what the mux writes as Host
        self.port = port
        self.row = place.row  # how many ports in a row it has, from that on
        self.options = options
        self.weight = int(options.get("weight", 1))  # type: ignore[arg-type]  # terms.py has read it
        self.limit = int(options.get("limit", 0))  # type: ignore[arg-type]  # bytes a second, 0 for none; read as well
        self.announces = options.get(
            "proxy"
        )  # the PROXY header that its connections begin with: "v1", "v2", or None
        self.keeps = False  # the mux has seen that the target keeps connections for a next request
        self.idle = 0  # streams that the mux keeps for the next request
        mode = options.get("zstd", "off")
        self.packs = (
            str(mode) if mode != "off" else ""
        )  # how its streams are compressed; "" where they are not
        self.fence = Fence.of(options)  # None: whoever comes is let in as far as its user's rule goes
        self.quotas: Allotment | None = None  # None: nobody has one
        self.pools: list[Among] = []  # whose member it is: the first one is the mux's
        self.access = Access() if options.get("access") == CLOSED else None
        self.alteration = Alteration.of(options)  # None: the mux passes requests as they came
        self.health = Health(options) if "check" in options else None
        self.domains = tuple(each.encode() for each in names_in(options))  # its own at the mux
        self.logins = Logins.of(options)  # None: nobody has to say who he is
        # Nothing of its own has to be asked before the mux sends a visitor there, and nothing changed in his requests.
        own = (self.fence, self.access, self.alteration, self.health, self.logins)
        self.plain = all(each is None for each in own)
        self.sticky = (
            False  # the mux gives its visitors a cookie that brings them back here: its pool says so
        )
        self.door: Door
        self.later: Callable[[Any, Any], None] | None = None  # its worker is away, and visitors wait there
        self._give_way = give_way
        self._tell_turned = turned
        self.closed = False  # the target was withdrawn: new streams would lead nowhere
        self.tally = counters.tally(worker.tag, owner.name, owner.user, owner.proto)
        self.drops = Drops(counters.drops)  # of datagrams, also those that came from the target

    @property
    def called(self) -> str:
        """The target as people call it: one name may serve TCP and UDP."""
        return self.name if self.owner.proto == TCP else f"{self.name}/{self.owner.proto}"

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``."""
        return self.door.addresses

    @property
    def identity(self) -> str:
        """Its worker's identity."""
        return self.worker.identity

    @property
    def key(self) -> str:
        """Its worker's, for balancing."""
        return self.worker.key

    @property
    def load(self) -> int:
        """Streams that are busy."""
        return self.tally.streams - self.idle

    @property
    def told(self) -> Options:
        """The options that its worker is told: as they were asked for, but for what others of its pool decide."""
        if not self.pools or "balance" not in self.options:
            return self.options
        return {**self.options, "balance": self.pools[-1].how}

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of its door."""
        return self.worker.rushed

    def choose(self, visitor: str) -> Mapping | None:
        """Itself, for a door of its own; None where it is known not to work, or asks for what only the mux can ask."""
        if self.plain:
            return self
        return self if self.logins is None and self.in_order and self.lets_in(visitor) else None

    def outcome(self, served: bool) -> None:
        """What became of a visitor who was sent here: served, or refused before anything of his was taken."""
        for pool in self.pools:
            pool.outcome(self, served)
        health = self.health
        if health is not None and not served and health.refused(monotonic(), self._alone):
            self._turned()

    @property
    def in_order(self) -> bool:
        """False while it is closed, or known not to work: nobody is sent there."""
        if self.access is not None and not self.access.is_open(monotonic()):
            return False
        return self.health is None or self.health.in_order

    def lets_in(self, ip: str) -> bool:
        """Whether a visitor from an address may come."""
        return self.access is None or self.access.lets_in(ip, monotonic())

    def cut(self) -> None:
        """Ends its open streams."""
        for stream in self.tally.open:
            if isinstance(stream, Stream):
                receiver = stream.receiver
                stream.abort(Reset.CANCELLED, "the target was closed")
                receiver.reset(Reset.CANCELLED, "the target was closed")

    @property
    def _alone(self) -> bool:
        """Whether in some pool of its no other that works is left."""
        return any(not any(each.in_order for each in pool.members if each is not self) for pool in self.pools)

    def looked(self, why: str) -> None:
        """Its worker has looked at the target: ``why`` it does not work, "" where it does."""
        if self.health is not None and self.health.looked(why):
            self._turned()

    def _turned(self) -> None:
        if self.health is not None and self._tell_turned is not None:
            self._tell_turned(self, self.health.why)

    def holder(self) -> Holder:
        """How its worker is."""
        return self.worker.holder()

    def give_way(self) -> None:
        """Stops listening at once: the port is another's."""
        self._give_way(self)

    @property
    def streams(self) -> int:
        """Open streams; of a UDP target, flows."""
        return self.tally.streams

    @property
    def visitors(self) -> int:
        """Streams or flows since the beginning."""
        return self.tally.visitors

    @property
    def bytes_in(self) -> int:
        """Bytes from visitors to the target."""
        return self.tally.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes from the target to visitors."""
        return self.tally.bytes_out

    @property
    def unguarded(self) -> bool:
        """True where the mux lets every visitor in, whoever he is: ``why_not`` need not be asked."""
        if self.fence is not None:
            return False
        rule = self.worker.rule
        return rule is EVERYBODY or not (
            rule.visitors or rule.deny_visitors or rule.quota or HTTP not in rule.protocols
        )

    def why_not(self, ip: str, by: str = TCP) -> NotAdmitted | None:
        """Why a visitor from an address is not let in now; None where he is. Every list must allow, and deny wins.

        ``by``: TCP, UDP, or HTTP for the mux.
        """
        rule = self.worker.rule
        if self.fence is None and rule is EVERYBODY:
            return None
        if by not in rule.protocols:
            return NOT_THIS_WAY
        if by == UDP and rule.max_streams and self.worker.full:
            return NotAdmitted("streams", self.worker.full)
        if rule.visitors or rule.deny_visitors:
            address = address_of(ip)
            if address is None or not rule.may_visit(address):
                return NOT_FROM_THERE
        if self.fence is not None:
            refused = self.fence.why_not(ip, monotonic())
            if refused is not None:
                return refused
        return self.quotas.why_not(rule, self.owner.user) if rule.quota and self.quotas is not None else None

    def joined(self, stream: Stream | Flow) -> None:
        """Counts a stream or a flow to this target; ``left`` ends it."""
        self.tally.joined(stream)
        if self.packs and isinstance(stream, Stream):
            stream.pack(self.packs)

    def left(self, stream: Stream | Flow) -> None:
        """A stream or a flow to this target is over."""
        self.tally.left(stream)

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away; ``reason`` is one of the program's own words."""
        self.tally.refuse(reason)

    def end_streams(self, code: int, text: str) -> None:
        """Resets the streams and flows that are open, at both ends: they are not allowed any more."""
        for each in self.tally.open:
            if isinstance(each, Stream):
                receiver = each.receiver
                each.abort(code, text)
                receiver.reset(code, text)
            elif isinstance(each, Flow):
                each.end(code, text)
                each.receiver.flow_ended(code, text)

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""
        self.closed = True
        self.door.close()
        del self.door  # the two hold each other, and with them the worker
        self.tally.close()
