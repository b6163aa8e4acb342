"""What may be on its way, over simulated paths: enough to fill them, little to wait behind; what changes is found."""

from __future__ import annotations

import pytest

from aero.core.flight import (
    ACK_BYTES,
    ACK_DELAY_S,
    BULK_ACK_S,
    BULK_BYTES,
    BULK_DELAY_S,
    CRUISE,
    DRAIN,
    FIRST_BYTES,
    FRESH_S,
    LEAST_BYTES,
    MOST_BYTES,
    SHARED_ACK_BYTES,
    SHARED_MOST_BYTES,
    SHARED_S,
    START,
    Acks,
    Flight,
)
from aero.core.stream import LIGHT_MESSAGES
from tests.core.joined import Joined, bulk
from tests.core.simulated import Bulk, Path, Time, run

MBIT = 1e6 / 8


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.mark.parametrize(
    ("rate", "round_trip_s", "settles_s", "waits_s"),
    [
        (20 * MBIT, 0.0002, 1, 0.010),  # LEAST_BYTES alone take 7 ms there
        (100 * MBIT, 0.0003, 1, 0.006),
        (1000 * MBIT, 0.0003, 1, 0.006),
        (5600 * MBIT, 0.0002, 1, 0.006),  # loopback
        (100 * MBIT, 0.02, 2, 0.015),
        (1000 * MBIT, 0.2, 5, 0.080),  # a probe is a quarter of what the path holds
    ],
)
def test_bulk_fills_the_path_and_little_waits(
    time: Time, rate: float, round_trip_s: float, settles_s: float, waits_s: float
) -> None:
    path = Path(time, rate, round_trip_s)
    link = Bulk(path)
    run([link], settles_s)
    (share,), waited_s = run([link], 4)
    assert share >= 0.98
    assert waited_s <= waits_s


def test_the_start_doubles_with_every_round(time: Time) -> None:
    link = Bulk(Path(time, 1000 * MBIT, 0.1))
    assert (link.flight.phase, link.flight.bound_bytes) == (START, FIRST_BYTES)
    run([link], 0.45)
    assert link.flight.bound_bytes == 16 * FIRST_BYTES
    run([link], 1.5)
    assert link.flight.phase == CRUISE


def test_the_start_ends_when_a_queue_shows(time: Time) -> None:
    path = Path(time, 20 * MBIT, 0.02, queue_s=0.2)
    link = Bulk(path)
    _, waited_s = run([link], 2)
    assert link.flight.phase == CRUISE
    assert waited_s < 0.1
    assert not path.lost


def test_a_full_queue_and_loss_are_the_kernels_business(time: Time) -> None:
    """What is lost comes late, and nothing of ours makes it worse."""
    link = Bulk(Path(time, 100 * MBIT, 0.02, loss=0.002))
    run([link], 2)
    (share,), waited_s = run([link], 8)
    assert share >= 0.85
    assert waited_s <= 0.06


def test_jitter_does_not_starve_the_estimate(time: Time) -> None:
    link = Bulk(Path(time, 100 * MBIT, 0.02, jitter_s=0.001))
    run([link], 2)
    (share,), _ = run([link], 5)
    assert share >= 0.85


@pytest.mark.parametrize(
    ("rate", "round_trip_s"), [(100 * MBIT, 0.02), (100 * MBIT, 0.05), (1000 * MBIT, 0.0003)]
)
def test_two_links_that_share_a_path_both_get_on(time: Time, rate: float, round_trip_s: float) -> None:
    path = Path(time, rate, round_trip_s)
    first = Bulk(path)
    run([first], 2)
    second = Bulk(path)
    run([first, second], 15)
    shares, waited_s = run([first, second], 15)
    assert sum(shares) >= 0.97
    assert min(shares) >= 0.15
    assert waited_s <= 0.06


def test_many_links_do_not_drive_each_others_queue_up(time: Time) -> None:
    """Each measures the least round trip over the queue of the others; that must not feed itself."""
    path = Path(time, 1000 * MBIT, 0.0003)
    links = [Bulk(path, after_s=number) for number in range(4)]
    run(links, 30)
    shares, waited_s = run(links, 10)
    assert sum(shares) >= 0.97
    assert waited_s <= 0.15


