"""The flows of one session, at either end: by their ids, and what waits to be sent for them.

A flow lives across links as a stream does, and nothing of what it carries is kept for the next one. Verbs: ``open``,
``receive``, ``take``, ``link_up``, ``link_lost``, ``end_received``, ``close``; and a flow's ``send`` and ``end``.

What waits is bounded for a flow, for the session's link, and for the process; the oldest datagram goes first. Flows
take turns, so a call is not delayed by a download beside it. What is older than MAX_AGE_S is not sent: who asked has
asked again by then, or has forgotten it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Callable, Protocol

from aero.core import datagrams, frames
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.datagrams import DATA, KNOWN, MAX_FLOW_ID, OPENING, Drops
from aero.core.memory import Room
from aero.errors import RemoteProtocolError

MAX_AGE_S = 0.2
# 40 ms at 200 Mbit/s: longer than a busy turn of the loop, and ten times less than what would be too old.
FLOW_BYTES = 1024 * 1024
LINK_BYTES = 2 * 1024 * 1024
# What a datagram costs beside its bytes while it waits: two objects and a place in a queue.
OVERHEAD_BYTES = 128
# Datagrams go into a record until it has so many bytes: one more always fits, and the next session record is near.
RECORD_BYTES = 64 * 1024
# What a flow may send before the next one has its turn: three full frames of Ethernet.
TURN_BYTES = 4 * 1024
# Ends of ours that the peer has perhaps not processed: what it sent before is no new flow. Without an answer for so
# many, the oldest is forgotten.
MAX_GONE = 16_384
# KNOWNs in one record: 8 KiB, so that datagrams always have room behind them.
MAX_KNOWN = 1024


class FlowReceiver(Protocol):
    """Who owns a flow at this end. Nothing here may raise or block."""

    def datagram(self, view: memoryview) -> None:
        """A datagram from the other end; ``view`` is valid during the call."""

    def flow_ended(self, code: int, text: str) -> None:
        """The other end has ended the flow, or it cannot go on; with a reset code."""


class FlowHandler(Protocol):
    """The role behind a session, for flows that the peer opens."""

    def flow_opened(self, flow: Flow, target_id: int, visitor: str) -> None:
        """The peer opened a flow: owes it a ``receiver``, or its end, before it returns."""


class Carrier(Protocol):
    """The session, as its flows need it."""

    dirty: bool
    on_output: Callable[[], None]
    on_message: Callable[[], None]

    def put(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Appends one frame to the session's sequence."""

    @property
    def positions(self) -> tuple[int, int]:
        """Of our sequence: what the peer has processed, what was written."""


class Flow:
    """One visitor's datagrams to one target and back, at one end."""

    __slots__ = (
        "drops",
        "ended",
        "id",
        "origin",
        "queue",
        "queued_bytes",
        "received",
        "receiver",
        "repeats",
        "sent",
        "_flows",
    )

    def __init__(self, flows: Flows, flow_id: int, origin: bytes, drops: Drops) -> None:
        """``origin``: as datagrams.pack_origin gives it; ``drops``: where its drops are counted."""
        self.id = flow_id
        self.origin = origin
        self.repeats = False  # its datagrams carry the origin: the other end has not said KNOWN
        self.receiver: FlowReceiver
        self.drops = drops
        self.ended = False
        self.sent = 0  # bytes of datagrams, whether they arrive or not
        self.received = 0
        self.queue: deque[tuple[float, bytes]] | None = None  # none while nothing waits: it has 600 bytes
        self.queued_bytes = 0
        self._flows = flows

    def send(self, data: bytes, now: float, alone: bool = False) -> None:
        """Sends a datagram of at most datagrams.MAX_BYTES, or drops it; never blocks.

        ``alone``: none is known to come behind it that could share its record.
        """
        self.sent += len(data)
        self._flows.enqueue(self, data, now, alone)

    def end(self, code: int, text: str = "") -> None:
        """Ends the flow and tells the other end why, with a reset code. Harmless when over."""
        if not self.ended:
            self._flows.end(self, code, text)


