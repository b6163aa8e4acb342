"""From a target to its mapping and back: a port, the door on it, its group, and the pools that lead to it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from collections.abc import Mapping as Table
from functools import partial
from typing import TYPE_CHECKING, Protocol

import gevent

from aero import logs
from aero.address import TCP, UDP, LocalPlace, UnixPath
from aero.core.control import Wanted
from aero.errors import ConfigError, PortError
from aero.host.holder import port_holder
from aero.net.announced import Announcers
from aero.net.listen import close_all
from aero.net.loop import Loop
from aero.net.threads import apart
from aero.server.policy.origin import is_near, network_of
from aero.server.registry.doors import tcp, udp
from aero.server.registry.doors.shut import NoDoor
from aero.server.registry.gradually import Gradual, at_once
from aero.server.registry.group import Seat, TargetGroup, TargetGroups, claimed_as
from aero.server.registry.mapping import CLOSED, Door, Mapping
from aero.server.registry.opening import Opening
from aero.server.registry.pool import Pool
from aero.server.registry.ports.grants import Claim, Grant, Wait
from aero.server.registry.ports.ports import Ports
from aero.server.registry.quotas import Quotas
from aero.server.registry.rates import ServerRates
from aero.server.registry.worker import Worker
from aero.server.store.leases import Owner
from aero.server.watch.access import AccessLog
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

if TYPE_CHECKING:
    from aero.server.registry.domains import Domains
    from aero.server.registry.doors.sockets import Sockets

log = logs.get("registry")


class Ground(Protocol):
    """The registry, as it is needed here."""

    events: Events
    counters: Counters
    rates: ServerRates
    workers: dict[str, Worker]
    domains: Domains | None
    sockets: Sockets | None
    quotas: Quotas | None
    leaving: bool


class Mappings:
    """How all mappings come and go."""

    def __init__(self, ground: Ground, loop: Loop, ports: Table[str, Ports], announcers: Announcers) -> None:
        """``ports``: where mappings get theirs, by protocol; ``announcers``: as for the registry."""
        self._ground = ground
        self._ports = ports
        self._tcp = tcp.House.build(loop, ground.counters, announcers)
        self._udp = udp.Hall(loop)
        self._groups = TargetGroups()
        self._opening = Opening(loop, ground.events)
        self._pools: dict[tuple[str, str], Pool] = {}  # by tag and name

    def keep_access(self, access: AccessLog | None) -> None:
        """Where streams and flows are written down from now on."""
        self._tcp = self._tcp._replace(access=access)
        self._udp.access = access

    @property
    def flows(self) -> int:
        """Visitors of all UDP targets."""
        return self._udp.visits

    def add(self, worker: Worker, wanted: Wanted, last: bool) -> Gradual[Mapping | Wait]:
        """Listens for a target's visitors, or says what to wait for. Raises ConfigError, PortError."""
        if self._ground.leaving:  # a registration that was under way, or on its way
            raise PortError("the server is going down", final=False)
        owner = Owner(worker.user, worker.tag, worker.host, wanted.name, wanted.proto)
        if self._ground.domains is not None:
            self._ground.domains.check(owner, wanted.options)
        elif {"auth", "domain"} & wanted.options.keys():
            raise ConfigError("auth= and domain= need the server's HTTP mux, which is off (--mux off)")
        whose, identity = owner, worker.identity
        _check_together(wanted)
        if "group" in wanted.options:
            group = self._groups.find(worker.user, wanted)
            if group is not None:
                return self._sit_down(worker, owner, wanted, group)
            whose, identity = claimed_as(worker.user, wanted)
        namesake = worker.mapping(wanted.name, TCP) if wanted.proto != TCP else None
        like = namesake.port if namesake is not None else 0
        claim = Claim(
            whose,
            identity,
            _counted_as(worker.ip),
            wanted.remote,
            wanted.had,
            like,
            worker.tenant.ports,
            wanted.row,
            int(wanted.options.get("wait", 0)),  # type: ignore[arg-type]  # terms.py has read it
        )
        ports = self._ports[wanted.proto]
        grant = yield from ports.claiming(claim, last)
        if isinstance(grant, Wait):
            return grant
        if "group" in wanted.options and self._groups.find(worker.user, wanted):  # begun meanwhile
            close_all(grant.socks)
            ports.release(grant.port)
            return Wait()
        self._say_granted(worker, wanted, grant)
        mapping = yield from self._open(worker, owner, wanted, grant.port, grant.socks)
        self._say_up(mapping)
        if self._leads_back(worker, wanted.local, wanted.proto):
            log.warning(
                "target may lead back to a mapping of this server", cid=worker.cid, target=wanted.name
            )
        return mapping

    def _open(
        self, worker: Worker, owner: Owner, wanted: Wanted, port: int, socks: list[socket.socket]
    ) -> Gradual[Mapping]:
        """A mapping with its door; on any exception nothing of it is left."""
        group = door = None
        try:
            mapping = self._made(worker, owner, wanted, port)
            if "group" in wanted.options:
                group = self._groups.begin(worker.user, wanted, port, self._give_way)
                door = group.door = self._door(mapping, group)
                mapping.door = Seat(group)
            elif mapping.access is not None or mapping.logins is not None:
                close_all(socks)
                mapping.door = self._shut_door(mapping)
            else:
                door = mapping.door = self._door(mapping, mapping)
            self._ports[owner.proto].hold(port, group or mapping, wanted.row)
            if door is not None:
                yield from door.listen(socks)
            worker.added(mapping)
            self._ground.rates.look_at(worker)
            self._join_pools(mapping)
        except BaseException:
            if group is not None:
                self._groups.end(group)
            if door is not None:
                door.close()
            self._ports[owner.proto].release(port)
            close_all(socks)
            raise
        return mapping

    def _door(self, mapping: Mapping, behind: Mapping | TargetGroup) -> tcp.TcpDoor | udp.UdpDoor:
        """One that does not listen yet."""
        if mapping.owner.proto == UDP:
            return udp.UdpDoor(self._udp, mapping)
        return tcp.TcpDoor(self._tcp, behind, mapping.port, mapping.row)

    def _shut_door(self, mapping: Mapping) -> Door:
        """One that is to be opened, or that leads nowhere: whom the mux has asked who he is comes by the mux alone."""
        if mapping.access is None:
            return NoDoor()
        return self._opening.door(
            mapping, NoDoor if mapping.logins is not None else partial(self._reopened, mapping)
        )

    def _reopened(self, mapping: Mapping) -> Door:
        """The door of a closed target that is opened. Raises PortError."""
        door = self._door(mapping, mapping)
        at_once(door.listen(self._ports[mapping.owner.proto].listen(mapping.port)))
        return door

    def _sit_down(self, worker: Worker, owner: Owner, wanted: Wanted, group: TargetGroup) -> Mapping:
        """One more member of a group that has its port."""
        mapping = self._made(worker, owner, wanted, group.port)
        mapping.door = Seat(group)
        worker.added(mapping)
        self._join_pools(mapping)
        self._say_up(mapping)
        return mapping

    def _made(self, worker: Worker, owner: Owner, wanted: Wanted, port: int) -> Mapping:
        mapping = Mapping(
            worker,
            owner,
            wanted.id,
            wanted.local,
            port,
            self._ground.counters,
            self._give_way,
            wanted.options,
            self._say_turned,
        )
        mapping.quotas = self._ground.quotas
        return mapping

    def _say_turned(self, mapping: Mapping, why: str) -> None:
        worker = mapping.worker
        if why:
            self._ground.events.fault(
                "target sick", cid=worker.cid, tag=worker.tag, target=mapping.name, why=why
            )
        else:
            self._ground.events.emit("target well", cid=worker.cid, tag=worker.tag, target=mapping.name)

    def _say_granted(self, worker: Worker, wanted: Wanted, grant: Grant) -> None:
        """What people should hear of a port that is somebody's now."""
        if grant.before is not None:
            self._ground.events.fault(
                "port moved",
                cid=worker.cid,
                tag=worker.tag,
                target=wanted.name,
                port=grant.port,
                host=worker.host,
                before=grant.before.host,
            )
        for port in grant.busy:
            gevent.spawn(_say_who_has, port, worker, wanted.name)

    def _say_up(self, mapping: Mapping) -> None:
        worker, group = mapping.worker, _group(mapping)
        self._ground.events.emit(
            "mapping up",
            cid=worker.cid,
            tag=worker.tag,
            target=mapping.name,
            local=mapping.local,
            listen=", ".join(mapping.addresses),
            **({"group": group.owner.name} if group is not None else {}),
            **({"domains": b", ".join(mapping.domains).decode()} if mapping.domains else {}),
        )

    def _leads_back(self, worker: Worker, local: str, proto: str) -> bool:
        """Whether a target's address is, from this machine or by our own address, a port of ours."""
        place = LocalPlace.parse(local)
        if isinstance(place.at, UnixPath):
            return False
        near = is_near(place.at.host) and is_near(worker.ip)
        return (near or place.at.host == worker.ip) and self._ports[proto].held(place.at.port, place.row)

    def _give_way(self, mapping: Mapping) -> None:
        worker = self._ground.workers.get(mapping.worker.cid)
        if worker is not None:
            self.drop(worker, mapping)
            worker.lost(mapping)

    def drop(self, worker: Worker, mapping: Mapping) -> None:
        """Stops listening for a target's visitors."""
        if worker.dropped(mapping):
            group = _group(mapping)
            mapping.close()
            self._ground.rates.gone(mapping)
            self._leave_pools(mapping, group)
            if group is not None and not group.pool.members:
                self._groups.end(group)
                group.close()
            if group is None or not group.pool.members:
                self._ports[mapping.owner.proto].release(mapping.port)
            self._ground.events.emit(
                "mapping down", cid=worker.cid, tag=worker.tag, target=mapping.name, port=mapping.port
            )

    def house(self) -> tcp.House:
        """What TCP doors share now."""
        return self._tcp

    def pool(self, tag: str, name: str) -> Pool | None:
        """The targets of one tag and name that the mux leads to; None where there is none."""
        return self._pools.get((tag, name))

    def _join_pools(self, mapping: Mapping) -> None:
        if mapping.owner.proto == TCP:
            tag, name = mapping.worker.tag, mapping.name
            pool = self._pools.setdefault((tag, name), Pool(marks=True))
            pool.add(mapping)
            mapping.pools.append(pool)
            if self._ground.domains is not None:
                self._ground.domains.add(mapping)
            if self._ground.sockets is not None and len(pool.members) == 1:
                self._ground.sockets.open(self._tcp, tag, name, pool)
        group = _group(mapping)
        if group is not None:
            group.pool.add(mapping)
            mapping.pools.append(group.pool)

    def _leave_pools(self, mapping: Mapping, group: TargetGroup | None) -> None:
        if group is not None:
            group.pool.remove(mapping)
        pool = self.pool(mapping.worker.tag, mapping.name)
        if self._ground.domains is not None:
            self._ground.domains.remove(
                mapping, withdrawn=mapping.worker.cid in self._ground.workers and not self._ground.leaving
            )
        if pool is not None and mapping in pool.members:
            pool.remove(mapping)
            if not pool.members:
                del self._pools[mapping.worker.tag, mapping.name]
                if self._ground.sockets is not None:
                    self._ground.sockets.close(mapping.worker.tag, mapping.name)

    def open(self, mappings: Iterable[Mapping], seconds: float, whence: str, cut: bool) -> None:
        """Opens closed targets for a time, or with 0 closes them; ``whence``: from where, "" for anywhere; ``cut``:
        their streams end with it. Raises ConfigError for what is no network, PortError.
        """
        for mapping in mappings:
            self._opening.open(mapping, seconds, whence, cut)


