"""A lane's patience, in virtual time: at once, often while something can be resumed, rarely otherwise."""

from __future__ import annotations

import random

import pytest

from aero.core.codes import Close
from aero.errors import AeroError, DialError, LinkClosed, Rejected, SecurityError
from aero.limits import Limits
from aero.worker.patience import FAILED, FORGOTTEN, LOST, REFUSED, Patience, ending


def longest(low: float, high: float) -> float:
    return high


def test_how_a_try_ends() -> None:
    def said(code: int) -> Rejected:
        return Rejected(code, "no", final=False)

    refused: list[AeroError] = [SecurityError("proof")]
    refused += [
        said(code) for code in (Close.AUTH, Close.AUTH_NEXT, Close.DENIED, Close.REPLACED, Close.KICKED)
    ]
    assert {ending(error, True, up_s, 0) for error in refused for up_s in (0.0, 60.0)} == {REFUSED}
    assert ending(said(Close.GONE), True, 0.0, 0) == FORGOTTEN
    assert ending(said(Close.GONE), False, 0.0, 0) == FAILED, "nobody asked for a session: it makes no sense"
    assert ending(said(Close.LIMIT), True, 0.0, 0) == ending(DialError("refused"), False, 0.0, 0) == FAILED
    assert ending(LinkClosed("cut"), False, 0.1, 1000) == FAILED
    assert ending(LinkClosed("cut"), False, 60.0, 0) == ending(LinkClosed("cut"), True, 0.1, 1 << 20) == LOST


def tries(resume_s: float, until_s: float, seed: int, took_s: float = 0.0) -> list[float]:
    """When a lane tries again after its good link was lost at 0, each try taking ``took_s`` to fail."""
    patience = Patience(random.Random(seed).uniform)
    at, found = patience.after(LOST, resume_s, 0.0), []
    while at < until_s:
        found.append(at)
        at += took_s
        at += patience.after(FAILED, resume_s, at)
    return found


def gaps(found: list[float]) -> list[float]:
    return [later - earlier for earlier, later in zip(found, found[1:])]


def test_the_first_try_is_at_once_then_they_become_rare() -> None:
    patience = Patience(longest)
    assert [patience.after(FAILED) for _ in range(9)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    patience = Patience()
    rare = [patience.after(FAILED) for _ in range(40)][20:]
    assert all(15.0 <= delay <= 30.0 for delay in rare)
    assert len(set(rare)) > 15, "a thousand workers must not come back in one second"


def test_a_good_link_makes_the_next_try_immediate() -> None:
    patience = Patience()
    for _ in range(5):
        patience.after(FAILED)
    assert patience.after(LOST) == 0.0
    assert patience.after(FAILED) > 0.0


def test_a_server_that_drops_every_link_is_not_dialled_in_a_circle() -> None:
    patience = Patience()
    assert [patience.after(FAILED, 60.0, 0.0) > 0.0 for _ in range(6)] == [False] + [True] * 5


def test_who_is_not_wanted_comes_back_slowly() -> None:
    patience = Patience()
    assert all(30.0 <= patience.after(REFUSED) <= 45.0 for _ in range(20))
    assert patience.after(FAILED) > 0.0


def test_what_is_forgotten_is_asked_for_once() -> None:
    patience = Patience()
    patience.after(FAILED)
    assert patience.after(FORGOTTEN) == 0.0
    assert patience.after(FAILED) > 0.0, "and it does not count as a success"


def test_a_server_that_has_forgotten_us_is_there() -> None:
    """1,000 workers of a restarted server ask twice, and some find no place the second time."""
    patience = Patience()
    for _ in range(20):
        patience.after(FAILED, 60.0, 30.0)
    assert patience.after(FORGOTTEN) == 0.0
    assert 0.0 < patience.after(FAILED) <= Limits.RETRY_FIRST_S


@pytest.mark.parametrize("outage_s", [5.0, 30.0, 45.0, 55.0, 59.0])
def test_an_outage_that_is_shorter_than_resume_loses_nothing(outage_s: float) -> None:
    """The former schedule came back within 60 s for 68 of 100 outages of 45 s, and 12 of 100 of 55 s."""
    for seed in range(200):
        back = next(at for at in tries(60.0, 120.0, seed) if at >= outage_s)
        assert back - outage_s <= Limits.RETRY_RESUME_S
        assert back <= 60.0 + Limits.RETRY_RESUME_S - 0.5


def test_an_hour_that_can_be_resumed_is_tried_often_at_first_then_every_half_minute() -> None:
    for seed in range(50):
        found = tries(3600.0, 3600.0, seed)
        eager = gaps([at for at in found if at < Limits.RESUME_EAGER_S][5:])
        late = gaps([at for at in found if at > Limits.RESUME_EAGER_S + 4])
        assert all(2.0 <= gap <= 4.0 for gap in eager)
        assert all(15.0 <= gap <= 30.0 for gap in late)


def test_ten_minutes_are_tried_a_20th_apart() -> None:
    patience = Patience(longest)
    for _ in range(12):
        patience.after(FAILED, 400.0, 10.0)
    assert patience.after(FAILED, 400.0, 299.0) == 4.0
    assert patience.after(FAILED, 400.0, 301.0) == 20.0
    assert patience.after(FAILED, 0.0, 0.0) == 30.0, "the session is lost: as patient as ever"


def test_a_thousand_workers_spread_over_the_longest_wait() -> None:
    """A server that is away for 20 s is found by all of them within 4 s, never by more than 400 in one second."""
    back = sorted(next(at for at in tries(60.0, 60.0, seed) if at >= 20.0) - 20.0 for seed in range(1000))
    assert back[-1] <= 4.0
    assert max(sum(second <= at < second + 1.0 for at in back) for second in range(4)) <= 400
