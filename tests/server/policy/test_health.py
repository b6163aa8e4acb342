"""Health: how many looks make a target sick or well again, and what refused visitors add."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.server.policy.health import FAILS, PASSES, REFUSALS, Health


def looks(health: Health, text: str) -> str:
    """The state after each look: . passed, x failed."""
    return "".join("x."[(health.looked("down" if each == "x" else ""), health.in_order)[1]] for each in text)


@pytest.mark.parametrize(
    ("seen", "states"),
    [
        ("...", "..."),
        ("xx.xx.", "......"),
        ("xxx", "..x"),
        ("xxx.x..x", "..xxxx.."),
        ("xxxxx..", "..xxxx."),
    ],
)
def test_so_many_in_a_row(seen: str, states: str) -> None:
    assert (FAILS, PASSES) == (3, 2)
    assert looks(Health({"check": "tcp"}), seen) == states


def test_the_options_say_how_many() -> None:
    assert looks(Health({"fails": 1, "passes": 1}), "x.x.") == "x.x."


def test_the_reason_is_the_last_one_and_goes_with_the_sickness() -> None:
    health = Health({"fails": 1, "passes": 1})
    assert health.looked("refused") and health.why == "refused"
    assert not health.looked("timed out") and health.why == "timed out"
    assert health.looked("") and not health.why


def test_refusals_within_the_time_count_like_a_look() -> None:
    health = Health({"fails": 2, "every": 10})
    for moment in (0.0, 6.0, 12.0):
        assert not health.refused(moment, last=False)
    assert looks(health, "x") == ".", "they were too far apart to count"
    assert looks(health, ".") == "."
    changed = [health.refused(40.0 + number, last=False) for number in range(2 * REFUSALS)]
    assert changed == [False] * 5 + [True] and health.why == "it refuses visitors"
    assert not health.refused(50.0, last=False)


def test_refusals_never_take_the_last_one_out_but_looks_do() -> None:
    health = Health({"fails": 1})
    assert not any(health.refused(float(number) / 10, last=True) for number in range(100))
    assert health.looked("down") and not health.in_order


@given(st.text("x.", max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_state_changes_after_just_so_many_of_the_other_kind(seen: str, fails: int, passes: int) -> None:
    health = Health({"fails": fails, "passes": passes})
    well, row = True, 0
    for each in seen:
        row = row + 1 if (each == "x") == well else 0
        if row == (fails if well else passes):
            well, row = not well, 0
        health.looked("down" if each == "x" else "")
        assert health.in_order == well
