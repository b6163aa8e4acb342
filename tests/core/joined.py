"""Two real ends of a session joined in memory, by wires that can stall, lose what they hold, and be cut.

Nothing here knows more than a role would: JOIN and JOINED go over the wire, records are sealed and opened, output is
taken in the order in which net/link.py takes it. Time is ``joined.now`` and moves only when a test moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Callable

import pytest

from aero.core import control, frames, joining, record
from aero.core import session as sessions
from aero.core import stream as streams
from aero.core.aead.backend import Backend
from aero.core.aead.choose import choose
from aero.core.blocks import BlockPool
from aero.core.flight import UNBOUNDED
from aero.core.link import LinkMachine
from aero.core.memory import Incoming, Memory
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import Session, SessionLimits
from aero.core.stream import Stream
from aero.errors import RemoteProtocolError

REAL = choose()
SCRATCH = memoryview(bytearray(record.MAX_PLAIN_BYTES))


def refused(code: int, match: str | None = None) -> pytest.RaisesExc[RemoteProtocolError]:
    """Expects the peer to be refused with this close code."""
    return pytest.raises(RemoteProtocolError, match=match, check=lambda error: error.code == code)


def memory_of(pool: BlockPool, unread_bytes: int = 1 << 30) -> Memory:
    """A process's memory with this pool, and so much for what nobody reads."""
    memory = Memory(1 << 30)
    memory.blocks, memory.incoming = pool, Incoming(unread_bytes)
    return memory


class Plain:
    """An AEAD backend that hides nothing and checks nothing: so that fuzzing reaches the frames."""

    def sealer(self, key: bytes) -> Plain:
        return self

    def opener(self, key: bytes) -> Plain:
        return self

    def seal(self, nonce: bytes, aad: bytes, plaintext: memoryview, out: memoryview) -> int:
        count = len(plaintext)
        out[:count] = plaintext
        out[count : count + record.TAG_BYTES] = bytes(record.TAG_BYTES)
        return count + record.TAG_BYTES

    def open(self, nonce: bytes, aad: bytes, sealed: memoryview, out: memoryview) -> int:
        count = len(sealed) - record.TAG_BYTES
        out[:count] = sealed[:count]
        return count


PLAIN = Plain()


class Sink:
    """A receiver that remembers everything. ``slow``: consumes nothing by itself."""

    def __init__(self, end: End, slow: bool = False) -> None:
        self.end = end
        self.slow = slow
        self.stream: Stream | None = None
        self.got = bytearray()
        self.events: list[str] = []  # "finished", "reset <code>", "resume"
        self.backlog = b""  # what we still want to send
        self.ending = False  # FIN as soon as the backlog is out
        self.on_data: Callable[[], None] = lambda: None

    def data(self, view: memoryview) -> None:
        assert len(view)
        assert "finished" not in self.events
        assert not self.over
        self.got += view
        if not self.slow and self.stream is not None:
            self.stream.consume(len(view), self.end.now)
        self.on_data()

    def finished(self) -> None:
        assert "finished" not in self.events
        assert not self.over
        self.events.append("finished")

    def reset(self, code: int, text: str) -> None:
        assert not self.over
        self.events.append(f"reset {code}")

    def resume(self) -> None:
        assert not self.over
        self.events.append("resume")
        self.push()

    @property
    def over(self) -> bool:
        return any(event.startswith("reset") for event in self.events)

    @property
    def held(self) -> int:
        """Bytes received and not consumed."""
        return self.stream.received - self.stream.consumed if self.stream is not None else 0

    # Sending, as a pipe does it: what is not taken now waits for resume.

    def push(self, more: bytes = b"") -> None:
        self.backlog += more
        stream = self.stream
        assert stream is not None
        if stream.state & streams.OURS_ENDED:
            return
        done = stream.send(memoryview(self.backlog))
        self.backlog = self.backlog[done:]
        if self.ending and not self.backlog:
            stream.finish()

    def finish(self) -> None:
        self.ending = True
        self.push()


