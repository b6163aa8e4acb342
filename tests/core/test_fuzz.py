"""Hostile bytes into every parser and machine: only the errors that are meant come out, and memory stays bounded.

Frames are fuzzed behind an AEAD backend that hides nothing, by a peer that mostly keeps the rules: pure noise would
not get past the first header. Longer: ``pytest tests/core/test_fuzz.py --hypothesis-profile=long``.
"""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aero.core import control, frames, joining, record
from aero.core import stream as streams
from aero.core.blocks import BLOCK_BYTES, BlockPool
from aero.core.handshake import HEADER_BYTES, MAX_BODY_BYTES, ServerHandshake, WorkerHandshake
from aero.core.link import MAX_LINK_FRAMES_BYTES, LinkMachine
from aero.core.record import LINK, MAX_RECORD_BYTES, OVERHEAD_BYTES, SESSION, RecordReader, RecordWriter
from aero.core.session import MAX_WINDOW_BYTES, OPEN_CREDIT_BYTES, WORKER_FIRST_ID, Session, SessionLimits
from aero.core.spake2plus import Password, Verifier
from aero.core.stream import Stream
from aero.errors import LinkClosed, Rejected, RemoteProtocolError, SecurityError
from tests.core.joined import PLAIN, SCRATCH, memory_of

LIMITS = SessionLimits(
    max_streams=5,
    window_bytes=100_000,
    min_window_bytes=10_000,
    windows_bytes=400_000,
    kept_bytes=2 * BLOCK_BYTES,
    kept_slack_bytes=2 * BLOCK_BYTES,
)

# A move is (what, number, size). Numbers choose among what is possible at that moment; few are beyond all bounds, and
# few moves break a rule on purpose: a session that is over after three frames tests nothing.
ABSURD = (13, 77, 2**24 + 1, 2**32 - 1, 2**63, 2**64 - 1)
SMALL = 130
numbers = st.integers(0, SMALL + len(ABSURD) - 1).map(lambda n: n % 13 if n < SMALL else ABSURD[n - SMALL])
sizes = st.sampled_from([0, 1, 2, 100, 1000, 20_000, 65_536, 65_537, 100_000])
WHATS = (
    *["open"] * 6,
    *["accept"] * 6,
    *["data"] * 10,
    *["window", "send", "consume"] * 4,
    *["fin", "finish", "ours"] * 2,
    *["reset", "abort", "control", "goaway", "frame", "bytes"],
)
LINK_WHATS = (
    *["write", "ack", "ping", "time"] * 4,
    *["pong", "joined", "pings", "close", "hang up", "ask", "link", "raw"],
)
moves = st.tuples(st.sampled_from(WHATS), numbers, sizes)
link_moves = st.tuples(st.sampled_from(WHATS + LINK_WHATS), numbers, sizes)


class Greedy:
    """A receiver that misbehaves as far as its contract lets it: acts on its stream from inside every call."""

    def __init__(self, target: Target, stream: Stream | None, habit: int) -> None:
        self.target = target
        self.stream = stream
        self.habit = habit
        self.got = 0
        self.over = self.finished_ = False

    def data(self, view: memoryview) -> None:
        assert not self.over
        assert not self.finished_
        self.got += len(view)
        stream = self.stream
        if stream is None:
            return
        if self.habit & 1:
            stream.consume(len(view), self.target.now)
        if self.habit & 2 and not stream.state & streams.OURS_ENDED:
            stream.send(view)
        if self.habit & 4 and self.got > 3000 and not stream.state & streams.OURS_ENDED:
            stream.finish()
        if self.habit & 8 and self.got > 50_000:
            stream.abort(0, "enough")

    def finished(self) -> None:
        assert not self.over
        self.finished_ = True

    def reset(self, code: int, text: str) -> None:
        assert not self.over
        self.over = True

    def resume(self) -> None:
        assert not self.over
        stream = self.stream
        if stream is not None and not stream.state & streams.OURS_ENDED:
            stream.send(memoryview(bytes(5000)))


