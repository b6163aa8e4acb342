"""Packing: which pieces are compressed, what credit and positions count, and what a peer may not send."""

from __future__ import annotations

import random

import pytest

from aero.core import features, frames, packing, zstd
from aero.core.blocks import BlockPool
from aero.core.buckets import Rates
from aero.core.codes import Close, Reset
from aero.core.memory import Memory
from aero.core.session import OPEN_CREDIT_BYTES
from aero.core.stream import Stream
from tests.core.joined import End, Joined, Sink, refused

TEXT = b"".join(b'{"id": %d, "name": "visitor %d"},\n' % (each, each % 77) for each in range(60_000))
NOISE = random.Random(7).randbytes(12 << 20)


def joined_with(mode: str = packing.AUTO, **options: object) -> tuple[Joined, Sink, Sink]:
    """Two ends that compress, and a stream between them, as the server sees it and as the worker does."""
    joined = Joined(features=features.ZSTD, **options)  # type: ignore[arg-type]
    joined.memory.packer = packing.make(joined.memory.incoming.set_aside)
    ours = joined.server.open()
    joined.run()
    theirs = joined.worker.sinks[stream_of(ours).id]
    for each in (ours, theirs):
        stream_of(each).pack(mode)
    return joined, ours, theirs


def stream_of(sink: Sink) -> Stream:
    assert sink.stream is not None
    return sink.stream


def said(end: End) -> list[str]:
    return [kind for kind, _, _ in end.said()]


def packed(joined: Joined, data: bytes, stream_id: int = 1, count: int | None = None) -> bytes:
    """A PACKED frame; ``count``: what it says that it holds."""
    packer = joined.memory.packer
    assert packer is not None
    packer.room[: len(data)] = data
    frame = packer.pack(len(data))
    assert frame is not None
    said = (len(data) if count is None else count).to_bytes(4, "big")
    return frames.pack(frames.PACKED, stream_id, said + bytes(frame))


codec = zstd.choose()

# What is packed


@pytest.mark.parametrize("mode", [packing.AUTO, packing.ON])
def test_text_arrives_whole_and_takes_a_fraction_both_ways(mode: str) -> None:
    joined, ours, theirs = joined_with(mode)
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        before = sender.end.session.outbox.written
        sender.push(TEXT)
        sender.finish()
        joined.run()
        assert receiver.got == TEXT
        assert sender.end.session.outbox.written - before < len(TEXT) / 4
        assert stream_of(sender).sent == stream_of(receiver).received == len(TEXT)
    assert not joined.server.session.streams


def test_noise_goes_plain_and_with_auto_is_hardly_tried() -> None:
    tries = {packing.AUTO: 0, packing.ON: 0}
    for mode in tries:
        joined, ours, theirs = joined_with(mode)
        packer = joined.memory.packer
        assert packer is not None
        assert packer.room  # its first use packs, too

        class Counting:
            description, held_bytes = "", 0

            def pack(self, plain: memoryview, out: memoryview, mode: str = mode) -> int:
                tries[mode] += 1
                return codec.pack(plain, out)

            def unpack(self, packed: memoryview, out: memoryview) -> bool:
                return codec.unpack(packed, out)

        packer.codec = Counting()
        before = joined.server.session.outbox.written
        ours.push(NOISE)
        joined.run()
        assert theirs.got == NOISE
        assert joined.server.session.outbox.written - before < len(NOISE) * 1.001
    assert tries[packing.AUTO] <= 8
    assert tries[packing.ON] > 50


def test_what_shrinks_again_is_found_again() -> None:
    joined, ours, theirs = joined_with()
    data = NOISE[:200_000] + TEXT * 3
    before = joined.server.session.outbox.written
    ours.push(data)
    joined.run()
    assert theirs.got == data
    assert joined.server.session.outbox.written - before < 200_000 + len(TEXT)


def test_directions_are_judged_apart() -> None:
    joined, ours, theirs = joined_with()
    ours.push(NOISE[: 1 << 20])
    theirs.push(TEXT)
    joined.run()
    assert theirs.got == NOISE[: 1 << 20]
    assert ours.got == TEXT
    assert joined.worker.session.outbox.written < len(TEXT) / 4


def test_a_short_message_is_not_packed_and_a_message_never_waits() -> None:
    joined, ours, _ = joined_with(packing.ON)
    ours.push(b"a" * (packing.LEAST_BYTES - 1))
    assert said(joined.server) == ["DATA"]
    ours.push(b"a" * packing.LEAST_BYTES)
    assert said(joined.server) == ["PACKED"]


