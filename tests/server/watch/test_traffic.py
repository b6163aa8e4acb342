"""The last ten minutes: samples in the right places, nothing kept for who is quiet or gone, a bound on the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.limits import Limits
from aero.server.watch import traffic
from aero.server.watch.traffic import POINTS, Traffic


class FakeLoop:
    """A loop whose timers never fire."""

    def timer(self, *_: float) -> Any:
        return SimpleNamespace(start=lambda call: None, stop=lambda: None, close=lambda: None)


class Lab:
    """A registry of numbers, and a clock that moves one step for each sample."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.workers: dict[str, Any] = {}
        monkeypatch.setattr(traffic, "monotonic", lambda: self.now)
        self.traffic = Traffic(FakeLoop(), self.workers)

    def add(self, cid: str, *names: str) -> Any:
        worker = SimpleNamespace(cid=cid, mappings={})
        for number, name in enumerate(names, 1):
            mapping = SimpleNamespace(worker=worker, target_id=number, called=name, bytes_in=0, bytes_out=0)
            mapping.tally = mapping  # its own, which always wants a look
            mapping.stirred, mapping.seen, mapping.settle = True, (0, 0), lambda: None
            worker.mappings[number] = mapping
        self.workers[cid] = worker
        return worker

    def since(self, number: int | None) -> dict[str, Any]:
        """What is told, as its readers get it."""
        told = self.traffic.since(number)
        workers = {cid: {**rates, "targets": dict(targets)} for cid, rates, targets in told.workers()}
        return {"last": told.last, "all": told.all(), "workers": workers}

    def sample(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += traffic.STEP_S
            self.traffic.sample()


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def test_rates_of_target_worker_and_all(lab: Lab) -> None:
    first, second = lab.add("c1", "web", "ssh"), lab.add("c2", "db")
    lab.sample()
    first.mappings[1].bytes_in, first.mappings[2].bytes_out, second.mappings[1].bytes_in = 200, 100, 50
    lab.sample()
    shown = lab.since(0)
    assert shown["last"] == 2
    assert shown["all"] == {"in": [0, 125], "out": [0, 50]}
    assert shown["workers"]["c1"]["in"] == [0, 100]
    assert shown["workers"]["c1"]["targets"]["web"] == {"in": [0, 100], "out": [0, 0]}
    assert shown["workers"]["c1"]["targets"]["ssh"] == {"in": [0, 0], "out": [0, 50]}
    assert shown["workers"]["c2"]["targets"] == {"db": {"in": [0, 25], "out": [0, 0]}}


def test_only_what_is_new(lab: Lab) -> None:
    worker = lab.add("c1", "web")
    for step in range(3):
        worker.mappings[1].bytes_in += 2 * step
        lab.sample()
    assert lab.since(2)["all"]["in"] == [2]
    assert lab.since(3)["all"]["in"] == []
    for number in (None, -5, 4, 10**11):
        assert len(lab.since(number)["all"]["in"]) == POINTS
    assert lab.since(None)["all"]["in"][-3:] == [0, 1, 2]


def test_a_quiet_target_costs_nothing_and_is_forgotten_after_ten_minutes(lab: Lab) -> None:
    worker = lab.add("c1", "web")
    lab.sample(3)
    assert lab.since(None)["workers"] == {}
    worker.mappings[1].bytes_in = 1000
    lab.sample()
    assert set(lab.since(None)["workers"]) == {"c1"}
    lab.sample(POINTS - 1)
    assert max(lab.since(None)["workers"]["c1"]["in"]) == 500
    lab.sample(1)
    assert lab.since(None)["workers"] == {}


def test_a_worker_that_is_gone_takes_its_lines_along(lab: Lab) -> None:
    worker = lab.add("c1", "web")
    worker.mappings[1].bytes_in = 1000
    lab.sample()
    del lab.workers["c1"]
    assert lab.since(None)["workers"]["c1"]["targets"] == {}
    lab.sample()
    assert lab.since(None)["workers"] == {}
    assert max(lab.since(None)["all"]["in"]) == 500


def test_there_are_only_so_many_lines(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "TRAFFIC_SERIES", 5)
    for number in range(10):
        lab.add(f"c{number}", "web").mappings[1].bytes_in = 100
    lab.sample()
    shown = lab.since(0)
    assert shown["all"]["in"] == [500]
    assert len(shown["workers"]) <= 4
