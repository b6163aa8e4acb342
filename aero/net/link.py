"""A link over its connection: two persistent watchers, two reused buffers, and the core's LinkMachine between them.

Nothing waits here: callbacks do one recv or one send per event. What the streams put into the session during one
turn of the loop leaves as one record when the turn ends.
"""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple, Protocol

from aero import logs
from aero.core import record
from aero.core.blocks import BLOCK_BYTES, pages
from aero.core.codes import Close
from aero.core.doubt import DOUBTED
from aero.core.flight import BULK_ACK_S, BULK_DELAY_S
from aero.core.joining import NEW
from aero.core.link import LinkHandler, LinkMachine
from aero.core.pacing import Pacing
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import Session
from aero.errors import AeroError, LinkClosed, LocalProtocolError, ProtocolError, RemoteProtocolError
from aero.net.faults import report
from aero.net.loop import AFTER_EVENTS, READ, WRITE, Watcher, event_loop, stopped
from aero.net.transport import Transport

READ_BYTES = record.MAX_RECORD_BYTES  # one call takes a whole record of the largest size
# Of an incomplete record up to this size, what has come is moved to the buffer's front; of a larger one only the
# missing bytes are received, so that the next one begins at the front by itself.
SMALL_BYTES = 32 * 1024
_BUFFER_BYTES = SMALL_BYTES + READ_BYTES + record.MAX_RECORD_BYTES
# Then the other sockets have their turn. That costs bulk a call a turn, and it finds less to read; beside light streams
# it is what each of their messages waits for where this end is busy sending.
RECORDS_A_TURN, SHARED_RECORDS = 8, 2
# A record with frames of the link's own is small, an acknowledgement most often; up to this size it leaves in one call
# with the one behind it.
_RIDER_BYTES = 1024
# While a large record comes packet by packet, each of them would wake us: 40,000 times a second at 1 Gbit/s. Where they
# follow each other as fast as that, the kernel wakes us at the record's end, or for so many bytes. Not more, as it
# would have to hold them, whatever its buffer is.
WAKE_BYTES, WAKE_S = 32 * 1024, 0.001
LINGER_S = 2.0  # how long a peer that was told why its link ends has to read that and hang up
# How soon a session whose streams wait for memory that other sessions hold looks again.
ROOM_RETRY_S = 0.05

log = logs.get("link")

_NO_BYTES = memoryview(b"")
_ENDED = LinkClosed("closed")

# A record is opened and all of its frames are handled within one call, so all links share the memory for that.
_PLAIN = memoryview(pages(record.MAX_PLAIN_BYTES))


class Figures(NamedTuple):
    """How a link fares, for people who ask (docs/PERFORMANCE.md, "How much may be on its way")."""

    transport: str  # "tcp", "tls", "ws" or "wss"
    round_trip_ms: float  # the least of late; 0 before the first
    bytes_per_s: int  # what the peer has acknowledged at best of late; 0 before the first bulk
    in_flight_bytes: int  # written and not acknowledged
    bound_bytes: int  # what may be; 0 where nothing is acknowledged (--resume 0)
    congestion: str  # the kernel's own congestion control; "" where the system hides it

    def __str__(self) -> str:
        """As the log has it."""
        return (
            f"{self.transport} {self.round_trip_ms:g} ms {self.bytes_per_s / 1e6:.1f} MB/s"
            f" {self.in_flight_bytes >> 10}/{self.bound_bytes >> 10} KiB {self.congestion or '-'}"
        )


class LinkOwner(LinkHandler, Protocol):
    """The role's side of a link: the core's events, and the end."""

    def link_ended(self, link: Link, error: AeroError) -> None:
        """The link is over and its connection closed; called once."""


