"""Streams: both directions and how each ends, credit and how it grows."""

from __future__ import annotations

import pytest

from aero.core import features, frames
from aero.core import stream as streams
from aero.core.codes import Close, Reset
from aero.core.session import LARGE_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_ROUND_TRIP_S, OPEN_CREDIT_BYTES
from aero.core.stream import CLOSED, OPEN, OUR_FIN, OURS_ENDED, OVER, RESET, THEIR_FIN, THEIRS_ENDED, Stream
from aero.errors import LocalProtocolError
from tests.core.joined import Joined, Sink, bulk, refused

WINDOW = 256 * 1024


@pytest.fixture
def joined() -> Joined:
    return Joined()


def stream_of(sink: Sink) -> Stream:
    assert sink.stream is not None
    return sink.stream


def all_gone(joined: Joined) -> bool:
    """No stream, no window, nothing in a queue is left at either end."""
    return not any(end.session.streams or end.session.waiting or end.session._windows for end in joined.ends)


# The table


def test_the_table_is_the_whole_law() -> None:
    reachable = {OPEN} | set(streams.TRANSITIONS.values())
    assert reachable == {OPEN, OURS_ENDED, THEIRS_ENDED, CLOSED}
    for state in reachable:
        for event in (OUR_FIN, THEIR_FIN, RESET):
            to = streams.TRANSITIONS.get((state, event))
            if state == CLOSED:
                assert to is None
            elif event == RESET:
                assert to == CLOSED
            else:
                bit = OURS_ENDED if event == OUR_FIN else THEIRS_ENDED
                assert to == (None if state & bit else state | bit)


def test_an_over_stream_takes_everything_and_does_nothing() -> None:
    OVER.data(memoryview(b"x"))
    OVER.finished()
    OVER.reset(0, "")
    OVER.resume()


# Half close


@pytest.mark.parametrize("opener_first", [True, False])
def test_half_close_leaves_the_other_direction_open(joined: Joined, opener_first: bool) -> None:
    near, far = joined.pair()
    first, second = (near, far) if opener_first else (far, near)
    first.push(b"question")
    first.finish()
    joined.run()
    assert (bytes(second.got), second.events) == (b"question", ["finished"])
    assert (stream_of(first).state, stream_of(second).state) == (OURS_ENDED, THEIRS_ENDED)
    second.push(bulk(1_000_000))
    joined.run()
    second.finish()
    joined.run()
    assert first.got == bulk(1_000_000)
    assert first.events[-1] == "finished"
    assert stream_of(first).state == stream_of(second).state == CLOSED
    assert all_gone(joined)


def test_both_finish_at_once(joined: Joined) -> None:
    near, far = joined.pair()
    near.finish()
    far.finish()
    joined.run()
    assert near.events == far.events == ["finished"]
    assert all_gone(joined)


