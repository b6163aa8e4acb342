"""A pool: who may be chosen, in which order the rest follow, and whose word on balancing counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.config import targetoptions
from aero.server.policy import balance
from aero.server.registry.pool import Pool


def member(key: str, links: int = 1, steady: bool = True, in_order: bool = True, **options: Any) -> Any:
    worker = SimpleNamespace(linked=bool(links), steady=steady and bool(links))
    return SimpleNamespace(
        key=key,
        worker=worker,
        in_order=in_order,
        options=options,
        weight=1,
        load=0,
        access=None,
        logins=None,
        plain=in_order and not options,
    )


def pool(*members: Any) -> Pool:
    made = Pool()
    for each in members:
        made.add(each)
    return made


def chosen(some: Pool) -> set[str]:
    found = [some.choose("192.0.2.1") for _ in range(20)]
    return {each.key if each is not None else "" for each in found}


def test_the_words_of_the_command_line_are_those_of_the_balancer() -> None:
    assert targetoptions.BALANCES == balance.BALANCES


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        ((member("a"), member("b")), {"a", "b"}),
        ((member("a"), member("b"), member("doubted", steady=False), member("away", 0)), {"a", "b"}),
        ((member("doubted", steady=False), member("away", 0)), {"doubted"}),
        ((member("away", 0), member("gone", 0)), {"away", "gone"}),
        ((member("a"), member("sick", in_order=False)), {"a"}),
        ((member("away", 0), member("sick", in_order=False)), {"away"}),
        ((member("sick", in_order=False),), {""}),
        ((), {""}),
    ],
)
def test_who_is_chosen(members: tuple[Any, ...], keys: set[str]) -> None:
    assert chosen(pool(*members)) == keys


def test_all_that_have_a_link_are_tried_in_turn_those_that_are_doubted_last() -> None:
    some = pool(member("a"), member("doubted", steady=False), member("c"), member("away", 0))
    orders = ["".join(each.key[0] for each in some.order("")) for _ in range(4)]
    assert sorted(set(orders)) == ["adc", "cad"]
    assert [each.key for each in some.order("", some.members[1])] == ["doubted", "c", "a"], (
        "his own, if linked"
    )
    assert some.order("", some.members[3])[0].key in "ac"


def test_the_first_member_says_how_and_after_it_the_next() -> None:
    first, second = member("a", balance="hash"), member("b", balance="least")
    some = pool(first, second)
    assert some.how == "hash"
    assert len({id(some.choose("192.0.2.7")) for _ in range(9)}) == 1
    some.remove(first)
    assert some.how == "least"
    some.add(first)
    assert some.how == "least"


def test_one_that_refused_is_passed_over_for_a_moment() -> None:
    some = pool(member("a"), member("b"))
    some.outcome(some.members[0], served=False)
    assert chosen(some) == {"b"}
    some.outcome(some.members[0], served=True)
    assert chosen(some) == {"a", "b"}


def test_a_member_is_alone_where_nothing_has_to_be_chosen_or_asked() -> None:
    first, second = member("a"), member("b")
    some = Pool(marks=True)
    assert some.alone is None
    some.add(first)
    assert some.alone is first
    some.add(second)
    assert some.alone is None
    some.remove(first)
    assert some.alone is second
    assert pool(member("sick", in_order=False)).alone is None


def test_only_the_mux_gives_cookies() -> None:
    for marks in (True, False):
        first, some = member("a", balance=balance.COOKIE), Pool(marks)
        first.plain = True
        some.add(first)
        assert getattr(first, "sticky", False) is marks
        assert (some.alone is None) is marks
