"""The UDP door of a mapping: one socket an address, and a flow for each visitor (core/flows.py).

Nothing waits here: what has no way to go is dropped and counted. A visitor's source may be made up, so an answer to one
who has not proved to be there (doors/visits.py) comes from an allowance: this server must not multiply what is sent to
it and throw it at somebody else.
"""

from __future__ import annotations

import socket
from time import monotonic

from aero import logs
from aero.address import UDP, Address, LocalPlace
from aero.core import datagrams
from aero.core.buckets import Rates
from aero.core.codes import Reset
from aero.core.flows import Flow
from aero.limits import Limits
from aero.net.datagrams import BoundSocket, Whom, listen_all
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.allowance import Allowance, Allowances
from aero.server.policy.origin import groups_of, is_near, network_of
from aero.server.registry.doors.visits import Visits
from aero.server.registry.gradually import SLICE, Gradual, close_gradually
from aero.server.registry.mapping import Mapping
from aero.server.watch.access import FLOW, AccessLog, Entry

log = logs.get("mapping")

bind = listen_all  #: Sockets for a door: ``bind(ips, port)``, port 0 for any. Raises OSError.

DEFAULT_IDLE_S = 60
_LOOK_S = 1.0  # how often a door with visits looks for those that are silent
_MAPPED = "::ffff:"


class Hall:
    """What all UDP doors share: how many visits there are, new ones of each address, answers to each prefix."""

    def __init__(self, loop: Loop) -> None:
        """With nobody there."""
        self.loop = loop
        self.visits = 0
        self.access: AccessLog | None = None  # where flows are written down
        self.arrivals = Allowances(Limits.FLOWS_BURST, Limits.FLOWS_PER_S, Limits.FLOW_ADDRESSES)
        self.answers = Allowances(Limits.REPLIES_BURST, Limits.REPLIES_PER_S, Limits.FLOW_ADDRESSES)


class Visit:
    """One visitor: the receiver of its flow."""

    __slots__ = (
        "_door",
        "_socket",
        "answered",
        "began_at",
        "flow",
        "key",
        "passed",
        "prefix",
        "proven",
        "rates",
        "used_at",
        "whose",
    )

    def __init__(self, door: UdpDoor, sock: BoundSocket, whom: Whom, whose: str, now: float) -> None:
        """Whoever makes it owes it its ``flow``."""
        self._door = door
        self._socket = sock
        self.key = whom
        self.whose = whose
        self.prefix = _prefix(whom.address[0]) if whose else b""
        self.flow: Flow
        self.rates: Rates | None = None  # how fast its datagrams may go to the target; None: at any
        self.proven = False
        self.answered = False
        self.passed = 0  # bytes of answers that it was sent
        self.began_at = self.used_at = now

    def datagram(self, view: memoryview) -> None:
        """The target's answer: to the visitor, where it may go."""
        now = monotonic()
        if not self._door.allows(self, len(view), now):
            self.flow.drops.add(datagrams.BUDGET)
            return
        self.answered = True
        self.passed += len(view)
        self._door.visits.touch(self, now)
        dropped = self._socket.send(view, self.key)
        if dropped:
            self.flow.drops.add(dropped)
        else:
            self._door.sent_one()

    def flow_ended(self, code: int, text: str) -> None:
        """The worker has ended it, or the session is over: what the visitor says next begins another one."""
        self._door.forget(self, text)
        if log.debugging:
            log.debug("> flow over", target=self._door.name, flow=self.flow.id, why=text, code=code)


