"""The map of ports: what it finds without a search is what a search would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aero.server.registry.ports.portmap import PORTS, PortMap

LOW, HIGH = 100, 119
PORT = st.integers(LOW, HIGH)


def mapped(taken: set[int]) -> PortMap:
    made = PortMap()
    for port in taken:
        made.take(port, 1)
    return made


@given(st.lists(st.tuples(st.booleans(), PORT, st.integers(1, 6)), max_size=12))
def test_what_is_taken_and_freed(steps: list[tuple[bool, int, int]]) -> None:
    made, taken = PortMap(), set()
    for takes, first, row in steps:
        ports = set(range(first, first + row))
        (made.take if takes else made.free)(first, row)
        taken = taken | ports if takes else taken - ports
    assert [port for port in range(LOW, HIGH + 10) if not made.is_free(port, 1)] == sorted(taken)
    assert made.left(((LOW, HIGH + 9),)) == HIGH + 10 - LOW - len(taken)


@given(st.sets(PORT), st.integers(0, 1 << 64), st.tuples(PORT, PORT).map(sorted))
def test_free_ports_come_once_each_and_are_all_of_them(taken: set[int], number: int, ends: list[int]) -> None:
    ranges = ((ends[0], ends[1]), (200, 204))
    found = list(mapped(taken).free_from(number, ranges))
    free = [port for low, high in ranges for port in range(low, high + 1) if port not in taken]
    assert sorted(found) == free
    turned = found.index(min(found)) if found else 0
    assert found[turned:] + found[:turned] == free, "once around"


@given(st.sets(PORT), st.integers(0, 1 << 64), st.integers(2, 6), st.sets(PORT, max_size=4))
def test_rows_are_free_and_without_what_is_busy_and_one_is_found_where_there_is_one(
    taken: set[int], number: int, row: int, others: set[int]
) -> None:
    busy: list[int] = []
    got: set[int] = set()
    for first in mapped(taken).rows_from(number, ((LOW, HIGH),), row, busy):
        ports = set(range(first, first + row))
        assert ports <= set(range(LOW, HIGH + 1)) and not ports & (taken | set(busy))
        if not ports & others:
            got = ports
            break
        busy.append(max(ports & others))
    bad = taken | others
    there = any(not bad & set(range(first, first + row)) for first in range(LOW, HIGH + 2 - row))
    assert bool(got) == there


def test_a_row_of_one_user_may_be_all_that_there_is() -> None:
    made = PortMap()
    assert list(made.rows_from(0, ((LOW, HIGH),), HIGH - LOW + 1, [])) == [LOW]
    assert not list(made.rows_from(0, ((LOW, HIGH),), HIGH - LOW + 2, []))
    made.take(PORTS - 1, 1)
    assert list(made.free_from(0, ((PORTS - 2, PORTS - 1),))) == [PORTS - 2]
