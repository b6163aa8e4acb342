"""A link without its socket: records in and out, and the frames that belong to the link itself.

Acknowledgement, ping, join and close live here; all that survives a link lives in the session that it carries.
Verbs: ``receive``, ``next_record``, ``join``, ``joined``, ``ping``, ``close``, ``deadline``, ``handle_deadline``.
"""

from __future__ import annotations

from typing import Protocol

from aero.core import features, frames, record
from aero.core.blocks import BLOCK_BYTES
from aero.core.budget import Budget
from aero.core.codes import Close
from aero.core.doubt import LOOK_S, Doubt
from aero.core.flight import UNBOUNDED, Acks, Flight
from aero.core.joining import (
    JOINING,
    NEW,
    OUR_JOIN,
    OUR_JOINED,
    THEIR_JOIN,
    THEIR_JOINED,
    Join,
    Joined,
    parse_join,
    parse_joined,
)
from aero.core.record import HEADER_BYTES, SESSION, RecordReader, RecordWriter, record_bytes
from aero.core.session import MIN_ROUND_TRIP_S, Session
from aero.errors import LinkClosed, RemoteProtocolError

# Acknowledge at once after so many OPENs: a server lets visitors wait in front of its doors while
# SessionLimits.rush_opens of them are not acknowledged.
ACK_OPENS = 64
MAX_PINGS = 16  # unanswered at once
# When a deadline is handled later than this, it was we who were away (stopped, or without the processor), not the
# peer. What the peer has sent meanwhile may still be unread. So it is pinged once more and has SECOND_CHANCE_S to
# answer: more than a round trip on any path, and little beside the time that we were away.
LATE_S = 0.5
SECOND_CHANCE_S = 5.0
# While memory is scarce, a session that keeps much and of which nothing is acknowledged for so long gives way: a
# hundred times what an acknowledgement may take, so that only a stalled path or a peer that means harm is hit.
STALLED_S = 10.0
# A worker whose streams have moved bytes within ACTIVE_S asks for a sign of life after QUIET_S of silence: its visitors
# wait, and only it can dial a new link. Idle links go by their ping interval alone.
ACTIVE_S = 60.0
QUIET_S = 10.0
# Link frames that wait to be sent. A JOINED, of at most 64 KiB, is the largest; PONGs may gather behind it.
MAX_LINK_FRAMES_BYTES = 128 * 1024


class LinkHandler(Protocol):
    """Who owns the link: the server's or the worker's side of it. Nothing here may raise or block."""

    def joining(self, message: Join | Joined) -> None:
        """What the table of joining lets come: the server gets a Join and owes ``joined`` or ``close``; the worker
        gets the Joined that answers its own, and owes ``carry``.
        """

    def pong_received(self, number: int, round_trip_s: float) -> None:
        """An answer to a ping of ours."""

    def close_received(self, code: int, text: str) -> None:
        """The peer ends the link, and why; nothing more will come."""


