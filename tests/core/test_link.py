"""Links: records cut anyhow, link frames that may not be, acknowledgement, ping, silence, and how a link ends."""

from __future__ import annotations

import pytest

from aero.core import control, frames, joining, record
from aero.core.blocks import BLOCK_BYTES
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.flight import ACK_BYTES, ACK_DELAY_S
from aero.core.link import (
    ACK_OPENS,
    LATE_S,
    MAX_LINK_FRAMES_BYTES,
    MAX_PINGS,
    SECOND_CHANCE_S,
    LinkMachine,
)
from aero.core.record import LINK, SESSION, RecordReader, RecordWriter
from aero.core.session import MIN_ROUND_TRIP_S, SessionLimits
from aero.errors import LinkClosed
from tests.core.joined import REAL, SCRATCH, End, Joined, bulk, refused


@pytest.fixture
def joined() -> Joined:
    return Joined()


def link_frames(end: End) -> list[tuple[str, bytes]]:
    """What the link of ``end`` itself wants to say now."""
    view = memoryview(end.machine.frames)
    found = [(frames.NAMES[kind], bytes(payload)) for kind, _, payload in frames.split(view)]
    view.release()
    return found


def say(joined: Joined, kind: int, payload: bytes, stream_id: int = 0) -> None:
    """The server's link says this to the worker's."""
    joined.worker.arrive(joined.server.seal(LINK, frames.pack(kind, stream_id, payload)))


def before_the_session(joined: Joined) -> None:
    """The worker's link as it is before JOINED."""
    joined.cut()
    joined.connect()


# Cut anyhow


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 19, 20, 21, 1000, 1 << 30])
def test_records_arrive_in_pieces_of_any_size(joined: Joined, size: int) -> None:
    near, far = joined.pair()
    near.push(b"first")
    joined.server.write()
    near.push(bulk(3000))
    joined.server.write()
    while joined.deliver(joined.server, size):
        pass
    assert far.got == b"first" + bulk(3000)
    assert joined.worker.unread == b""


def test_an_incomplete_record_waits_and_is_not_touched(joined: Joined) -> None:
    near, far = joined.pair(first=b"")
    near.push(b"whole")
    whole = b"".join(joined.server.records())
    near.push(b"part")
    part = b"".join(joined.server.records())
    buffer = memoryview(b"already read" + whole + part[:-1])
    start = joined.worker.machine.receive(buffer, 12, len(buffer), joined.now)
    assert start == 12 + len(whole)
    assert bytes(far.got) == b"whole"
    assert joined.worker.machine.receive(memoryview(part), 0, len(part), joined.now) == len(part)
    assert bytes(far.got) == b"wholepart"


def test_a_record_that_was_changed_ends_the_link_but_nothing_of_it_was_used(joined: Joined) -> None:
    near, far = joined.pair()
    near.push(b"hello")
    changed = bytearray(b"".join(joined.server.records()))
    changed[-17] ^= 1
    with refused(Close.RECORD):
        joined.worker.arrive(bytes(changed))
    assert bytes(far.got) == b""
    joined.resume()
    assert bytes(far.got) == b"hello"


def test_keys_change_while_bytes_flow_and_links_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "REKEY_RECORDS", 3)
    joined = Joined()
    near, far = joined.pair()
    for number in range(20):
        near.push(b"%04d" % number)
        far.push(b"%04d" % number)
        joined.run()
        if number % 8 == 7:
            joined.resume()
    assert near.got == far.got == b"".join(b"%04d" % number for number in range(20))


# Frames that may not be


@pytest.mark.parametrize("kind", [0, frames.CONTROL, frames.DATA, frames.GOAWAY, 0x40, 0x47, 0xFF])
def test_an_unknown_link_frame(joined: Joined, kind: int) -> None:
    with refused(Close.FRAME, f"link frame kind {kind} is unknown"):
        say(joined, kind, b"")


@pytest.mark.parametrize("kind", [frames.ACK, frames.PING, frames.PONG, frames.CLOSE])
def test_a_link_frame_on_a_stream(joined: Joined, kind: int) -> None:
    with refused(Close.FRAME, f"{frames.NAMES[kind]} on stream 7"):
        say(joined, kind, bytes(8), stream_id=7)


@pytest.mark.parametrize("kind", [frames.ACK, frames.PING, frames.PONG])
@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_number_of_another_size(joined: Joined, kind: int, size: int) -> None:
    with refused(Close.FRAME, f"{frames.NAMES[kind]} of {size} bytes"):
        say(joined, kind, bytes(size))


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"[1]", b"{" + b" " * 65_536 + b"}", b"{}"], ids=len)
def test_a_joined_that_cannot_be_read(joined: Joined, payload: bytes) -> None:
    before_the_session(joined)
    with refused(Close.FRAME, "JOINED"):
        say(joined, frames.JOINED, payload)


