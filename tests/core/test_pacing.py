"""Pacing: half as much after a slow drain, twice as much after a quick one, within its bounds."""

from __future__ import annotations

from aero.core.pacing import FAST_S, MAX_BYTES, MIN_BYTES, SLOW_S, Pacing


def drain(pacing: Pacing, seconds: float, at: float = 100.0) -> bool:
    pacing.blocked(at)
    return pacing.drained(at + seconds)


def test_begins_with_one_record() -> None:
    assert Pacing().burst_bytes == MAX_BYTES


def test_a_slow_link_halves_down_to_the_least() -> None:
    pacing = Pacing()
    seen = []
    while drain(pacing, SLOW_S * 2):
        seen.append(pacing.burst_bytes)
    assert seen == [128 * 1024, 64 * 1024, 32 * 1024, 16 * 1024]
    assert pacing.burst_bytes == MIN_BYTES
    assert not drain(pacing, 1000.0)


def test_a_link_that_became_quick_doubles_up_to_the_most() -> None:
    pacing = Pacing()
    while drain(pacing, 1.0):
        pass
    doublings = 0
    while drain(pacing, FAST_S / 2):
        doublings += 1
    assert doublings == 4
    assert pacing.burst_bytes == MAX_BYTES


def test_in_between_nothing_changes() -> None:
    pacing = Pacing()
    drain(pacing, 1.0)
    before = pacing.burst_bytes
    assert not drain(pacing, (FAST_S + SLOW_S) / 2)
    assert pacing.burst_bytes == before


def test_a_link_that_blocks_again_counts_from_the_last_time() -> None:
    pacing = Pacing()
    pacing.blocked(100.0)
    pacing.blocked(200.0)
    assert not pacing.drained(200.0 + (FAST_S + SLOW_S) / 2)