class Target:
    """The end under fuzz: session, perhaps a link, and roles that do a little of everything."""

    def __init__(self) -> None:
        self.now = 1.0
        self.memory = memory_of(BlockPool(8, 2))
        self.session = Session(self, WORKER_FIRST_ID, self.memory, LIMITS, self.now)
        self.session.burst_bytes = 16 * 1024  # so that streams wait for their turn
        self.session.round_trip_s = 0.05  # so that windows grow
        self.held: list[Stream] = []
        self.streams: list[Stream] = []
        self.closed = False
        self.link: LinkMachine | None = None
        # What the peer remembers of its own doings
        self.their_next = 1
        self.rand = random.Random(1)

    # Session and link events

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        self.streams.append(stream)
        if target_id == 3:
            stream.abort(4, "no target")
        else:
            self.held.append(stream)

    def control_received(self, message: control.Control) -> None:
        if message == control.Unknown("end"):
            self.session.end(6, "kicked")
        else:
            self.session.control(control.Unknown("x" * 100))

    def datagrams_came(self) -> None:
        """No flows here."""

    def goaway_received(self, code: int, text: str) -> None:
        self.session.goaway(code, text)

    def joining(self, message: joining.Join | joining.Joined) -> None:
        assert isinstance(message, (joining.JoinedNew, joining.JoinedAgain)) and self.link is not None
        self.session.take_over(message.received if isinstance(message, joining.JoinedAgain) else 0)
        self.link.carry(self.session)

    def pong_received(self, number: int, round_trip_s: float) -> None:
        assert round_trip_s >= 0

    def close_received(self, code: int, text: str) -> None:
        assert not self.closed
        self.closed = True

    # Moves of both sides; frames are returned, the rest is done at once

    def make(self, what: str, number: int, size: int) -> bytes:
        """Plays a move; what the peer says with it, if anything."""
        if what in ("bytes", "frame"):
            noise = self.rand.randbytes(min(size, 30))
            return noise if what == "bytes" else frames.pack(number & 15, self.rand.randrange(9), noise)
        if what == "open":
            stream_id = self.their_next + (number > 100)
            self.their_next = stream_id + 2 * (1 + number % 2)
            return frames.pack(
                frames.OPEN, stream_id, frames.pack_open(size * 160 & 0x1FFFFFF, number % 8, "[::1]:9")
            )
        if what == "control":
            return frames.pack(frames.CONTROL, 0, b'{"do":"end"}' if number > 100 else b'{"do":"x"}')
        if what == "goaway":
            return frames.pack(frames.GOAWAY, 0, b"\x0f") if number > 11 else b""
        if what in ("accept", "ours", "send", "finish", "abort", "consume"):
            self.act(what, number, size)
            return b""
        stream = self.pick(number)
        sane = stream is not None and number < 13
        stream_id = stream.id if stream is not None and sane else number & 0xFFFFFFFF
        if what == "data":
            if stream is not None and sane:
                if stream.state & streams.THEIRS_ENDED:
                    return b""
                size = min(max(size, 1), stream.limit - stream.received)
            return frames.pack(frames.DATA, stream_id, bytes(size)) if size else b""
        if what == "window":
            consumed, window = number, size
            if stream is not None and sane:
                consumed = stream.sent
                window = min(max(size, stream.send_limit - consumed), MAX_WINDOW_BYTES)
            return frames.pack(frames.WINDOW, stream_id, frames.pack_window(consumed, window))
        if what == "fin":
            if stream is not None and sane and stream.state & streams.THEIRS_ENDED:
                return b""
            return frames.pack(frames.FIN, stream_id)
        return frames.pack(frames.RESET, stream_id, b"\0reset")

    def pick(self, number: int) -> Stream | None:
        return self.streams[number % len(self.streams)] if self.streams else None

    def act(self, what: str, number: int, count: int) -> None:
        """Something at our own end; LocalProtocolError would be our bug."""
        stream = self.pick(number)
        if what == "accept" and self.held:
            held = self.held.pop(number % len(self.held))
            self.session.accept(held, Greedy(self, held, number & 15), self.now)
        elif what == "ours" and len(self.session.streams) < LIMITS.max_streams and not self.session.leaving:
            receiver = Greedy(self, None, number & 15)
            receiver.stream = self.session.open(receiver, 1, "", self.now)
            self.streams.append(receiver.stream)
        elif stream is None or stream in self.held:
            return
        elif what == "consume":
            stream.consume(min(count, stream.received - stream.consumed), self.now)
        elif what == "send" and not stream.state & streams.OURS_ENDED:
            stream.send(memoryview(bytes(count)))
        elif what == "finish" and not stream.state & streams.OURS_ENDED:
            stream.finish()
        elif what == "abort":
            stream.abort(0, "")

    def check(self) -> None:
        session = self.session
        if session.ended:
            assert not session.streams
            return
        assert len(session.streams) <= LIMITS.max_streams
        windows = sum(stream.window for stream in session.streams.values())
        assert session._windows == windows
        assert windows <= LIMITS.windows_bytes + LIMITS.max_streams * OPEN_CREDIT_BYTES
        held = sum(stream.received - stream.consumed for stream in session.streams.values())
        assert held <= windows
        assert set(session.waiting) <= set(session.streams)
        assert session.outbox.acked <= session.outbox.sent <= session.outbox.written
        # What may be kept, what may be answered, and what one record may ask for on top of it.
        most = LIMITS.kept_bytes + LIMITS.kept_slack_bytes + 16 * BLOCK_BYTES
        assert session.outbox.kept_bytes <= most
        assert self.memory.blocks.taken_bytes == session.outbox.kept_bytes

    def end(self) -> None:
        self.session.end(6, "over")
        assert not self.session.streams
        assert not self.session.waiting
        assert self.session._windows == 0
        assert self.memory.blocks.taken_bytes == 0