@pytest.mark.parametrize(
    ("rate", "waits_s"), [(100 * MBIT, 0.006), (1000 * MBIT, 0.002), (5600 * MBIT, 0.0005)]
)
def test_beside_light_streams_bulk_keeps_less_on_its_way(time: Time, rate: float, waits_s: float) -> None:
    path = Path(time, rate, 0.0003)
    link = Bulk(path)
    run([link], 2)
    alone = link.flight.bound_bytes
    link.shared = True
    run([link], 1)
    (share,), waited_s = run([link], 4)
    assert share >= 0.97
    assert waited_s <= waits_s
    assert link.flight.bound_bytes < alone
    link.shared = False
    run([link], SHARED_S / 2)
    assert link.flight.bound_bytes < alone  # the next call may come after a pause
    run([link], SHARED_S)
    assert link.flight.bound_bytes == pytest.approx(alone, rel=0.3)


@pytest.mark.parametrize("turn_s", [0.004, 0.008])
def test_beside_light_streams_hosts_that_wait_for_a_core_are_not_starved(time: Time, turn_s: float) -> None:
    """There the rate is what the bound allows: were that less with each round, nothing would be left."""
    path = Path(time, 5600 * MBIT, 0.0003)
    path.turn_s = turn_s
    link = Bulk(path)
    run([link], 2)
    (alone,), _ = run([link], 2)
    link.shared = True
    run([link], 2)
    (share,), _ = run([link], 8)
    assert share >= 0.6 * alone


def test_a_path_that_grows_is_found_by_probes(time: Time) -> None:
    path = Path(time, 20 * MBIT, 0.02)
    link = Bulk(path)
    run([link], 2)
    path.rate = 200 * MBIT
    run([link], 3)
    assert run([link], 3)[0][0] >= 0.98


def test_a_path_that_shrinks_is_followed(time: Time) -> None:
    path = Path(time, 200 * MBIT, 0.02)
    link = Bulk(path)
    run([link], 2)
    path.rate = 20 * MBIT
    run([link], 2)
    (share,), waited_s = run([link], 3)
    assert share >= 0.98
    assert waited_s <= 0.06


def test_a_path_that_becomes_longer_is_measured_anew(time: Time) -> None:
    path = Path(time, 100 * MBIT, 0.01)
    link = Bulk(path)
    run([link], 5)
    path.round_trip_s = 0.1
    run([link], 4)
    assert link.flight.round_trip_s == pytest.approx(0.1, abs=0.01)
    assert run([link], 3)[0][0] >= 0.98


def test_a_path_that_becomes_shorter_is_measured_anew(time: Time) -> None:
    path = Path(time, 100 * MBIT, 0.1)
    link = Bulk(path)
    run([link], 3)
    path.round_trip_s = 0.01
    run([link], 2 * FRESH_S)
    _, waited_s = run([link], 3)
    assert waited_s <= 0.03


def test_a_pause_says_nothing_about_the_path(time: Time) -> None:
    path = Path(time, 100 * MBIT, 0.02)
    link = Bulk(path)
    run([link], 3)
    rate = link.flight.rate
    for _ in range(20):
        link.pause()
        run([link], 0.3)
        link.go_on()
        run([link], 0.05)
    assert link.flight.rate >= 0.9 * rate
    assert link.flight.bound_bytes >= 0.9 * rate * 0.02


def test_a_long_pause_right_after_bulk_does_not_count_as_time_of_the_path(time: Time) -> None:
    link = Bulk(Path(time, 100 * MBIT, 0.02))
    run([link], 3)
    before = link.flight.bound_bytes
    for _ in range(6):
        link.pause()
        run([link], 1.0)
        link.go_on()
        run([link], 0.03)
        assert link.flight.bound_bytes >= 0.7 * before


def test_the_least_round_trip_is_measured_with_little_on_the_way() -> None:
    flight = Flight(0.0, 0.01)
    now, position = 0.0, 0
    while flight.phase != DRAIN:
        assert now < 2 * FRESH_S
        flight.sent(position + 100_000, position, now)
        position += 100_000
        flight.held_back = True
        now += 0.02
        flight.acknowledged(position, position + 50_000, now)
    assert flight.bound_bytes < 0.01 * flight.rate
    flight.sent(position + flight.bound_bytes, position, now)
    flight.acknowledged(position + flight.bound_bytes, position + 2 * flight.bound_bytes, now + 0.015)
    assert flight.phase == CRUISE
    assert flight.round_trip_s == pytest.approx(0.015)


