"""Sessions: every rule of its frames, its limits, and whose turn it is. Links and takeover are tested elsewhere."""

from __future__ import annotations

import gc

import pytest

from aero.core import control, features, frames
from aero.core.blocks import BLOCK_BYTES, BlockPool
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.link import STALLED_S
from aero.core.memory import Incoming, Windows
from aero.core.session import LARGE_WINDOW_BYTES, MAX_WINDOW_BYTES, OPEN_CREDIT_BYTES, Session, SessionLimits
from aero.core.stream import Stream
from aero.errors import LocalProtocolError, StreamError
from tests.core.joined import End, Joined, Sink, bulk, refused

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def joined() -> Joined:
    return Joined()


def open_frame(stream_id: int, window: int = 256 * KIB) -> bytes:
    return frames.pack(frames.OPEN, stream_id, frames.pack_open(window, 1, "[2001:db8::1]:80"))


# Frames that may not be


@pytest.mark.parametrize("kind", [0, 0x0A, 0x40, frames.PING, frames.JOIN, 0xFF])
def test_an_unknown_frame_kind(joined: Joined, kind: int) -> None:
    """Link frames have no place in a session record."""
    with refused(Close.FRAME, f"frame kind {kind} is unknown"):
        joined.worker.feed(frames.pack(kind, 0, b""))


@pytest.mark.parametrize(
    "frame",
    [
        frames.pack(frames.DATA, 77, b"x"),
        frames.pack(frames.DATA, 78, b"x"),
        frames.pack(frames.DATA, 0, b"x"),
        frames.pack(frames.FIN, 77),
        frames.pack(frames.RESET, 78, b"\0"),
        frames.pack(frames.WINDOW, 0, frames.pack_window(0, 1)),
        frames.pack(frames.DATA, 2**32 - 1, b"x"),
    ],
    ids=lambda frame: frame.hex(),
)
def test_a_frame_for_a_stream_that_never_was(joined: Joined, frame: bytes) -> None:
    joined.pair()
    joined.worker.open()
    with refused(Close.UNKNOWN_STREAM, "was never opened"):
        joined.worker.feed(frame)


def test_empty_data(joined: Joined) -> None:
    joined.pair()
    with refused(Close.FRAME, "empty DATA on stream 1"):
        joined.worker.feed(frames.pack(frames.DATA, 1))


def test_data_after_fin(joined: Joined) -> None:
    joined.pair()
    with refused(Close.STATE, "DATA after FIN on stream 1"):
        joined.worker.feed(frames.pack(frames.FIN, 1), frames.pack(frames.DATA, 1, b"x"))


def test_fin_twice(joined: Joined) -> None:
    joined.pair()
    with refused(Close.STATE, "FIN twice on stream 1"):
        joined.worker.feed(frames.pack(frames.FIN, 1), frames.pack(frames.FIN, 1))


def test_a_fin_that_carries_something(joined: Joined) -> None:
    joined.pair()
    with refused(Close.FRAME, "FIN of 1 bytes"):
        joined.worker.feed(frames.pack(frames.FIN, 1, b"x"))


@pytest.mark.parametrize(
    ("kind", "payload"), [(frames.CONTROL, b"{}"), (frames.GOAWAY, b"\x0fbye")], ids=["CONTROL", "GOAWAY"]
)
def test_control_on_a_stream(joined: Joined, kind: int, payload: bytes) -> None:
    joined.pair()
    with refused(Close.FRAME, f"{frames.NAMES[kind]} on stream 1"):
        joined.worker.feed(frames.pack(kind, 1, payload))


@pytest.mark.parametrize(
    "tail", [b"\x03", bytes(7), bytes.fromhex("03 000002 00000001 ff"), bytes.fromhex("03 ffffff 00000001")]
)
def test_frames_that_do_not_fill_their_record(joined: Joined, tail: bytes) -> None:
    joined.pair()
    with refused(Close.FRAME):
        joined.worker.feed(frames.pack(frames.DATA, 1, b"x"), tail)


# OPEN


@pytest.mark.parametrize("stream_id", [0, 2, 4, 2**32 - 2])
def test_open_with_the_wrong_parity(joined: Joined, stream_id: int) -> None:
    with refused(Close.STATE, f"stream {stream_id} may not be opened"):
        joined.worker.feed(open_frame(stream_id))


@pytest.mark.parametrize("stream_id", [5, 3, 1])
def test_open_twice_or_backwards(joined: Joined, stream_id: int) -> None:
    joined.worker.feed(open_frame(5))
    with refused(Close.STATE, f"stream {stream_id} may not be opened"):
        joined.worker.feed(open_frame(stream_id))


def test_open_with_a_window_that_is_too_large(joined: Joined) -> None:
    joined.worker.feed(open_frame(1, MAX_WINDOW_BYTES))
    with refused(Close.CREDIT, "a window of 16777217 bytes"):
        joined.worker.feed(open_frame(3, MAX_WINDOW_BYTES + 1))


