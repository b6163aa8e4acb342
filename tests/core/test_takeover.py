"""Links die, sessions go on: cut everywhere, nothing lost, doubled or put out of order, at either end."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aero.core import blocks, control, record
from aero.core import stream as streams
from aero.core.blocks import BlockPool
from aero.core.codes import Close, Reset
from aero.core.session import SessionLimits
from aero.core.stream import Stream
from aero.errors import LinkClosed
from tests.core.joined import End, Joined, Sink, bulk, refused

# What happens in the course of one story, whose every record boundary is then cut


def story(joined: Joined) -> Iterator[None]:
    """Everything that a session can say, in an order that is always the same."""
    server, worker = joined.server, joined.worker
    worker.holds_streams = True
    for end in joined.ends:
        end.session.burst_bytes = 32 * 1024  # many records rather than few
    download = server.open(first=b"GET / HTTP/1.1\r\n\r\n")
    server.session.control(control.Unknown("first"))
    yield
    answer = worker.accept(worker.opened[0])
    answer.push(bulk(150_000, 1))
    yield
    upload = server.open(first=bulk(80_000, 2))
    refused_one = server.open(first=b"nobody is there")
    yield
    taken = worker.accept(worker.opened[0])
    worker.opened[0].abort(Reset.REFUSED, "connection refused")
    yield
    upload.push(bulk(120_000, 3))
    download.finish()
    worker.session.control(control.Unknown("second"))
    yield
    answer.finish()
    taken.push(b"200 OK")
    yield
    upload.finish()
    joined.tick(1.0, run=False)
    yield
    taken.finish()
    cancelled = server.open(first=b"wait")
    yield
    waiting = worker.accept(worker.opened[1])
    waiting.push(b"nearly")
    yield
    assert cancelled.stream is not None
    cancelled.stream.abort(Reset.CANCELLED)
    server.session.goaway(Close.RESTART, "soon")
    yield
    joined.settle()
    assert (download.got, upload.got) == (bulk(150_000, 1), b"200 OK")
    assert (answer.got, taken.got) == (b"GET / HTTP/1.1\r\n\r\n", bulk(80_000, 2) + bulk(120_000, 3))
    for sink in (download, upload, answer, taken):
        assert sink.events.count("finished") == 1
    assert refused_one.events[-1] == f"reset {Reset.REFUSED}"
    assert (waiting.got, waiting.events) == (b"wait", [f"reset {Reset.CANCELLED}"])
    assert cancelled.got in (b"", b"nearly")
    assert [*worker.controls, *server.controls] == [control.Unknown("first"), control.Unknown("second")]
    assert worker.goaways == [(Close.RESTART, "soon")]
    for end in joined.ends:
        assert not end.session.streams
        assert end.session._windows == 0
        assert not end.session.waiting
        assert end.session.outbox.acked == end.session.outbox.written
    assert joined.pool.taken_bytes == 0


class Cut(Joined):
    """The first link is cut when ``end_name`` has passed ``at`` bytes; ``both``: the other wire is emptied first."""

    def __init__(self, end_name: str, at: int, both: bool) -> None:
        self.cut_at = (end_name, at)
        self.both = both
        super().__init__()

    def deliver(self, end: End, count: int | None = None) -> int:
        name, at = self.cut_at
        left = at - end.out.passed
        if self.links > 1 or end.name != name or left > len(end.out.bytes):
            return super().deliver(end, count)
        super().deliver(end, left)
        if self.both:
            super().deliver(self.other(end))
        self.cut()
        self.connect()
        return 1


def tell(joined: Joined) -> None:
    for _ in story(joined):
        joined.run()


def places() -> list[tuple[str, int]]:
    """Every record boundary of the undisturbed story, and places within records: header, middle, tag."""
    joined = Joined()
    tell(joined)
    found = []
    for end in joined.ends:
        edges = end.out.boundaries
        for before, after in zip(edges, edges[1:]):
            inside = {before, before + 1, before + 4, (before + after) // 2, after - 1}
            found += [(end.name, at) for at in sorted(inside) if before <= at < after]
        found.append((end.name, edges[-1]))
    return found


@pytest.mark.parametrize("both", [False, True], ids=["both wires cut", "one wire emptied"])
def test_cut_at_every_record_boundary_and_within(both: bool) -> None:
    everywhere = places()
    assert len(everywhere) > 150
    for end_name, at in everywhere:
        joined = Cut(end_name, at, both)
        try:
            tell(joined)
        except AssertionError as error:
            raise AssertionError(f"cut after byte {at} from the {end_name}") from error
        assert joined.links == 2


def test_cut_again_and_again() -> None:
    joined = Joined()
    for _ in story(joined):
        for _ in range(3):
            for end in joined.ends:
                end.write()
                joined.deliver(end, 5000)
            joined.cut()
            joined.connect()
            joined.run()


def test_an_idle_session_is_taken_over_for_nothing() -> None:
    joined = Joined()
    joined.pair(first=b"hello")
    joined.worker.session.control(control.Unknown("something"))
    joined.settle()
    for _ in range(3):
        joined.resume()
        for end in joined.ends:
            assert end.session.outbox.sent == end.session.outbox.written
            assert not end.machine.acks.at  # JOIN and JOINED have acknowledged everything already
    assert joined.links == 4


def test_what_is_written_while_no_link_is_up_leaves_with_the_next() -> None:
    joined = Joined()
    near, far = joined.pair()
    joined.cut()
    near.push(b"written in the dark")
    late = joined.server.open(first=b"and opened")
    joined.connect()
    joined.run()
    assert bytes(far.got) == b"written in the dark"
    assert late.stream is not None
    assert bytes(joined.worker.sinks[late.stream.id].got) == b"and opened"


def test_without_a_link_a_stream_takes_a_burst_and_then_waits() -> None:
    joined = Joined(limits=SessionLimits(window_bytes=8 << 20))
    near, far = joined.pair()
    joined.server.session.burst_bytes = 256 * 1024
    joined.cut()
    near.push(bulk(4 << 20))
    assert near.backlog
    assert joined.server.session.outbox.kept_bytes <= 3 * blocks.BLOCK_BYTES
    joined.connect()
    for _ in range(40):
        joined.settle()
    assert far.got == bulk(4 << 20)


@pytest.mark.parametrize("position", [-1, 1 << 40])
def test_a_takeover_at_a_position_that_cannot_be(position: int) -> None:
    joined = Joined()
    joined.pair(first=b"hello")
    joined.settle()
    acked = joined.server.session.outbox.acked
    with refused(Close.SEQUENCE):
        joined.server.session.take_over(position)
    with refused(Close.SEQUENCE):
        joined.server.session.take_over(acked - 1)
    joined.resume()  # and nothing has changed


# Any order of anything

SMALL_BLOCK = 80 * 1024  # more blocks for the same bytes
LIMITS = SessionLimits(
    max_streams=6,
    window_bytes=96 * 1024,
    min_window_bytes=8 * 1024,
    windows_bytes=512 * 1024,
    kept_bytes=4 * SMALL_BLOCK,
    kept_slack_bytes=100 * SMALL_BLOCK,
)


class Model(RuleBasedStateMachine):
    """Two ends, any streams, any cuts; what was pushed at one end is the model of what the other gets."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [
            mock.patch.object(blocks, "BLOCK_BYTES", SMALL_BLOCK),
            mock.patch.object(record, "REKEY_RECORDS", 7),
        ]
        for patch in self.patches:
            patch.start()
        self.joined = Joined(limits=LIMITS, pool=BlockPool(6, 2))
        self.pushed: dict[tuple[str, int], bytearray] = {}
        self.aborted: dict[int, set[str]] = {}
        self.seed = 0
        for end in self.joined.ends:
            end.holds_streams = True
            end.session.round_trip_s = 0.1

    def sinks(self) -> list[tuple[End, int, Sink]]:
        return [
            (end, stream_id, sink)
            for end in self.joined.ends
            for stream_id, sink in sorted(end.sinks.items())
            if self.stream(sink).state != streams.CLOSED
        ]

    @staticmethod
    def stream(sink: Sink) -> Stream:
        assert sink.stream is not None
        return sink.stream

    def pick(self, number: int) -> tuple[End, int, Sink] | None:
        found = self.sinks()
        return found[number % len(found)] if found else None

    def push(self, end: End, stream_id: int, sink: Sink, count: int) -> None:
        if sink.ending or self.stream(sink).state & streams.OURS_ENDED:
            return
        self.seed += 1
        data = Random(self.seed).randbytes(count)
        self.pushed.setdefault((end.name, stream_id), bytearray()).extend(data)
        sink.push(data)

    # Streams

    @rule(ours=st.booleans(), slow=st.booleans(), count=st.sampled_from([0, 5, 3000, 70_000]))
    def open(self, ours: bool, slow: bool, count: int) -> None:
        end = self.joined.server if ours else self.joined.worker
        if len(end.session.streams) < LIMITS.max_streams // 2:  # so that crossing opens stay below the limit
            sink = end.open(slow=slow)
            self.push(end, self.stream(sink).id, sink, count)

    @rule(ours=st.booleans(), slow=st.booleans())
    def accept(self, ours: bool, slow: bool) -> None:
        end = self.joined.server if ours else self.joined.worker
        if end.opened:
            end.accept(slow=slow)

    @rule(which=st.integers(0, 50), count=st.sampled_from([1, 100, 5000, 40_000, 150_000]))
    def send(self, which: int, count: int) -> None:
        if (found := self.pick(which)) is not None:
            self.push(*found, count)

    @rule(which=st.integers(0, 50))
    def finish(self, which: int) -> None:
        if (found := self.pick(which)) is not None and not found[2].ending:
            found[2].finish()

    @rule(which=st.integers(0, 50))
    def abort(self, which: int) -> None:
        if (found := self.pick(which)) is not None:
            end, stream_id, sink = found
            self.aborted.setdefault(stream_id, set()).add(end.name)
            self.stream(sink).abort(Reset.CANCELLED)

    @rule(which=st.integers(0, 50), part=st.integers(1, 4))
    def consume(self, which: int, part: int) -> None:
        slow = [sink for end in self.joined.ends for sink in end.sinks.values() if sink.slow and sink.held]
        if slow:
            sink = slow[which % len(slow)]
            self.stream(sink).consume(max(1, sink.held * part // 4), self.joined.now)

    # Links

    @precondition(lambda self: self.joined.server.link is not None)
    @rule(ours=st.booleans(), count=st.sampled_from([1, 30, 1000, 100_000, 1 << 30]))
    def move(self, ours: bool, count: int) -> None:
        end = self.joined.server if ours else self.joined.worker
        end.write()
        self.joined.deliver(end, count)

    @precondition(lambda self: self.joined.server.link is not None)
    @rule()
    def run_everything(self) -> None:
        self.joined.run()

    @rule(emptied=st.sampled_from([None, "server", "worker"]))
    def cut(self, emptied: str | None) -> None:
        if emptied is not None and self.joined.server.link is not None:
            self.joined.deliver(getattr(self.joined, emptied))
        self.joined.cut()

    @precondition(lambda self: self.joined.server.link is None)
    @rule()
    def reconnect(self) -> None:
        self.joined.connect()

    @rule(seconds=st.sampled_from([0.01, 0.2, 30.0]))
    def wait(self, seconds: float) -> None:
        try:
            self.joined.tick(seconds, run=False)
        except LinkClosed:
            self.joined.cut()

    @rule(ours=st.booleans(), burst=st.sampled_from([16, 64, 256]))
    def pace(self, ours: bool, burst: int) -> None:
        end = self.joined.server if ours else self.joined.worker
        end.session.burst_bytes = burst * 1024

    # What must hold at any time, and in the end

    @invariant()
    def nothing_but_what_was_pushed(self) -> None:
        for end in self.joined.ends:
            for stream_id, sink in end.sinks.items():
                pushed = self.pushed.get((self.joined.other(end).name, stream_id), b"")
                assert pushed.startswith(sink.got)

    @invariant()
    def within_limits(self) -> None:
        kept = 0
        for end in self.joined.ends:
            session = end.session
            assert session._windows == sum(stream.window for stream in session.streams.values())
            assert session._windows <= LIMITS.windows_bytes + LIMITS.max_streams * 64 * 1024
            assert session.outbox.kept_bytes <= LIMITS.kept_bytes + 10 * SMALL_BLOCK
            assert all(stream.received <= stream.limit for stream in session.streams.values())
            assert all(stream.waiting for stream in session.waiting.values())
            kept += session.outbox.kept_bytes
        assert self.joined.pool.taken_bytes == kept

    def teardown(self) -> None:
        try:
            self.joined.resume()
            for _ in range(2):
                for end in self.joined.ends:
                    while end.opened:
                        end.accept(slow=False)
                for _, _, sink in self.sinks():
                    sink.slow = False
                    if sink.held:
                        self.stream(sink).consume(sink.held, self.joined.now)
                    if not sink.ending:
                        sink.finish()
                for _ in range(10):
                    self.joined.settle()
            self.everything_has_arrived()
        finally:
            for patch in self.patches:
                patch.stop()

    def everything_has_arrived(self) -> None:
        for end in self.joined.ends:
            other = self.joined.other(end)
            for stream_id, sink in end.sinks.items():
                aborted = self.aborted.get(stream_id, set())
                if not aborted:
                    assert sink.got == self.pushed.get((other.name, stream_id), b"")
                    assert sink.events.count("finished") == 1
                elif end.name in aborted:
                    assert not sink.over
                elif "finished" not in sink.events:
                    assert sink.over
            assert not end.session.streams
            assert end.session._windows == 0
            assert not end.session.waiting
            assert end.session.outbox.acked == end.session.outbox.written
        assert self.joined.pool.taken_bytes == 0


TestModel = Model.TestCase
