"""Penalties: delays grow with failures, fade with time, and lock nobody out. Time is passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aero.server.policy import penalties
from aero.server.policy.penalties import Penalties


def test_a_few_failures_cost_nothing() -> None:
    watch = Penalties()
    for _ in range(3):
        watch.failed(b"a", 100.0)
    assert watch.delay_s(b"a", 100.0) == 0.0
    assert watch.delay_s(b"b", 100.0) == 0.0


def test_each_one_more_doubles_the_delay_up_to_half_of_what_a_handshake_may_last() -> None:
    watch = Penalties()
    delays = []
    for _ in range(30):
        watch.failed(b"a", 100.0)
        delays.append(watch.delay_s(b"a", 100.0))
    assert delays[3:8] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert max(delays) == penalties.MAX_S


def test_failures_are_forgotten() -> None:
    watch = Penalties()
    for _ in range(1000):
        watch.failed(b"a", 100.0)
    assert watch.delay_s(b"a", 100.0 + 4 * penalties.HALF_LIFE_S) == 0.0


def test_a_worker_with_a_wrong_code_does_not_slow_its_neighbours_down() -> None:
    watch = Penalties()
    for number in range(1000):
        watch.failed(b"a", 30.0 * number)  # the soonest that one of ours tries again
        assert watch.delay_s(b"a", 30.0 * number) == 0.0


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    watch = Penalties()
    for number in range(penalties.ADDRESSES + 10):
        for _ in range(5):
            watch.failed(b"a%d" % number, 1.0)
    assert len(watch) == penalties.ADDRESSES
    assert watch.delay_s(b"a0", 1.0) == 0.0 < watch.delay_s(b"a%d" % penalties.ADDRESSES, 1.0)


@given(st.lists(st.floats(0, 100), max_size=60))
def test_a_delay_is_never_longer_than_a_handshake_can_bear(failures: list[float]) -> None:
    watch, now = Penalties(), 0.0
    for passed in failures:
        now += passed
        watch.failed(b"a", now)
        assert 0.0 <= watch.delay_s(b"a", now) <= penalties.MAX_S