def test_equal_pieces_give_equal_frames_whatever_was_said_before() -> None:
    """No history: what one visitor, or one request, has said tells nothing about another one's length."""
    joined, ours, _ = joined_with(packing.ON)
    first = joined.server.open()
    stream_of(first).pack(packing.ON)
    sizes = []
    for sink, before in (
        (ours, b""),
        (first, b"secret=0123456789abcdef" * 100),
        (ours, b"secret=0123456789abcdef" * 100),
    ):
        if before:
            sink.push(before)
            joined.server.said()
        sink.push(b"secret=0123456789abcdef " + TEXT[:1000])
        sizes.append([len(payload) for kind, _, payload in joined.server.said() if kind == "PACKED"])
    assert sizes[0] == sizes[1] == sizes[2]


def test_without_the_feature_at_either_end_nothing_is_packed() -> None:
    for agreed, has in ((0, True), (features.ZSTD, False)):
        joined = Joined(features=agreed)
        if has:
            joined.memory.packer = packing.make(joined.memory.incoming.set_aside)
        ours = joined.server.open()
        joined.run()
        stream_of(ours).pack(packing.ON)
        assert stream_of(ours).packing is None
        ours.push(TEXT[:10_000])
        assert said(joined.server) == ["DATA"]


# What counts


def test_credit_and_rates_count_plain_bytes() -> None:
    joined = Joined(features=features.ZSTD)
    joined.memory.packer = packing.make(joined.memory.incoming.set_aside)
    joined.worker.holds_streams = True
    ours = joined.server.open()
    stream = stream_of(ours)
    stream.pack(packing.ON)
    spent: list[int] = []

    class Counting(Rates):
        def __init__(self) -> None: ...

        def allowed(self, stream: Stream) -> int:
            return 10_000

        def spend(self, count: int) -> None:
            spent.append(count)

    stream.rates = Counting()
    ours.push(TEXT)
    assert stream.sent == OPEN_CREDIT_BYTES == sum(spent)
    assert max(spent) == 10_000
    assert joined.server.session.outbox.written < OPEN_CREDIT_BYTES / 3


def test_a_cut_in_the_middle_costs_nothing_and_repeats_frames_as_they_were() -> None:
    joined, ours, theirs = joined_with()
    dice = random.Random(5)
    data = TEXT + NOISE[:300_000] + TEXT
    ours.push(data)
    for _ in range(40):
        for _ in range(4):
            for end in joined.ends:
                end.write()
                joined.deliver(end, dice.randrange(1, 60_000))
        joined.cut()
        joined.connect()
    assert 0 < len(theirs.got) < len(data)
    joined.run()
    assert theirs.got == data


def test_memory_that_runs_short_makes_pieces_small() -> None:
    joined, ours, theirs = joined_with(pool=BlockPool(16, 0))
    stream, pool = stream_of(ours), joined.pool
    joined.server.out.stalled = True
    ours.push(TEXT[:50_000])
    assert stream.packing is not None
    assert stream.packing.want(stream.sent, 100_000, 1 << 20, pool) > 100_000
    while pool.taken_bytes < pool.half_bytes:
        joined.server.open(first=NOISE[:OPEN_CREDIT_BYTES])
    assert stream.packing.want(stream.sent, 100_000, 1 << 20, pool) < 16 * 1024
    ours.push(TEXT[50_000:])
    joined.server.out.stalled = False
    joined.run()
    assert theirs.got == TEXT


def test_what_the_process_holds_for_it_is_taken_out_of_its_memory() -> None:
    memory = Memory(64 << 20)
    before = memory.incoming.left
    packer = packing.make(memory.incoming.set_aside)
    assert memory.incoming.left == before  # nobody has used it yet
    assert packer.room
    assert 3 * packing.PIECE_BYTES < before - memory.incoming.left < 3 << 20


# What a peer may not send


@pytest.fixture
def joined() -> Joined:
    joined, _, _ = joined_with()
    return joined


def test_a_bomb_beyond_the_credit_is_never_unpacked(joined: Joined) -> None:
    joined.worker.holds_streams = True
    joined.server.open()
    joined.run()
    bomb = packed(joined, bytes(packing.PIECE_BYTES), 3)
    assert len(bomb) < 64
    packer = joined.memory.packer
    assert packer is not None
    packer.codec.unpack = None  # type: ignore[method-assign,assignment]
    with refused(Close.CREDIT):
        joined.worker.feed(bomb)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0\1",
        b"\0\0\0\0\0",
        b"\0\2\0\1" + b"x" * 40,
        b"\xff\xff\xff\xff" + b"x" * 40,
        b"\0\0\0\5hello",
        b"\0\0\0\1" + b"\0" * 300,
    ],
)
def test_garbage_ends_the_session(joined: Joined, payload: bytes) -> None:
    with refused(Close.FRAME):
        joined.worker.feed(frames.pack(frames.PACKED, 1, payload))