@pytest.mark.parametrize("kind", [frames.JOIN, frames.JOINED])
def test_joining_twice(joined: Joined, kind: int) -> None:
    with refused(Close.STATE, f"{frames.NAMES[kind]} may not come now"):
        say(joined, kind, joining.JoinedAgain("", "s", 0).pack())


def test_a_server_that_asks_to_join(joined: Joined) -> None:
    before_the_session(joined)
    with refused(Close.STATE, "JOIN may not come now"):
        say(joined, frames.JOIN, joining.JoinNew("", 60, "i", "t", "h").pack())


def test_frames_that_do_not_fill_their_link_record(joined: Joined) -> None:
    with refused(Close.FRAME, "left at the end"):
        joined.worker.arrive(joined.server.seal(LINK, b"tail"))


def test_a_session_record_before_the_session(joined: Joined) -> None:
    before_the_session(joined)
    with refused(Close.STATE, "a session record before the session"):
        joined.worker.arrive(joined.server.seal(SESSION, frames.pack(frames.CONTROL, 0, b"{}")))


def test_an_acknowledgement_before_the_session(joined: Joined) -> None:
    before_the_session(joined)
    with refused(Close.STATE, "ACK before the session"):
        say(joined, frames.ACK, bytes(8))


def test_a_takeover_at_a_position_that_is_not_kept(joined: Joined) -> None:
    before_the_session(joined)
    with refused(Close.SEQUENCE, "cannot go on at 99"):
        say(joined, frames.JOINED, joining.JoinedAgain("", "s", 99).pack())


# Acknowledgement


def test_a_little_is_acknowledged_after_a_while(joined: Joined) -> None:
    joined.settle()
    joined.pair(first=b"hello")
    link = joined.worker.machine
    assert joined.server.session.outbox.acked < joined.server.session.outbox.sent
    assert link.deadline == pytest.approx(joined.now + ACK_DELAY_S)
    joined.tick(ACK_DELAY_S)
    assert joined.server.session.outbox.acked == joined.server.session.outbox.sent


def test_a_trickle_does_not_put_the_acknowledgement_off(joined: Joined) -> None:
    near, _ = joined.pair()
    joined.settle()
    began = joined.now
    near.push(b"x")
    joined.run()
    while joined.server.session.outbox.acked == 0 or joined.now < began + ACK_DELAY_S - 0.001:
        assert joined.now < began + 2 * ACK_DELAY_S
        joined.tick(0.01)
        near.push(b"x")
        joined.run()
    assert joined.server.session.outbox.acked > 0


def test_a_lot_is_acknowledged_at_once(joined: Joined) -> None:
    near, _ = joined.pair()
    joined.settle()
    acked = joined.server.session.outbox.acked
    near.push(bytes(4 * ACK_BYTES))
    joined.run()
    outbox = joined.server.session.outbox
    assert acked + 4 * ACK_BYTES - ACK_BYTES - BLOCK_BYTES <= outbox.acked
    assert outbox.kept_bytes <= ACK_BYTES + 2 * BLOCK_BYTES


def test_a_rush_of_opens_is_acknowledged_at_once(joined: Joined) -> None:
    for _ in range(ACK_OPENS):
        joined.server.open()
    began = joined.now
    joined.run()
    assert joined.now == began
    assert joined.server.session.outbox.acked == joined.server.session.outbox.sent
    assert joined.worker.session.opened == 0


def test_nothing_is_acknowledged_twice(joined: Joined) -> None:
    joined.pair(first=b"hello")
    joined.settle()
    for end in joined.ends:
        end.machine.handle_deadline(joined.now + 1.0)
        assert ("ACK", frames.pack_u64(end.session.received)) not in link_frames(end)


@pytest.mark.parametrize("beyond", [1, 1 << 63])
def test_an_acknowledgement_beyond_what_was_sent(joined: Joined, beyond: int) -> None:
    joined.settle()
    sent = joined.worker.session.outbox.sent
    with refused(Close.SEQUENCE, "acknowledged"):
        say(joined, frames.ACK, frames.pack_u64(sent + beyond))


def test_an_acknowledgement_of_what_is_written_but_not_sent(joined: Joined) -> None:
    joined.settle()
    joined.worker.session.control(control.Unknown("wait"))
    with refused(Close.SEQUENCE):
        say(joined, frames.ACK, frames.pack_u64(joined.worker.session.outbox.written))