def test_a_drain_that_never_comes_ends_by_itself(time: Time) -> None:
    """Others may send so much on the same link that little is never on its way."""
    flight = Flight(0.0, 0.01)
    now, position, phases = 0.0, 0, []
    for _ in range(1500):
        flight.sent(position + 1_000_000, position, now)
        position += 100_000
        flight.held_back = True
        now += 0.02
        flight.acknowledged(position + 900_000, position + 1_000_000, now)
        position += 900_000
        phases.append(flight.phase)
    first = phases.index(DRAIN)
    assert CRUISE in phases[first : first + 20]


def test_the_bound_has_bounds() -> None:
    for rate, expected in ((1.0, LEAST_BYTES), (1e12, MOST_BYTES)):
        flight = Flight(0.0, 0.01)
        now, position = 0.0, 0
        while flight.phase == START:
            flight.held_back = True
            count = int(rate * 0.05) + 1
            flight.sent(position + count, position, now)
            position, now = position + count, now + 0.05
            flight.acknowledged(position, position + 1, now)
        assert flight.bound_bytes == expected
        assert flight.step_bytes <= flight.bound_bytes


def test_a_ping_that_was_quick_is_the_least_round_trip() -> None:
    flight = Flight(0.0)
    flight.heard(0.5, 1.0)
    flight.heard(0.02, 2.0)
    flight.heard(0.3, 3.0)
    assert flight.round_trip_s == 0.02


def test_single_messages_are_acknowledged_seldom() -> None:
    acks = Acks()
    assert not acks.received(100, False, False, 5.0)
    assert acks.at == 5.0 + ACK_DELAY_S
    assert not acks.received(200, False, False, 5.05)
    assert acks.at == 5.0 + ACK_DELAY_S
    assert acks.received(100 + ACK_BYTES, False, False, 5.06)


def test_bulk_is_acknowledged_at_once_but_not_for_every_record() -> None:
    acks = Acks()
    assert acks.received(BULK_BYTES, True, False, 5.0)
    acks.said(BULK_BYTES, 5.0)
    assert not acks.received(2 * BULK_BYTES, True, False, 5.0 + BULK_ACK_S / 2)
    assert acks.at == pytest.approx(5.0 + BULK_ACK_S / 2 + BULK_DELAY_S)
    assert acks.received(2 * BULK_BYTES + 1, False, False, 5.0 + BULK_ACK_S)


def test_bulk_beside_light_streams_is_acknowledged_as_often_as_its_sender_needs() -> None:
    acks = Acks()
    acks.said(0, 5.0)
    assert not acks.received(SHARED_ACK_BYTES, True, False, 5.0)
    assert acks.received(SHARED_ACK_BYTES, True, True, 5.0)


def test_a_receiver_of_bulk_that_sends_messages_knows_that_the_link_is_shared() -> None:
    joined = Joined(bounded=True)
    near, _ = joined.pair()
    light = joined.server.open(first=b"hello").stream
    joined.run()
    assert light is not None
    far_light = joined.worker.session.streams[light.id]
    machine = joined.worker.machine
    for shared in (False, True):
        if shared:
            for _ in range(LIGHT_MESSAGES + 1):
                far_light.send(memoryview(b"answer"))
        near.push(bulk(20_000))
        joined.run()
        assert machine.session is not None
        assert machine.session.flight.lately_shared == shared


def test_a_start_that_the_bound_does_not_hinder_keeps_little_on_its_way_beside_light_streams(
    time: Time,
) -> None:
    """A sender that has less than the path takes never ends the start; what the start has grown to would wait."""
    flight = Flight(0.0, 0.0003)
    flight.bound_bytes = MOST_BYTES
    now, position = 0.0, 0
    for shared in (False, True):
        for _ in range(100):
            flight.sent(position + 100_000, position, now)
            flight.shared = shared
            position, now = position + 100_000, now + 0.001
            flight.acknowledged(position, position + 1, now)
        assert flight.phase == START
        assert (flight.bound_bytes < 2 * SHARED_MOST_BYTES) == shared


