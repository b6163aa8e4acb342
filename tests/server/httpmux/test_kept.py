"""Connections between two requests: the freshest is taken, there are never too many, and each is ended in time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.limits import Limits
from aero.server.httpmux import kept as module
from aero.server.httpmux.kept import KeptConnections


class Mapping:
    """A target."""

    closed = False

    def __init__(self) -> None:
        self.idle = 0
        self.keeps = True
        self.outcomes: list[bool] = []

    def outcome(self, served: bool) -> None:
        self.outcomes.append(served)


class Upstream:
    """A connection to a target, which tells its keeper what the true one tells it."""

    def __init__(self, house: House, mapping: Mapping) -> None:
        self.mapping = mapping
        self.answered = False
        self.idle_since = 0.0
        self.route = SimpleNamespace(alive=True)
        self.stream = SimpleNamespace(session=SimpleNamespace(leaving=False))
        self.ends: list[str] = []
        self._house = house
        house.kept.opened(cast(Any, self))

    def answer(self) -> None:
        self._house.kept.answered(cast(Any, self))
        self.answered = True

    def retire(self) -> None:
        self.ends.append("retired")
        self._house.kept.retired(cast(Any, self))

    def abort(self) -> None:
        self.ends.append("aborted")
        self._house.kept.over(cast(Any, self))


class House:
    """The keeper, and a clock that goes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.kept = KeptConnections(1024)
        self.target = Mapping()

    def answered(self, mapping: Mapping | None = None) -> Upstream:
        """A connection on which the target has answered."""
        made = Upstream(self, mapping or self.target)
        made.answer()
        return made

    def idle(self, mapping: Mapping | None = None) -> Upstream:
        """A connection that waits for its next request."""
        made = self.answered(mapping)
        self.put(made)
        return made

    def put(self, upstream: Upstream) -> None:
        self.kept.put(cast(Any, upstream))

    def take(self, longest_s: float = 10.0) -> Any:
        return self.kept.take(cast(Any, self.target), longest_s)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    made = House()
    monkeypatch.setattr(module, "monotonic", lambda: made.now)
    return made


def test_the_last_used_is_taken_first_and_each_once(house: House) -> None:
    first, second = house.idle(), house.idle()
    assert [house.take(), house.take(), house.take()] == [second, first, None]


def test_one_that_is_too_old_for_this_request_is_not_taken(house: House) -> None:
    only = house.idle()
    house.kept._widths[cast(Any, house.target)].known = 2
    house.now += 10.5
    assert house.take(10.0) is None and not only.ends, "another request may have it"
    assert house.take(10.5) is only, "just so long is not too long"


def test_one_whose_link_is_down_is_passed_over(house: House) -> None:
    first, second, third = (house.idle() for _ in range(3))
    second.route.alive = third.route.alive = False
    assert house.take() is first
    third.route.alive = True
    assert house.take() is third


def test_the_oldest_makes_room_where_the_target_serves_no_more(house: House) -> None:
    first, second = house.idle(), house.idle()
    house.now += 60.0
    assert house.take() is None
    assert (first.ends, second.ends) == (["retired"], [])
    assert house.take(1000.0) is second, "the other one is kept still"


def test_what_was_open_before_the_one_that_answers_is_served_beside_it(house: House) -> None:
    first, second, third = (Upstream(house, house.target) for _ in range(3))
    width = house.kept._widths[cast(Any, house.target)]
    second.answer()
    assert (width.known, width.waiting) == (2, 2)
    first.answer()
    assert (width.known, width.waiting) == (2, 1), "what is known is not forgotten"
    first.abort()
    third.answer()
    assert (width.known, width.waiting) == (2, 0), "it may have waited for the first one's place"


def test_one_that_never_answered_waits_no_longer_once_it_is_over(house: House) -> None:
    served, silent = house.answered(), Upstream(house, house.target)
    house.put(served)
    assert served.ends == ["retired"], "the silent one may be waiting for its place"
    silent.abort()
    assert house.kept._widths[cast(Any, house.target)].waiting == 0
    other = house.answered()
    house.put(other)
    assert not other.ends
    for each in (served, other):
        each.abort()
    assert not house.kept._widths, "nothing is left of a target without connections"