def test_finishing_before_the_other_end_has_accepted(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open(first=b"all there is")
    near.finish()
    joined.run()
    far = joined.worker.accept()
    assert (bytes(far.got), far.events) == (b"all there is", ["finished"])
    far.push(b"answer")
    far.finish()
    joined.run()
    assert bytes(near.got) == b"answer"
    assert all_gone(joined)


def test_finishing_twice_is_our_bug(joined: Joined) -> None:
    near, _ = joined.pair()
    stream_of(near).finish()
    with pytest.raises(LocalProtocolError, match="our fin on stream 1, which is ours ended"):
        stream_of(near).finish()


def test_data_after_our_fin_is_our_bug_and_never_leaves(joined: Joined) -> None:
    """The other end would take it for an attack, and end the whole session."""
    near, far = joined.pair()
    near.finish()
    with pytest.raises(LocalProtocolError, match="data after our fin on stream 1"):
        stream_of(near).send(memoryview(b"late"))
    joined.run()
    assert far.events == ["finished"]


# Reset


@pytest.mark.parametrize("opener_resets", [True, False])
def test_a_reset_passes_through_with_code_and_text(joined: Joined, opener_resets: bool) -> None:
    near, far = joined.pair()
    ours, theirs = (near, far) if opener_resets else (far, near)
    stream_of(ours).abort(Reset.CANCELLED, "connection reset by peer")
    assert ours.events == []
    joined.run()
    assert theirs.events == ["reset 0"]
    assert all_gone(joined)


def test_data_before_a_reset_arrives_first(joined: Joined) -> None:
    near, far = joined.pair()
    near.push(b"last words")
    stream_of(near).abort(Reset.CANCELLED)
    joined.run()
    assert (bytes(far.got), far.events) == (b"last words", ["reset 0"])


def test_both_reset_at_once(joined: Joined) -> None:
    near, far = joined.pair()
    stream_of(near).abort(Reset.CANCELLED)
    stream_of(far).abort(Reset.CANCELLED)
    joined.run()
    assert near.events == far.events == []
    assert all_gone(joined)


def test_data_sent_after_a_reset_is_lost_as_with_tcp(joined: Joined) -> None:
    near, far = joined.pair()
    stream_of(far).abort(Reset.CANCELLED)
    assert stream_of(far).send(memoryview(b"not heard of it yet")) == 19
    near.push(b"crosses the reset")
    joined.run()
    assert stream_of(near).send(memoryview(b"late")) == 4
    joined.run()
    assert (bytes(near.got), bytes(far.got)) == (b"", b"")
    assert all_gone(joined)


def test_aborting_twice_is_harmless(joined: Joined) -> None:
    near, far = joined.pair()
    stream_of(near).abort(Reset.CANCELLED)
    stream_of(near).abort(Reset.INTERNAL)
    joined.run()
    assert far.events == ["reset 0"]


def test_late_data_after_our_reset_is_dropped_and_the_session_goes_on(joined: Joined) -> None:
    near, far = joined.pair()
    far.push(bulk(100_000))
    far.finish()
    stream_of(near).abort(Reset.CANCELLED)
    joined.run()
    assert bytes(near.got) == b""
    assert near.events == []
    assert all_gone(joined)
    near, far = joined.pair(first=b"still here")
    assert bytes(far.got) == b"still here"


def test_a_reset_of_a_stream_that_is_over_is_dropped(joined: Joined) -> None:
    near, far = joined.pair()
    for sink in (near, far):
        sink.finish()
    joined.run()
    joined.worker.feed(frames.pack(frames.RESET, 1, frames.pack_reason(0, "")))
    joined.worker.feed(frames.pack(frames.FIN, 1))
    joined.worker.feed(frames.pack(frames.WINDOW, 1, frames.pack_window(0, 1)))


def test_a_reset_while_waiting_to_be_accepted(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open(first=b"hello")
    joined.run()
    stream_of(near).abort(Reset.CANCELLED, "gone")
    joined.run()
    far = joined.worker.accept()
    assert (bytes(far.got), far.events) == (b"", ["reset 0"])
    assert all_gone(joined)


def test_the_acceptor_refuses(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open(first=b"hello")
    joined.run()
    joined.worker.opened[0].abort(Reset.REFUSED, "connection refused")
    joined.run()
    assert near.events == ["reset 1"]
    assert all_gone(joined)


def test_what_a_reset_proves_of_what_was_handed_on(joined: Joined) -> None:
    """Nothing, unless it comes from the acceptor before it has accepted; whoever has ended his direction by then."""
    joined.worker.holds_streams = True
    near = joined.server.open(first=b"hello")
    joined.run()
    stream = stream_of(near)
    joined.worker.opened.pop().abort(Reset.LIMIT)
    joined.run()
    assert stream.refused

    near = joined.server.open(first=b"hello")
    near.finish()
    joined.run()
    stream = stream_of(near)
    far = joined.worker.accept()
    assert bytes(far.got) == b"hello"
    stream_of(far).abort(Reset.LIMIT)
    joined.run()
    assert near.events == ["reset 5"] and not stream.refused

    joined.worker.holds_streams = False
    near, far = joined.pair()
    stream = stream_of(near)
    joined.server.session.end(0, "lost")
    assert near.events == ["reset 0"] and not stream.refused, "a reset made here"


def test_a_receiver_that_aborts_inside_data_hears_nothing_more(joined: Joined) -> None:
    near, far = joined.pair()
    far.on_data = lambda: stream_of(far).abort(Reset.INTERNAL)
    joined.worker.feed(*(frames.pack(frames.DATA, 1, b"x") for _ in range(3)), frames.pack(frames.FIN, 1))
    assert (bytes(far.got), far.events) == (b"x", [])
    joined.run()
    assert near.events == ["reset 7"]


def test_a_receiver_that_aborts_inside_what_came_before_it_was_accepted(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open()
    for _ in range(3):
        near.push(b"x")
    near.finish()
    joined.run()
    stream = joined.worker.opened[0]
    far = Sink(joined.worker)
    far.stream = stream
    far.on_data = lambda: stream.abort(Reset.INTERNAL)
    joined.worker.session.accept(stream, far, joined.now)
    assert far.events == []
    joined.run()
    assert near.events == ["reset 7"]
    assert all_gone(joined)


def test_a_receiver_that_finishes_inside_data_still_gets_the_rest(joined: Joined) -> None:
    """An answer that is complete before the question is."""
    joined.worker.holds_streams = True
    near = joined.server.open()
    for _ in range(3):
        near.push(b"x")
    near.finish()
    joined.run()
    stream = joined.worker.opened[0]
    far = Sink(joined.worker)
    far.stream = stream
    far.on_data = lambda: None if stream.state & OURS_ENDED else stream.finish()
    joined.worker.session.accept(stream, far, joined.now)
    joined.run()
    assert (bytes(far.got), far.events) == (b"xxx", ["finished"])
    assert near.events == ["finished"]
    assert all_gone(joined)


# Credit


def test_the_opener_may_send_64_kib_before_an_answer(joined: Joined) -> None:
    joined.worker.holds_streams = True
    near = joined.server.open(first=bulk(200_000))
    joined.run()
    assert stream_of(near).sent == OPEN_CREDIT_BYTES == 65_536
    assert stream_of(near).starved
    far = joined.worker.accept()
    joined.run()
    assert far.got == bulk(200_000)


def test_a_reader_that_stalls_stops_only_itself(joined: Joined) -> None:
    slow_near, slow_far = joined.pair(slow=True)
    near, far = joined.pair()
    slow_near.push(bulk(2_000_000))
    near.push(bulk(2_000_000))
    joined.run()
    assert far.got == bulk(2_000_000)
    assert len(slow_far.got) == stream_of(slow_far).limit == WINDOW
    assert slow_far.held == WINDOW
    joined.tick(100.0)
    assert slow_far.held == WINDOW


def test_a_reader_that_goes_on_gets_all_of_it(joined: Joined) -> None:
    near, far = joined.pair(slow=True)
    near.push(bulk(1_000_000))
    joined.run()
    while far.held:
        stream_of(far).consume(min(far.held, 10_007), joined.now)
        joined.run()
        assert far.held <= stream_of(far).window
    assert far.got == bulk(1_000_000)


def test_a_window_that_was_announced_is_never_overrun_even_by_a_byte(joined: Joined) -> None:
    near, far = joined.pair(slow=True)
    near.push(bytes(WINDOW))
    joined.run()
    assert stream_of(far).received == stream_of(far).limit
    with refused(Close.CREDIT, f"stream 1 sent {WINDOW + 1} bytes with credit for {WINDOW}"):
        joined.worker.feed(frames.pack(frames.DATA, 1, b"x"))


def test_credit_overrun_in_one_frame(joined: Joined) -> None:
    joined.worker.holds_streams = True
    joined.server.open()
    joined.run()
    with refused(Close.CREDIT):
        joined.worker.feed(frames.pack(frames.DATA, 1, bytes(OPEN_CREDIT_BYTES + 1)))


def test_credit_comes_back_after_half_a_window_not_for_every_byte(joined: Joined) -> None:
    near, far = joined.pair(slow=True)
    near.push(bytes(WINDOW))
    joined.settle()
    stream = stream_of(far)
    stream.consume(WINDOW // 2 - 1, joined.now)
    assert joined.worker.said() == []
    stream.consume(1, joined.now)
    assert joined.worker.said() == [("WINDOW", 1, frames.pack_window(WINDOW // 2, WINDOW))]
    joined.worker.feed(
        frames.pack(frames.DATA, 1, bytes(WINDOW // 2))
    )  # what was given back, and not a byte more
    with refused(Close.CREDIT):
        joined.worker.feed(frames.pack(frames.DATA, 1, b"x"))


def test_no_credit_is_wasted_on_a_stream_that_they_have_ended(joined: Joined) -> None:
    near, far = joined.pair(slow=True)
    near.push(bytes(WINDOW))
    near.finish()
    joined.settle()
    stream_of(far).consume(WINDOW, joined.now)
    assert joined.worker.said() == []


def test_a_starved_stream_is_woken_once_there_is_credit(joined: Joined) -> None:
    near, far = joined.pair(slow=True)
    near.push(bytes(WINDOW + 5))
    joined.run()
    near.events.clear()
    assert stream_of(near).starved
    stream_of(far).consume(WINDOW // 2, joined.now)
    joined.run()
    assert near.events == ["resume"]
    assert near.backlog == b""
    stream_of(far).consume(WINDOW // 2, joined.now)
    joined.run()
    assert near.events == ["resume"]  # it does not wait any more: more credit is no news


def test_a_window_that_gives_nothing_wakes_nobody(joined: Joined) -> None:
    near, _ = joined.pair(slow=True)
    near.push(bytes(WINDOW + 1))
    joined.run()
    joined.server.feed(frames.pack(frames.WINDOW, 1, frames.pack_window(WINDOW // 2, WINDOW // 2)))
    assert near.events == []
    assert stream_of(near).starved


@pytest.mark.parametrize(
    ("consumed", "window", "why"),
    [
        (101, WINDOW, "acknowledges what was never sent"),
        (0, WINDOW - 1, "shrinks"),
        (100, WINDOW - 101, "shrinks, though something was consumed"),
        (0, MAX_WINDOW_BYTES + 1, "too large"),
        (2**64 - 1, 2**32 - 1, "absurd"),
    ],
)
def test_a_window_that_cannot_be(joined: Joined, consumed: int, window: int, why: str) -> None:
    near, _ = joined.pair(first=bytes(100))
    with refused(Close.CREDIT, f"WINDOW {consumed}\\+{window} on stream 1, which sent 100 of {WINDOW}"):
        joined.server.feed(frames.pack(frames.WINDOW, 1, frames.pack_window(consumed, window)))
    assert stream_of(near).send_limit == WINDOW


def test_a_window_that_just_stays_is_allowed(joined: Joined) -> None:
    near, _ = joined.pair(first=bytes(100))
    joined.server.feed(frames.pack(frames.WINDOW, 1, frames.pack_window(100, WINDOW - 100)))
    assert stream_of(near).send_limit == WINDOW
    assert near.events == []


# Growth: time is what tells a window that is too small from a reader that is too slow


def transfer(joined: Joined, near: Sink, far: Sink, round_trip_s: float, rounds: int) -> list[int]:
    """The reader takes everything at once, every round takes ``round_trip_s``; the window after each round."""
    windows = []
    for _ in range(rounds):
        near.push(bytes(MAX_WINDOW_BYTES))
        joined.now += round_trip_s / 4
        joined.run()
        near.backlog = b""
        windows.append(stream_of(far).window)
    return windows


def test_the_window_grows_while_the_reader_keeps_up(joined: Joined) -> None:
    joined.worker.session.round_trip_s = 0.1
    near, far = joined.pair()
    windows = transfer(joined, near, far, 0.1, 3)
    assert windows[-1] > WINDOW
    assert all(after >= before for before, after in zip(windows, windows[1:]))
    assert joined.worker.session._windows == stream_of(far).window <= MAX_WINDOW_BYTES


def test_the_window_grows_where_all_of_it_comes_in_one_piece(joined: Joined) -> None:
    """On a long path a whole window may arrive at once: then it is announced once in a round trip and a bit."""
    joined.worker.session.round_trip_s = 0.2
    near, far = joined.pair(slow=True)
    for _ in range(3):
        before = stream_of(far).window
        near.push(bytes(before))
        joined.tick(0.21)
        stream_of(far).consume(before, joined.now)
        joined.run()
        assert stream_of(far).window == 2 * before


def test_the_window_stays_where_half_of_it_lasts_longer_than_a_round_trip(joined: Joined) -> None:
    joined.worker.session.round_trip_s = 0.1
    near, far = joined.pair()
    for _ in range(20):
        near.push(bytes(WINDOW // 2))
        joined.tick(0.101)
    assert stream_of(far).window == WINDOW


def test_a_slow_reader_never_grows_its_window(joined: Joined) -> None:
    """What it holds says that it is the reader who limits, however long the round trip."""
    joined.worker.session.round_trip_s = 10.0
    near, far = joined.pair(slow=True)
    near.push(bytes(4_000_000))
    joined.run()
    while len(far.got) < 4_000_000:
        stream_of(far).consume(min(far.held, 32_768), joined.now)
        joined.run()
    assert stream_of(far).window == WINDOW


def test_a_window_never_grows_past_its_maximum(joined: Joined) -> None:
    joined.worker.session.round_trip_s = 1e9
    near, far = joined.pair()
    for _ in range(5):
        near.push(bytes(3 * MAX_WINDOW_BYTES // 2))
        joined.run()
    assert stream_of(far).window == MAX_WINDOW_BYTES
    assert stream_of(far).limit == stream_of(near).send_limit


def test_a_window_grows_four_times_as_far_where_both_ends_have_agreed_on_it(joined: Joined) -> None:
    for end in joined.ends:
        end.session.features = features.LARGE_WINDOWS
    joined.worker.session.round_trip_s = 1e9
    near, far = joined.pair()
    for _ in range(8):
        near.push(bytes(3 * MAX_WINDOW_BYTES))
        joined.run()
    assert stream_of(far).window == LARGE_WINDOW_BYTES
    assert stream_of(far).limit == stream_of(near).send_limit
    over = frames.pack_window(stream_of(near).sent, LARGE_WINDOW_BYTES + 1)
    with refused(Close.CREDIT):
        joined.server.feed(frames.pack(frames.WINDOW, 1, over))


def test_on_one_machine_the_least_round_trip_counts(joined: Joined) -> None:
    joined.server.machine.ping(joined.now)
    joined.run()
    assert joined.server.session.round_trip_s == MIN_ROUND_TRIP_S
