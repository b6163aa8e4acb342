"""Who is here: the tables of workers, and the rules of who may be in them.

Their mappings are made in mappings.py. Links and sessions (server/links) come and go outside it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from collections.abc import Mapping as Table
from typing import TYPE_CHECKING, TypeVar

import gevent

from aero import logs
from aero.address import TCP
from aero.core.codes import Close
from aero.core.control import Options
from aero.errors import Rejected
from aero.limits import Limits
from aero.net.announced import Announcers
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.rules import Users
from aero.server.registry.additions import Additions
from aero.server.registry.away import Away
from aero.server.registry.life import Proofs
from aero.server.registry.mapping import Mapping
from aero.server.registry.mappings import Mappings
from aero.server.registry.offer import Permits
from aero.server.registry.ports.ports import Ports
from aero.server.registry.quotas import Quotas
from aero.server.registry.rates import ServerRates
from aero.server.registry.registration import Registrar
from aero.server.registry.tenants import Lodger, Tenants, enforce
from aero.server.registry.worker import Worker
from aero.server.store.database import Database
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
        self.lacks: Container[str] = ()  # options of targets that this host cannot honour; the app's to say
        self.access: AccessLog | None = None  # None: nobody wants one
        self.sockets: Sockets | None = None  # the app's to set: mappings as sockets in the file system
        self.permits: Permits | None = None  # None: nobody is asked who may be let in
        self.quotas: Quotas | None = None  # the app's to set, before the first worker comes
        self._ports = ports
        self.mappings = Mappings(self, loop, ports, announcers)
        # The same workers by their names, in the order in which they came.
        self._same: dict[Names, dict[str, Worker]] = {}
        self._tagged: dict[str, dict[str, Worker]] = {}
        self.away = Away(self.mappings, ports[TCP])
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
        self.mappings.keep_access(access)

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
                self.mappings.drop(worker, mapping)
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
        return self.mappings.flows

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


def _whose(user: str) -> dict[str, str]:
    """An event's field that says whose worker it is, where that is anybody's."""
    return {"user": user} if user else {}


def _drop(index: dict[N, dict[str, Worker]], key: N, cid: str) -> None:
    del index[key][cid]
    if not index[key]:
        del index[key]