class Link:
    """One link with its connection."""

    def __init__(
        self,
        transport: Transport,
        owner: LinkOwner,
        writer: RecordWriter,
        reader: RecordReader,
        ping_s: float,
        early: bytes = b"",
        joining: str = NEW,
        features: int = 0,
    ) -> None:
        """``transport``: its handshake is done; ``early``: what came behind the handshake;
        ``joining``: joining.WE_ASKED where our JOIN has left with it; ``features``: what both ends agreed on there.
        """
        self.owner = owner
        self.ended = False
        self.kind = transport.kind
        self.machine = LinkMachine(owner, writer, reader, _PLAIN, ping_s, monotonic(), joining, features)
        self.machine.on_output = self.schedule
        self.on_doubt = _nothing  # called at each look that finds the link doubted (core/doubt.py)
        self.sent_bytes = 0
        self.received_bytes = len(early)
        self._transport = transport
        self._layered = transport.kind != "tcp"
        self._receive_into, self._send = transport.receive_into, transport.send
        self._loop = event_loop()
        self._pacing = Pacing()
        self._in = memoryview(pages(_BUFFER_BYTES))
        self._in_start, self._in_end = 0, len(early)
        self._in[: len(early)] = early
        self._out = memoryview(pages(_RIDER_BYTES + record.MAX_RECORD_BYTES))
        self._out_start = self._out_end = 0
        self._scheduled = self._taking_in = False
        self._last_words = False  # a CLOSE of ours is being sent, nothing that comes is read any more
        self._error: AeroError = _ENDED  # why, from our last words on
        self._wakes_at = 1  # bytes that have to come before there is an event
        self._send_waits_for = 0  # READ or WRITE while the connection took only a part of what it was given
        self._reading = self._loop.io(transport.fileno(), READ)
        self._writing = self._loop.io(transport.fileno(), WRITE)
        self._timer: Watcher = self._loop.timer(0)
        self._timer_at = float("inf")
        # Ticks while bulk comes, for what no record brings to be acknowledged. One that is armed anew for each
        # acknowledgement would be a hundredth of all work.
        self._tick = self._loop.timer(BULK_DELAY_S, BULK_DELAY_S)
        # What run_callback is given runs before the loop looks for events again, and so would write after write. This
        # waits for the next turn, and then for all that have come.
        self._later = self._loop.timer(0, priority=AFTER_EVENTS)
        transport.keep_unsent(self._pacing.burst_bytes)

    @property
    def open(self) -> bool:
        """True until the link has ended or is about to."""
        return not (self.ended or self._last_words)

    @property
    def figures(self) -> Figures:
        """How it fares now."""
        session, congestion = self.machine.session, self._transport.congestion
        round_trip_s = self.machine.round_trip_s
        if session is None or not session.resumable:
            return Figures(self.kind, round(1000 * round_trip_s, 3), 0, 0, 0, congestion)
        flight, (acked, written) = session.flight, session.positions
        return Figures(
            self.kind,
            round(1000 * (flight.round_trip_s or round_trip_s), 3),
            int(flight.rate),
            written - acked,
            flight.bound_bytes,
            congestion,
        )

    def congest(self, name: str) -> None:
        """Has the kernel run this congestion control; a line of the log where it does not, "" leaves it the choice."""
        if name:
            try:
                self._transport.congest(name)
            except OSError as error:
                log.warning(
                    "the link keeps the system's congestion control", wanted=name, why=error.strerror or error
                )

    def start(self) -> None:
        """Begins to read; the owner may be called from here on."""
        self._reading.start(self._on_readable)
        try:
            self._take_in()
            if self.open:
                self._arm()
                if self._layered:
                    self._after_receive()
        except Exception as error:  # we are called from a greenlet here, not from the loop
            report(error)
            self.faulted(error)

    def carry(self, session: Session) -> None:
        """From here on the link carries ``session``."""
        self.machine.carry(session)
        session.burst_bytes = self._pacing.burst_bytes
        session.on_output, session.on_message = self.schedule, self._message
        session.dirty = True  # whether it has output or not, the flush below looks
        self._arm()  # the JOIN may have asked for another interval
        self.schedule()

    def ping(self) -> int:
        """Sends a ping at once; its number."""
        return self.machine.ping(monotonic())

    def schedule(self) -> None:
        """Has what there is to send leave at the end of this turn of the loop."""
        if not self._scheduled and not self.ended:
            self._scheduled = True
            self._loop.run_callback(self._flush)

    def _message(self) -> None:
        """A stream or flow has a message. It leaves at once where nothing else happens in this turn of the loop, else
        with all that does, at its end. Calls nobody: whoever sends may be in the middle of anything.
        """
        machine = self.machine
        session = machine.session
        if (
            session is None
            or self._scheduled
            or self._taking_in
            or self._loop.pendingcnt  # others have something in this turn, too
            or self._out_start < self._out_end
            or session.waiting
            or machine.frames
        ):
            self.schedule()
            return
        if session.flows is not None:
            session.flows.now = monotonic()
        self._out_start, self._out_end = 0, machine.next_record(self._out)
        try:
            count = self._send(self._out[: self._out_end])
        except OSError:  # full, or broken: then an event says so
            count = 0
        self.sent_bytes += count
        self._out_start = count
        if count == self._out_end:
            if session.flows is not None and machine.has_more:
                self.schedule()
                return
            session.dirty = False
            if not machine.look_at:
                self._watch()
        else:
            self._wait_to_send()

    def _wait_to_send(self) -> None:
        self._pacing.blocked(monotonic())
        self._send_waits_for = self._transport.send_waits_for
        if self._send_waits_for == WRITE:
            self._writing.start(self._on_writable)

    def close(self, code: int, text: str, error: AeroError | None = None) -> None:
        """Sends a CLOSE with the reason, gives the peer LINGER_S to read it, and ends."""
        if self.ended or self._last_words:
            return
        self._last_words = True
        self._tick.stop()
        self._drop_session()
        try:
            self.machine.close(code, text)
        except ProtocolError:
            pass  # too many link frames wait for the reason to fit: the peer sees the end alone
        self._error = error or LinkClosed(text)
        self._write()
        if not self.ended:
            self._timer.stop()
            self._timer = self._loop.timer(LINGER_S)
            self._timer.start(self._end, self._error)

    # Reading

    def _on_readable(self) -> None:
        """Receives once, to where the next record or the rest of one belongs, and processes what is whole."""
        start, end = self._in_start, self._in_end
        want = READ_BYTES
        if start == end:
            start = end = 0
        else:
            left = end - start
            size = record.record_bytes(self._in, start)[1] if left >= record.HEADER_BYTES else 0
            if size > SMALL_BYTES:
                want = start + size - end
            else:
                self._in[:left] = bytes(self._in[start:end])
                start, end = 0, left
        try:
            count = self._receive_into(self._in[end : end + want])
        except BlockingIOError:
            self._in_start, self._in_end = start, end
            if self._layered:
                self._after_receive()
            return
        except OSError as error:
            self._end(LinkClosed(f"the link broke: {error.strerror or error}"))
            return
        if not count:
            self._end(self._error if self._last_words else LinkClosed("the peer closed the link"))
            return
        self.received_bytes += count
        self._in_start, self._in_end = start, end + count
        if self._last_words:
            self._in_start = self._in_end  # only waiting for the peer to hang up
        else:
            before = self.machine.heard_at
            self._take_in()
            if self._wakes_at > 1 or (count < WAKE_BYTES and self._in_end > self._in_start):
                self._choose_wake(self.machine.heard_at - before)
        if self._layered:
            self._after_receive()

    def _choose_wake(self, after_s: float) -> None:
        """How much has to come before there is an event. The last receive was ``after_s`` after the one before it."""
        if self.ended:
            return
        have = self._in_end - self._in_start
        missing = 1
        if after_s < WAKE_S and have >= record.HEADER_BYTES and not self._last_words:
            missing = min(record.record_bytes(self._in, self._in_start)[1] - have, WAKE_BYTES)
        if missing != self._wakes_at:
            self._wakes_at = missing
            self._transport.wake_at(missing)

    def _after_receive(self) -> None:
        """Does what a layer in the connection may need, and TCP alone never does."""
        transport = self._transport
        if self.ended:
            return
        if transport.receive_waits_for == WRITE:
            self._writing.start(self._on_writable)
        if transport.pending:  # no event will announce it
            self._loop.run_callback(self._on_pending)
        if self._send_waits_for == READ:
            self._send_again()

    def _on_pending(self) -> None:
        if not self.ended:
            self._on_readable()

    def _take_in(self) -> None:
        machine = self.machine
        self._taking_in = True  # all that is said meanwhile leaves together
        try:
            self._in_start = machine.receive(self._in, self._in_start, self._in_end, monotonic())
            if self._in_end - self._in_start >= record.HEADER_BYTES:
                record.record_bytes(self._in, self._in_start)  # raises now where the length is impossible
        except RemoteProtocolError as error:
            self.close(error.code, str(error), error)
            return
        finally:
            self._taking_in = False
        if self.ended or self._last_words:
            return
        acks = machine.acks
        if acks.at and acks.at < self._timer_at:
            if not acks.bulk:
                self._arm()
            elif not self._tick.active:
                self._tick.start(self._on_tick)

    # Writing

    def _flush(self) -> None:
        self._scheduled = False
        if self._out_start == self._out_end and not self.ended:
            self._write()
            if not self.machine.look_at and self.open:
                self._watch()

    def _watch(self) -> None:
        """Has somebody look in a while whether what was sent has arrived."""
        self.machine.sent(monotonic())
        if self.machine.look_at < self._timer_at:
            self._arm()

    def _write(self) -> None:
        """Sends records until there are none, the socket is full, or others should have their turn."""
        machine, out, send = self.machine, self._out, self._send
        session = machine.session
        if session is not None and session.flows is not None:
            session.flows.now = monotonic()
        shared = session is not None and session.flight.lately_shared
        for _ in range(SHARED_RECORDS if shared else RECORDS_A_TURN):
            if self._out_start == self._out_end:
                rides = bool(machine.frames)
                size = machine.next_record(out)
                if rides and size <= _RIDER_BYTES:
                    size += machine.next_record(out[size:])
                elif not size and session is not None and session.waiting:
                    session.resume_waiting()
                    size = machine.next_record(out)
                if not size:
                    self._written(session)
                    return
                self._out_start, self._out_end = 0, size
                if session is not None and session.sends_bulk:
                    machine.leaving(monotonic())
            try:
                count = send(out[self._out_start : self._out_end])
            except BlockingIOError:
                count = 0
            except OSError as error:
                self._end(LinkClosed(f"the link broke: {error.strerror or error}"))
                return
            self.sent_bytes += count
            self._out_start += count
            if self._out_start < self._out_end:
                self._wait_to_send()
                return
            if not machine.has_more:
                self._written(session)
                return
        self._go_on_later()

    def _go_on_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later.start(self._flush)

    def _written(self, session: Session | None) -> None:
        """All is out."""
        if self._last_words:
            try:
                self._transport.shut()
            except OSError as error:
                self._end(LinkClosed(f"the link broke: {error.strerror or error}"))
            return
        if session is not None:
            session.dirty = False
            if session.outbox.kept_bytes > BLOCK_BYTES and session.overloaded:
                text = "the peer asks for answers and acknowledges none"
                self.close(Close.OVERLOAD, text, RemoteProtocolError(Close.OVERLOAD, text))
                return
            if session.waiting and self._timer_at > monotonic() + ROOM_RETRY_S:
                self._arm(ROOM_RETRY_S)

    def _on_writable(self) -> None:
        self._writing.stop()
        if self._send_waits_for == WRITE:
            self._send_again()
        if not self.ended and self._transport.receive_waits_for == WRITE:
            self._on_readable()

    def _send_again(self) -> None:
        """The connection takes more again."""
        self._send_waits_for = 0
        if self._pacing.drained(monotonic()):
            self._transport.keep_unsent(self._pacing.burst_bytes)
            if self.machine.session is not None:
                self.machine.session.burst_bytes = self._pacing.burst_bytes
        self._write()

    # Time and end

    def _arm(self, after_s: float | None = None) -> None:
        now = monotonic()
        if after_s is None:
            after_s = max(self.machine.deadline - now, 0.0)
        self._timer_at = now + after_s
        self._timer.stop()
        self._timer = self._loop.timer(after_s)
        self._timer.start(self._on_time)

    def _on_tick(self) -> None:
        acks, now = self.machine.acks, monotonic()
        if not acks.at:
            self._tick.stop()  # all that has come is acknowledged: the next record of bulk begins anew
        elif now >= acks.at - BULK_ACK_S:
            try:
                self.machine.acknowledge(now)
            except RemoteProtocolError as error:
                self.close(error.code, str(error), error)

    def _on_time(self) -> None:
        self._timer_at = float("inf")
        if (
            self._wakes_at > 1
        ):  # no event has told of what has come of a record so far, which is a sign of life, too
            self._on_readable()
            if not self.open:
                return
        machine, now = self.machine, monotonic()
        try:
            if machine.look_at and now >= machine.look_at:
                machine.look(now, self.sent_bytes - max(self._transport.in_flight(), 0))
                if machine.trust == DOUBTED:
                    self.on_doubt()
            machine.handle_deadline(now)
        except RemoteProtocolError as error:
            self.close(error.code, str(error), error)
        except LinkClosed as error:
            self.close(Close.SILENT, str(error), error)  # our direction may still work: the peer should know
            self._end(error)  # without waiting for an answer, which would not come
        if not self.ended and not self._last_words:
            self._arm()
            if self.machine.session is not None and self.machine.session.waiting:
                self.schedule()

    def _drop_session(self) -> None:
        session = self.machine.session
        if session is not None and session.on_output == self.schedule:
            session.on_output = session.on_message = _nothing

    def _end(self, error: AeroError) -> None:
        if self.ended:
            return
        self.ended = True
        self._drop_session()
        for watcher in (self._reading, self._writing, self._timer, self._tick, self._later):
            stopped(watcher)
        self._transport.close()
        # Keys and buffers go now, not when the garbage collector comes: logins would pile up megabytes until then.
        self.machine.on_output = _nothing
        self._in = self._out = _NO_BYTES
        self._in_start = self._in_end = self._out_start = self._out_end = 0
        # The reason that we gave decides whether the session may go on, not how the peer then hung up.
        if self._last_words:
            error = self._error
        self._error = _ENDED  # the reason's traceback may refer to this link
        self.owner.link_ended(self, error)

    def faulted(self, error: Exception) -> None:
        """Ends the link after an error of this program in one of its callbacks (net/faults.py)."""
        text = "an error of the program"
        failure = LocalProtocolError(Close.INTERNAL, f"{text}: {error!r}")
        try:
            self.close(Close.INTERNAL, text, failure)
        except Exception as second:  # not even the reason can be said
            report(second)
            self._end(failure)

    def abandon(self, error: AeroError) -> None:
        """Ends at once, without a word: the path is dead or the process is going down."""
        self._end(error)


def _nothing() -> None:
    """Takes the place of a callback that nobody waits for."""