class UdpDoor:
    """The sockets of one mapping, and its visits."""

    def __init__(self, hall: Hall, mapping: Mapping) -> None:
        """It does not listen yet."""
        self.visits: Visits[Visit] = Visits(
            mapping.worker.limits.FLOWS_PER_MAPPING, mapping.worker.limits.FLOWS_PER_ADDRESS
        )
        self.name = mapping.name
        self._hall = hall
        self._mapping = mapping
        self._idle_s = _number(mapping, "idle", DEFAULT_IDLE_S)
        self._amplify = _number(mapping, "amplify", 0)
        self._answers = Allowance(Limits.MAPPING_REPLIES_BURST, Limits.MAPPING_REPLIES_PER_S, monotonic())
        self._timer: Watcher | None = None
        self._sockets: list[BoundSocket] = []
        self._ips: list[str] = []

    def listen(self, socks: list[socket.socket]) -> Gradual[None]:
        """Opens: ``socks`` are bound, and become this door's. Those that are left in it are not yet."""
        while socks:
            self._sockets += [BoundSocket(self._hall.loop, sock, self._came) for sock in socks[:SLICE]]
            del socks[:SLICE]
            if socks:
                yield
        self._ips = list(dict.fromkeys(each.address[0] for each in self._sockets))

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``, ``ip:LO-HI``."""
        if self._mapping.row > 1:
            return [str(LocalPlace(Address(ip, self._mapping.port), self._mapping.row)) for ip in self._ips]
        return [str(Address(*each.address)) for each in self._sockets]

    # From visitors

    def _came(self, sock: BoundSocket, data: bytes, whom: Whom, now: float, alone: bool) -> None:
        visits = self.visits
        visit = visits.get(whom)
        if visit is None:
            visit = self._arrived(sock, whom, now)
            if visit is None:
                return
        else:
            if visit.answered:
                visits.prove(visit)
            visits.touch(visit, now)
        self._mapping.tally.datagrams_in += 1
        if visit.rates is None or visit.rates.admit(len(data)):
            visit.flow.send(data, now, alone)
        else:
            visit.flow.drops.add(datagrams.RATE)

    def _arrived(self, sock: BoundSocket, whom: Whom, now: float) -> Visit | None:
        """A new visitor's flow; None where there is no place or no way."""
        mapping, ip = self._mapping, whom.address[0]
        if mapping.closed:
            return None  # the last of its ports are about to close
        if ip.startswith(_MAPPED):
            ip = ip[len(_MAPPED) :]
        # Loopback is this machine's own: a proxy or a resolver, whose visitors are many.
        whose = "" if is_near(ip) else network_of(ip)
        if whose:
            arrivals = self._hall.arrivals.of(whose, now)
            if not arrivals.has(1, now):
                mapping.drops.add(datagrams.CROWD)
                return None
            arrivals.spend(1)
        refused = mapping.why_not(ip, UDP)
        if refused is not None:
            mapping.refuse(refused.reason)
            mapping.drops.add(datagrams.CROWD)
            return None
        if not self._make_room(whose):
            mapping.drops.add(datagrams.CROWD)
            return None
        visit = Visit(self, sock, whom, whose, now)
        visitor = str(Address(ip, whom.address[1]))
        offset = whom.port - mapping.port if mapping.row > 1 else 0
        flow = mapping.worker.open_flow(visit, mapping.target_id, visitor, mapping.drops, offset)
        if flow is None:
            mapping.drops.add(datagrams.NO_LINK)
            return None
        visit.flow = flow
        visit.rates = mapping.worker.flow_rates(mapping.target_id, visitor)
        self._hall.visits += 1
        self.visits.add(visit)
        mapping.joined(flow)
        if self._timer is None:
            self._timer = self._hall.loop.timer(_LOOK_S, _LOOK_S)
            self._timer.start(self._look)
        if log.debugging:
            log.debug("< visitor", target=self.name, cid=mapping.worker.cid, visitor=visitor, flow=flow.id)
        return visit

    def _make_room(self, whose: str) -> bool:
        goes = self.visits.room_for(whose)
        if goes is None and self._hall.visits >= Limits.FLOWS:
            goes = self.visits.first_to_go
            if goes is None:
                return False
        if goes is not None:
            self._end(goes, Reset.LIMIT, "its place was needed")
        return True

    # To visitors

    def allows(self, visit: Visit, count: int, now: float) -> bool:
        """Whether an answer of so many bytes may go to a visitor, and takes it from what is allowed."""
        if self._amplify:
            return visit.passed + count <= self._amplify * visit.flow.sent
        if visit.proven or not visit.whose:
            return True
        one, all_ = self._hall.answers.of(visit.prefix, now), self._answers
        if not one.has(count, now) or not all_.has(count, now):
            return False
        one.spend(count)
        all_.spend(count)
        return True

    def sent_one(self) -> None:
        """An answer has left."""
        self._mapping.tally.datagrams_out += 1

    # Ends

    def _look(self) -> None:
        for sock in self._sockets:
            self._mapping.drops.add(datagrams.UNREAD, sock.newly_unread())
        for visit in self.visits.silent_since(monotonic() - self._idle_s):
            self._end(visit, Reset.TIMEOUT, "nobody used it")
        if not len(self.visits):
            stopped(self._timer)
            self._timer = None

    def _end(self, visit: Visit, code: int, text: str) -> None:
        visit.flow.end(code, text)
        self.forget(visit, "ok" if code == Reset.TIMEOUT else text)

    def forget(self, visit: Visit, why: str) -> None:
        """A flow is over."""
        if self.visits.get(visit.key) is visit:
            self._hall.visits -= 1
            self.visits.remove(visit)
            self._mapping.left(visit.flow)
            if self._hall.access is not None:
                self._hall.access.add(self._entry(visit, why))

    def _entry(self, visit: Visit, why: str) -> Entry:
        """Its line of the access log. Its time ends with its last datagram, not when that was noticed."""
        owner, flow = self._mapping.owner, visit.flow
        ip, port = visit.key.address[:2]
        visitor = str(Address(ip[len(_MAPPED) :] if ip.startswith(_MAPPED) else ip, port))
        lasted_s = visit.used_at - visit.began_at
        cid = self._mapping.worker.cid
        return Entry(
            owner.user, owner.tag, owner.name, cid, visitor, flow.sent, flow.received, lasted_s, why, FLOW
        )

    def close(self) -> None:
        """Takes no more datagrams, and ends its flows."""
        sockets, self._sockets = self._sockets, []
        close_gradually(sockets)
        stopped(self._timer)
        self._timer = None
        for visit in self.visits:
            self._end(visit, Reset.NO_TARGET, "the mapping is closed")


def _number(mapping: Mapping, key: str, default: int) -> int:
    """An option of the target, read by terms.py."""
    value = mapping.options.get(key)
    return value if isinstance(value, int) else default


def _prefix(ip: str) -> bytes:
    """Whom answers are counted for: a /24 or a /56, as name servers do that limit theirs (BIND's rate-limit)."""
    groups = groups_of(ip)
    return groups[1] if len(groups) > 1 else groups[0][:3]