def test_one_is_kept_while_another_waits_where_the_target_serves_both(house: House) -> None:
    first, second = house.answered(), house.answered()
    second.abort()
    waiting = Upstream(house, house.target)
    house.put(first)
    assert not first.ends, "it has served two at once"
    further = Upstream(house, house.target)
    house.kept.drop(cast(Any, first))
    house.put(first)
    assert first.ends == ["retired"], "but never three"
    assert not waiting.ends and not further.ends


def test_each_target_and_all_together_keep_so_many_and_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "MUX_POOLED_PER_TARGET", 2)
    monkeypatch.setattr(Limits, "MUX_POOLED", 3)
    assert [house.idle().ends for _ in range(3)] == [[], [], ["retired"]]
    others = [Mapping(), Mapping()]
    kept = house.idle(others[0])
    assert not kept.ends and house.idle(others[1]).ends == ["retired"], "three in all"
    house.kept.drop(cast(Any, kept))
    house.kept.drop(cast(Any, kept))
    assert not house.idle(others[1]).ends, "one place is free again"
    assert house.idle(others[1]).ends == ["retired"], "and not two"


def test_nothing_is_kept_for_a_target_that_was_withdrawn(house: House) -> None:
    busy, idle = house.answered(), house.idle()
    house.target.closed = True
    house.put(busy)
    assert busy.ends == ["retired"]
    house.kept.sweep(house.now)
    assert idle.ends == ["retired"] and house.take() is None


def test_a_sweep_retires_the_old_and_what_would_keep_a_worker_from_leaving(house: House) -> None:
    old, leaving, fresh = (house.idle() for _ in range(3))
    house.now += Limits.MUX_POOLED_S
    leaving.idle_since = fresh.idle_since = house.now
    leaving.stream.session.leaving = True
    house.kept.sweep(house.now)
    assert (old.ends, leaving.ends, fresh.ends) == ([], ["retired"], [])
    house.now += 0.1
    house.kept.sweep(house.now)
    assert (old.ends, fresh.ends) == (["retired"], [])


def test_a_target_that_does_not_end_its_end_is_aborted_once(house: House) -> None:
    stubborn, good = house.answered(), house.answered()
    stubborn.retire()
    good.retire()
    house.kept.over(cast(Any, good))
    house.kept.sweep(house.now + Limits.MUX_RETIRE_S)
    assert stubborn.ends == ["retired"], "it has that long"
    for _ in range(2):
        house.kept.sweep(house.now + Limits.MUX_RETIRE_S + 0.1)
    assert stubborn.ends == ["retired", "aborted"] and good.ends == ["retired"]


def test_at_the_end_everything_that_waits_is_aborted(house: House) -> None:
    retiring, busy, idle = house.answered(), house.answered(), house.idle(Mapping())
    retiring.retire()
    house.kept.close()
    assert (retiring.ends[-1], idle.ends, busy.ends) == ("aborted", ["aborted"], [])
    assert not house.kept._idle and not house.kept._retiring and not house.kept._count


def test_what_may_not_be_sent_twice_waits_until_the_target_is_known_to_keep_connections(house: House) -> None:
    house.target.keeps = False
    first = house.answered()
    house.kept.put(cast(Any, first))
    assert house.kept.take(cast(Any, house.target), Limits.MUX_POOLED_FRESH_S) is None
    house.kept.put(cast(Any, house.answered()))
    assert house.kept.take(cast(Any, house.target), Limits.MUX_POOLED_S) is not None, "others may"
    last = house.answered()
    house.kept.put(cast(Any, last))
    house.now += 2 * Limits.MUX_REST_S
    assert house.kept.take(cast(Any, house.target), Limits.MUX_POOLED_FRESH_S) is last
    house.kept.put(cast(Any, last))
    house.kept.ended(cast(Any, last))
    assert not house.target.keeps, "it ended one at once"
