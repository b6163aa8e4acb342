"""Rates at the server: which buckets a stream has, what workers are told, and how a user's limit is shared out."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.core.control import RateLimits
from aero.core.features import HEALTH
from aero.server.policy.rules import Rule
from aero.server.registry import arrears, rates
from aero.server.registry.rates import ServerRates, shared

MB = 1_000_000


class FakeMapping:
    def __init__(self, options: dict[str, int]) -> None:
        self.options, self.bytes_out = options, 0
        self.limit = options.get("limit", 0)
        self.tally = SimpleNamespace(open=frozenset())


class FakeWorker:
    def __init__(self, cid: str, user: str, rule: Rule) -> None:
        self.cid, self.user, self.rule = cid, user, rule
        self.mappings: dict[int, Any] = {}
        self.told: list[RateLimits] = []
        session = SimpleNamespace(features=HEALTH, ended=False, control=self.told.append)
        self.sessions = [cast(Any, SimpleNamespace(session=session))]

    def offer(self, number: int, **options: int) -> Any:
        self.mappings[number] = FakeMapping(options)
        return self.mappings[number]


@pytest.fixture
def server() -> Iterator[ServerRates]:
    made = ServerRates(gevent.get_hub().loop)
    yield made
    made.close()


def settle() -> None:
    for _ in range(3):
        gevent.sleep(0)


def test_nothing_is_limited_where_nobody_says_so(server: ServerRates) -> None:
    worker = FakeWorker("c1", "", Rule())
    worker.offer(1)
    server.look_at(worker)
    settle()
    assert server.of(worker, 1, "192.0.2.1:5") is None
    assert worker.told == []


def test_a_stream_has_the_buckets_of_its_user_target_and_visitor(server: ServerRates) -> None:
    rule = Rule(limit=5 * MB, target_limit=3 * MB, visitor_limit=MB)
    one, two = FakeWorker("c1", "ci", rule), FakeWorker("c2", "ci", rule)
    for worker in (one, two):
        worker.offer(1, limit=2 * MB)
        worker.offer(2, limit=4 * MB)
    first, second, third = (
        cast(Any, server.of(*each)).buckets
        for each in ((one, 1, "192.0.2.1:5"), (two, 1, "192.0.2.1:6"), (one, 2, "192.0.2.2:6"))
    )
    assert [bucket.rate for bucket in first] == [5 * MB, 2 * MB, MB]
    assert [bucket.rate for bucket in third] == [5 * MB, 3 * MB, MB]
    assert first[0] is second[0] is third[0]
    assert first[1] is not second[1]
    assert first[2] is second[2] is not third[2]


def test_a_worker_is_told_once_and_again_when_something_changes(server: ServerRates) -> None:
    worker = FakeWorker("c1", "ci", Rule(limit=5 * MB, visitor_limit=MB))
    server.look_at(worker)
    worker.offer(1, limit=2 * MB)
    server.look_at(worker)
    settle()
    server.look_at(worker)
    settle()
    assert worker.told == [RateLimits(5 * MB, MB, {1: 2 * MB})]
    worker.rule = Rule(limit=4 * MB)
    server.changed([worker])
    settle()
    assert worker.told[1:] == [RateLimits(4 * MB, 0, {1: 2 * MB})]
    worker.rule = Rule()
    del worker.mappings[1]
    server.changed([worker])
    settle()
    assert worker.told[2:] == [RateLimits()]


def test_who_comes_and_goes_changes_the_shares(server: ServerRates) -> None:
    rule = Rule(limit=6 * MB)
    one, two = FakeWorker("c1", "ci", rule), FakeWorker("c2", "ci", rule)
    server.look_at(one)
    settle()
    server.look_at(two)
    settle()
    assert [one.told[-1].all, two.told[-1].all] == [3 * MB, 3 * MB]
    server.left(two)
    assert one.told[-1].all == 6 * MB


def test_who_uses_less_leaves_the_rest_to_the_other(
    server: ServerRates, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(rates, "monotonic", lambda: now)
    rule = Rule(limit=10 * MB)
    busy, calm = FakeWorker("c1", "ci", rule), FakeWorker("c2", "ci", rule)
    sent, little = busy.offer(1), calm.offer(1)
    for worker in (busy, calm):
        server.look_at(worker)
    settle()
    for _ in range(5):
        now += 1.0
        sent.bytes_out += busy.told[-1].all
        little.bytes_out += MB
        server._look()
    assert busy.told[-1].all == pytest.approx(8.5 * MB, rel=0.05)
    assert busy.told[-1].all + calm.told[-1].all <= 10.3 * MB
    for _ in range(6):  # now both have much to send
        now += 1.0
        sent.bytes_out += busy.told[-1].all
        little.bytes_out += calm.told[-1].all
        server._look()
    assert busy.told[-1].all == pytest.approx(5 * MB, rel=0.1)


@pytest.mark.parametrize(
    ("used", "before"),
    [
        ({"a": 0.0}, {}), ({"a": 5.0, "b": 900.0}, {"a": 500, "b": 500}), ({"a": 0.0, "b": 0.0}, {"a": 500, "b": 500}),
        ({"a": 990.0, "b": 10.0, "c": 400.0}, {"a": 500, "b": 500, "c": 1000}),
    ],
)  # fmt: skip
def test_shares_are_never_more_than_the_limit_and_never_nothing(
    used: dict[str, float], before: dict[str, int]
) -> None:
    found = shared(1000, used, before)
    assert found.keys() == used.keys()
    assert min(found.values()) > 0
    assert sum(found.values()) <= 1000 * 1.1


def test_a_workers_own_limit_is_the_smallest_that_it_is_told(server: ServerRates) -> None:
    one = FakeWorker("c1", "ci", Rule(limit=5 * MB, worker_limit=2 * MB))
    one.offer(1)
    server.look_at(one)
    settle()
    assert one.told[-1].all == 2 * MB
    buckets = cast(Any, server.of(one, 1, "192.0.2.1:5")).buckets
    assert [bucket.rate for bucket in buckets] == [5 * MB, 2 * MB]
    alone = FakeWorker("c2", "eva", Rule(worker_limit=3 * MB))
    alone.offer(1)
    server.look_at(alone)
    settle()
    assert alone.told == [RateLimits(3 * MB)]


def test_who_is_ahead_of_his_rates_is_in_arrears_until_time_has_caught_up(
    server: ServerRates, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(arrears, "monotonic", lambda: now[0])
    worker = FakeWorker("c1", "ci", Rule(limit=2 * MB))
    fast, quiet = worker.offer(1, limit=MB), worker.offer(2)
    inlets = [cast(Any, server.of(worker, number, "192.0.2.1:5")).inlet for number in (1, 2)]

    def look(seconds: float, moved: int) -> list[bool]:
        """Whose credit is held back."""
        now[0] += seconds
        fast.bytes_out += moved
        server._arrears.look()
        return [inlet.room < 0 for inlet in inlets]

    assert look(1.0, MB) == look(1.0, MB) == [False, False], "who keeps to it is never held"
    assert look(0.25, 3 * MB) == [True, False], "the target's rate, not yet the user's"
    assert look(0.25, 4 * MB) == [True, True], "now his user's too"
    assert look(1.5, 0) == [True, False]
    assert look(5.0, 0) == [False, False]
    worker.rule = Rule()
    look(1.0, 100 * MB)
    fast.options, fast.limit = {}, 0
    assert look(1.0, 100 * MB) == [False, False], "a limit that is lifted holds nobody any more"
    server.gone(fast)
    server.gone(quiet)
    assert server._arrears._timer is None