def test_an_acknowledgement_that_goes_backwards(joined: Joined) -> None:
    joined.worker.session.control(control.Unknown("something"))
    joined.settle()
    with refused(Close.SEQUENCE):
        say(joined, frames.ACK, frames.pack_u64(joined.worker.session.outbox.acked - 1))


def test_a_session_that_will_not_be_resumed_keeps_and_acknowledges_nothing(joined: Joined) -> None:
    near, far = joined.pair()
    joined.settle()
    for end in joined.ends:
        end.session.resumable = False
    near.push(bulk(3 << 20))
    joined.run()
    assert far.got == bulk(3 << 20)
    assert joined.server.session.outbox.kept_bytes == 0
    joined.server.session.control(control.Unknown("last"))
    joined.run()
    assert not joined.worker.machine.acks.at
    for end in joined.ends:
        assert end.session.outbox.acked == end.session.outbox.sent == end.session.outbox.written


# Ping and silence


def test_a_link_pings_at_once_and_then_at_its_interval() -> None:
    joined = Joined(ping_s=30.0)
    assert joined.worker.machine.deadline <= joined.now
    joined.tick(0.0)
    assert [number for number, _ in joined.worker.pongs] == [1]
    joined.tick(29.0)
    assert len(joined.worker.pongs) == 1
    joined.tick(1.0)
    assert [number for number, _ in joined.worker.pongs] == [1, 2]
    assert [number for number, _ in joined.server.pongs] == [1, 2]


def test_the_round_trip_is_the_shortest_that_was_seen(joined: Joined) -> None:
    for delay in (0.3, 0.1, 0.2):
        joined.server.machine.ping(joined.now)
        joined.server.write()
        joined.now += delay
        joined.run()
    assert [round(seconds, 6) for _, seconds in joined.server.pongs] == [0.3, 0.1, 0.2]
    assert joined.server.session.round_trip_s == pytest.approx(0.1)


def test_a_round_trip_measured_before_the_session_counts_for_it(joined: Joined) -> None:
    """The first ping is answered before JOINED where the server asks an old link first; the next is a minute away."""
    before_the_session(joined)
    end = joined.worker
    assert end.session.round_trip_s == MIN_ROUND_TRIP_S
    end.machine.ping(joined.now)
    joined.now += 0.25
    say(joined, frames.PONG, frames.pack_u64(1))
    say(joined, frames.JOINED, joining.JoinedAgain("", "s", 0).pack())
    assert end.session.round_trip_s == pytest.approx(0.25)


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_a_pong_that_nobody_asked_for(joined: Joined, number: int) -> None:
    joined.worker.machine.ping(joined.now)
    with refused(Close.STATE, f"PONG {number} answers no ping of ours"):
        say(joined, frames.PONG, frames.pack_u64(number))


def test_a_pong_twice(joined: Joined) -> None:
    joined.worker.machine.ping(joined.now)
    say(joined, frames.PONG, frames.pack_u64(1))
    with refused(Close.STATE):
        say(joined, frames.PONG, frames.pack_u64(1))


def test_pings_that_nobody_answers_find_an_end(joined: Joined) -> None:
    numbers = [joined.worker.machine.ping(joined.now) for _ in range(MAX_PINGS + 3)]
    assert numbers == [*range(1, MAX_PINGS + 1), 0, 0, 0]


def test_a_ping_flood_is_cut_off_and_costs_little(joined: Joined) -> None:
    pings = frames.pack(frames.PING, 0, bytes(8)) * 1000
    with refused(Close.OVERLOAD, "asks for answers and takes none"):
        for _ in range(100):
            joined.worker.arrive(joined.server.seal(LINK, pings))
    assert len(joined.worker.machine.frames) <= MAX_LINK_FRAMES_BYTES + frames.HEADER_BYTES


def test_a_ping_flood_that_takes_its_answers_is_answered(joined: Joined) -> None:
    pings = frames.pack(frames.PING, 0, frames.pack_u64(77)) * 1000
    for _ in range(20):
        joined.worker.arrive(joined.server.seal(LINK, pings))
        out = b"".join(joined.worker.records())
        assert len(out) == len(pings) + record.OVERHEAD_BYTES


def test_a_peer_may_ping_as_often_as_its_budget_says(joined: Joined) -> None:
    joined.worker.machine.pings = Budget(3, 1.0, joined.now)
    for _ in range(3):
        say(joined, frames.PING, bytes(8))
    with refused(Close.OVERLOAD, "pings come faster"):
        say(joined, frames.PING, bytes(8))
    joined.now += 1.0
    say(joined, frames.PING, bytes(8))
    assert [name for name, _ in link_frames(joined.worker)] == ["PONG"] * 4