def test_a_message_behind_bulk_does_not_delay_its_acknowledgement() -> None:
    acks = Acks()
    acks.said(0, 5.0)
    assert not acks.received(10, False, False, 5.0)
    assert not acks.received(10 + BULK_BYTES, True, False, 5.0)
    assert acks.at == 5.0 + BULK_DELAY_S


def test_real_ends_are_bounded_and_bulk_arrives() -> None:
    joined = Joined(bounded=True)
    near, far = joined.pair()
    near.push(bulk(8_000_000))
    for _ in range(20_000):
        if len(far.got) == 8_000_000:
            break
        outbox = joined.server.session.outbox
        joined.run()
        assert outbox.written - outbox.acked <= joined.server.session.flight.bound_bytes + 1024
        joined.tick(0.0005)
    assert far.got == bulk(8_000_000)
    assert joined.server.session.flight.rate > 0


def test_a_short_message_passes_bulk_that_is_held_back() -> None:
    joined = Joined(bounded=True)
    joined.worker.out.stalled = True  # nothing is acknowledged
    heavy = joined.server.open()
    heavy.push(bulk(8_000_000))
    joined.run()
    assert joined.server.session.waiting
    light = joined.server.open(first=b"hello")
    joined.run()
    assert light.stream is not None
    assert bytes(joined.worker.sinks[light.stream.id].got) == b"hello"


def test_a_light_stream_beside_bulk_shares_the_link_and_bulk_alone_does_not() -> None:
    joined = Joined(bounded=True)
    heavy = joined.server.open()
    heavy.push(bulk(2_000_000))
    flight = joined.server.session.flight
    for _ in range(20):
        joined.run()
        joined.tick(0.0001)
    assert flight.held_back
    assert not flight.shared
    light = joined.server.open(first=b"hello").stream
    assert light is not None
    for _ in range(LIGHT_MESSAGES):
        assert not flight.shared
        light.send(memoryview(b"hello"))
    assert flight.shared


def test_bulk_that_empties_its_socket_for_a_moment_is_no_light_stream() -> None:
    joined = Joined(bounded=True)
    sink = joined.server.open()
    sink.push(bulk(1_000_000))
    stream, flight = sink.stream, joined.server.session.flight
    assert stream is not None
    assert stream.messages == 0
    for number in range(2 * LIGHT_MESSAGES):
        flight.shared = False
        room = stream.reserve(10)
        if room is None:
            joined.run()
            joined.tick(0.01)
            continue
        before = stream.messages
        stream.commit(len(room), more=False)
        assert flight.shared == (before == LIGHT_MESSAGES), number
    assert stream.messages


def test_bulk_leaves_in_whole_steps() -> None:
    """No crumbs of what an acknowledgement has made free, and no lump that fills the bound again at once."""
    joined = Joined(bounded=True)
    joined.worker.out.stalled = True
    heavy = joined.server.open()
    heavy.push(bulk(8_000_000))
    joined.run()
    session, stream = joined.server.session, heavy.stream
    assert stream is not None
    assert stream.heavy
    stream.send_limit = 1 << 30
    on_its_way = session.outbox.written - session.outbox.acked
    flight = session.flight
    flight.step_bytes = 10_000
    for free, allowed in ((0, 0), (9_999, 0), (10_000, 10_000), (15_000, 15_000), (500_000, 20_000)):
        flight.bound_bytes = on_its_way + free
        assert session.allowance(stream) == allowed


def test_a_new_link_measures_its_own_path() -> None:
    joined = Joined(bounded=True)
    near, far = joined.pair()
    near.push(bulk(3_000_000))
    for _ in range(50):
        joined.run()
        joined.tick(0.0005)
    before = joined.server.session.flight
    joined.resume()
    assert joined.server.session.flight is not before
    for _ in range(20_000):
        if len(far.got) == 3_000_000:
            break
        joined.run()
        joined.tick(0.0005)
    assert far.got == bulk(3_000_000)


def test_without_acknowledgements_nothing_is_bounded() -> None:
    joined = Joined(bounded=True)
    for end in joined.ends:
        end.session.resumable = False
        end.machine.carry(end.session)
    near, far = joined.pair()
    near.push(bulk(8_000_000))
    joined.run()
    assert far.got == bulk(8_000_000)