@given(st.lists(moves, min_size=20, max_size=80), st.integers(1, 8), st.booleans())
def test_frames_from_a_peer_that_mostly_keeps_the_rules(
    story: list[tuple[str, int, int]], a_record: int, acknowledges: bool
) -> None:
    target = Target()
    session = target.session
    try:
        for first in range(0, len(story), a_record):
            plain = b""
            for what, number, size in story[first : first + a_record]:
                plain += target.make(what, number, size)
            target.now += 0.001
            session.receive(memoryview(plain), target.now)
            target.check()
            if acknowledges and not session.ended:
                while session.next_piece() is not None:
                    pass
                session.acknowledged(session.outbox.sent)
                session.resume_waiting()
                target.check()
    except RemoteProtocolError:
        pass
    target.end()


@given(st.binary(max_size=300))
def test_noise_as_a_session_records_plaintext(noise: bytes) -> None:
    target = Target()
    target.session.receive(memoryview(frames.pack(frames.OPEN, 1, frames.pack_open(9, 1, ""))), target.now)
    try:
        target.session.receive(memoryview(noise), target.now)
    except RemoteProtocolError:
        pass
    target.check()
    target.end()


class LinkTarget(Target):
    """The end under fuzz with its link."""

    def __init__(self) -> None:
        super().__init__()
        writer, reader = RecordWriter(PLAIN, bytes(32)), RecordReader(PLAIN, bytes(32))
        self.link = LinkMachine(self, writer, reader, SCRATCH, 10.0, self.now, joining.WE_ASKED)
        self.out = memoryview(bytearray(MAX_RECORD_BYTES))
        self.unread = b""

    def write(self) -> None:
        assert self.link is not None
        for _ in range(100):
            if not self.link.next_record(self.out) and not self.session.waiting:
                return
            if self.session.waiting:
                self.session.resume_waiting()

    def link_move(self, what: str, number: int, size: int) -> bytes:
        assert self.link is not None
        if what == "write":
            self.write()
        elif what == "time":
            self.now += number % 13 / 2
            self.link.handle_deadline(self.now)
        elif what == "hang up":
            if number > 11:
                self.link.close(0, "bye")
        elif what == "ask":
            self.link.ping(self.now)
        elif what == "raw":
            return self.rand.randbytes(size % 64) if number > 11 else b""
        elif what == "link":
            return sealed(LINK, self.rand.randbytes(size % 64)) if number > 11 else b""
        elif what == "close":
            return sealed(LINK, frames.pack(frames.CLOSE, 0, b"\0bye")) if number > 11 else b""
        elif what == "pings":
            return sealed(LINK, frames.pack(frames.PING, 0, bytes(8)) * (size % 3000))
        elif what == "joined":
            message = joining.JoinedAgain("", "s", number).pack()
            return sealed(LINK, frames.pack(frames.JOINED, 0, message)) if number > 11 else b""
        elif what == "ack":
            outbox = self.session.outbox
            position = outbox.sent - (outbox.sent - outbox.acked) * number // 12 if number < 13 else number
            return sealed(LINK, frames.pack(frames.ACK, 0, frames.pack_u64(position)))
        elif what == "pong":
            asked = [*self.link._pings, number]
            return sealed(LINK, frames.pack(frames.PONG, 0, frames.pack_u64(asked[0])))
        else:
            return sealed(LINK, frames.pack(frames.PING, 0, frames.pack_u64(number)))
        return b""

    def arrive(self, data: bytes, step: int) -> None:
        """Feeds ``data`` in pieces of ``step`` bytes, as a socket would."""
        assert self.link is not None
        for at in range(0, len(data), step):
            buffer = self.unread + data[at : at + step]
            start = self.link.receive(memoryview(buffer), 0, len(buffer), self.now)
            assert start <= len(buffer)
            self.unread = buffer[start:]
            assert len(self.unread) < MAX_RECORD_BYTES

    def check(self) -> None:
        super().check()
        assert self.link is not None
        assert len(self.link.frames) <= MAX_LINK_FRAMES_BYTES + 2 * (HEADER_BYTES + 300)