def test_a_silent_peer_is_dead_after_two_intervals() -> None:
    joined = Joined(ping_s=5.0)
    joined.settle()
    joined.server.out.stalled = joined.worker.out.stalled = True
    heard = joined.worker.machine.heard_at
    with pytest.raises(LinkClosed, match="no sign of life for 10 s"):
        while joined.now < heard + 100.0:
            joined.now = joined.worker.machine.deadline
            joined.worker.machine.handle_deadline(joined.now)
    assert joined.now == pytest.approx(heard + 10.0)


def stopped(joined: Joined, seconds: float) -> LinkMachine:
    """The worker's process stands still, then handles what has come due, before it reads what has come."""
    joined.settle()
    joined.server.out.stalled = True
    joined.now += seconds
    link = joined.worker.machine
    joined.server.machine.heard_at = joined.now  # it is not the one who is tried here
    link.handle_deadline(joined.now)
    return link


@pytest.mark.parametrize("seconds", [10.3, 15.0, 3600.0])
def test_who_was_away_itself_asks_once_more_and_goes_on(seconds: float) -> None:
    joined = Joined(ping_s=5.0)
    link = stopped(joined, seconds)
    assert [name for name, _ in link_frames(joined.worker)] == ["PING"]
    joined.server.out.stalled = False
    joined.run()
    assert joined.worker.pongs[-1][1] == 0.0
    assert link.deadline == pytest.approx(joined.now + 5.0)
    joined.tick(5.0)
    assert link.deadline == pytest.approx(joined.now + 5.0)


@pytest.mark.parametrize("ping_s", [1.0, 60.0])
def test_who_was_away_itself_asks_only_once(ping_s: float) -> None:
    joined = Joined(ping_s=ping_s)
    link = stopped(joined, 3 * ping_s)
    chance = min(ping_s, SECOND_CHANCE_S)
    assert link.deadline == pytest.approx(joined.now + chance)
    joined.now += chance + 10 * LATE_S  # late again
    with pytest.raises(LinkClosed, match="no sign of life"):
        link.handle_deadline(joined.now)


def test_each_silence_has_its_second_chance() -> None:
    joined = Joined(ping_s=5.0)
    for _ in range(3):
        stopped(joined, 20.0)
        joined.server.out.stalled = False
        joined.run()
    joined.server.out.stalled = True
    heard = joined.now
    with pytest.raises(LinkClosed, match="no sign of life for 10 s"):
        while joined.now < heard + 100.0:
            joined.now = joined.worker.machine.deadline
            joined.worker.machine.handle_deadline(joined.now)


def test_any_byte_is_a_sign_of_life() -> None:
    """A record of 256 KiB over a modem takes longer than two intervals."""
    joined = Joined(ping_s=1.0)
    near, far = joined.pair()
    near.push(b"slowly")
    joined.settle()
    near.push(b"but surely")
    joined.server.write()
    while joined.deliver(joined.server, 1):
        joined.now += 0.9
        joined.worker.machine.handle_deadline(joined.now)
    assert bytes(far.got) == b"slowlybut surely"


def test_deadlines_only_move_forwards_once_handled() -> None:
    """Whoever sleeps until the deadline and handles it must not be called again at once, for ever."""
    joined = Joined(ping_s=1.0)
    joined.pair(first=b"x")
    for _ in range(50):
        for end in joined.ends:
            if end.machine.deadline <= joined.now:
                end.machine.handle_deadline(joined.now)
                assert end.machine.deadline > joined.now
        joined.run()
        joined.now = min(end.machine.deadline for end in joined.ends)


# The end


def test_close_arrives_with_code_and_text_behind_what_was_said_before(joined: Joined) -> None:
    joined.server.machine.ping(joined.now)
    joined.server.machine.close(Close.KICKED, "by the operator")
    joined.server.machine.close(Close.DONE, "only the first counts")
    joined.run()
    assert joined.worker.closes == [(Close.KICKED, "by the operator")]
    assert [name for name, _ in link_frames(joined.worker)] == []  # the pong left before


def test_nothing_follows_a_close(joined: Joined) -> None:
    near, far = joined.pair()
    joined.server.machine.close(Close.DONE, "bye")
    near.push(b"late")
    assert joined.server.machine.ping(joined.now)
    joined.run()
    assert bytes(far.got) == b""
    assert joined.worker.closes == [(Close.DONE, "bye")]