class Flows:
    """One end of all flows of a session."""

    def __init__(self, carrier: Carrier, room: Room, handler: FlowHandler | None, first_id: int = 1) -> None:
        """``handler``: of flows that the peer opens; None where we open them, from ``first_id`` upwards."""
        self.by_id: dict[int, Flow] = {}
        self.now = 0.0  # who lets records be taken says what time it is
        self.linked = False  # a link carries the session
        self.drops = Drops()  # of datagrams that belong to no flow
        self.ends: Budget | None = (
            None  # what the peer may end that is no flow (any more); None: as much as it likes
        )
        self._carrier = carrier
        self._room = room
        self._handler = handler
        self._next_id = first_id
        self._ring: deque[Flow] = deque()  # flows that have something to send, in turn
        self._known: dict[int, None] = {}  # ids of flows whose origin has come since the last record
        self._queued_bytes = 0
        self._largest: Flow | None = None  # the flow that has the most waiting, or has had it a moment ago
        self._gone: OrderedDict[int, int] = (
            OrderedDict()
        )  # where in our sequence we have said the end of a flow

    # Flows

    @property
    def used_up(self) -> bool:
        """True when every id was given: only a new session can have more flows."""
        return self._next_id > MAX_FLOW_ID

    def open(self, receiver: FlowReceiver, target_id: int, visitor: str, drops: Drops) -> Flow:
        """A new flow to the peer's target; only where ``used_up`` is not."""
        flow = Flow(self, self._next_id, datagrams.pack_origin(target_id, visitor), drops)
        flow.receiver = receiver
        flow.repeats = True
        self._next_id += 1
        self.by_id[flow.id] = flow
        return flow

    def end(self, flow: Flow, code: int, text: str) -> None:
        """Ends a flow of ours that is not over."""
        self._forget(flow)
        if self._handler is not None:
            acked, written = self._carrier.positions
            gone = self._gone
            while gone and (len(gone) >= MAX_GONE or next(iter(gone.values())) < acked):
                gone.popitem(last=False)
            gone[flow.id] = written
        self._carrier.put(frames.FLOW_END, flow.id, frames.pack_reason(code, text))

    def _forget(self, flow: Flow) -> None:
        flow.ended = True
        del self.by_id[flow.id]
        self._known.pop(flow.id, None)
        self._drop_queue(flow, datagrams.OVER)
        if self._largest is flow:
            self._largest = None

    def end_received(self, flow_id: int, code: int, text: str, now: float) -> None:
        """The other end has ended a flow. Raises RemoteProtocolError."""
        flow = self.by_id.get(flow_id)
        if flow is not None:
            self._forget(flow)
            flow.receiver.flow_ended(code, text)
        elif self.ends is not None and not self.ends.spend(now):
            raise RemoteProtocolError(Close.OVERLOAD, "flows are ended that there are not, again and again")
        else:
            self._check_known(flow_id)

    def close(self, code: int = Reset.LOST, text: str = "the session is over") -> None:
        """The session is over, and every flow with it."""
        while self.by_id:
            flow = next(iter(self.by_id.values()))
            self._forget(flow)
            flow.receiver.flow_ended(code, text)
        self._ring.clear()

    # Sending

    @property
    def waiting(self) -> bool:
        """True when there is something to send."""
        return bool(self._ring or self._known)

    def enqueue(self, flow: Flow, data: bytes, now: float, alone: bool = False) -> None:
        """A datagram of a flow waits for the next record, or is dropped; ``alone``: see Flow.send."""
        if flow.ended:
            flow.drops.add(datagrams.OVER)
        elif not self.linked:
            flow.drops.add(datagrams.NO_LINK)
        elif len(data) > datagrams.MAX_BYTES:
            flow.drops.add(datagrams.LARGE)
        else:
            size = len(data) + OVERHEAD_BYTES
            if flow.queue is None:
                flow.queue = deque()
                self._ring.append(flow)
            flow.queue.append((now, data))
            flow.queued_bytes += size
            self._queued_bytes += size
            self._room.taken_bytes += size
            if self._largest is None or flow.queued_bytes > self._largest.queued_bytes:
                self._largest = flow
            while flow.queued_bytes > FLOW_BYTES:
                self._drop_oldest(flow, datagrams.FULL)
            while self._queued_bytes > LINK_BYTES:
                self._drop_oldest(self._victim(flow), datagrams.FULL)
            if self._room.taken_bytes > self._room.limit_bytes:
                self._drop_oldest(self._victim(flow), datagrams.MEMORY)
            self._announce(alone)

    def _announce(self, alone: bool = False) -> None:
        carrier = self._carrier
        if not carrier.dirty:
            carrier.dirty = True
            if alone:
                carrier.on_message()
            else:
                carrier.on_output()

    def _victim(self, flow: Flow) -> Flow:
        """The flow that has the most waiting, nearly: a small one does not pay for a large one."""
        return self._largest if self._largest is not None and self._largest.queue else flow

    def _drop_oldest(self, flow: Flow, reason: str) -> None:
        if flow.queue:
            self._took(flow, len(flow.queue.popleft()[1]))
            flow.drops.add(reason)

    def _took(self, flow: Flow, count: int) -> None:
        size = count + OVERHEAD_BYTES
        flow.queued_bytes -= size
        self._queued_bytes -= size
        self._room.taken_bytes -= size

    def _drop_queue(self, flow: Flow, reason: str) -> None:
        """A flow in the ring without a queue is passed over when its turn comes."""
        queue, flow.queue = flow.queue, None
        if queue is not None:
            flow.drops.add(reason, len(queue))
            self._queued_bytes -= flow.queued_bytes
            self._room.taken_bytes -= flow.queued_bytes
            flow.queued_bytes = 0
            self._ring.remove(flow)

    def take(self) -> bytes:
        """The next datagram record's plaintext; empty where nothing is to be sent. By ``now``, see above."""
        parts: list[bytes] = []
        pack = frames.HEADER.pack
        known = self._known
        while known and len(parts) < MAX_KNOWN:
            parts.append(pack(KNOWN << 24, known.popitem()[0]))
        ring, too_old = self._ring, self.now - MAX_AGE_S
        size = 0
        while ring and size < RECORD_BYTES:
            flow = ring[0]
            queue = flow.queue
            turn = 0
            while queue and turn < TURN_BYTES:
                at, data = queue.popleft()
                count = len(data)
                self._took(flow, count)
                if at < too_old:
                    flow.drops.add(datagrams.OLD)
                    continue
                if flow.repeats:
                    parts += (pack(OPENING << 24 | len(flow.origin) + count, flow.id), flow.origin, data)
                else:
                    parts += (pack(DATA << 24 | count, flow.id), data)
                turn += count + frames.HEADER_BYTES
            size += turn
            if queue:
                ring.rotate(-1)
            else:
                ring.popleft()
                flow.queue = None
        return b"".join(parts)

    def link_up(self) -> None:
        """A link that has agreed on datagrams carries the session from here on."""
        self.link_lost()
        self.linked = True

    def link_lost(self) -> None:
        """No link carries the session, or one without datagrams: what waits is dropped, flows stay."""
        self.linked = False
        self._known.clear()
        while self._ring:
            self._drop_queue(self._ring[0], datagrams.NO_LINK)

    # Receiving

    def receive(self, record: memoryview) -> None:
        """Processes one datagram record's plaintext. Raises RemoteProtocolError: then the session is over."""
        by_id = self.by_id
        for kind, flow_id, payload in frames.split(record):
            flow = by_id.get(flow_id)
            if kind == DATA:
                datagrams.check_size(payload)
            elif kind == OPENING:
                origin, payload = datagrams.unpack_opening(payload)
                datagrams.check_size(payload)
                flow = self._opening(flow_id, flow, origin)
            elif kind == KNOWN:
                self._known_received(flow_id, flow, payload)
                continue
            else:
                raise RemoteProtocolError(Close.FRAME, f"datagram frame kind {kind} is unknown")
            if flow is None:
                self._check_known(flow_id)
                self.drops.add(datagrams.OVER)  # it has crossed the flow's end
                continue
            flow.repeats = False
            flow.received += len(payload)
            flow.receiver.datagram(payload)

    def _opening(self, flow_id: int, flow: Flow | None, origin: bytes) -> Flow | None:
        if self._handler is None:
            raise RemoteProtocolError(Close.STATE, "a flow may not be opened here")
        if flow is not None:
            if flow.origin != origin:
                raise RemoteProtocolError(Close.STATE, f"flow {flow_id} was given twice")
        elif not flow_id:
            raise RemoteProtocolError(Close.FRAME, "a datagram of flow 0")
        elif flow_id in self._gone:
            return None
        else:
            flow = self.by_id[flow_id] = Flow(self, flow_id, origin, self.drops)
            self._handler.flow_opened(flow, *datagrams.unpack_origin(origin))
        if flow.ended:
            return None
        self._known[flow_id] = None
        self._announce()
        return flow

    def _known_received(self, flow_id: int, flow: Flow | None, payload: memoryview) -> None:
        if len(payload):
            raise RemoteProtocolError(Close.FRAME, f"KNOWN of {len(payload)} bytes")
        if self._handler is not None:
            raise RemoteProtocolError(Close.STATE, "KNOWN for a flow that was not opened there")
        if flow is None:
            self._check_known(flow_id)
        else:
            flow.repeats = False

    def _check_known(self, flow_id: int) -> None:
        """Returns for a flow that may be over; raises RemoteProtocolError for one that never was."""
        if not flow_id:
            raise RemoteProtocolError(Close.FRAME, "a datagram of flow 0")
        if self._handler is None and flow_id >= self._next_id:
            raise RemoteProtocolError(Close.UNKNOWN_STREAM, f"flow {flow_id} was never opened")