def test_where_both_ends_have_agreed_on_it_a_window_may_be_larger(joined: Joined) -> None:
    joined.worker.session.features = features.LARGE_WINDOWS
    joined.worker.feed(open_frame(1, LARGE_WINDOW_BYTES))
    with refused(
        Close.CREDIT, f"a window of {LARGE_WINDOW_BYTES + 1} bytes, allowed are {LARGE_WINDOW_BYTES}"
    ):
        joined.worker.feed(open_frame(3, LARGE_WINDOW_BYTES + 1))


def test_open_without_any_window_waits_for_one(joined: Joined) -> None:
    joined.worker.feed(open_frame(1, 0))
    sink = joined.worker.sinks[1]
    sink.push(b"answer")
    assert sink.backlog == b"answer"
    joined.worker.feed(frames.pack(frames.WINDOW, 1, frames.pack_window(0, 6)))
    assert sink.backlog == b""
    assert ("DATA", 1, b"answer") in joined.worker.said()


def test_ids_may_be_left_out_but_not_given_later(joined: Joined) -> None:
    joined.worker.feed(open_frame(1), open_frame(101))
    joined.worker.feed(frames.pack(frames.FIN, 51))  # below the last: taken for one that is over
    with refused(Close.UNKNOWN_STREAM):
        joined.worker.feed(frames.pack(frames.FIN, 103))


LARGEST = {"server": 2**32 - 1, "worker": 2**32 - 2}


def near_the_end(joined: Joined, name: str, left: int) -> End:
    """This end has given all its ids but ``left``."""
    end = getattr(joined, name)
    last = LARGEST[name] - 2 * left
    end.session._next_id, joined.other(end).session._their_last = last + 2, last
    return end


@pytest.mark.parametrize("name", ["server", "worker"])
def test_stream_ids_go_round_and_leave_out_what_is_open(joined: Joined, name: str) -> None:
    first = getattr(joined, name).open(first=b"first")
    second = getattr(joined, name).open(first=b"second")
    joined.run()
    end = near_the_end(joined, name, 2)
    assert first.stream is not None and second.stream is not None
    first_id = first.stream.id
    second.stream.abort(Reset.CANCELLED)
    sinks = [end.open(first=b"%d" % number) for number in range(4)]
    joined.run()
    ids = [sink.stream.id for sink in sinks if sink.stream is not None]
    assert ids == [LARGEST[name] - 2, LARGEST[name], first_id + 2, first_id + 4]
    first.push(b" goes on")
    joined.resume()
    other = joined.other(end)
    assert [bytes(other.sinks[each].got) for each in ids] == [b"0", b"1", b"2", b"3"]
    assert bytes(other.sinks[first_id].got) == b"first goes on"
    for sink in [first, *sinks]:
        sink.finish()
        assert sink.stream is not None
        other.sinks[sink.stream.id].finish()
    joined.run()
    assert not end.session.streams and not other.session.streams


def test_frames_that_cross_a_reset_are_dropped_across_the_end_of_the_ids(joined: Joined) -> None:
    near_the_end(joined, "server", 1)
    last, first = joined.server.open(first=b"x"), joined.server.open(first=b"x")
    joined.run()
    assert last.stream is not None and first.stream is not None
    assert (last.stream.id, first.stream.id) == (2**32 - 1, 1)
    for sink in (last, first):
        assert sink.stream is not None
        joined.worker.sinks[sink.stream.id].push(b"crosses")
        sink.stream.abort(Reset.CANCELLED)
    joined.run()
    joined.worker.feed(frames.pack(frames.FIN, 2**32 - 3), frames.pack(frames.FIN, 2**31 + 1))
    joined.server.feed(frames.pack(frames.FIN, 2**32 - 3), frames.pack(frames.FIN, 2**31 + 1))


@pytest.mark.parametrize(
    ("last", "stream_id"),
    [
        (0, 2**31 + 1),
        (5, 2**32 - 1),
        (2**32 - 1, 2**32 - 3),
        (2**32 - 1, 2**31 + 1),
        (2**31 - 1, 2**32 - 1),
        (2**32 - 1, 0),
        (2**32 - 1, 2),
    ],
)
def test_an_id_that_is_not_ahead_of_the_last(joined: Joined, last: int, stream_id: int) -> None:
    joined.worker.session._their_last = last
    with refused(Close.STATE, f"stream {stream_id} may not be opened"):
        joined.worker.feed(open_frame(stream_id))


def test_an_id_is_not_given_again_while_its_stream_is_open(joined: Joined) -> None:
    joined.worker.feed(open_frame(1))
    joined.worker.session._their_last = 2**32 - 1
    with refused(Close.STATE, "stream 1 is open"):
        joined.worker.feed(open_frame(1))