class Wire:
    """One direction's bytes on their way."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.boundaries: list[int] = [0]  # where records end, counted from the wire's beginning
        self.passed = 0  # bytes that have arrived
        self.stalled = False  # takes nothing, delivers nothing

    def put(self, data: bytes) -> None:
        self.bytes += data
        self.boundaries.append(self.boundaries[-1] + len(data))


class End:
    """One end: role, session, and the link that carries it now."""

    def __init__(self, joined: Joined, name: str, first_id: int, limits: SessionLimits) -> None:
        self.joined = joined
        self.name = name
        self.session = Session(self, first_id, joined.memory, limits, joined.now)
        self.link: LinkMachine | None = None
        self.out = Wire()  # towards the other end
        self.unread = b""  # arrived, but not a whole record yet
        self.sinks: dict[int, Sink] = {}
        self.slow_sinks = False  # what we accept from here on consumes nothing by itself
        self.holds_streams = False  # what is opened towards us waits for accept()
        self.opened: list[Stream] = []  # by the other end, not yet accepted
        self.targets: list[tuple[int, str]] = []
        self.controls: list[control.Control] = []
        self.goaways: list[tuple[int, str]] = []
        self.pongs: list[tuple[int, float]] = []
        self.closes: list[tuple[int, str]] = []

    @property
    def now(self) -> float:
        return self.joined.now

    @property
    def machine(self) -> LinkMachine:
        assert self.link is not None
        return self.link

    # The role

    def open(self, target_id: int = 1, slow: bool = False, first: bytes = b"") -> Sink:
        sink = Sink(self, slow)
        sink.stream = self.session.open(sink, target_id, "192.0.2.1:4711", self.now)
        self.sinks[sink.stream.id] = sink
        if first:
            sink.push(first)
        return sink

    def accept(self, stream: Stream | None = None, slow: bool | None = None) -> Sink:
        stream = stream or self.opened[0]
        self.opened.remove(stream)
        sink = self.sinks[stream.id] = Sink(self, self.slow_sinks if slow is None else slow)
        sink.stream = stream
        self.session.accept(stream, sink, self.now)
        return sink

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        self.targets.append((target_id, visitor))
        self.opened.append(stream)
        if not self.holds_streams:
            self.accept(stream)

    def control_received(self, message: control.Control) -> None:
        self.controls.append(message)

    def datagrams_came(self) -> None:
        """There are no flows but those that a test has put there."""

    def goaway_received(self, code: int, text: str) -> None:
        self.goaways.append((code, text))

    def joining(self, message: joining.Join | joining.Joined) -> None:
        assert isinstance(message, (joining.JoinTakeOver, joining.JoinedAgain))
        if isinstance(message, joining.JoinTakeOver):
            self.machine.joined(joining.JoinedAgain("", "s", self.session.received))
        self._carry(message.received)

    def _carry(self, received: int) -> None:
        self.session.take_over(received)
        self.machine.carry(self.session)
        if not self.joined.bounded:
            self.session.flight = UNBOUNDED

    def pong_received(self, number: int, round_trip_s: float) -> None:
        self.pongs.append((number, round_trip_s))

    def close_received(self, code: int, text: str) -> None:
        self.closes.append((code, text))

    # What a peer may or may not say, frame by frame

    def feed(self, *frames_: bytes) -> None:
        """Our session receives these frames in one record."""
        self.session.receive(memoryview(b"".join(frames_)), self.now)

    def said(self) -> list[tuple[str, int, bytes]]:
        """What our session wants to send: (kind, stream id, payload) of every frame."""
        out = []
        while (piece := self.session.next_piece()) is not None:
            out += [(frames.NAMES[kind], sid, bytes(payload)) for kind, sid, payload in frames.split(piece)]
        return out

    def seal(self, kind: int, plain: bytes) -> bytes:
        """Anything at all, sealed as our link's next record."""
        out = bytearray(len(plain) + record.OVERHEAD_BYTES)
        self.machine._writer.seal(kind, memoryview(plain), memoryview(out))
        return bytes(out)

    # The socket

    def records(self) -> Iterator[bytes]:
        """Everything that wants to leave, record by record, as net/link.py takes it."""
        out = bytearray(record.MAX_RECORD_BYTES)
        view = memoryview(out)
        for _ in range(10_000):
            size = self.machine.next_record(view)
            session = self.machine.session
            if not size and session is not None and session.waiting:
                session.resume_waiting()
                size = self.machine.next_record(view)
            if not size:
                if session is not None:
                    session.dirty = False
                return
            if session is not None and session.sends_bulk:
                self.machine.leaving(self.now)
            yield bytes(view[:size])
        raise AssertionError("records without an end")

    def write(self) -> None:
        if self.link is not None and not self.out.stalled:
            for each in self.records():
                self.out.put(each)

    def arrive(self, data: bytes) -> None:
        """Bytes from the wire, whole records or not."""
        buffer = self.unread + data
        start = self.machine.receive(memoryview(buffer), 0, len(buffer), self.now)
        self.unread = buffer[start:]


