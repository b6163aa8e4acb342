"""Who is here: the tables of workers and their mappings, and the rules of who may be in them.

Links and sessions (server/links) come and go outside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from aero.core.codes import Close
from aero.errors import Rejected
from aero.limits import Limits
from aero.net.loop import Loop
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports import Ports
from aero.server.registry.worker import Worker
from aero.server.store.leases import Owner
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events


class Registry:
    """All workers."""

    def __init__(self, loop: Loop, ports: Ports, events: Events, counters: Counters) -> None:
        self.workers: dict[str, Worker] = {}  # by cid
        self.events = events
        self.counters = counters
        self.loop = loop
        self._ports = ports

    def add(self, user: str, tag: str, host: str, identity: str, address: str) -> Worker:
        """A new worker with a cid of its own. Raises Rejected when the server is full."""
        if len(self.workers) >= Limits.WORKERS:
            raise Rejected(
                Close.LIMIT, f"the server has {Limits.WORKERS} workers, the most there may be", final=False
            )
        worker = Worker(self, user, tag, host, identity, address)
        self.workers[worker.cid] = worker
        self.events.emit("worker up", cid=worker.cid, tag=tag, host=host, address=address)
        return worker

    def remove(self, worker: Worker, why: str) -> None:
        """The worker is gone with all its mappings."""
        if self.workers.pop(worker.cid, None) is not None:
            for mapping in list(worker.mappings.values()):
                self.drop_mapping(worker, mapping)
            worker.lobby.close()
            self.events.emit("worker down", cid=worker.cid, tag=worker.tag, host=worker.host, why=why)

    def same(self, user: str, tag: str, host: str, identity: str) -> list[Worker]:
        """Workers that may be the one with these names: the same identity."""
        names = (user, tag, host, identity)
        return [
            each for each in self.workers.values() if (each.user, each.tag, each.host, each.identity) == names
        ]

    def tagged(self, tag: str) -> Iterator[Worker]:
        """Workers with a tag, in the order in which they came."""
        return (worker for worker in self.workers.values() if worker.tag == tag)

    @property
    def streams(self) -> int:
        """Open streams of all workers."""
        return sum(worker.streams for worker in self.workers.values())

    def add_mapping(self, worker: Worker, target_id: int, name: str, local: str, remote: int) -> Mapping:
        """Listens for a target's visitors. Raises Rejected when the port cannot be had."""
        owner = Owner(worker.user, worker.tag, worker.host, name)
        socks = self._ports.claim(owner, worker.identity, remote)
        mapping = Mapping(self.loop, worker, target_id, name, local, socks, self.counters)
        worker.mappings[target_id] = mapping
        self.events.emit(
            "mapping up",
            cid=worker.cid,
            tag=worker.tag,
            target=name,
            local=local,
            listen=", ".join(mapping.addresses),
        )
        return mapping

    def drop_mapping(self, worker: Worker, mapping: Mapping) -> None:
        """Stops listening for a target's visitors."""
        if worker.mappings.pop(mapping.target_id, None) is not None:
            mapping.close()
            self._ports.release(mapping.port)
            self.events.emit(
                "mapping down", cid=worker.cid, tag=worker.tag, target=mapping.name, port=mapping.port
            )

    def state(self) -> dict[str, object]:
        """For people who ask: how much of everything is here."""
        workers = self.workers.values()
        return {
            "workers": len(workers),
            "streams": self.streams,
            "mappings": sum(len(worker.mappings) for worker in workers),
            "waiting": sum(len(worker.lobby) for worker in workers),
        }

    def close(self, code: int, text: str) -> None:
        """Ends every worker."""
        for worker in list(self.workers.values()):
            worker.end(code, text)
