"""The worker's targets: which there are, and connecting a stream to one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from aero import logs
from aero.address import UDP, Target
from aero.core.codes import Reset
from aero.core.control import RateLimits
from aero.core.stream import Stream
from aero.limits import Limits
from aero.net.faults import report
from aero.net.lookup import Names
from aero.net.loop import Loop
from aero.net.pipe import Pipe, make_abrupt, prepare
from aero.worker.honoured import guarded, packs
from aero.worker.reach import Approach, Places, Way

if TYPE_CHECKING:
    from aero.allow import Allow
    from aero.core.flows import Flow
    from aero.worker import flows
    from aero.worker.rates import SendingRates

log = logs.get("target")

_LAST_ID = 0xFFFF  # target ids are 16 bits wide


class Service:
    """One target of this worker and how it is reached."""

    def __init__(self, way: Way, target_id: int, target: Target) -> None:
        """``target_id``: what the server calls it in OPEN."""
        self.id = target_id
        self.target = target
        self.port = 0  # the mapping's, once registered
        self.had = 0  # the last one that it had
        self.withheld = guarded(target)  # until the server has said that it honours what guards the target
        self.streams: set[Stream] = set()
        self.conversations: flows.Conversations | None = None  # of a UDP target, from its first visitor on
        self._loop = way.loop
        self._packs = packs(target)
        self.way = way
        self._ways: dict[int, Way] = {}  # to its other ports, those that were used of late

    def way_to(self, offset: int) -> Way:
        """The way to one of its ports in a row."""
        if not offset:
            return self.way
        way = self._ways.get(offset)
        if way is None:
            if len(self._ways) >= Limits.WAYS_A_TARGET:
                self._ways.clear()  # those that are in use keep theirs
            way = self._ways[offset] = self.way.beside(offset)
        return way

    def connect(self, stream: Stream, offset: int = 0) -> None:
        """Connects ``stream`` to the target, by its ``offset``-th port; resets it where that cannot be done."""
        self.streams.add(stream)
        way = self.way_to(offset) if offset else self.way
        sock = way.at_once()
        if sock is not None:
            self._join(stream, sock)
            return
        approach = Approach(way, partial(self._arrived, stream))
        approach.start()
        if not approach.over:
            stream.session.when_reset(stream, partial(self._left, stream, approach))

    def converse(
        self, flow: Flow, places: flows.FlowPlaces, rates: SendingRates | None, offset: int = 0
    ) -> None:
        """Leads a flow to the target, or ends it."""
        if self.conversations is None:
            from aero.worker.flows import Conversations

            self.conversations = Conversations(self._loop, places, self.target)
            if rates is not None:
                self.conversations.rates = rates.of(self.id, "")
        self.conversations.add(flow, self.way_to(offset))

    def _left(self, stream: Stream, approach: Approach) -> None:
        """The visitor has gone before the target answered."""
        approach.cancel()
        self.streams.discard(stream)

    def _arrived(self, stream: Stream, sock: socket.socket | None, code: int, why: str) -> None:
        if sock is not None:
            self._join(stream, sock)
        else:
            self._failed(stream, code, why)

    def _join(self, stream: Stream, sock: socket.socket) -> None:
        try:
            if not self.target.path:
                prepare(sock)
            make_abrupt(sock)
        except OSError as error:
            sock.close()
            self._failed(stream, Reset.REFUSED, error.strerror or str(error))
            return
        if self._packs:
            stream.pack(self._packs)
        pipe = Pipe(self._loop, sock, self._on_end)
        pipe.start(stream)
        try:
            stream.session.accept(stream, pipe, monotonic())
        except Exception as error:  # a connector has called, which knows of no stream that could end
            report(error)
            pipe.faulted(error)

    def _failed(self, stream: Stream, code: int, text: str) -> None:
        self.streams.discard(stream)
        log.warning("target does not answer", target=self.target, why=text)
        stream.abort(code, f"target {self.target.name}: {text}")

    def _on_end(self, pipe: Pipe, why: str) -> None:
        self.streams.discard(pipe.stream)
        if log.debugging:
            log.debug("> stream over", target=self.target.name, stream=pipe.stream.id, why=why)


class Services:
    """All targets of this worker, by the ids under which the server knows them."""

    def __init__(self, loop: Loop, targets: tuple[Target, ...], allow: Allow | None = None) -> None:
        """``targets``: those to offer at first; ``allow``: where targets may be, None: anywhere."""
        self._loop = loop
        self.allow = allow
        self._names = Names(loop, Limits.NAME_THREADS)
        self._places = Places(loop, Limits.CONNECTS, Limits.CONNECTS_A_TARGET)
        self._flow_places: flows.FlowPlaces | None = None
        self._last_id = 0
        self._by_id: dict[int, Service] = {}
        self._rows: dict[int, int] = {}  # how many ids those have that have several, by the first
        self._rates: SendingRates | None = None  # what the server allows, once it has told any
        for target in targets:
            self._add(target, 0)

    def __iter__(self) -> Iterator[Service]:
        return iter(self._by_id.values())

    @property
    def targets(self) -> tuple[Target, ...]:
        """What they are."""
        return tuple(service.target for service in self._by_id.values())

    def get(self, number: int) -> Service | None:
        """The target with an id."""
        return self._by_id.get(number)

    def _find(self, number: int) -> tuple[Service | None, int]:
        """The target that has an id, and which of its ports that is."""
        service = self._by_id.get(number)
        if service is None and self._rows:
            for first, row in self._rows.items():
                if first < number < first + row:
                    return self._by_id[first], number - first
        return service, 0

    def _free_id(self, row: int) -> int:
        """The first of so many free ids in a row; 0 where there are none.

        In turn: a visitor on his way to a target that is gone must not reach the one that came in its place.
        """
        taken = sorted((number, each.target.row) for number, each in self._by_id.items())
        for start, end in ((self._last_id + 1, _LAST_ID), (1, min(self._last_id + row - 1, _LAST_ID))):
            at = start
            for number, others in taken:
                if at + row <= number:
                    break
                at = max(at, number + others)
            if at + row - 1 <= end:
                return at
        return 0

    def _add(self, target: Target, had: int) -> None:
        first = self._free_id(target.row)
        if not first:
            log.error("no ids in a row are left for a target, restart the worker", target=target)
            return
        self._last_id = first + target.row - 1
        if target.row > 1:
            self._rows[first] = target.row
        way = Way(self._loop, self._names, self._places, target.host, target.port, self.allow, target.path)
        self._by_id[first] = service = Service(way, first, target)
        service.had = had

    def replace(self, targets: tuple[Target, ...]) -> list[Service]:
        """These are the targets from now on; returns those that are gone. What stays the same is not touched."""
        wanted = set(targets)
        gone = [service for service in self._by_id.values() if service.target not in wanted]
        wanted -= {service.target for service in self._by_id.values()}
        for service in gone:
            del self._by_id[service.id]
            self._rows.pop(service.id, None)
        if self._rates is not None:
            self._rates.forget(service.id for service in gone)
        had = {
            (service.target.name, service.target.proto): service.had for service in gone
        }  # what a changed target had, it wants again
        for target in targets:
            if target in wanted:
                self._add(target, had.get((target.name, target.proto), 0))
        return gone

    def limit(self, limits: RateLimits) -> None:
        """How fast targets may send from now on; counts for open streams, too."""
        if self._rates is None:
            if limits == RateLimits():
                return
            from aero.worker.rates import SendingRates

            self._rates = SendingRates(self._loop)
            for service in self._by_id.values():
                for stream in service.streams:
                    stream.rates = self._rates.of(service.id, "")
                if service.conversations is not None:
                    service.conversations.rates = self._rates.of(service.id, "")
        self._rates.take(limits)

    def connect(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor came."""
        service, offset = self._find(target_id)
        if service is None or service.withheld or service.target.proto == UDP:
            stream.abort(Reset.NO_TARGET, f"there is no target {target_id}")
            return
        if self._rates is not None:
            stream.rates = self._rates.of(service.id, visitor)
        if log.debugging:
            log.debug("< visitor", target=service.target.name, visitor=visitor, stream=stream.id)
        service.connect(stream, offset)

    def converse(self, flow: Flow, target_id: int, visitor: str) -> None:
        """A visitor came by UDP."""
        service, offset = self._find(target_id)
        if service is None or service.withheld or service.target.proto != UDP:
            flow.end(Reset.NO_TARGET, f"there is no UDP target {target_id}")
            return
        if self._flow_places is None:
            from aero.worker.flows import FlowPlaces

            self._flow_places = FlowPlaces()
        if log.debugging:
            log.debug("< visitor", target=service.target.name, visitor=visitor, flow=flow.id)
        service.converse(flow, self._flow_places, self._rates, offset)
