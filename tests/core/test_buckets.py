"""Token buckets: the rate holds to a few percent, whoever sends how much; small messages do not wait behind bulk."""

from __future__ import annotations

from typing import Any, cast

import pytest

from aero.core.buckets import SMALL_BYTES, Bucket, Inlet, Pace, Rates

MB = 1_000_000
PIECE = 64 * 1024


class Sender:
    """A stream and its receiver: sends pieces as often as it is let."""

    def __init__(self, world: World, rates: Rates, left: int = 1 << 40) -> None:
        self.world, self.rates, self.left = world, rates, left
        self.heavy = self.starved = self.held = False
        self.sent = 0
        self.done_at = -1.0
        self.receiver = self

    def resume(self) -> None:
        """Sends one piece, and asks for another turn of the loop if it may go on."""
        if not self.left:
            return
        allowed = self.rates.allowed(cast(Any, self))
        if not allowed:
            return
        room = min(allowed, PIECE)
        count = min(room, self.left)
        self.rates.spend(count)
        self.sent += count
        self.left -= count
        self.heavy = count == room
        if not self.left:
            self.done_at = self.world.now
        else:
            self.world.ready.append(self)


class World:
    """A loop: time, senders that are ready, and one timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wake_at = float("inf")
        self.faults: list[Exception] = []
        self.pace = Pace(lambda: self.now, self.wake, lambda _, error: self.faults.append(error))
        self.ready: list[Sender] = []
        self.wakes = 0

    def wake(self, at: float) -> None:
        self.wake_at = at

    def bucket(self, rate: int) -> Bucket:
        return Bucket(rate, self.now)

    def sender(self, *buckets: Bucket, left: int = 1 << 40) -> Sender:
        sender = Sender(self, Rates(self.pace, buckets), left)
        self.ready.append(sender)
        return sender

    def run(self, seconds: float, step: float = 0.001, each: Any = None) -> None:
        until = self.now + seconds
        while self.now < until:
            if each is not None:
                each()
            for _ in range(3):
                ready, self.ready = self.ready, []
                for sender in ready:
                    sender.resume()
            self.now += step
            if self.now >= self.wake_at:
                self.wake_at = float("inf")
                self.wakes += 1
                self.pace.serve()


@pytest.mark.parametrize("rate", [50_000, 2 * MB, 200 * MB])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_long_streams_get_the_rate_and_the_same_share(rate: int, count: int) -> None:
    world = World()
    bucket = world.bucket(rate)
    senders = [world.sender(bucket) for _ in range(count)]
    world.run(10)
    total = sum(each.sent for each in senders)
    # At the beginning each may overdraw a little; the debt is paid, so what is sent stays bounded.
    assert rate * 10 * 0.95 <= total <= rate * 10 * 1.05 + SMALL_BYTES
    if rate * 10 / count > 20 * PIECE:
        assert max(each.sent for each in senders) < 1.3 * min(each.sent for each in senders) + PIECE


def test_a_thousand_short_streams_a_second_get_the_rate_and_end_in_turn() -> None:
    world = World()
    rate = 30 * MB
    bucket = world.bucket(rate)
    senders: list[Sender] = []
    world.run(10, each=lambda: senders.append(world.sender(bucket, left=60_000)))
    total = sum(each.sent for each in senders)
    assert rate * 10 * 0.95 <= total <= rate * 10 * 1.05
    assert sum(each.done_at > 0 for each in senders) > 0.8 * total / 60_000, "they end, the oldest first"


def test_a_keystroke_does_not_wait_behind_bulk() -> None:
    world = World()
    bucket = world.bucket(1 * MB)
    bulk = [world.sender(bucket) for _ in range(20)]
    world.run(2)
    waits: list[float] = []
    for _ in range(50):
        key = world.sender(bucket, left=100)
        began = world.now
        world.run(0.02)
        waits.append((key.done_at if key.done_at > 0 else world.now) - began)
    assert max(waits) < 0.002
    assert sum(each.sent for each in bulk) >= 0.95 * 3 * MB - 50 * 100


def test_bulk_gets_what_small_messages_leave() -> None:
    world = World()
    bucket = world.bucket(1 * MB)
    bulk = world.sender(bucket)
    small: list[Sender] = []
    world.run(10, each=lambda: small.append(world.sender(bucket, left=800)))
    assert bulk.sent > 1.5 * MB
    assert bulk.sent + sum(each.sent for each in small) == pytest.approx(10 * MB, rel=0.05)


def test_the_smallest_of_several_decides_and_each_is_debited_once() -> None:
    world = World()
    user, near, far = world.bucket(3 * MB), world.bucket(1 * MB), world.bucket(100 * MB)
    first, second = world.sender(user, near), world.sender(user, far)
    world.run(10)
    assert first.sent == pytest.approx(10 * MB, rel=0.05)
    assert second.sent == pytest.approx(20 * MB, rel=0.06)


def test_a_rate_that_changes_counts_at_once_and_0_lets_everybody_go() -> None:
    world = World()
    bucket = world.bucket(1000)
    sender = world.sender(bucket)
    world.run(1)
    world.pace.changed(bucket, 2 * MB)
    before = sender.sent
    world.run(5)
    assert sender.sent - before == pytest.approx(10 * MB, rel=0.06)
    world.pace.changed(bucket, 0)
    before = sender.sent
    world.run(1)
    assert sender.sent - before > 100 * MB


def test_many_who_wait_cost_one_timer() -> None:
    world = World()
    bucket = world.bucket(1 * MB)
    for _ in range(1000):
        world.sender(bucket)
    world.run(2)
    assert world.wakes < 2 / 0.004
    assert len(world.pace._due) == 1


def test_who_has_ended_meanwhile_makes_room_and_a_fault_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    bucket = world.bucket(1 * MB)
    senders = [world.sender(bucket) for _ in range(5)]
    world.run(1)
    senders[0].left = 0  # as one whose stream is over

    def broken() -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(senders[1], "resume", broken)
    before = sum(each.sent for each in senders[2:])
    world.run(10)
    assert [str(each) for each in world.faults] == ["ours"]
    assert sum(each.sent for each in senders[2:]) - before == pytest.approx(10 * MB, rel=0.05)


def test_datagrams_are_let_through_at_the_rate_and_others_dropped() -> None:
    world = World()
    rates = Rates(world.pace, (world.bucket(1 * MB),))
    passed = 0

    def burst() -> None:
        nonlocal passed
        passed += sum(rates.admit(1200) for _ in range(3)) * 1200

    world.run(10, each=burst)
    assert passed == pytest.approx(10 * MB, rel=0.05)


class Creditor:
    """A stream as an inlet sees it."""

    def __init__(self) -> None:
        self.given: list[float] = []

    def let_on(self, now: float) -> None:
        self.given.append(now)


def test_credit_waits_for_whoever_is_ahead_of_his_rate() -> None:
    inlet, stream, other = Inlet(), cast(Any, Creditor()), cast(Any, Creditor())
    assert not inlet.holds(stream, 1 << 40), "nobody is held before anybody has counted"
    inlet.count(1000.0, 1.0)
    assert not inlet.holds(stream, 1000) and inlet.holds(stream, 1)
    assert inlet.holds(stream, 5) and inlet.holds(other, 1), "once each, whatever else is consumed meanwhile"
    inlet.count(-1.0, 2.0)
    assert stream.given == other.given == []
    inlet.count(0.0, 3.0)
    assert stream.given == other.given == [3.0]
    inlet.count(10.0, 4.0)
    assert stream.given == [3.0]
