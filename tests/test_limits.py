"""Bounds that hold for everybody, and instances that differ in some."""

from __future__ import annotations

import pytest

from aero.limits import STANDARD, Limits


def test_an_instance_differs_in_what_it_is_given() -> None:
    few = Limits(TARGETS_PER_WORKER=8)
    assert (few.TARGETS_PER_WORKER, few.CONTROL_BURST) == (8, Limits.CONTROL_BURST)
    assert STANDARD.TARGETS_PER_WORKER == Limits.TARGETS_PER_WORKER == 128


def test_a_limit_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="there is no limit TARGETS"):
        Limits(TARGETS=8)


def test_every_limit_is_a_number_above_nothing_or_a_range_of_such() -> None:
    limits = {name: value for name, value in vars(Limits).items() if name.isupper()}
    assert len(limits) > 50
    for name, value in limits.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        assert 0 < low <= high, name
