"""So much at once, then so much a second; and who is remembered."""

from __future__ import annotations

from aero.server.policy.allowance import Allowance, Allowances


def test_it_is_spent_and_comes_back() -> None:
    one = Allowance(100, 10, 0.0)
    assert one.has(100, 0.0)
    one.spend(100)
    assert not one.has(1, 0.0)
    assert one.has(10, 1.0) and not one.has(11, 1.0)
    assert one.has(100, 1000.0) and not one.has(101, 1000.0)


def test_each_address_has_its_own_and_the_oldest_is_forgotten() -> None:
    all_ = Allowances(10, 0, 2)
    for whose in ("a", "b"):
        all_.of(whose, 0.0).spend(10)
    assert not all_.of("a", 1.0).has(1, 1.0)
    all_.of("c", 1.0)
    assert all_.of("b", 2.0).has(10, 2.0)  # forgotten: it begins anew
    assert len(all_._of) == 2
