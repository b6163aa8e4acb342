"""The schedule of ways: a dead one costs a moment, a failure none, and who is nearly through is not crowded."""

from __future__ import annotations

import random

from aero.net.schedule import PATIENCE_S, STAGGER_S, Schedule


def begin(schedule: Schedule, now: float) -> list[int]:
    """All that is due at ``now``."""
    found = []
    while (way := schedule.due(now)) is not None:
        found.append(way)
    return found


def test_the_first_begins_at_once_and_each_silent_one_costs_a_moment() -> None:
    schedule = Schedule(3, 100.0)
    assert begin(schedule, 100.0) == [0]
    assert schedule.next_at == 100.0 + STAGGER_S
    assert begin(schedule, 100.0 + STAGGER_S - 0.01) == []
    assert begin(schedule, 100.0 + STAGGER_S) == [1]
    assert begin(schedule, 100.0 + 2 * STAGGER_S) == [2]
    assert schedule.next_at is None and begin(schedule, 1e9) == []


def test_a_failure_lets_the_next_begin_at_once_and_one_alone() -> None:
    schedule = Schedule(3, 0.0)
    assert begin(schedule, 0.0) == [0]
    schedule.failed(0, 0.01)
    assert begin(schedule, 0.01) == [1]
    schedule.failed(1, 0.02)
    assert begin(schedule, 0.02) == [2] and not schedule.over
    schedule.failed(2, 0.03)
    assert schedule.over and schedule.next_at is None


def test_who_is_connected_gets_time_to_get_through() -> None:
    schedule = Schedule(2, 0.0)
    assert begin(schedule, 0.0) == [0]
    schedule.connected(0, 0.1)
    assert schedule.next_at == 0.1 + PATIENCE_S
    assert begin(schedule, STAGGER_S) == []
    assert begin(schedule, 0.1 + PATIENCE_S) == [1]


def test_an_earlier_one_that_connects_late_does_not_hold_up_the_next() -> None:
    schedule = Schedule(3, 0.0)
    begin(schedule, 0.0)
    begin(schedule, STAGGER_S)
    schedule.connected(0, 0.3)
    assert schedule.next_at == 2 * STAGGER_S


def test_ways_can_be_given_up_before_they_begin() -> None:
    schedule = Schedule(4, 0.0)
    begin(schedule, 0.0)
    schedule.failed(1, 0.1)
    assert schedule.next_at == STAGGER_S, "nothing that was tried has failed"
    assert begin(schedule, STAGGER_S) == [2]
    schedule.failed(3, 0.3)
    assert schedule.next_at is None and not schedule.over


def test_whatever_happens_each_way_begins_once_and_an_end_comes() -> None:
    chance = random.Random(8305)
    for _ in range(300):
        count = chance.randint(1, 16)
        schedule, now, begun = Schedule(count, 0.0), 0.0, []
        running: list[int] = []
        for _ in range(10_000):
            fresh = begin(schedule, now)
            begun += fresh
            running += fresh
            if schedule.over:
                break
            event = chance.choice(("wait", "connected", "failed"))
            if event == "wait" or not running:
                now = max(now, schedule.next_at if schedule.next_at is not None else now)
            elif event == "connected":
                schedule.connected(chance.choice(running), now)
            else:
                now += 0.01
                schedule.failed(running.pop(chance.randrange(len(running))), now)
        assert schedule.over and begun == list(range(count)), begun