@pytest.mark.parametrize("count", [1, 19_999, 20_001, packing.PIECE_BYTES])
def test_a_length_that_is_not_true_ends_the_session(joined: Joined, count: int) -> None:
    with refused(Close.FRAME, match=f"not one zstd frame of {count} bytes"):
        joined.worker.feed(packed(joined, TEXT[:20_000], count=count))


def test_a_frame_that_was_cut_or_has_a_tail_ends_the_session(joined: Joined) -> None:
    frame = packed(joined, TEXT[:20_000])
    payload = frame[frames.HEADER_BYTES :]
    for bad in (payload[:-1], payload[: len(payload) // 2], payload + b"\0", payload + payload[4:]):
        with refused(Close.FRAME):
            joined.worker.feed(frames.pack(frames.PACKED, 1, bad))
        joined, _, _ = joined_with()


def test_packed_is_refused_where_it_was_not_agreed_on_or_may_not_come() -> None:
    plain = Joined()
    plain.memory.packer = packing.make(plain.memory.incoming.set_aside)
    plain.server.open()
    plain.run()
    with refused(Close.STATE, match="not agreed"):
        plain.worker.feed(packed(plain, TEXT[:1000]))
    joined, ours, _ = joined_with()
    with refused(Close.UNKNOWN_STREAM):
        joined.worker.feed(packed(joined, TEXT[:1000], 9))
    ours.finish()
    joined.run()
    with refused(Close.STATE, match="after FIN"):
        joined.worker.feed(packed(joined, TEXT[:1000]))


def test_packed_that_crossed_our_reset_is_dropped_without_a_look() -> None:
    joined, _, theirs = joined_with()
    stream_of(theirs).abort(Reset.CANCELLED)
    joined.worker.feed(frames.pack(frames.PACKED, 1, b"\0\0\0\5xxxxx"))


def test_a_record_of_bombs_is_bounded_by_what_all_may_hold() -> None:
    """Each is within its stream's credit; together they would take half a gigabyte before the record is over."""
    joined = Joined(features=features.ZSTD, unread_bytes=4 << 20)
    joined.memory.packer = packing.make(joined.memory.incoming.set_aside)
    joined.worker.slow_sinks = True
    many = [joined.server.open() for _ in range(512)]
    joined.run()
    half = bytes(OPEN_CREDIT_BYTES)
    highest = 0
    record = [packed(joined, half, stream_of(each).id) for each in many]
    bound = joined.memory.incoming.bound

    def watched() -> None:
        nonlocal highest
        highest = max(highest, joined.worker.session.held_bytes)
        bound()

    joined.memory.incoming.bound = watched  # type: ignore[method-assign]
    joined.worker.feed(*record)
    assert 0 < highest < 6 << 20


def test_bulk_is_told_from_messages_by_what_came_over_the_wire(joined: Joined) -> None:
    joined.worker.session.gets_bulk = False
    joined.worker.feed(packed(joined, bytes(100_000)))
    assert not joined.worker.session.gets_bulk
    joined.worker.feed(packed(joined, TEXT[:100_000]))
    assert joined.worker.session.gets_bulk


def test_who_fills_what_a_plain_stream_may_send_has_bulk_and_waits_for_its_turn() -> None:
    """The room is larger than that, and a socket seldom fills it."""
    joined, ours, _ = joined_with()
    joined.server.session.burst_bytes = 32 * 1024
    ours.push(TEXT[:100_000])
    joined.run()
    stream = stream_of(ours)
    for count, bulk in ((32 * 1024, True), (2000, False)):
        room = stream.reserve()
        assert room is not None
        assert len(room) == packing.PIECE_BYTES
        room[:count] = TEXT[:count]
        stream.commit(count, count == len(room))
        assert stream.heavy == bulk
        joined.run()


def test_bulk_shares_the_link_with_others() -> None:
    joined, ours, theirs = joined_with()
    joined.server.session.burst_bytes = 32 * 1024
    joined.server.out.stalled = True
    ours.push(TEXT * 4)
    first = joined.server.session.outbox.written
    assert first < 200_000  # it stopped: what it may send is counted as it leaves
    other = joined.server.open()
    other.push(b"hello")
    joined.server.out.stalled = False
    joined.run()
    assert theirs.got == TEXT * 4
