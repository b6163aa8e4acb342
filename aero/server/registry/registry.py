"""Who is here: the tables of workers and their mappings, and the rules of who may be in them.

Links and sessions (server/links) come and go outside it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from collections.abc import Mapping as Table
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import gevent

from aero import logs
from aero.address import TCP, UDP, LocalPlace, UnixPath
from aero.core.codes import Close
from aero.core.control import Options, Wanted
from aero.errors import ConfigError, PortError, Rejected
from aero.host.holder import port_holder
from aero.limits import Limits
from aero.net.announced import Announcers
from aero.net.listen import close_all
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.origin import is_near, network_of
from aero.server.policy.rules import Users
from aero.server.registry.additions import Additions
from aero.server.registry.away import Away
from aero.server.registry.doors import tcp, udp
from aero.server.registry.doors.shut import NoDoor
from aero.server.registry.gradually import Gradual, at_once
from aero.server.registry.grants import Claim, Grant, Wait
from aero.server.registry.group import Seat, TargetGroup, TargetGroups, claimed_as
from aero.server.registry.life import Proofs
from aero.server.registry.mapping import CLOSED, Door, Mapping
from aero.server.registry.opening import Opening
from aero.server.registry.pool import Pool
from aero.server.registry.ports import Ports
from aero.server.registry.quotas import Quotas
from aero.server.registry.rates import ServerRates
from aero.server.registry.registration import Registrar
from aero.server.registry.tenants import Lodger, Tenants, enforce
from aero.server.registry.worker import Permits, Worker
from aero.server.store.database import Database
from aero.server.store.leases import Owner
from aero.server.watch.access import AccessLog
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

if TYPE_CHECKING:
    from aero.server.registry.domains import Domains
    from aero.server.registry.doors.sockets import Sockets

log = logs.get("registry")

N = TypeVar("N")
Names = tuple[str, str, str, str]  # a worker's user, tag, host and identity


class Registry:
    """All workers."""

    def __init__(
        self,
        loop: Loop,
        ports: Table[str, Ports],
        events: Events,
        counters: Counters,
        announcers: Announcers,
        tenants: Tenants | None = None,
        database: Database | None = None,
    ) -> None:
        """``ports``: where mappings get theirs, by protocol; ``tenants``: the users, None: anybody may be here;
        ``announcers``: whose connections begin with a PROXY header; ``database``: keeps what operators add.
        """
        self.tenants = tenants if tenants is not None else Tenants()
        for each in ports.values():
            each.reserve(self.tenants.users.named_ports())
        self.workers: dict[str, Worker] = {}  # by cid
        self.domains: Domains | None = (
            None  # the app's to set, before the first worker comes; None: there is no mux
        )
        self.leaving = False  # the server is going down: no target is mapped any more
        self.events = events
        self.counters = counters
        self.loop = loop
        self.proofs = Proofs(loop)
        self.registrar = Registrar(self.proofs)
        self.rates = ServerRates(loop)
        self.additions = Additions(loop, self.named, database)
        self.lacks: tuple[str, ...] = ()  # options of targets that this host cannot honour; the app's to say
        self.access: AccessLog | None = None  # None: nobody wants one
        self.sockets: Sockets | None = None  # the app's to set: mappings as sockets in the file system
        self.permits: Permits | None = None  # None: nobody is asked who may be let in
        self.quotas: Quotas | None = None  # the app's to set, before the first worker comes
        self._ports = ports
        self._tcp = tcp.House.build(loop, counters, announcers)
        self._udp = udp.Hall(loop)
        # The same workers by their names, in the order in which they came.
        self._same: dict[Names, dict[str, Worker]] = {}
        self._tagged: dict[str, dict[str, Worker]] = {}
        self._groups = TargetGroups()
        self.away = Away(self, ports[TCP])
        self._opening = Opening(loop, events)
        self._pools: dict[tuple[str, str], Pool] = {}  # by tag and name
        self._timer: Watcher | None = loop.timer(Limits.LEASE_LOOK_S, Limits.LEASE_LOOK_S)
        self._timer.start(self._look_after)

    def _look_after(self) -> None:
        for ports in self._ports.values():
            ports.look_after()
        if self.tenants.bounded:
            gevent.spawn(self.enforce)

    def keep_access(self, access: AccessLog | None) -> None:
        """Where streams, flows and requests are written down from now on."""
        self.access = access
        self._tcp = self._tcp._replace(access=access)
        self._udp.access = access

    def change_users(self, users: Users) -> None:
        """Other users and rules from now on; what they forbid ends, and nothing else is disturbed."""
        self.tenants.change(users)
        for ports in self._ports.values():
            ports.reserve(users.named_ports())
        self.enforce()
        self.rates.changed(self.workers.values())
        if self.quotas is not None:
            for worker in self.workers.values():
                self.quotas.watch(worker.rule)

    def enforce(self) -> None:
        """Ends what the rules forbid of what is here, some workers a turn of the loop; blocks its greenlet."""
        self.registrar.do(enforce(self.tenants, self.workers.values(), self._why_not_kept))

    def _why_not_kept(self, worker: Lodger, mapping: Mapping) -> str:
        if not self._ports[mapping.owner.proto].may_have(mapping.port, worker.tenant.ports, mapping.row):
            return f"port {mapping.port} is not for this target any more"
        return self.may_claim(worker, mapping.options)

    def may_claim(self, worker: Lodger, options: Options) -> str:
        """Why a target of a worker may not have the host names that it asks for; "" where it may."""
        return self.domains.why_not(worker.tenant.rule, options) if self.domains is not None else ""

    def add(self, user: str, tag: str, host: str, identity: str, address: str, login: str = "") -> Worker:
        """A new worker with a cid of its own; ``login``: the name under which it has proved itself.

        Raises Rejected when the server is full, or its user's rule does not let it in.
        """
        tenant = self.tenants.admit(user, tag, login)
        if len(self.workers) >= Limits.WORKERS:
            raise Rejected(
                Close.LIMIT, f"the server has {Limits.WORKERS} workers, the most there may be", final=False
            )
        worker = Worker(self, user, tag, host, identity, address, tenant=tenant, login=login)
        granted = self.tenants.granted(login)
        if granted is not None and granted.may:
            from aero.allow import allow

            worker.bounds = allow(granted.may)
        self.workers[worker.cid] = tenant.workers[worker.cid] = worker
        alike = self._same.setdefault(worker.names, {})
        if alike:
            worker.key = worker.cid
        alike[worker.cid] = worker
        self._tagged.setdefault(tag, {})[worker.cid] = worker
        self.rates.look_at(worker)
        if self.quotas is not None:
            self.quotas.watch(worker.rule)
        self.events.emit("worker up", cid=worker.cid, **_whose(user), tag=tag, host=host, address=address)
        return worker

    def remove(self, worker: Worker, why: str) -> None:
        """The worker is gone with all its mappings."""
        if self.workers.pop(worker.cid, None) is not None:
            worker.tenant.workers.pop(worker.cid, None)
            _drop(self._same, worker.names, worker.cid)
            self.rates.left(worker)
            self.additions.left(worker)
            _drop(self._tagged, worker.tag, worker.cid)
            for mapping in list(worker.mappings.values()):
                left = self.away.leaves(mapping) if not self.leaving else None
                self.drop_mapping(worker, mapping)
                if left is not None:
                    left()
            worker.close()
            whose = _whose(worker.user)
            self.events.emit(
                "worker down", cid=worker.cid, **whose, tag=worker.tag, host=worker.host, why=why
            )

    def same(self, user: str, tag: str, host: str, identity: str) -> list[Worker]:
        """Workers that may be the one with these names: the same identity."""
        return list(self._same.get((user, tag, host, identity), {}).values())

    def tagged(self, tag: str) -> Iterable[Worker]:
        """Workers with a tag, in the order in which they came."""
        return self._tagged.get(tag, {}).values()

    def named(self, where: str) -> Iterable[Worker]:
        """Workers with a tag, or the one that "CID@" names."""
        if not where.endswith("@"):
            return self.tagged(where)
        worker = self.workers.get(where[:-1])
        return () if worker is None else (worker,)

    @property
    def streams(self) -> int:
        """Open streams of all workers."""
        return sum(worker.streams for worker in self.workers.values())

    @property
    def flows(self) -> int:
        """Visitors of all UDP targets."""
        return self._udp.visits

    # Mappings

    def add_mapping(self, worker: Worker, wanted: Wanted, last: bool) -> Gradual[Mapping | Wait]:
        """Listens for a target's visitors, or says what to wait for. Raises ConfigError, PortError."""
        if self.leaving:  # a registration that was under way, or on its way
            raise PortError("the server is going down", final=False)
        owner = Owner(worker.user, worker.tag, worker.host, wanted.name, wanted.proto)
        if self.domains is not None:
            self.domains.check(owner, wanted.options)
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
            mapping.quotas = self.quotas
            worker.added(mapping)
            self.rates.look_at(worker)
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
        return Mapping(
            worker,
            owner,
            wanted.id,
            wanted.local,
            port,
            self.counters,
            self._give_way,
            wanted.options,
            self._say_turned,
        )

    def _say_turned(self, mapping: Mapping, why: str) -> None:
        worker = mapping.worker
        if why:
            self.events.fault("target sick", cid=worker.cid, tag=worker.tag, target=mapping.name, why=why)
        else:
            self.events.emit("target well", cid=worker.cid, tag=worker.tag, target=mapping.name)

    def _say_granted(self, worker: Worker, wanted: Wanted, grant: Grant) -> None:
        """What people should hear of a port that is somebody's now."""
        if grant.before is not None:
            self.events.fault(
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
        self.events.emit(
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
        worker = self.workers.get(mapping.worker.cid)
        if worker is not None:
            self.drop_mapping(worker, mapping)
            worker.lost(mapping)

    def drop_mapping(self, worker: Worker, mapping: Mapping) -> None:
        """Stops listening for a target's visitors."""
        if worker.dropped(mapping):
            group = _group(mapping)
            mapping.close()
            self.rates.gone(mapping)
            self._leave_pools(mapping, group)
            if group is not None and not group.pool.members:
                self._groups.end(group)
                group.close()
            if group is None or not group.pool.members:
                self._ports[mapping.owner.proto].release(mapping.port)
            self.events.emit(
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
            pool = self._pools.setdefault((tag, name), Pool())
            pool.add(mapping)
            mapping.pools.append(pool)
            if self.domains is not None:
                self.domains.add(mapping)
            if self.sockets is not None and len(pool.members) == 1:
                self.sockets.open(self._tcp, tag, name, pool)
        group = _group(mapping)
        if group is not None:
            group.pool.add(mapping)
            mapping.pools.append(group.pool)

    def _leave_pools(self, mapping: Mapping, group: TargetGroup | None) -> None:
        if group is not None:
            group.pool.remove(mapping)
        pool = self.pool(mapping.worker.tag, mapping.name)
        if self.domains is not None:
            self.domains.remove(mapping, withdrawn=mapping.worker.cid in self.workers and not self.leaving)
        if pool is not None and mapping in pool.members:
            pool.remove(mapping)
            if not pool.members:
                del self._pools[mapping.worker.tag, mapping.name]
                if self.sockets is not None:
                    self.sockets.close(mapping.worker.tag, mapping.name)

    def open(self, mappings: Iterable[Mapping], seconds: float, whence: str, cut: bool) -> None:
        """Opens closed targets for a time, or with 0 closes them; ``whence``: from where, "" for anywhere; ``cut``:
        their streams end with it. Raises ConfigError for what is no network, PortError.
        """
        for mapping in mappings:
            self._opening.open(mapping, seconds, whence, cut)

    def state(self) -> dict[str, object]:
        """For people who ask: how much of everything is here."""
        workers = self.workers.values()
        return {
            "workers": len(workers),
            "streams": self.streams,
            "flows": self.flows,
            "mappings": sum(len(worker.mappings) for worker in workers),
            "away": len(self.away),
            "waiting": sum(len(worker.lobby) for worker in workers),
        }

    def close(self, code: int, text: str) -> None:
        """Ends every worker."""
        stopped(self._timer)
        self.rates.close()
        self.additions.close()
        if self.quotas is not None:
            self.quotas.close()
        self._timer = None
        self.away.close()
        for worker in list(self.workers.values()):
            worker.end(code, text)


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


def _whose(user: str) -> dict[str, str]:
    """An event's field that says whose worker it is, where that is anybody's."""
    return {"user": user} if user else {}


def _counted_as(ip: str) -> str:
    """Whose leases a worker's are counted with; "" for this machine's own: a proxy, most likely, and many workers."""
    return "" if is_near(ip) else network_of(ip)


def _say_who_has(port: int, worker: Worker, target: str) -> None:
    """Tells people why a target has another port than usual. A greenlet's: looking through /proc may take long."""
    holder = gevent.get_hub().threadpool.apply(port_holder, (port,))
    log.warning(
        "leased port is used by another program, the target gets another one",
        port=port, program=holder or "unknown", cid=worker.cid, target=target,
    )  # fmt: skip


def _drop(index: dict[N, dict[str, Worker]], key: N, cid: str) -> None:
    del index[key][cid]
    if not index[key]:
        del index[key]
