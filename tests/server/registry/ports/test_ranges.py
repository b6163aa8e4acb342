"""Ranges of ports, against sets of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aero.server.registry.ports import ranges

RANGES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=5
)


def numbers(given: object) -> set[int]:
    return {port for low, high in given for port in range(low, high + 1)}  # type: ignore[attr-defined]


@given(RANGES, RANGES)
def test_what_is_left_of_ranges(some: list[tuple[int, int]], taken: list[tuple[int, int]]) -> None:
    left = ranges.without(some, taken)
    assert numbers(left) == numbers(some) - numbers(taken)
    assert all(ranges.within(port, left) == (port in numbers(left)) for port in range(60))


@given(RANGES, st.integers(0, 2**64))
def test_once_around_is_every_port_once(some: list[tuple[int, int]], number: int) -> None:
    apart = ranges.without(((1, 60),), some)
    found = [port for low, high in ranges.around(number, apart) for port in range(low, high + 1)]
    assert sorted(found) == sorted(numbers(apart))
    assert len(found) == ranges.count(apart)
    if found:
        assert found[0] == sorted(found)[number % len(found)]


def test_ranges_as_people_write_them() -> None:
    assert ranges.shown(((443, 443), (30000, 30099))) == "443,30000-30099"


@given(RANGES, st.integers(0, 2**64), st.integers(2, 5))
def test_once_around_for_rows_has_every_row(some: list[tuple[int, int]], number: int, row: int) -> None:
    apart = ranges.without(((1, 60),), some)
    pieces = list(ranges.around(number, apart, row))
    rows = {first for low, high in pieces for first in range(low, high - row + 2)}
    assert rows == {first for low, high in apart for first in range(low, high - row + 2)}
