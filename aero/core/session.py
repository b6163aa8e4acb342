"""A session: streams, their credit and their order, across any number of links. Both ends run this same machine.

It takes the plaintext of session records and gives plaintext for the next ones; it never sees a socket, a key or a
clock. Verbs: ``open``, ``accept``, ``receive``, ``next_piece``, ``acknowledged``, ``take_over``, ``end``. Bulk
data goes straight from the record to the stream's receiver and from a socket straight into the outbox; objects are
made for control events only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Callable, NamedTuple, Protocol
from weakref import WeakSet

from aero.core import features, frames
from aero.core import stream as streams
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.control import Control, parse_control
from aero.core.flight import BULK_BYTES, UNBOUNDED, Flight
from aero.core.memory import Memory
from aero.core.outbox import Outbox
from aero.core.stream import Receiver, Stream
from aero.errors import LocalProtocolError, RemoteProtocolError, StreamError

if TYPE_CHECKING:
    from aero.core.packing import Packer

OPEN_CREDIT_BYTES = 64 * 1024  # what the opener may send before the acceptor has said anything (PROTOCOL.md)
MAX_WINDOW_BYTES = 16 * 1024 * 1024  # 1 Gbit/s at 130 ms
# Where both ends have agreed on it (features.LARGE_WINDOWS): 1 Gbit/s at 0.5 s.
LARGE_WINDOW_BYTES = 64 * 1024 * 1024
SERVER_FIRST_ID, WORKER_FIRST_ID = 1, 2
# Ids go round after 2^31 streams (a week at 3,000 a second). No frame can be mistaken for one of the id's former
# stream: it would have crossed 2^31 OPENs on its way, and a session keeps a few million frames at the most.
_ID_MASK = (1 << 32) - 1
_ROUND = 1 << 31
MIN_ROUND_TRIP_S = 0.001  # on one machine, scheduling takes longer than the way there and back


class SessionLimits(NamedTuple):
    """What one session may cost. Every number has its reason."""

    # 10,000 idle connections through one worker are a promise; a stream costs some 2 KiB at each end.
    max_streams: int = 16_384
    # The window a new stream gets: 20 Mbit/s at 100 ms before it grows.
    window_bytes: int = 256 * 1024
    # What new streams get once the budget is spent: about what TCP itself begins with (RFC 6928).
    min_window_bytes: int = 16 * 1024
    # All windows of a session together: two streams at their largest, or 512 that never grew.
    windows_bytes: int = 128 * 1024 * 1024
    # OPENs that the peer has not acknowledged. Opening one takes a worker some 150 us, and all else that was sent waits
    # behind them: 80 ms. A path of 200 ms still lets 2,500 streams a second be opened.
    rush_opens: int = 512
    # Kept until acknowledged: what the largest window takes, 1 Gbit/s at 0.5 s.
    kept_bytes: int = 64 * 1024 * 1024
    # Answers (windows, resets, control) may go past it by this much; a peer that takes none of them is cut off.
    kept_slack_bytes: int = 4 * 1024 * 1024


class SessionHandler(Protocol):
    """The role behind a session: server or worker. Nothing here may raise or block."""

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        """The peer opened a stream; owes ``session.accept`` or ``stream.abort``, now or later."""

    def control_received(self, message: Control) -> None:
        """A control message came; those of other versions come as control.Unknown."""

    def datagrams_came(self) -> Datagrams | None:
        """The first datagram or end of a flow came: its flows from here on; None where there can be none."""

    def goaway_received(self, code: int, text: str) -> None:
        """The peer wants no new streams and will leave when the open ones are done."""


class Datagrams(Protocol):
    """The flows of datagrams beside the streams (core/flows.py), as session and link need them."""

    now: float  # whoever takes records says what time it is

    @property
    def waiting(self) -> bool:
        """True when there is something to send."""

    def take(self) -> bytes:
        """The next datagram record's plaintext; empty where nothing is to be sent after all."""

    def receive(self, record: memoryview) -> None:
        """Processes one datagram record's plaintext. Raises RemoteProtocolError: then the session is over."""

    def end_received(self, flow_id: int, code: int, text: str, now: float) -> None:
        """The other end has ended a flow. Raises RemoteProtocolError."""

    def link_up(self) -> None:
        """A link that has agreed on datagrams carries the session from here on."""

    def link_lost(self) -> None:
        """No link carries the session, or one without datagrams."""

    def close(self) -> None:
        """The session is over, and every flow with it."""


