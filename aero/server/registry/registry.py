"""Who is here: workers, their sessions and mappings, by every name that they can be asked for.

A worker is what shares one cid: one session for each link of its pool, and one mapping for each target. This module
holds the tables and the rules of who may be in them; links (server/uplink.py) come and go outside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from time import monotonic, time
from typing import Any, Callable, Protocol

from aero.core.codes import Close, Reset
from aero.core.messages import DUPLICATE, OUT_OF_RANGE, TAKEN, TOO_MANY, Answer, Wanted
from aero.core.session import Session
from aero.core.stream import Receiver, Stream
from aero.errors import Rejected, StreamError
from aero.limits import Limits
from aero.server.registry.lobby import Lobby
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports import Ports
from aero.server.registry.route import LocalRoute, Route
from aero.server.store.leases import Owner
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

_CID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
KICK_LOOK_S = 0.1  # a kicked worker that is idle leaves at once, as a person sees it


def new_cid() -> str:
    """A worker's id: "c" and 60 random bits, so that none is ever given twice or guessed."""
    return "c" + "".join(_CID_LETTERS[byte & 31] for byte in os.urandom(12))


class Carrier(Protocol):
    """One session of a worker and the link that carries it now, if one does."""

    session: Session

    @property
    def alive(self) -> bool:
        """True while a link carries the session."""

    def ping(self, on_pong: Callable[[float], None]) -> bool:
        """Pings the link; False when there is none."""

    def end(self, code: int, text: str) -> None:
        """Ends session and link."""


class Worker:
    """One worker: everything that has its cid."""

    def __init__(
        self, registry: Registry, user: str, tag: str, host: str, identity: str, address: str
    ) -> None:
        self.cid = new_cid()
        self.user = user
        self.tag = tag
        self.host = host
        self.identity = identity
        self.address = address
        self.connected_at = time()
        self.ping_s = 0.0  # last measured round trip
        self.carriers: list[Carrier] = []
        self.mappings: dict[int, Mapping] = {}  # by target id
        self.lobby = Lobby(registry.loop)
        self._registry = registry
        self._kicked: Any = None  # the timer that looks for the end of its streams

    @property
    def links(self) -> int:
        """Links that are up."""
        return sum(carrier.alive for carrier in self.carriers)

    @property
    def streams(self) -> int:
        """Open streams."""
        return sum(len(carrier.session.streams) for carrier in self.carriers)

    def mapping(self, name: str) -> Mapping | None:
        """The mapping of a target by its name."""
        return next((mapping for mapping in self.mappings.values() if mapping.name == name), None)

    def open_stream(self, receiver: Receiver, target_id: int, visitor: str) -> Stream:
        """A stream over the best session. Raises StreamError when no session takes it."""
        return self._best().session.open(receiver, target_id, visitor, monotonic())

    def route(self, target_id: int) -> Route:
        """A way to a target over the best session. Raises StreamError when all sessions are leaving."""
        return LocalRoute(self._best(), target_id)

    def _best(self) -> Carrier:
        """The least busy session; one whose link is down only where there is no other. Raises StreamError."""
        ready = [carrier for carrier in self.carriers if not carrier.session.leaving]
        if not ready:
            raise StreamError(Reset.LOST, "the worker is leaving")
        return min(ready, key=lambda carrier: (not carrier.alive, len(carrier.session.streams)))

    def register(self, wanted: Iterable[Wanted | Answer]) -> list[Answer]:
        """Makes mappings of a register message's targets; one answer for each (PROTOCOL.md, "Control messages").

        What stands there as an answer already could not be read as a target.
        """
        answers = [each if isinstance(each, Answer) else self._register_one(each) for each in wanted]
        for answer in answers:
            if answer.error:
                self._registry.counters.error("target not mapped")
                self._registry.events.fault(
                    "target refused",
                    cid=self.cid,
                    tag=self.tag,
                    target=answer.name,
                    why=answer.text,
                )
        return answers

    def _register_one(self, wanted: Wanted) -> Answer:
        target_id, name, local = wanted.id, wanted.name, wanted.local
        known = self.mappings.get(target_id)
        if known is not None and (known.name, known.local) == (name, local):  # our first answer was lost
            return Answer(target_id, name, known.port, tuple(known.addresses))
        if len(self.mappings) >= Limits.TARGETS_PER_WORKER:
            text = f"a worker may have {Limits.TARGETS_PER_WORKER} targets"
            return Answer(target_id, name, error=TOO_MANY, text=text)
        if known is not None or self.mapping(name) is not None:
            return Answer(target_id, name, error=DUPLICATE, text=f"target {name} is registered already")
        try:
            mapping = self._registry.add_mapping(self, target_id, name, local, wanted.remote)
        except Rejected as error:
            return Answer(target_id, name, error=OUT_OF_RANGE if error.final else TAKEN, text=str(error))
        return Answer(target_id, name, mapping.port, tuple(mapping.addresses))

    def unregister(self, target_ids: Iterable[int]) -> None:
        """Closes mappings: no new visitors; open streams go on."""
        for target_id in target_ids:
            if target_id in self.mappings:
                self._registry.drop_mapping(self.mappings[target_id])

    def kick(self) -> None:
        """Sends the worker away: no new visitors now, the end when the open streams are done, or after KICK_S.

        The worker comes back by itself, but not before half a minute.
        """
        if self._kicked is not None:
            return
        text = "an operator sent the worker away"
        self._registry.events.emit("worker kicked", cid=self.cid, tag=self.tag, streams=self.streams)
        for carrier in self.carriers:
            carrier.session.goaway(Close.KICKED, text)
        until = monotonic() + Limits.KICK_S

        def look() -> None:
            if not self.streams or monotonic() >= until or not self.carriers:
                self._stop_looking()
                self.end(Close.KICKED, text)

        self._kicked = self._registry.loop.timer(KICK_LOOK_S, KICK_LOOK_S)
        self._kicked.start(look)

    def _stop_looking(self) -> None:
        if self._kicked is not None:
            self._kicked.stop()
            self._kicked.close()

    def end(self, code: int, text: str) -> None:
        """Ends every session; the last one takes the worker off the registry."""
        for carrier in list(self.carriers):
            carrier.end(code, text)