def test_zero_is_no_stream_in_any_round(joined: Joined) -> None:
    near_the_end(joined, "worker", 1)
    for _ in range(2):
        joined.worker.open()
    joined.run()
    assert sorted(joined.server.session.streams) == [2, 2**32 - 2]
    for end in joined.ends:
        with refused(Close.UNKNOWN_STREAM):
            end.feed(frames.pack(frames.FIN, 0))


def test_what_open_says_reaches_the_other_end(joined: Joined) -> None:
    joined.server.open(target_id=7)
    joined.worker.open(target_id=0xFFFF)
    joined.run()
    assert joined.worker.targets == [(7, "192.0.2.1:4711")]
    assert joined.server.targets == [(0xFFFF, "192.0.2.1:4711")]
    assert sorted(joined.server.session.streams) == [1, 2]


def test_accepting_twice_is_our_bug(joined: Joined) -> None:
    far = joined.pair()[1]
    assert far.stream is not None
    with pytest.raises(LocalProtocolError, match="accepted before"):
        joined.worker.session.accept(far.stream, far, joined.now)


# Limits


def test_the_stream_limit_holds_at_both_ends() -> None:
    joined = Joined(limits=SessionLimits(max_streams=3))
    for _ in range(3):
        joined.pair()
    with pytest.raises(StreamError, match="3 streams are open"):
        joined.server.open()
    joined.worker.feed(open_frame(99))
    assert 99 not in joined.worker.session.streams
    assert joined.worker.said()[-1] == ("RESET", 99, frames.pack_reason(Reset.LIMIT, "no more streams now"))
    joined.worker.feed(frames.pack(frames.DATA, 99, b"x"), frames.pack(frames.FIN, 99))  # was on its way


def test_visitors_who_come_and_go_while_the_other_end_takes_nothing_find_a_closed_door() -> None:
    """Each costs an OPEN and a RESET; the link, taken over later, must not be cut off for what they have left."""
    joined = Joined(limits=SessionLimits(kept_bytes=BLOCK_BYTES, kept_slack_bytes=4 * BLOCK_BYTES))
    joined.server.out.stalled = True
    session = joined.server.session
    opened = 0
    with pytest.raises(StreamError, match="taken nothing of what waits"):
        while opened < 100_000:
            stream = session.open(Sink(joined.server), 1, "192.0.2.1:4711", joined.now)
            stream.abort(Reset.CANCELLED, "the visitor left")
            opened += 1
    assert opened > 1000
    assert not session.overloaded
    joined.server.out.stalled = False
    joined.settle()
    joined.pair(first=b"open again")


def test_a_session_that_keeps_all_it_may_takes_no_more_memory_and_uses_what_it_has() -> None:
    joined = Joined(limits=SessionLimits(kept_bytes=BLOCK_BYTES))
    stream = joined.server.open().stream
    assert stream is not None
    joined.run()
    joined.server.out.stalled = True
    outbox, sent = joined.server.session.outbox, 0
    while (room := stream.reserve(1000)) is not None:
        sent += len(room)
        stream.commit(len(room), more=False)
        assert outbox.kept_bytes == BLOCK_BYTES
        if sent % 10_000 == 0:
            joined.worker.session.streams[stream.id].limit += 10_000
            stream.send_limit += 10_000
    assert sent > BLOCK_BYTES - 64 * 1024 and stream.waiting


def test_a_place_is_free_again_when_a_stream_is_over() -> None:
    joined = Joined(limits=SessionLimits(max_streams=1))
    for _ in range(3):
        near, far = joined.pair()
        near.finish()
        far.finish()
        joined.run()