class LinkMachine:
    """One end of one link, from the first record on."""

    def __init__(
        self,
        handler: LinkHandler,
        writer: RecordWriter,
        reader: RecordReader,
        plain: memoryview,
        ping_s: float,
        now: float,
        joining: str = NEW,
        features: int = 0,
    ) -> None:
        """``plain``: MAX_PLAIN_BYTES of scratch that records are opened into; may be shared by all links.

        ``joining``: WE_ASKED where our JOIN has left with the handshake; ``features``: the bits of
        features.py that both ends agreed on there.
        """
        self.handler = handler
        self.session: Session | None = None
        self.features = features
        self.heard_at = now
        self.ping_s = ping_s
        self.closing = False  # our CLOSE was queued: nothing is sent after it
        self._deaf = False  # either side has said CLOSE: whatever comes after it is ignored
        self.round_trip_s = 0.0  # the shortest that was seen; 0 before the first pong
        self._joining = joining
        self._writer = writer
        self._reader = reader
        self._plain = plain
        self._after_datagrams = False  # what next_record gave last: a session record is next, if there is one
        self.frames = bytearray()  # link frames that wait for the next record
        self._pings: dict[int, float] = {}
        self._next_ping = 1
        self._ping_at = now
        self.pings: Budget | None = None  # what the peer may ask; None: as often as it likes
        self._asked_at = now  # when the peer got its second chance, of which there is one in each silence
        self.on_output = _nothing  # called when a link frame is to be sent, or a stream may go on
        self.acks = Acks()
        self._progress = (0, now)  # what the peer had acknowledged of ours when we looked, and since when
        # When to look whether the peer is still there; 0: nothing was sent since the last look.
        self.look_at = 0.0
        # While streams move, silence is answered by a ping of ours, however long ping_s is.
        self.eager = False
        self._doubt = Doubt(now)
        self._moved = (0, now)  # the session's positions at the last look, and when they had changed last

    # Receiving

    def receive(self, buffer: memoryview, start: int, end: int, now: float) -> int:
        """Processes the whole records in ``buffer[start:end]``; returns where the first incomplete one begins.

        Raises RemoteProtocolError: the link is over, and unless ``error.code`` is Close.RECORD the session too.
        """
        self.heard_at = now
        plain, opener = self._plain, self._reader.open
        while end - start >= HEADER_BYTES and not self._deaf:
            kind, size = record_bytes(buffer, start)
            if end - start < size:
                break
            count = opener(buffer[start : start + size], plain)
            start += size
            if kind == SESSION:
                session = self.session
                if session is None:
                    raise RemoteProtocolError(Close.STATE, "a session record before the session")
                session.receive(plain[:count], now)
            elif kind == record.LINK:
                self._receive_link_frames(plain[:count], now)
            else:
                self._receive_datagrams(plain[:count])
        if self._deaf:
            return end
        session = self.session
        if session is not None and session.received != self.acks.position:
            if session.outbox.kept_bytes > BLOCK_BYTES and session.overloaded:
                raise RemoteProtocolError(Close.OVERLOAD, "the peer asks for answers and acknowledges none")
            if not session.resumable:
                self.acks.position = session.received
                return start
            bulk = session.gets_bulk
            shared = bulk and session.flight.see_shared(now)
            if self.acks.received(session.received, bulk, shared, now) or session.opened >= ACK_OPENS:
                self._acknowledge(session, now)
        return start

    def _receive_link_frames(self, view: memoryview, now: float) -> None:
        for kind, stream_id, payload in frames.split(view):
            if self._deaf:
                return
            if stream_id:
                raise RemoteProtocolError(
                    Close.FRAME, f"{frames.NAMES.get(kind, 'a link frame')} on stream {stream_id}"
                )
            if kind == frames.ACK:
                self._handle_ack(frames.unpack_u64(payload, kind), now)
            elif kind == frames.PING:
                self._handle_ping(frames.unpack_u64(payload, kind), now)
            elif kind == frames.PONG:
                self._handle_pong(frames.unpack_u64(payload, kind), now)
            elif kind == frames.JOIN:
                self._join_moves(THEIR_JOIN)
                self.handler.joining(parse_join(payload))
            elif kind == frames.JOINED:
                self._join_moves(THEIR_JOINED)
                self.handler.joining(parse_joined(payload))
            elif kind == frames.CLOSE:
                self._deaf = True
                self.handler.close_received(*frames.unpack_reason(payload, kind))
            else:
                raise RemoteProtocolError(Close.FRAME, f"link frame kind {kind} is unknown")

    def _receive_datagrams(self, view: memoryview) -> None:
        if self.session is None or not self.features & features.DATAGRAMS:
            raise RemoteProtocolError(Close.STATE, "datagrams, which this link has not agreed on")
        self.session.their_flows().receive(view)

    def _handle_ack(self, position: int, now: float) -> None:
        session = self.session
        if session is None:
            raise RemoteProtocolError(Close.STATE, "ACK before the session")
        session.acknowledged(position)
        session.flight.acknowledged(position, session.outbox.sent, now)
        if session.waiting:
            self.on_output()

    def _handle_ping(self, number: int, now: float) -> None:
        if self.pings is not None and not self.pings.spend(now):
            raise RemoteProtocolError(Close.OVERLOAD, "pings come faster than anybody needs them")
        self._put(frames.PONG, frames.pack_u64(number))

    def _join_moves(self, said: str) -> None:
        state = JOINING.get((self._joining, said))
        if state is None:
            kind = "JOIN" if said == THEIR_JOIN else "JOINED"
            raise RemoteProtocolError(Close.STATE, f"{kind} may not come now")
        self._joining = state

    def _handle_pong(self, number: int, now: float) -> None:
        sent_at = self._pings.pop(number, None)
        if sent_at is None:
            raise RemoteProtocolError(Close.STATE, f"PONG {number} answers no ping of ours")
        measured = now - sent_at
        self.round_trip_s = min(self.round_trip_s, measured) if self.round_trip_s else measured
        self._tell_round_trip()
        if self.session is not None:
            self.session.flight.heard(measured, now)
        self.handler.pong_received(number, measured)

    def _tell_round_trip(self) -> None:
        if self.session is not None and self.round_trip_s:
            self.session.round_trip_s = max(MIN_ROUND_TRIP_S, self.round_trip_s)

    # Sending

    def _put(self, kind: int, payload: bytes) -> None:
        if self.closing:
            return
        if len(self.frames) + len(payload) > MAX_LINK_FRAMES_BYTES:
            raise RemoteProtocolError(Close.OVERLOAD, "the peer asks for answers and takes none")
        self.frames += frames.pack(kind, 0, payload)
        self.on_output()

    @property
    def has_more(self) -> bool:
        """False when ``next_record`` would give nothing, and no stream or flow waits for room."""
        session = self.session
        if session is None or self.frames or session.waiting:
            return True
        if session.flows is not None and session.flows.waiting:
            return True
        return session.outbox.sent != session.outbox.written

    def join(self, message: Join) -> None:
        """Worker: asks for a session; PROTOCOL.md, section "Joining"."""
        self._joining = JOINING[self._joining, OUR_JOIN]
        self._put(frames.JOIN, message.pack())

    def joined(self, message: Joined) -> None:
        """Server: answers a JOIN."""
        self._joining = JOINING[self._joining, OUR_JOINED]
        self._put(frames.JOINED, message.pack())

    def carry(self, session: Session) -> None:
        """From here on this link carries ``session``, whose sequence the JOIN and JOINED have agreed on."""
        self.session = session
        session.features = self.features
        if session.flows is not None:
            session.flows.link_up() if self.features & features.DATAGRAMS else session.flows.link_lost()
        session.flight = Flight(self.heard_at, self.round_trip_s) if session.resumable else UNBOUNDED
        self.acks.position = session.received
        self._ping_at = min(self._ping_at, self.heard_at + self.ping_s)
        self._tell_round_trip()

    def ping(self, now: float) -> int:
        """Sends a ping; its number comes back in ``pong_received``. 0 when MAX_PINGS are unanswered."""
        if len(self._pings) >= MAX_PINGS:
            return 0
        number = self._next_ping
        self._next_ping += 1
        self._pings[number] = now
        self._put(frames.PING, frames.pack_u64(number))
        return number

    def close(self, code: int, text: str) -> None:
        """Says why the link ends; after the next record nothing more will be sent."""
        if not self.closing:
            self.closing = self._deaf = True
            # Not by _put, whose bound does not hold for the reason of the end.
            self.frames += frames.pack(frames.CLOSE, 0, frames.pack_reason(code, text))
            self.on_output()

    def next_record(self, out: memoryview) -> int:
        """Writes the next record to ``out`` (MAX_RECORD_BYTES); returns its length in bytes, 0 for nothing to send.

        What belongs to the link comes first, then datagrams and bytes of streams in turn.
        """
        waiting = self.frames
        if waiting:
            count = self._writer.seal(record.LINK, memoryview(bytes(waiting)), out)
            del waiting[:]
            return count
        session = self.session
        if session is None or self.closing:
            return 0
        piece = session.next_piece() if session.flows is None or self._after_datagrams else None
        self._after_datagrams = False
        if piece is None and session.flows is not None:
            datagrams = session.flows.take() if session.flows.waiting else b""
            if datagrams:
                self._after_datagrams = True
                session.flight.shared = True
                return self._writer.seal(record.DATAGRAMS, memoryview(datagrams), out)
            piece = session.next_piece()
        if piece is None:
            return 0
        count = self._writer.seal(SESSION, piece, out)
        if not session.resumable:
            session.outbox.acknowledge(session.outbox.sent)
        return count

    def leaving(self, now: float) -> None:
        """What ``next_record`` gave is about to be sent; owed where the session has said ``sends_bulk``."""
        session = self.session
        if session is not None and not self._after_datagrams:
            session.sends_bulk = False
            session.flight.sent(session.outbox.sent, session.outbox.acked, now)

    def acknowledge(self, now: float) -> None:
        """Acknowledges what has come; nothing where all is acknowledged."""
        if self.acks.at and self.session is not None:
            self._acknowledge(self.session, now)

    def _acknowledge(self, session: Session, now: float) -> None:
        session.gets_bulk = False
        session.opened = 0
        self.acks.said(session.received, now)
        self._put(frames.ACK, frames.pack_u64(session.received))

    # Time

    @property
    def deadline(self) -> float:
        """When ``handle_deadline`` wants to be called at the latest."""
        due = min(self._ping_at, self._dead_at)
        if self.look_at and self.look_at < due:
            due = self.look_at
        return min(due, self.acks.at) if self.acks.at else due

    @property
    def _dead_at(self) -> float:
        """When the link is dead, if nothing is heard until then."""
        return max(self.heard_at + 2 * self.ping_s, self._asked_at + min(self.ping_s, SECOND_CHANCE_S))

    @property
    def trust(self) -> int:
        """TRUSTED, SUSPECTED or DOUBTED (core/doubt.py)."""
        return self._doubt.state(self.heard_at)

    @property
    def silent_s(self) -> float:
        """How long something of ours had waited without a sign of life when we looked."""
        return self._doubt.silent_s

    def sent(self, now: float) -> None:
        """Bytes have left: a look whether the peer is still there is due in a while."""
        if not self.look_at:
            self.look_at = now + LOOK_S

    def look(self, now: float, delivered: int) -> None:
        """Looks whether the peer is still there; due at ``look_at``. ``delivered``: see Doubt.look.

        Where streams have moved bytes within ACTIVE_S and this end is ``eager``, QUIET_S of silence are answered by a
        ping: whoever only receives has nothing that waits, and would notice nothing.
        """
        session = self.session
        moved, waits = 0, bool(self._pings)
        if session is not None:
            moved = session.received + session.outbox.written
            waits = waits or session.outbox.acked < session.outbox.written
        if moved != self._moved[0]:
            self._moved = (moved, now)
        active = self.eager and now - self._moved[1] <= ACTIVE_S
        if active and not self._pings and now - self.heard_at >= QUIET_S:
            waits = bool(self.ping(now))
        self._doubt.look(now, self.heard_at, waits, delivered, late=now - self.look_at > LATE_S)
        self.look_at = now + LOOK_S if waits or active else 0.0

    def handle_deadline(self, now: float) -> None:
        """Acknowledges, pings, or finds the link dead: then raises LinkClosed.

        Raises RemoteProtocolError when the peer acknowledges nothing while memory is scarce.
        """
        late = now - self.deadline > LATE_S
        if now >= self.acks.at:
            self.acknowledge(now)
        if now >= self._dead_at:
            if not late or self._asked_at > self.heard_at:
                raise LinkClosed(f"no sign of life for {now - self.heard_at:.0f} s")
            self._asked_at = self._ping_at = now
        if now >= self._ping_at:
            self._ping_at = now + self.ping_s
            self.ping(now)
            if self.session is not None:
                self.session.outbox.settle()
                self.session.pool.trim()
        if self.session is not None:
            acked = self.session.outbox.acked
            if late or acked != self._progress[0] or not self.session.burdens:
                self._progress = (acked, now)
            elif now - self._progress[1] >= STALLED_S:
                raise RemoteProtocolError(
                    Close.OVERLOAD,
                    "memory is scarce and the peer acknowledges nothing of all that waits for it",
                )


def _nothing() -> None:
    """Stands for ``on_output`` until a link with a socket sets it."""
