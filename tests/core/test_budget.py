"""A budget: so many at once, then so many a second, never more saved up."""

from __future__ import annotations

from aero.core.budget import Budget


def test_so_many_at_once() -> None:
    budget = Budget(3, 1.0, 100.0)
    assert [budget.spend(100.0) for _ in range(5)] == [True, True, True, False, False]


def test_then_so_many_a_second() -> None:
    budget = Budget(1, 2.0, 0.0)
    spent = [budget.spend(tenth / 10) for tenth in range(51)]
    assert sum(spent) == 1 + 5 * 2


def test_a_long_rest_saves_up_no_more_than_the_burst() -> None:
    budget = Budget(2, 10.0, 0.0)
    assert [budget.spend(1e6) for _ in range(4)] == [True, True, False, False]


def test_asking_in_vain_does_not_put_the_next_one_off() -> None:
    budget = Budget(1, 1.0, 0.0)
    assert budget.spend(0.0)
    assert not any(budget.spend(hundredth / 100) for hundredth in range(1, 99))
    assert budget.spend(1.001)