def test_what_a_stream_holds_before_it_is_accepted_is_bounded_even_in_single_bytes(joined: Joined) -> None:
    """A list of 65,536 objects would be forty times what the credit allows."""
    import tracemalloc

    joined.worker.holds_streams = True
    joined.worker.feed(open_frame(1))
    some = memoryview(frames.pack(frames.DATA, 1, b"x") * 4096)
    tracemalloc.start()
    for _ in range(OPEN_CREDIT_BYTES // 4096):
        joined.worker.session.receive(some, joined.now)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * OPEN_CREDIT_BYTES
    with refused(Close.CREDIT):
        joined.worker.feed(frames.pack(frames.DATA, 1, b"x"))
    assert bytes(joined.worker.accept().got) == b"x" * OPEN_CREDIT_BYTES


def test_sixteen_thousand_streams_share_one_budget_of_windows() -> None:
    limits = SessionLimits()
    joined = Joined(limits=limits)
    for _ in range(limits.max_streams):
        joined.server.open()
    windows = sum(stream.window for stream in joined.server.session.streams.values())
    assert windows == joined.server.session._windows
    assert windows <= limits.windows_bytes + limits.max_streams * limits.min_window_bytes
    joined.run()
    accepted = sum(stream.window for stream in joined.worker.session.streams.values())
    assert accepted == joined.worker.session._windows
    # What the opener may send at once is the wire's, not ours to lessen.
    assert accepted <= limits.windows_bytes + limits.max_streams * OPEN_CREDIT_BYTES
    for stream in list(joined.server.session.streams.values()):
        stream.abort(Reset.CANCELLED)
    joined.run()
    assert joined.server.session._windows == joined.worker.session._windows == 0


def test_growth_stops_at_the_sessions_budget() -> None:
    limits = SessionLimits(windows_bytes=MIB)
    joined = Joined(limits=limits)
    joined.worker.session.round_trip_s = 1e9
    pairs = [joined.pair() for _ in range(4)]
    for near, _ in pairs:
        near.push(bytes(2 * MIB))
        joined.run()
    assert joined.worker.session._windows <= MIB
    near, _ = pairs[0]
    assert near.stream is not None
    near.stream.abort(Reset.CANCELLED)
    joined.run()
    before = joined.worker.session._windows
    pairs[1][0].push(bytes(4 * MIB))
    joined.run()
    assert before < joined.worker.session._windows <= MIB


def test_growth_of_all_sessions_is_bounded_together_and_the_largest_give_way() -> None:
    joined = Joined()
    windows = joined.memory.windows = joined.worker.session._all_windows = Windows(16 * MIB)
    joined.worker.session.round_trip_s = 1e9
    first = SessionLimits().window_bytes
    pairs = [joined.pair() for _ in range(8)]

    def grown() -> list[int]:
        return [far.stream.window - first for _, far in pairs if far.stream is not None]

    for near, far in pairs[:1] * 8:
        near.push(bytes(12 * MIB))
        joined.run()
        assert far.stream is not None and near.stream is not None
        assert far.stream.limit == near.stream.send_limit
    assert 4 * MIB <= grown()[0] == windows.grown_bytes <= 12 * MIB
    for near, _ in pairs * 4:  # newcomers get theirs, and the first, which still moves, shrinks for them
        near.push(bytes(4 * MIB))
        joined.run()
        assert sum(grown()) == windows.grown_bytes <= 16 * MIB
    assert min(grown()) >= MIB // 2 and max(grown()) <= 6 * MIB
    for near, _ in pairs:
        assert near.stream is not None
        near.stream.abort(Reset.CANCELLED)
    joined.run()
    assert not windows.grown_bytes and not joined.worker.session._windows


def test_a_stream_that_ended_before_it_was_accepted_leaves_the_budget_as_it_was(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open()
    near.finish()
    joined.run()
    joined.worker.opened[0].finish()
    joined.worker.accept()
    joined.run()
    assert joined.worker.session._windows == joined.server.session._windows == 0


def held(session: Session) -> int:
    return sum(stream.received - stream.consumed for stream in session.streams.values())


def test_what_stuck_readers_hold_is_bounded_and_the_longest_stuck_give_way() -> None:
    """The credit that every stream is opened with cannot be taken back: it would allow 12 MiB here."""
    limit = MIB
    joined = Joined(unread_bytes=limit)
    near, far = joined.pair()
    stuck = []
    for number in range(200):
        joined.now += 0.01
        stuck.append(joined.pair(slow=True)[0])
        stuck[-1].push(bytes(60_000))
        near.push(b"%04d" % number * 1000)
        joined.run()
        assert held(joined.worker.session) <= limit + limit // 8 + BLOCK_BYTES
    ends = [sink.events for sink in stuck]
    gone = sum(sink.over for sink in stuck)
    assert 150 < gone < 200
    assert ends == [[f"reset {Reset.LIMIT}"]] * gone + [[]] * (200 - gone), "the oldest went"
    assert bytes(far.got) == b"".join(b"%04d" % number * 1000 for number in range(200))
    assert len(joined.worker.session.streams) == len(joined.server.session.streams) == 201 - gone


def test_what_streams_hold_that_are_not_accepted_is_bounded_too() -> None:
    limit = MIB
    joined = Joined(unread_bytes=limit)
    joined.worker.holds_streams = True
    for _ in range(200):
        joined.server.open(first=bytes(60_000))
        joined.run()
        kept = sum(len(stream.receiver.kept) for stream in joined.worker.opened)  # type: ignore[attr-defined]
        assert kept == held(joined.worker.session) <= limit + limit // 8 + BLOCK_BYTES
    first, last = joined.worker.opened[0], joined.worker.opened[-1]
    assert joined.worker.accept(first).events == [f"reset {Reset.LIMIT}"]
    assert len(joined.worker.accept(last).got) == 60_000


def test_what_is_left_of_streams_that_are_over_is_bounded_too() -> None:
    """Both ends have said FIN, and the socket behind still does not take what was sent."""
    limit = MIB
    joined = Joined(unread_bytes=limit)
    fars = []
    for _ in range(100):
        near, far = joined.pair(slow=True)
        far.finish()
        near.push(bytes(60_000))
        near.finish()
        joined.run()
        fars.append(far)
        assert not joined.worker.session.streams
        assert sum(each.held for each in fars if not each.over) <= limit + limit // 8 + BLOCK_BYTES
    assert fars[0].over and not fars[-1].over
    assert len(joined.worker.session._leftovers) == sum(not each.over for each in fars)
    joined.worker.sinks.clear()
    fars.clear()
    del near, far
    gc.collect()
    assert not joined.worker.session._leftovers


def test_who_reads_is_never_reset_however_much_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    bound = Incoming.bound
    monkeypatch.setattr(Incoming, "bound", lambda self: (counted.append(self), bound(self)))
    joined = Joined(unread_bytes=MIB)
    pairs = [joined.pair() for _ in range(20)]
    for near, far in pairs:
        near.push(bytes(MIB))
        far.push(bytes(MIB))
    joined.run()
    assert all(len(near.got) == len(far.got) == MIB for near, far in pairs)
    assert len(counted) <= 2 * 20 * 9  # an eighth of a megabyte each, at the worst


def test_a_receiver_that_takes_others_along_while_the_stuck_are_reset() -> None:
    joined = Joined(unread_bytes=MIB)

    class Family(Sink):
        def reset(self, code: int, text: str) -> None:
            super().reset(code, text)
            for sink in family:
                assert sink.stream is not None
                sink.stream.abort(Reset.CANCELLED)

    family: list[Sink] = []
    for _ in range(30):
        near, far = joined.pair(slow=True)
        assert far.stream is not None
        far.stream.receiver = sink = Family(joined.worker, slow=True)
        sink.stream = far.stream
        family.append(sink)
        near.push(bytes(60_000))
        joined.run()
    assert sum(sink.over for sink in family) == 1
    assert held(joined.worker.session) < MIB


# Control and goaway


def test_control_messages_arrive_in_order(joined: Joined) -> None:
    for number in range(3):
        joined.server.session.control(control.Unknown(f"number {number}"))
    joined.run()
    assert joined.worker.controls == [control.Unknown(f"number {number}") for number in range(3)]


def test_a_control_message_of_65_kib_is_our_bug_and_never_leaves(joined: Joined) -> None:
    with pytest.raises(LocalProtocolError, match="a control message of"):
        joined.server.session.control(control.Unknown("x" * 65_536))
    assert joined.server.said() == []


def test_goaway_ends_no_stream_but_begins_none(joined: Joined) -> None:
    near, far = joined.pair()
    joined.server.session.goaway(Close.RESTART, "back soon")
    joined.server.session.goaway(Close.RESTART, "said once")
    joined.run()
    assert joined.worker.goaways == [(Close.RESTART, "back soon")]
    for end in joined.ends:
        with pytest.raises(StreamError, match="one side is leaving"):
            end.open()
    near.push(b"goes on")
    joined.run()
    assert bytes(far.got) == b"goes on"


def test_goaway_is_told_once_however_often_it_is_said(joined: Joined) -> None:
    goaway = frames.pack(frames.GOAWAY, 0, frames.pack_reason(Close.DONE, "again"))
    joined.worker.session.goaway(Close.DONE, "we first")
    joined.worker.feed(*[goaway] * 1000)
    assert joined.worker.goaways == [(Close.DONE, "again")]


@pytest.mark.parametrize("leaving", [False, True])
def test_a_peer_may_open_as_much_as_its_budget_says(joined: Joined, leaving: bool) -> None:
    """Also what is refused by itself has its price."""
    joined.worker.session.opens = Budget(3, 1.0, joined.now)
    joined.worker.session.leaving = leaving
    joined.worker.feed(open_frame(1), open_frame(3), open_frame(5))
    with refused(Close.OVERLOAD, "opened where nothing is to be reached"):
        joined.worker.feed(open_frame(7))
    joined.now += 1.0
    joined.worker.feed(open_frame(7))
    assert len(joined.worker.opened) == 0
    assert len(joined.worker.sinks) == (0 if leaving else 4)


def test_an_open_that_crossed_our_goaway_is_reset(joined: Joined) -> None:
    near = joined.server.open(first=b"hello")
    joined.worker.session.goaway(Close.DONE, "")
    joined.run()
    assert near.events == [f"reset {Reset.LIMIT}"]
    assert not joined.server.session.streams


# Room, and whose turn it is


def fill(joined: Joined, *sinks: Sink, count: int = 4 * MIB) -> None:
    for sink in sinks:
        sink.push(bytes(count))


def order(joined: Joined) -> list[tuple[int, int]]:
    """(stream id, bytes) of every DATA frame in the next turns of the server's link, while nothing arrives."""
    taken = []
    for _ in range(8):
        taken += [(sid, len(data)) for kind, sid, data in joined.server.said() if kind == "DATA"]
        joined.server.session.resume_waiting()
    return taken


def test_two_bulk_streams_take_turns(joined: Joined) -> None:
    first, second = joined.pair()[0], joined.pair()[0]
    joined.server.session.burst_bytes = 16 * KIB
    fill(joined, first, second)
    assert first.stream is not None
    assert second.stream is not None
    ids = [sid for sid, _ in order(joined)]
    shares = [ids.count(first.stream.id), ids.count(second.stream.id)]
    assert min(shares) >= len(ids) // 2 - 2


def test_a_light_stream_overtakes_bulk(joined: Joined) -> None:
    heavy = [joined.pair()[0] for _ in range(3)]
    light = joined.pair()[0]
    joined.server.session.burst_bytes = 16 * KIB
    fill(joined, *heavy)
    light.push(b"keystroke")
    assert light.backlog == b""
    unsent = joined.server.session.outbox.written - joined.server.session.outbox.sent
    assert unsent <= 2 * 16 * KIB + 64


def test_even_light_streams_find_an_end(joined: Joined) -> None:
    """Many small messages together are bulk: nothing waits unsent beyond twice the burst and a frame."""
    light = [joined.pair()[0] for _ in range(100)]
    session = joined.server.session
    session.burst_bytes = 16 * KIB
    for _ in range(100):
        for sink in light:
            sink.push(b"x" * 50)
    assert session.outbox.written - session.outbox.sent <= 2 * 16 * KIB + 100
    joined.run()
    for sink in light:
        assert sink.backlog == b""
        assert sink.stream is not None
        assert joined.worker.sinks[sink.stream.id].got == b"x" * 5000


def test_a_waiting_stream_that_is_reset_leaves_the_queue(joined: Joined) -> None:
    near = [joined.pair()[0] for _ in range(3)]
    joined.server.session.burst_bytes = 16 * KIB
    fill(joined, *near)
    assert len(joined.server.session.waiting) == 3
    for sink in near[:2]:
        assert sink.stream is not None
        sink.stream.abort(Reset.CANCELLED)
    joined.server.feed(frames.pack(frames.RESET, 5, b"\0"))
    assert not joined.server.session.waiting
    joined.server.session.resume_waiting()
    assert [sink.events for sink in near] == [[], [], ["reset 0"]]


def test_a_stream_that_waits_for_credit_does_not_stand_in_the_queue_for_room(joined: Joined) -> None:
    """It would be asked again and again for as long as its reader stalls, and the others' shares were smaller."""

    class Pipe(Sink):
        def resume(self) -> None:
            super().resume()
            assert self.stream is not None
            if self.stream.heavy:
                joined.server.session.wait_turn(self.stream)

    near, _ = joined.pair(slow=True)
    assert near.stream is not None
    near.stream.receiver = pipe = Pipe(joined.server)
    pipe.stream = near.stream
    joined.server.session.burst_bytes = 16 * KIB
    pipe.push(bytes(MIB))
    joined.run()
    assert near.stream.starved
    assert near.stream.heavy
    assert not joined.server.session.waiting


def test_a_stream_that_takes_others_along_when_it_is_resumed(joined: Joined) -> None:
    """One visitor's connection may own several streams."""

    class Family(Sink):
        def resume(self) -> None:
            for stream in list(joined.server.session.streams.values()):
                stream.abort(Reset.CANCELLED)

    near = [joined.pair()[0] for _ in range(3)]
    joined.server.session.burst_bytes = 16 * KIB
    fill(joined, *near)
    assert near[0].stream is not None
    near[0].stream.receiver = Family(joined.server)
    joined.server.said()
    joined.server.session.resume_waiting()
    assert not joined.server.session.streams
    assert not joined.server.session.waiting


def test_the_keep_limit_is_reached_and_left_by_acknowledgement() -> None:
    limits = SessionLimits(kept_bytes=2 * MIB, window_bytes=4 * MIB)
    joined = Joined(limits=limits)
    near, far = joined.pair()
    joined.worker.out.stalled = True  # no acknowledgement comes back
    near.push(bulk(8 * MIB))
    joined.run()
    kept = joined.server.session.outbox.kept_bytes
    assert limits.kept_bytes <= kept <= limits.kept_bytes + 2 * BLOCK_BYTES
    assert near.backlog
    assert joined.server.session.waiting
    joined.worker.out.stalled = False
    for _ in range(8):
        joined.settle()
    assert far.got == bulk(8 * MIB)
    assert joined.server.session.outbox.kept_bytes == 0


def test_a_pool_that_one_session_has_exhausted_leaves_something_for_the_others() -> None:
    """A peer that acknowledges nothing must not stop all sessions of the process."""
    pool = BlockPool(max_blocks=4, max_free=4)
    limits = SessionLimits(window_bytes=4 * MIB)
    greedy, modest = Joined(pool=pool, limits=limits), Joined(pool=pool, limits=limits)
    near, far = greedy.pair()
    greedy.worker.out.stalled = True
    near.push(bulk(4 * MIB))
    greedy.run()
    assert near.backlog
    assert pool.exhausted
    question, answer = modest.pair(first=b"question")
    assert bytes(answer.got) == b"question"
    question.push(bulk(4 * MIB))
    for _ in range(400):
        modest.settle()
    assert answer.got[8:] == bulk(4 * MIB)
    greedy.worker.out.stalled = False
    for _ in range(8):
        greedy.settle()
    assert far.got == bulk(4 * MIB)


def test_more_idle_sessions_than_the_pool_has_blocks_can_still_speak() -> None:
    pool = BlockPool(max_blocks=3, max_free=4)
    for joined in [Joined(pool=pool) for _ in range(5)]:
        near, far = joined.pair()
        near.push(b"hello")
        joined.run()
        assert bytes(far.got) == b"hello"


def test_a_stream_that_begins_to_wait_on_an_idle_link_is_seen() -> None:
    """Memory that others hold: nothing of this session is on its way that would bring the link back to it."""
    joined = Joined(pool=BlockPool(max_blocks=2, max_free=4))
    near, far = joined.pair()
    near.push(bytes(200 * KIB))
    joined.settle()
    session = joined.server.session
    for _ in range(2):  # all that there is, and all of it sent and not acknowledged
        session.outbox.put(bytes(BLOCK_BYTES))
        session.outbox.next_piece()
    told = []
    session.on_output = lambda: told.append(True)
    assert not session.dirty
    near.push(bytes(100))
    near.push(bytes(100))
    assert near.backlog == bytes(200)
    assert told == [True]
    assert len(far.got) == 200 * KIB


def hog(pool: BlockPool) -> Joined:
    """A worker that takes all and acknowledges nothing; its server keeps as much as it may."""
    joined = Joined(pool=pool)
    near, _ = joined.pair()
    assert near.stream is not None
    near.stream.send_limit = 1 << 40
    joined.worker.out.stalled = True
    joined.server.out.stalled = True  # what is taken from it is as good as sent
    near.push(bytes(100 * MIB))
    for _ in range(1000):
        joined.server.said()
        joined.server.session.resume_waiting()
    return joined


def test_a_few_that_acknowledge_nothing_do_not_keep_the_others_waiting() -> None:
    pool = BlockPool(max_blocks=64, max_free=8)
    hogs = [hog(pool) for _ in range(3)]
    assert pool.exhausted
    most = pool.taken_bytes // BLOCK_BYTES
    for _ in range(3):
        right = Joined(pool=pool)
        near, far = right.pair()
        near.push(bulk(8 * MIB))
        far.push(bulk(8 * MIB))
        for _ in range(1000):
            right.tick(0.1)
            most = max(most, pool.taken_bytes // BLOCK_BYTES)
            if len(far.got) == len(near.got) == 8 * MIB:
                break
        assert far.got == near.got == bulk(8 * MIB)
    assert most <= 64
    # Nor does one of them get what they had left.
    for each in hogs:
        kept = each.server.session.outbox.kept_bytes
        each.server.session.resume_waiting()
        assert each.server.session.outbox.kept_bytes == kept


def stall(joined: Joined, seconds: float) -> None:
    """So long passes at the server, which looks every now and then, as it does while streams wait."""
    end = joined.now + seconds
    while joined.now < end:
        joined.now += 0.05
        joined.server.machine.heard_at = joined.now
        joined.server.machine.handle_deadline(joined.now)


def test_who_keeps_much_and_acknowledges_nothing_gives_way_while_memory_is_scarce() -> None:
    pool = BlockPool(max_blocks=64, max_free=8)
    joined = hog(pool)
    stall(joined, STALLED_S - 1.0)
    joined.server.session.acknowledged(joined.server.session.outbox.acked + 1)
    stall(joined, STALLED_S - 1.0)
    with refused(Close.OVERLOAD, "memory is scarce"):
        stall(joined, 2.0)


def test_who_keeps_much_may_do_so_while_there_is_memory() -> None:
    pool = BlockPool(max_blocks=1024, max_free=8)
    joined = hog(pool)
    assert joined.server.session.outbox.kept_bytes == joined.server.session.limits.kept_bytes
    stall(joined, 3 * STALLED_S)
    others = [pool.take(BLOCK_BYTES) for _ in range(1024)]
    stall(joined, STALLED_S - 1.0)  # counts from when memory became scarce
    with refused(Close.OVERLOAD):
        stall(joined, 2.0)
    for block in others:
        pool.give(block)


def test_who_keeps_little_may_do_so_while_memory_is_scarce() -> None:
    pool = BlockPool(max_blocks=64, max_free=8)
    others = [pool.take(BLOCK_BYTES) for _ in range(64)]
    joined = Joined(pool=pool)
    joined.worker.out.stalled = True
    joined.server.session.control(control.Unknown("wait"))
    joined.run()
    assert pool.exhausted and len(others) == 64
    stall(joined, 3 * STALLED_S)


def test_who_was_away_itself_does_not_blame_the_peer_for_it() -> None:
    joined = hog(BlockPool(max_blocks=64, max_free=8))
    stall(joined, 1.0)
    joined.now += 2 * STALLED_S
    joined.server.machine.heard_at = joined.now - 1.0
    joined.server.machine.acks.at = joined.now - STALLED_S  # it was due then
    stall(joined, 1.0)


def test_a_rush_of_opens_is_told_until_they_are_acknowledged() -> None:
    joined = Joined(limits=SessionLimits(rush_opens=8))
    session = joined.server.session
    rushed = []
    for _ in range(10):
        rushed.append(session.rushed)
        joined.server.open()
    assert rushed == [False] * 8 + [True] * 2
    for _ in range(4):
        joined.settle()
    assert not session.rushed
    for _ in range(20):  # nor does a trickle that is acknowledged ever become one
        assert not session.rushed
        joined.server.open()
        joined.settle()


def test_a_server_that_never_asks_for_a_rush_remembers_no_more_opens_than_were_on_their_way() -> None:
    """As one does whose visitors all come by the mux: a number for each of their streams would be kept for years."""
    joined = Joined()
    session = joined.server.session
    for _ in range(300):
        near, far = joined.pair()
        near.finish()
        far.finish()
        joined.settle()
    assert len(session._opens) < 10


# The end


def test_the_end_resets_every_stream_and_gives_all_memory_back(joined: Joined) -> None:
    sinks = [joined.pair()[0] for _ in range(3)]
    joined.worker.holds_streams = True
    waiting = joined.server.open()
    joined.run()
    held = joined.worker.opened[0]
    fill(joined, *sinks)
    joined.server.session.end(Reset.LOST, "gone")
    joined.worker.session.end(Reset.LOST, "gone")
    assert [sink.events[-1] for sink in [*sinks, waiting]] == [f"reset {Reset.LOST}"] * 4
    assert joined.pool.taken_bytes == joined.pool.holders == 0
    far = Sink(joined.worker)
    joined.worker.session.accept(held, far, joined.now)  # the target has answered meanwhile
    assert far.events == [f"reset {Reset.LOST}"]
    with pytest.raises(StreamError):
        joined.server.session.open(far, 1, "", joined.now)


def test_ending_twice_is_harmless(joined: Joined) -> None:
    joined.server.session.end(Reset.LOST, "")
    joined.server.session.end(Reset.LOST, "")
    assert joined.pool.taken_bytes == 0


def test_a_receiver_that_ends_others_while_the_session_ends(joined: Joined) -> None:
    class Family(Sink):
        def reset(self, code: int, text: str) -> None:
            super().reset(code, text)
            for stream in streams:
                stream.abort(Reset.CANCELLED)
            joined.server.session.end(Reset.LOST, "")

    streams: list[Stream] = []
    for _ in range(3):
        near, _ = joined.pair()
        assert near.stream is not None
        streams.append(near.stream)
        near.stream.receiver = Family(joined.server)
    joined.server.session.end(Reset.LOST, "gone")
    assert not joined.server.session.streams
    assert joined.pool.taken_bytes == joined.worker.session.outbox.kept_bytes


def test_a_receiver_that_writes_once_more_while_the_session_ends(joined: Joined) -> None:
    """One stream's reset may make its owner write on another, whose turn to be reset comes later."""
    first, second = joined.pair()[0], joined.pair()[0]
    assert first.stream is not None
    first.stream.receiver = sink = Sink(joined.server)
    sink.reset = lambda code, text: second.push(b"last words")  # type: ignore[method-assign]
    joined.server.session.end(Reset.LOST, "gone")
    assert second.events == [f"reset {Reset.LOST}"]
    assert joined.pool.taken_bytes == joined.worker.session.outbox.kept_bytes


def test_a_session_that_has_ended_says_nothing_into_memory_that_others_use_by_now(joined: Joined) -> None:
    """An end inside a record: what still stands in it must not be answered."""
    session = joined.worker.session
    session.control(control.Unknown("early"))
    head = session.outbox._head
    joined.worker.control_received = lambda message: session.end(Reset.LOST, "kicked")
    joined.worker.feed(frames.pack(frames.CONTROL, 0, b"{}"), open_frame(1), open_frame(3))
    session.control(control.Unknown("late"))
    session.goaway(Close.DONE, "late")
    assert session.next_piece() is None
    session.acknowledged(0)
    assert joined.pool.take(1) is head
    assert (head.start, head.end, head.sent) == (0, 0, 0)