class Joined:
    """A worker's and a server's end, and time."""

    def __init__(
        self,
        *,
        limits: SessionLimits | None = None,
        pool: BlockPool | None = None,
        unread_bytes: int = 1 << 30,
        backend: Backend = REAL,
        ping_s: float = 60.0,
        bounded: bool = False,
        features: int = 0,
    ) -> None:
        """``bounded``: what is on its way is, by core/flight.py; it wants time to pass while bytes move.

        ``features``: what both ends have agreed on.
        """
        self.bounded = bounded
        self.features = features
        self.now = 1000.0
        self.pool = pool or BlockPool(1024, 64)
        self.memory = memory_of(self.pool, unread_bytes)
        self.backend = backend
        self.ping_s = ping_s
        self.links = 0
        limits = limits or SessionLimits()
        self.server = End(self, "server", sessions.SERVER_FIRST_ID, limits)
        self.worker = End(self, "worker", sessions.WORKER_FIRST_ID, limits)
        self.ends = (self.worker, self.server)
        self.connect()
        self.run()

    def other(self, end: End) -> End:
        return self.server if end is self.worker else self.worker

    # Links

    def connect(self) -> None:
        """A new link with fresh keys; the worker asks for its session."""
        self.links += 1
        up, down = (bytes((self.links & 0xFF, way)) * 16 for way in (1, 2))
        for end, ours, theirs in ((self.worker, up, down), (self.server, down, up)):
            writer, reader = RecordWriter(self.backend, ours), RecordReader(self.backend, theirs)
            end.link = LinkMachine(
                end, writer, reader, SCRATCH, self.ping_s, self.now, features=self.features
            )
            end.out = Wire()
            end.unread = b""
        received = self.worker.session.received
        self.worker.machine.join(joining.JoinTakeOver("", self.ping_s, "s", "x", self.links, received))

    def cut(self) -> None:
        """The link is gone with all that was on its way."""
        for end in self.ends:
            end.link = None
            end.out = Wire()
            end.unread = b""

    def resume(self) -> None:
        """Cut, and a new link takes over."""
        self.cut()
        self.connect()
        self.run()

    # Bytes

    def deliver(self, end: End, count: int | None = None) -> int:
        """The other end gets the first ``count`` bytes (all) of what ``end`` has on the wire."""
        wire = end.out
        if wire.stalled:
            return 0
        data = bytes(wire.bytes[:count])
        if data:
            del wire.bytes[: len(data)]
            wire.passed += len(data)
            self.other(end).arrive(data)
        return len(data)

    def run(self) -> None:
        """Lets bytes move until nothing moves any more."""
        for _ in range(100_000):
            moved = 0
            for end in self.ends:
                end.write()
                moved += self.deliver(end)
            if not moved:
                return
        raise AssertionError("the two ends never come to rest")

    def tick(self, seconds: float, run: bool = True) -> None:
        """Time passes, deadlines are handled."""
        self.now += seconds
        for end in self.ends:
            if end.link is not None and end.link.deadline <= self.now:
                end.link.handle_deadline(self.now)
        if run:
            self.run()

    def settle(self) -> None:
        """Until everything has arrived and is acknowledged."""
        self.run()
        self.tick(1.0)
        self.run()

    def pair(self, slow: bool = False, first: bytes = b"") -> tuple[Sink, Sink]:
        """A stream that the server has opened and the worker has accepted: (server's sink, worker's sink)."""
        near = self.server.open(slow=slow, first=first)
        self.worker.slow_sinks, before = slow, self.worker.slow_sinks
        self.run()
        self.worker.slow_sinks = before
        assert near.stream is not None
        return near, self.worker.sinks[near.stream.id]


@lru_cache(maxsize=64)
def bulk(count: int, seed: int = 0) -> bytes:
    """``count`` bytes in which any loss, repetition or change of order shows: their own positions."""
    words = (count >> 3) + 1
    return b"".join((seed << 40 | n).to_bytes(8, "big") for n in range(words))[:count]