def _check_together(wanted: Wanted) -> None:
    """Raises ConfigError for options that a group's port, or ports in a row, cannot have."""
    if "group" in wanted.options:
        what, leave = "a target of a group", "group="
    elif wanted.row > 1:
        what, leave = "a target with ports in a row", "all ports but one"
    elif wanted.options.get("access") == CLOSED and "wait" in wanted.options:
        raise ConfigError("visitors of a closed target do not wait, leave out wait= or access=closed")
    else:
        return
    if "wait" in wanted.options:
        raise ConfigError(f"visitors of {what} do not wait, leave out wait= or {leave}")
    if wanted.options.get("access") == CLOSED:
        raise ConfigError(f"{what} cannot be closed, leave out access=closed or {leave}")
    if "auth" in wanted.options:
        raise ConfigError(f"{what} asks for no password, leave out auth= or {leave}")


def _group(mapping: Mapping) -> TargetGroup | None:
    """With whose members a mapping shares its port."""
    return mapping.door.group if isinstance(mapping.door, Seat) else None


def _counted_as(ip: str) -> str:
    """Whose leases a worker's are counted with; "" for this machine's own: a proxy, most likely, and many workers."""
    return "" if is_near(ip) else network_of(ip)


def _say_who_has(port: int, worker: Worker, target: str) -> None:
    """Tells people why a target has another port than usual. A greenlet's: looking through /proc may take long."""
    holder = apart(port_holder, port)
    log.warning(
        "leased port is used by another program, the target gets another one",
        port=port, program=holder or "unknown", cid=worker.cid, target=target,
    )  # fmt: skip
