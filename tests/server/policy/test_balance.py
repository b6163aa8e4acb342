"""Balancing by its properties: shares as weights say, visitors who stay, and nobody who has just failed."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aero.server.policy.balance import (
    BALANCES,
    COOKIE,
    FAILED_S,
    HASH,
    LEAST,
    RANDOM_TWO,
    ROUND_ROBIN,
    Balancer,
)

ROUNDS = 10_000
WEIGHTS = st.lists(st.integers(1, 10), min_size=1, max_size=8)


class Way:
    """A candidate whose visitors stay for as long as the test says."""

    def __init__(self, key: str, weight: int = 1, load: int = 0) -> None:
        self.key, self.weight, self.load = key, weight, load


def ways(weights: list[int]) -> list[Way]:
    return [Way(f"way {number}", weight) for number, weight in enumerate(weights)]


def visitor(number: int) -> str:
    return f"192.0.{number >> 8}.{number & 255}"


def shares(balancer: Balancer[Way], some: list[Way], staying: int = 0) -> Counter[str]:
    """How often each is chosen in ROUNDS; the last ``staying`` visitors are there at a time."""
    here: list[Way] = []
    counted: Counter[str] = Counter()
    for number in range(ROUNDS):
        chosen = balancer.pick(some, visitor(number), 0.0)
        counted[chosen.key] += 1
        chosen.load += 1
        here.append(chosen)
        if len(here) > staying:
            here.pop(0).load -= 1
    return counted


def assert_fair(counted: Counter[str], some: list[Way], sigmas: float) -> None:
    """Within 5 % of the weights; where lots decide, or as near as 10,000 of them come with this many sigmas."""
    total = sum(each.weight for each in some)
    for each in some:
        share = each.weight / total
        off = sigmas * math.sqrt(ROUNDS * share * (1 - share))
        assert abs(counted[each.key] - ROUNDS * share) <= max(0.05 * ROUNDS * share, off, 1.0), counted


@pytest.mark.parametrize("how", [ROUND_ROBIN, COOKIE])
@given(weights=WEIGHTS)
@settings(max_examples=20)
def test_turns_go_by_weight_to_the_last_one(how: str, weights: list[int]) -> None:
    some = ways(weights)
    counted = shares(Balancer(how), some)
    total = sum(weights)
    for each in some:
        assert abs(counted[each.key] - ROUNDS * each.weight / total) <= len(some)


@given(weights=WEIGHTS)
@settings(max_examples=20)
def test_the_least_busy_gets_by_weight_where_visitors_stay(weights: list[int]) -> None:
    some = ways(weights)
    assert_fair(shares(Balancer(LEAST), some, staying=50 * sum(weights)), some, sigmas=0)


@given(weights=WEIGHTS, seed=st.integers(0, 1000))
@example(weights=[1, 1, 1], seed=0)
@settings(max_examples=20)
def test_two_by_lot_are_fair_too(weights: list[int], seed: int) -> None:
    some = ways(weights)
    assert_fair(shares(Balancer(RANDOM_TWO, seed), some, staying=50 * sum(weights)), some, sigmas=5)


@given(weights=WEIGHTS, salt=st.text(max_size=5))
@settings(max_examples=20)
def test_visitors_spread_by_weight(weights: list[int], salt: str) -> None:
    some = [Way(f"{salt}{each.key}", each.weight) for each in ways(weights)]
    assert_fair(shares(Balancer(HASH), some), some, sigmas=5)


@given(weights=st.lists(st.integers(1, 10), min_size=2, max_size=8), gone=st.integers(0, 7))
@settings(max_examples=20)
def test_only_the_visitors_of_one_that_leaves_move_and_come_back_with_it(
    weights: list[int], gone: int
) -> None:
    some = ways(weights)
    left = [each for each in some if each is not some[gone % len(some)]]
    leaver = some[gone % len(some)]
    balancer: Balancer[Way] = Balancer(HASH)
    moved: Counter[str] = Counter()
    for number in range(2000):
        before = balancer.pick(some, visitor(number), 0.0)
        after = balancer.pick(left[::-1], visitor(number), 0.0)
        assert before is after or before is leaver
        if before is leaver:
            moved[after.key] += 1
        assert balancer.pick(some[::-1], visitor(number), 0.0) is before
    if sum(moved.values()) > 200 * len(left):
        assert len(moved) == len(left), "they spread over all others"


def test_hashes_are_the_same_in_every_process() -> None:
    some = ways([1, 1, 1, 1])
    balancer: Balancer[Way] = Balancer(HASH)
    chosen = [int(balancer.pick(some, visitor(number), 0.0).key[-1]) for number in range(12)]
    assert chosen == [0, 1, 0, 2, 1, 0, 1, 1, 3, 2, 1, 0]


@pytest.mark.parametrize("how", BALANCES)
def test_who_has_just_failed_is_chosen_last(how: str) -> None:
    some = ways([1, 1, 1])
    balancer: Balancer[Way] = Balancer(how, 1)
    bad, good = some[1], {some[0], some[2]}
    balancer.outcome(bad, False, 10.0)
    for number in range(50):
        assert balancer.pick(some, visitor(number), 10.0 + FAILED_S - 0.1) in good
    for each in good:
        balancer.outcome(each, False, 10.0)
    assert {balancer.pick(some, visitor(n), 10.1) for n in range(200)} == set(some), "where all have, any"
    for each in some:
        balancer.outcome(each, True, 10.1)
    assert bad in [balancer.pick(some, visitor(number), 10.2) for number in range(50)]
    balancer.outcome(bad, False, 20.0)
    assert bad in [balancer.pick(some, visitor(number), 20.0 + FAILED_S) for number in range(50)]


def test_the_least_busy_is_chosen_at_once() -> None:
    some = [Way("a", 1, 5), Way("b", 1, 3), Way("c", 10, 30)]
    assert Balancer(LEAST).pick(some, "", 0.0).key == "c"
    some[2].load = 100
    assert Balancer(LEAST).pick(some, "", 0.0).key == "b"


def test_members_that_came_and_went_are_not_remembered() -> None:
    balancer: Balancer[Way] = Balancer()
    for number in range(1000):
        balancer.pick([Way(f"{number}", 1), Way(f"{number}x", 2)], "", 0.0)
    assert len(balancer._due) <= 6