def sealed(kind: int, plain: bytes) -> bytes:
    if not plain:
        return b""
    return record.HEADER.pack(kind << 24 | len(plain)) + plain + bytes(record.TAG_BYTES)


@given(st.lists(link_moves, min_size=20, max_size=100), st.sampled_from([3, 50, 1000, 1 << 20, 1 << 20]))
def test_records_from_a_peer_that_mostly_keeps_the_rules(
    story: list[tuple[str, int, int]], step: int
) -> None:
    target = LinkTarget()
    try:
        target.arrive(
            sealed(LINK, frames.pack(frames.JOINED, 0, joining.JoinedAgain("", "s", 0).pack())), step
        )
        for what, number, size in story:
            if what in LINK_WHATS:
                target.arrive(target.link_move(what, number, size), step)
            else:
                target.arrive(sealed(SESSION, target.make(what, number, size)), step)
            target.check()
    except (RemoteProtocolError, LinkClosed):
        pass
    target.end()


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_noise_on_a_link(pieces: list[bytes]) -> None:
    target = LinkTarget()
    try:
        for piece in pieces:
            target.arrive(piece, 1 << 20)
    except RemoteProtocolError:
        pass
    assert len(target.unread) <= sum(map(len, pieces))
    target.end()


@given(st.binary(min_size=4, max_size=40), st.integers(0, 36))
def test_noise_as_a_record_header(noise: bytes, start: int) -> None:
    start = min(start, len(noise) - 4)
    try:
        kind, size = record.record_bytes(memoryview(noise), start)
    except RemoteProtocolError:
        return
    assert kind in (SESSION, LINK)
    assert OVERHEAD_BYTES < size <= MAX_RECORD_BYTES


# The handshake: right messages, damaged in every way, in pieces of any size

RIGHT, VERIFIER = Password(0xC0DE, 0xBEEF), Verifier.of(0xC0DE, 0xBEEF)


def _transcript() -> tuple[list[bytes], list[bytes]]:
    ours, theirs = (
        WorkerHandshake(RIGHT, "anna", bytes(48)),
        ServerHandshake(lambda user: VERIFIER, bytes(48)),
    )
    hello = ours.start()
    answer = theirs.receive(hello)
    confirm = ours.receive(answer)
    return [hello, confirm], [answer, theirs.receive(confirm)]


TO_SERVER, TO_WORKER = _transcript()

damage = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "double", "swap", "append"]),
        st.integers(0, 200),
        st.binary(min_size=1, max_size=20),
    ),
    max_size=4,
)


def damaged(messages: list[bytes], how: list[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(b"".join(messages))
    for what, at, some in how:
        at = at % (len(data) + 1)
        if what == "flip" and at < len(data):
            data[at] ^= some[0] or 1
        elif what == "cut":
            del data[at : at + some[0] % 20]
        elif what == "insert":
            data[at:at] = some
        elif what == "double":
            data[at:at] = data[: len(messages[0])]
        elif what == "swap":
            data = bytearray(b"".join(reversed(messages)))
        elif what == "append":
            data += some
    return bytes(data)


def handshake_fed(machine: WorkerHandshake | ServerHandshake, data: bytes, step: int) -> None:
    for at in range(0, len(data), step):
        machine.receive(data[at : at + step])
        if machine.secrets is not None:
            return
        assert len(machine._buffer) <= HEADER_BYTES + MAX_BODY_BYTES


@given(damage, st.sampled_from([1, 7, 64, 1000]), st.booleans())
def test_damaged_handshakes(how: list[tuple[str, int, bytes]], step: int, to_server: bool) -> None:
    """Nothing but the right bytes gives secrets; nothing but errors that are meant comes out."""
    machine: WorkerHandshake | ServerHandshake
    if to_server:
        machine, right = ServerHandshake(lambda user: VERIFIER, bytes(48)), TO_SERVER
    else:
        machine, right = WorkerHandshake(RIGHT, "anna", bytes(48)), TO_WORKER
    data = damaged(right, how)
    try:
        handshake_fed(machine, data, step)
    except (RemoteProtocolError, SecurityError, Rejected):
        assert machine.secrets is None
    else:
        assert (machine.secrets is not None) == data.startswith(b"".join(right))


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_noise_as_a_handshake(pieces: list[bytes], to_server: bool) -> None:
    machine = (
        ServerHandshake(lambda user: VERIFIER, bytes(48))
        if to_server
        else WorkerHandshake(RIGHT, "", bytes(48))
    )
    try:
        for piece in pieces:
            machine.receive(piece)
            assert len(machine._buffer) <= HEADER_BYTES + MAX_BODY_BYTES
    except (RemoteProtocolError, SecurityError, Rejected):
        pass
    assert machine.secrets is None
