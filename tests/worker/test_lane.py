"""A lane's patience: at once after a good link, longer each time after a bad one, slowly where it is not wanted."""

from __future__ import annotations

from typing import Any, cast

import pytest

from aero.core.codes import Close
from aero.errors import AeroError, DialError, LinkClosed, Rejected, SecurityError
from aero.limits import Limits
from aero.worker.lane import Lane


@pytest.fixture
def lane() -> Lane:
    return Lane(cast(Any, None), 1)


def said_no(code: int) -> Rejected:
    return Rejected(code, "no", final=False)


def test_the_first_try_is_at_once_then_they_become_rare(lane: Lane) -> None:
    delays = [lane._delay_after(DialError("refused")) for _ in range(40)]
    assert delays[0] == 0.0
    assert 0.5 * Limits.RETRY_FIRST_S <= delays[1] <= Limits.RETRY_FIRST_S
    assert all(0.0 < delay <= Limits.RETRY_MOST_S for delay in delays[1:])
    assert min(delays[20:]) >= 0.5 * Limits.RETRY_MOST_S
    assert len(set(delays[20:])) > 15, "a thousand workers must not come back in one second"


def test_a_good_link_makes_the_next_try_immediate(lane: Lane) -> None:
    for _ in range(5):
        lane._delay_after(DialError("refused"))
    lane._was_good = True
    assert lane._delay_after(LinkClosed("cut")) == 0.0


def test_a_server_that_drops_every_link_is_not_dialled_in_a_circle(lane: Lane) -> None:
    assert [lane._delay_after(LinkClosed("dropped")) > 0.0 for _ in range(6)] == [False] + [True] * 5


@pytest.mark.parametrize(
    "error",
    [
        SecurityError("proof"),
        said_no(Close.AUTH),
        said_no(Close.DENIED),
        said_no(Close.REPLACED),
        said_no(Close.KICKED),
    ],
)
def test_who_is_not_wanted_comes_back_slowly(lane: Lane, error: AeroError) -> None:
    lane._was_good = True
    assert all(30.0 <= lane._delay_after(error) <= 45.0 for _ in range(20))
    lane._was_good = False
    assert lane._delay_after(DialError("refused")) > 0.0


def test_a_session_that_is_gone_is_asked_for_once(lane: Lane) -> None:
    lane._asked = cast(Any, object())
    assert lane._delay_after(said_no(Close.GONE)) == 0.0
    lane._asked = None
    lane._failures = 1
    assert lane._delay_after(said_no(Close.GONE)) > 0.0, (
        "nobody asked for a session: the server makes no sense"
    )