class Registry:
    """All workers."""

    def __init__(self, loop: Any, ports: Ports, events: Events, counters: Counters) -> None:
        self.workers: dict[str, Worker] = {}  # by cid
        self.events = events
        self.counters = counters
        self.loop = loop
        self._ports = ports

    def add(self, user: str, tag: str, host: str, identity: str, address: str) -> Worker:
        """A new worker with a cid of its own. Raises Rejected when the server is full."""
        if len(self.workers) >= Limits.WORKERS:
            raise Rejected(0, f"the server has {Limits.WORKERS} workers, the most there may be", final=False)
        worker = Worker(self, user, tag, host, identity, address)
        self.workers[worker.cid] = worker
        self.events.emit("worker up", cid=worker.cid, tag=tag, host=host, address=address)
        return worker

    def remove(self, worker: Worker, why: str) -> None:
        """The worker is gone with all its mappings."""
        if self.workers.pop(worker.cid, None) is not None:
            for mapping in list(worker.mappings.values()):
                self.drop_mapping(mapping)
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

    def drop_mapping(self, mapping: Mapping) -> None:
        """Stops listening for a target's visitors."""
        worker = mapping.worker
        if worker.mappings.pop(mapping.target_id, None) is not None:
            mapping.close()
            self._ports.release(mapping.port)
            self.events.emit(
                "mapping down", cid=worker.cid, tag=worker.tag, target=mapping.name, port=mapping.port
            )

    def close(self, code: int, text: str) -> None:
        """Ends every worker."""
        for worker in list(self.workers.values()):
            worker.end(code, text)