def test_a_closing_link_hears_nothing_any_more(joined: Joined) -> None:
    near, _ = joined.pair()
    joined.worker.machine.ping(joined.now)
    joined.run()
    joined.server.machine.close(Close.DONE, "bye")
    joined.worker.sinks[1].push(b"crosses the close")
    joined.worker.session.control(control.Unknown("cross"))
    data = b"".join(joined.worker.records())
    assert joined.server.machine.receive(memoryview(data), 0, len(data), joined.now) == len(data)
    assert bytes(near.got) == b""
    assert joined.server.controls == []


def test_there_is_always_room_for_the_reason(joined: Joined) -> None:
    """Whoever has flooded us hears why, and nothing of the session leaves any more."""
    pings = frames.pack(frames.PING, 0, bytes(8)) * 1000
    with refused(Close.OVERLOAD):
        for _ in range(100):
            joined.worker.arrive(joined.server.seal(LINK, pings))
    joined.worker.session.control(control.Unknown("not to be sent"))
    joined.worker.machine.close(Close.OVERLOAD, "flood")
    out = list(joined.worker.records())
    assert len(out) == 1
    opened = memoryview(bytearray(record.MAX_PLAIN_BYTES))
    size = joined.server.machine._reader.open(memoryview(out[0]), opened)
    assert list(frames.split(opened[:size]))[-1][0] == frames.CLOSE


def test_what_stands_behind_a_close_is_not_read(joined: Joined) -> None:
    """The role has let go of link and session by then."""
    joined.worker.holds_streams = True
    close = joined.server.seal(
        LINK, frames.pack(frames.CLOSE, 0, b"\0bye") + frames.pack(frames.PING, 0, bytes(8))
    )
    opening = joined.server.seal(SESSION, frames.pack(frames.OPEN, 1, frames.pack_open(1, 1, "")))
    ack = joined.server.seal(LINK, frames.pack(frames.ACK, 0, bytes(8)))
    joined.worker.arrive(close + opening + ack)
    assert joined.worker.closes == [(0, "bye")]
    assert joined.worker.opened == []
    assert link_frames(joined.worker) == []
    joined.worker.arrive(ack)


def test_a_session_that_ends_while_a_record_is_read(joined: Joined) -> None:
    """A control message that leads to the end, and more frames and records right behind it."""
    near, _ = joined.pair()
    end = joined.worker

    def ended(message: control.Control) -> None:
        end.machine.close(Close.KICKED, "enough")
        end.session.end(Reset.LOST, "kicked")

    end.control_received = ended
    joined.server.session.control(control.Unknown("misbehave"))
    near.push(b"more")
    joined.server.open()
    data = b"".join(joined.server.records())
    joined.server.session.control(control.Unknown("misbehave again"))
    data += b"".join(joined.server.records())
    end.arrive(data)
    assert joined.pool.taken_bytes == joined.server.session.outbox.kept_bytes
    assert [name for name, _ in link_frames(end)] == ["CLOSE"]


def test_answers_that_nobody_takes_are_cut_off_while_they_are_asked_for() -> None:
    """Each OPEN beyond the limit is answered by a RESET; the peer reads none of them."""
    joined = Joined(limits=SessionLimits(kept_bytes=BLOCK_BYTES, kept_slack_bytes=BLOCK_BYTES, max_streams=0))
    session = joined.worker.session
    with refused(Close.OVERLOAD, "asks for answers and acknowledges none"):
        for batch in range(1000):
            first = 1 + 1000 * batch
            joined.worker.arrive(
                joined.server.seal(
                    SESSION,
                    b"".join(
                        frames.pack(frames.OPEN, stream_id, frames.pack_open(0, 1, ""))
                        for stream_id in range(first, first + 1000, 2)
                    ),
                )
            )
            assert session.outbox.kept_bytes <= 4 * BLOCK_BYTES


def test_a_link_of_its_own_needs_no_session() -> None:
    """Before JOINED there are pings, deadlines and an end as well."""
    now = 5.0
    end = Joined().worker
    link = LinkMachine(end, RecordWriter(REAL, bytes(32)), RecordReader(REAL, bytes(32)), SCRATCH, 1.0, now)
    told: list[float] = []
    link.on_output = lambda: told.append(now)
    link.handle_deadline(now)
    out = memoryview(bytearray(100))
    assert told == [now]
    assert link.next_record(out) == 16 + record.OVERHEAD_BYTES
    assert link.next_record(out) == 0
    link.handle_deadline(now + 1.0)
    with pytest.raises(LinkClosed):
        link.handle_deadline(now + 2.0)