class _Waiting:
    """Receiver of a stream that was not accepted yet: keeps what comes, at most OPEN_CREDIT_BYTES."""

    def __init__(self) -> None:
        self.kept = bytearray()  # no list: single bytes would make it forty times as large
        self.ended = False
        self.over: tuple[int, str] | None = None
        self.when_reset: Callable[[], None] = _nothing

    def data(self, view: memoryview) -> None:
        self.kept += view

    def finished(self) -> None:
        self.ended = True

    def reset(self, code: int, text: str) -> None:
        self.over = (code, text)
        self.kept = bytearray()
        tell, self.when_reset = self.when_reset, _nothing
        tell()

    def resume(self) -> None:
        """Nothing is sent before the stream is accepted."""


class Session:
    """One end of a session."""

    def __init__(
        self, handler: SessionHandler, first_id: int, memory: Memory, limits: SessionLimits, now: float
    ) -> None:
        """``first_id``: SERVER_FIRST_ID or WORKER_FIRST_ID, which says whose streams are odd."""
        self.handler = handler
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self._memory = memory
        self.pool = memory.blocks
        self.outbox = Outbox(self.pool)
        self.received = 0  # position in the peer's sequence: all below it was processed
        self.now = now
        self.round_trip_s = MIN_ROUND_TRIP_S  # the links measure it
        # How much may wait unsent; the link sets it to what drains quickly.
        self.burst_bytes = frames.LENGTH_MASK
        # Since the link looked last: a stream has more than it was allowed to send; a frame came that only bulk has.
        self.sends_bulk = self.gets_bulk = False
        self.flight: Flight = UNBOUNDED  # how much may be on its way; the link brings its own
        self.on_output = _nothing  # called once when there is something to send
        self.on_message = _nothing  # called in its place when that is all that a stream has for now
        # True once output was announced by ``on_output``. Set by whoever queues output; cleared only by the link that
        # carries the session, when the outbox has nothing left to send.
        self.dirty = False
        # The bits of features.py that the link which carries the session has agreed on.
        self.features = 0
        self.flows: Datagrams | None = None  # there is a target for datagrams, or was one
        # What was sent is kept until it is acknowledged, for the next link; both ends agree.
        self.resumable = True
        self.leaving = False  # no new streams: one side said goaway
        self.ended = False  # the outbox was given back: nothing may be put into it
        self.opens: Budget | None = None  # what the peer may open; None: as much as it likes
        self._next_id = first_id
        self._their_parity = (first_id + 1) & 1
        self._their_last = 0
        self._round = self._their_round = False  # ids have gone round once: every id was given before
        self._told_to_go = False  # the peer said goaway
        self._opens: deque[int] = (
            deque()
        )  # where in our sequence the OPENs end that may not be acknowledged yet
        self.opened = 0  # OPENs that have come since the link acknowledged last
        self._windows = 0  # sum of all streams' receive windows
        self.waiting: OrderedDict[int, Stream] = OrderedDict()  # streams that wait for room, in turn
        # Closed streams whose receivers have not consumed everything yet. Weak: they go when their receivers do.
        self._leftovers: WeakSet[Stream] = WeakSet()
        self._all_windows = memory.windows
        self._incoming = memory.incoming
        self._incoming.holders.add(self)

    # Sending

    def open(self, receiver: Receiver, target_id: int, visitor: str, now: float) -> Stream:
        """A new stream to the peer's target; data may follow at once, up to OPEN_CREDIT_BYTES.

        Raises StreamError when the session takes no new streams.
        """
        if self.leaving:
            raise StreamError(Reset.LIMIT, "the session takes no new streams: one side is leaving")
        if len(self.streams) >= self.limits.max_streams:
            raise StreamError(
                Reset.LIMIT, f"{self.limits.max_streams} streams are open, the most there may be"
            )
        # Only half of the slack: visitors who come and go while the peer acknowledges nothing leave the other half to
        # answers, whose overflow would end the link.
        if self.outbox.kept_bytes > self.limits.kept_bytes + self.limits.kept_slack_bytes // 2:
            raise StreamError(Reset.LIMIT, "the other end has long taken nothing of what waits for it")
        stream = Stream(self, self._take_id(), receiver, self._new_window(), OPEN_CREDIT_BYTES, now)
        self._windows += stream.window
        self.streams[stream.id] = stream
        self.put(frames.OPEN, stream.id, frames.pack_open(stream.window, target_id, visitor))
        if (
            self._opens and self._opens[0] <= self.outbox.acked
        ):  # no longer than what is on its way, whoever asks
            self._opens.popleft()
        self._opens.append(self.outbox.written)
        return stream

    @property
    def rushed(self) -> bool:
        """True while so many OPENs are on their way that new visitors had better wait in front of the door."""
        opens, many = self._opens, self.limits.rush_opens
        if len(opens) < many:
            return False
        acked = self.outbox.acked
        while opens and opens[0] <= acked:
            opens.popleft()
        return len(opens) >= many

    def _take_id(self) -> int:
        stream_id = self._next_id
        while stream_id in self.streams:  # open since the last round
            stream_id = _following(stream_id)
        self._next_id = _following(stream_id)
        self._round |= self._next_id < stream_id
        return stream_id

    def accept(self, stream: Stream, receiver: Receiver, now: float) -> None:
        """Connects a stream that the peer opened; ``receiver`` gets at once what came before."""
        waiting = stream.receiver
        if not isinstance(waiting, _Waiting):
            raise LocalProtocolError(Close.STATE, f"stream {stream.id} was accepted before")
        if waiting.over is not None:
            receiver.reset(*waiting.over)
            return
        stream.receiver = receiver
        window = self._new_window()
        if window > stream.window and stream.state != streams.CLOSED:
            self._windows += window - stream.window
            stream.window = window
        # First of all, and whoever has ended: who opened the stream takes a RESET without a WINDOW before it as the
        # proof that nothing was handed on (PROTOCOL.md, section "Streams").
        stream.announce(now)
        if waiting.kept:
            receiver.data(memoryview(waiting.kept))
        if waiting.ended:
            stream.receiver.finished()  # data() may have ended it

    def when_reset(self, stream: Stream, tell: Callable[[], None]) -> None:
        """Calls ``tell()`` should a stream that the peer opened be reset before it is accepted: nobody waits for it."""
        if isinstance(stream.receiver, _Waiting):
            stream.receiver.when_reset = tell

    def control(self, message: Control) -> None:
        """Sends a control message, which may not pack to more than frames.MAX_JSON_BYTES."""
        payload = message.pack()
        if len(payload) > frames.MAX_JSON_BYTES:
            raise LocalProtocolError(Close.FRAME, f"a control message of {len(payload)} bytes")
        self.put(frames.CONTROL, 0, payload)

    def goaway(self, code: int, text: str) -> None:
        """No new streams from either side; the open ones go on."""
        if not self.leaving:
            self.leaving = True
            self.put(frames.GOAWAY, 0, frames.pack_reason(code, text))

    def put(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Appends one frame to the sequence; dropped when the session has ended."""
        if self.ended:
            return
        self.outbox.put(frames.pack(kind, stream_id, payload))
        if not self.dirty:
            self.dirty = True
            self.on_output()

    def allowance(self, stream: Stream) -> int:
        """How many bytes of data ``stream`` may send now. 0: stop; the receiver's ``resume`` will be called."""
        credit = stream.send_limit - stream.sent
        if credit <= 0:
            stream.starved = True
            return 0
        burst, flight, outbox = self.burst_bytes, self.flight, self.outbox
        written = outbox.written
        unsent = written - outbox.sent
        free = flight.bound_bytes - written + outbox.acked
        if unsent < burst and free >= flight.step_bytes:
            quantum = burst
            if stream.heavy and quantum > 2 * flight.step_bytes:
                quantum = 2 * flight.step_bytes
            if quantum > free:
                quantum = free
            return credit if credit < quantum else quantum
        # A light stream may go past bulk that waits for its turn.
        if not stream.heavy and unsent < burst + burst:
            quantum = burst >> 3
            return credit if credit < quantum else quantum
        if free < flight.step_bytes:
            flight.held_back = True
        self.wait_turn(stream)
        return 0

    def wait_turn(self, stream: Stream) -> None:
        """Puts ``stream`` at the end of those that wait for room, unless it stands there or waits for credit."""
        if not stream.waiting and not stream.starved:
            stream.waiting = True
            self.waiting[stream.id] = stream
            if not self.dirty:  # else the link comes back here by itself, when it has sent what is queued
                self.dirty = True
                self.on_output()

    @property
    def full(self) -> bool:
        """True when no more memory may be taken to keep data: streams that need some wait for acknowledgements."""
        kept = self.outbox.kept_bytes
        return kept >= self.limits.kept_bytes or self.pool.refuses(kept)

    @property
    def burdens(self) -> bool:
        """True when this session keeps more than LITTLE_BYTES unacknowledged while the shared pool is exhausted."""
        return self.pool.exhausted and self.outbox.kept_bytes > self.pool.little_bytes

    @property
    def overloaded(self) -> bool:
        """True when the peer asks for answers and acknowledges none of them: the link has to be ended."""
        return self.outbox.kept_bytes > self.limits.kept_bytes + self.limits.kept_slack_bytes

    @property
    def positions(self) -> tuple[int, int]:
        """Of our sequence: what the peer has processed, what was written."""
        return self.outbox.acked, self.outbox.written

    @property
    def packer(self) -> Packer | None:
        """What compresses and takes what is compressed; None where an end cannot, or this one does not want to."""
        return self._memory.packer if self.features & features.ZSTD else None

    def next_piece(self) -> memoryview | None:
        """The next session record's plaintext, or None; valid until acknowledged."""
        return self.outbox.next_piece()

    def resume_waiting(self) -> None:
        """There is room: lets the waiting streams go on, in turn, each once at most."""
        queue, outbox, flight = self.waiting, self.outbox, self.flight
        self.dirty = True  # our caller sends next and need not be told that there is output
        for _ in range(len(queue)):
            # Resuming a stream may have closed others, so the queue may be shorter than it was.
            if not queue or self.full or outbox.written - outbox.sent >= self.burst_bytes:
                break
            if flight.bound_bytes - (outbox.written - outbox.acked) < flight.step_bytes:
                flight.held_back = True
                break
            stream = queue.popitem(last=False)[1]
            stream.waiting = False
            stream.receiver.resume()

    # Acknowledgement and takeover

    def acknowledged(self, position: int) -> None:
        """The peer has processed our sequence up to ``position``. Raises RemoteProtocolError."""
        if not self.ended and not self.outbox.acknowledge(position):
            raise RemoteProtocolError(
                Close.SEQUENCE,
                f"acknowledged {position}, possible are {self.outbox.acked} to {self.outbox.sent}",
            )

    def take_over(self, position: int) -> None:
        """A new link goes on where the peer's processing stopped, and looks for output by itself.

        Raises RemoteProtocolError.
        """
        if not self.outbox.rewind(position):
            raise RemoteProtocolError(Close.SEQUENCE, f"cannot go on at {position}: it is not kept")

    def end(self, code: int, text: str) -> None:
        """The session is over: every stream is reset at this end, and what was kept is dropped. Harmless when over."""
        if self.ended:
            return
        self.ended = self.leaving = True
        self.on_output = self.on_message = _nothing
        while self.streams:  # resetting one may close others
            stream = next(iter(self.streams.values()))
            self.stream_event(stream, streams.RESET)
            stream.receiver.reset(code, text)
        if self.flows is not None:
            self.flows.close()
            self.flows = None  # they refer to each other, too
        self._incoming.holders.discard(self)
        self.outbox.release()  # not earlier: a receiver may write until it is reset
        del (
            self.handler
        )  # they refer to each other: without this the memory would wait for the garbage collector

    # Receiving

    def receive(self, record: memoryview, now: float) -> None:
        """Processes one session record's plaintext. Raises RemoteProtocolError: then the session is over."""
        self.now = now
        at, end = 0, len(record)
        unpack, table = frames.HEADER.unpack_from, self.streams
        while at < end:
            if end - at < frames.HEADER_BYTES:
                raise RemoteProtocolError(Close.FRAME, f"{end - at} bytes left at the end of a record")
            word, stream_id = unpack(record, at)
            start = at + frames.HEADER_BYTES
            length = word & frames.LENGTH_MASK
            at = start + length
            if at > end:
                raise RemoteProtocolError(Close.FRAME, "a frame longer than its record")
            if word >> 24 == frames.DATA:
                stream = table.get(stream_id)
                if stream is None:
                    self._known(stream_id)  # data that crossed our reset: dropped
                    continue
                stream.received = received = stream.received + length
                if received > stream.limit or not length or stream.state >= streams.THEIRS_ENDED:
                    raise self._bad_data(stream, length)
                if length >= BULK_BYTES:
                    self.gets_bulk = True
                stream.receiver.data(record[start:at])
            else:
                if self.ended:
                    return  # an earlier frame of this record has ended the session
                handle = _HANDLERS.get(word >> 24)
                if handle is None:
                    raise RemoteProtocolError(Close.FRAME, f"frame kind {word >> 24} is unknown")
                handle(self, stream_id, record[start:at])
        self.received += end
        incoming = self._incoming
        incoming.left -= end  # Incoming.grew, without the call
        if incoming.left < 0:
            incoming.bound()

    def _bad_data(self, stream: Stream, length: int) -> RemoteProtocolError:
        if not length:
            return RemoteProtocolError(Close.FRAME, f"empty DATA on stream {stream.id}")
        if stream.state >= streams.THEIRS_ENDED:
            return RemoteProtocolError(Close.STATE, f"DATA after FIN on stream {stream.id}")
        return RemoteProtocolError(
            Close.CREDIT, f"stream {stream.id} sent {stream.received} bytes with credit for {stream.limit}"
        )

    def _known(self, stream_id: int) -> None:
        """Returns for the id of a stream that is closed; raises RemoteProtocolError for one that was never opened."""
        if stream_id & 1 != self._their_parity:
            known = self._round or stream_id < self._next_id
        else:
            known = self._their_round or stream_id <= self._their_last
        if not known or not stream_id:
            raise RemoteProtocolError(Close.UNKNOWN_STREAM, f"stream {stream_id} was never opened")

    def _find(self, stream_id: int) -> Stream | None:
        stream = self.streams.get(stream_id)
        if stream is None:
            self._known(stream_id)
        return stream

    def _handle_control(self, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise RemoteProtocolError(Close.FRAME, f"CONTROL on stream {stream_id}")
        self.handler.control_received(parse_control(payload))

    def _handle_open(self, stream_id: int, payload: memoryview) -> None:
        window, target_id, visitor = frames.unpack_open(payload)
        ahead = (stream_id - self._their_last) & _ID_MASK
        if stream_id & 1 != self._their_parity or not stream_id or not 0 < ahead < _ROUND:
            raise RemoteProtocolError(Close.STATE, f"stream {stream_id} may not be opened")
        if stream_id in self.streams:
            raise RemoteProtocolError(Close.STATE, f"stream {stream_id} is open")
        if window > self.max_window_bytes:
            raise RemoteProtocolError(
                Close.CREDIT, f"a window of {window} bytes, allowed are {self.max_window_bytes}"
            )
        if self.opens is not None and not self.opens.spend(self.now):
            raise RemoteProtocolError(Close.OVERLOAD, "streams are opened where nothing is to be reached")
        self._their_round |= stream_id < self._their_last
        self._their_last = stream_id
        stream = Stream(self, stream_id, _Waiting(), OPEN_CREDIT_BYTES, window, self.now)
        if self.leaving or len(self.streams) >= self.limits.max_streams:
            stream.state = streams.CLOSED
            self.put(frames.RESET, stream_id, frames.pack_reason(Reset.LIMIT, "no more streams now"))
            return
        self.opened += 1
        self._windows += stream.window
        self.streams[stream_id] = stream
        self.handler.stream_opened(stream, target_id, visitor)

    def _handle_packed(self, stream_id: int, payload: memoryview) -> None:
        packer = self.packer
        if packer is None:
            raise RemoteProtocolError(Close.STATE, "PACKED, which this link has not agreed on")
        count, packed = frames.unpack_packed(payload)
        stream = self._find(stream_id)
        if stream is None:
            return
        stream.received = received = stream.received + count
        # Before it is unpacked: nobody makes us unpack more than we have room for.
        if received > stream.limit or stream.state >= streams.THEIRS_ENDED:
            raise self._bad_data(stream, count)
        if len(payload) >= BULK_BYTES:
            self.gets_bulk = True
        stream.receiver.data(packer.unpack(packed, count))
        # What is held grows by more than what has come, so it cannot wait for the record's end.
        self._incoming.grew(count)

    def _handle_fin(self, stream_id: int, payload: memoryview) -> None:
        if len(payload):
            raise RemoteProtocolError(Close.FRAME, f"FIN of {len(payload)} bytes")
        stream = self._find(stream_id)
        if stream is not None:
            if (stream.state, streams.THEIR_FIN) not in streams.TRANSITIONS:
                raise RemoteProtocolError(Close.STATE, f"FIN twice on stream {stream_id}")
            self.stream_event(stream, streams.THEIR_FIN)
            stream.receiver.finished()

    def _handle_reset(self, stream_id: int, payload: memoryview) -> None:
        code, text = frames.unpack_reason(payload, frames.RESET)
        stream = self._find(stream_id)
        if stream is not None:
            stream.refused = not (stream.accepted or stream.received)
            self.stream_event(stream, streams.RESET)
            stream.receiver.reset(code, text)

    def _handle_window(self, stream_id: int, payload: memoryview) -> None:
        consumed, window = frames.unpack_window(payload)
        stream = self._find(stream_id)
        if stream is None:
            return
        limit = consumed + window
        if window > self.max_window_bytes or consumed > stream.sent or limit < stream.send_limit:
            raise RemoteProtocolError(
                Close.CREDIT,
                f"WINDOW {consumed}+{window} on stream {stream_id}, which sent {stream.sent} of {stream.send_limit}",
            )
        stream.send_limit = limit
        stream.accepted = True
        if stream.starved and limit > stream.sent:
            stream.starved = False
            stream.receiver.resume()

    def _handle_goaway(self, stream_id: int, payload: memoryview) -> None:
        code, text = frames.unpack_reason(payload, frames.GOAWAY)
        if stream_id:
            raise RemoteProtocolError(Close.FRAME, f"GOAWAY on stream {stream_id}")
        self.leaving = True
        if not self._told_to_go:  # the role hears it once, however often the peer says it
            self._told_to_go = True
            self.handler.goaway_received(code, text)

    def _handle_flow_end(self, flow_id: int, payload: memoryview) -> None:
        code, text = frames.unpack_reason(payload, frames.FLOW_END)
        self.their_flows().end_received(flow_id, code, text, self.now)

    def their_flows(self) -> Datagrams:
        """What takes datagrams from the peer. Raises RemoteProtocolError where there can be none."""
        if self.flows is None and not self.ended:
            self.flows = self.handler.datagrams_came()
        if self.flows is None:
            raise RemoteProtocolError(Close.STATE, "datagrams where there are no flows")
        return self.flows

    # Streams' book-keeping

    def stream_event(self, stream: Stream, event: str) -> None:
        """Moves a stream along its table. Raises LocalProtocolError for what the table does not have."""
        state = streams.TRANSITIONS.get((stream.state, event))
        if state is None:
            raise LocalProtocolError(
                Close.STATE, f"{event} on stream {stream.id}, which is {streams.STATE_NAMES[stream.state]}"
            )
        stream.state = state
        if state == streams.CLOSED:
            del self.streams[stream.id]
            self._windows -= stream.window
            if stream.window > self.limits.window_bytes:
                self._all_windows.grown_bytes -= stream.window - self.limits.window_bytes
            if stream.waiting:
                del self.waiting[stream.id]
            if event != streams.RESET and stream.consumed != stream.received:
                self._leftovers.add(stream)

    @property
    def max_window_bytes(self) -> int:
        """The largest window of a stream, as the two ends have agreed."""
        return LARGE_WINDOW_BYTES if self.features & features.LARGE_WINDOWS else MAX_WINDOW_BYTES

    @property
    def held_bytes(self) -> int:
        """What has come and no receiver has taken. Looks at every stream."""
        return sum(each.received - each.consumed for each in (*self.streams.values(), *self._leftovers))

    def give_way(self, count: int) -> int:
        """Resets streams until ``count`` bytes fewer are unread; returns how many bytes that were.

        Those go that have waited the longest for their reader, among those that hold at least half of the average.
        """
        held = {each: each.received - each.consumed for each in (*self.streams.values(), *self._leftovers)}
        # Streams with less than half of the average hold less than half of all together, so the others suffice.
        much = sum(held.values()) / (2 * (sum(unread > 0 for unread in held.values()) or 1))
        stuck = sorted(
            (each for each, unread in held.items() if unread and unread >= much),
            key=lambda each: (each.announced_at, each.id),
        )
        freed = 0
        for stream in stuck:
            if freed >= count:
                break
            freed += held[stream]
            self._give_up(stream)
        return freed

    def _give_up(self, stream: Stream) -> None:
        text = "too much waits for readers that do not read"
        self._leftovers.discard(stream)
        if stream.state != streams.CLOSED:
            self.stream_event(stream, streams.RESET)
            self.put(frames.RESET, stream.id, frames.pack_reason(Reset.LIMIT, text))
        stream.receiver.reset(Reset.LIMIT, text)

    def _new_window(self) -> int:
        left = self.limits.windows_bytes - self._windows
        return self.limits.window_bytes if left >= self.limits.window_bytes else self.limits.min_window_bytes

    def grow(self, window: int) -> int:
        """By how many bytes a stream's window may grow: as much again, within its maximum and both budgets."""
        more = min(window, self.max_window_bytes - window, self.limits.windows_bytes - self._windows)
        first, windows = self.limits.window_bytes, self._all_windows
        grown = max(window - first, 0)
        more = min(more, max(first - window, 0) + windows.room(grown))
        if more <= 0:
            return 0
        self._windows += more
        windows.grown_bytes += max(window + more - first, 0) - grown
        return more

    def shrink(self, window: int) -> int:
        """By how many bytes a stream's window has to shrink, for the sake of others: by half, or not at all.

        Only where half of it was consumed since it was announced: so what was announced still holds.
        """
        first, windows = self.limits.window_bytes, self._all_windows
        if not windows.excess(window - first):
            return 0
        less = window >> 1
        self._windows -= less
        windows.grown_bytes -= window - max(window - less, first)
        return less


def _following(stream_id: int) -> int:
    return (stream_id + 2) & _ID_MASK or WORKER_FIRST_ID  # 0 is no stream


# By frame kind. A table of bound methods in each session would refer back to it, and keep it from being freed at once.
_HANDLERS = {
    frames.CONTROL: Session._handle_control,
    frames.OPEN: Session._handle_open,
    frames.FIN: Session._handle_fin,
    frames.PACKED: Session._handle_packed,
    frames.RESET: Session._handle_reset,
    frames.WINDOW: Session._handle_window,
    frames.GOAWAY: Session._handle_goaway,
    frames.FLOW_END: Session._handle_flow_end,
}


def _nothing() -> None:
    """Stands for ``on_output`` while no link carries the session."""
