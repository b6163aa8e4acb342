"""Registering: in order, a few a turn, waiting for what has to be waited for, and never longer than it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

import gevent
import pytest

from aero.core.codes import Close
from aero.core.control import TAKEN, Answer, Wanted
from aero.limits import Limits
from aero.server.registry import registration as module
from aero.server.registry.gradually import Gradual
from aero.server.registry.life import Proofs
from aero.server.registry.ports.grants import Wait
from aero.server.registry.registration import Registrar, Registration
from tests.faults.inside import until


class Holder:
    """Somebody's mapping, whose worker has no link that could be asked."""

    class Worker:
        cid, silent_at, sessions = "c1", 0.0, ()

    worker = Worker()


class Fake:
    """A worker that answers for its targets as the test says."""

    def __init__(self) -> None:
        self.mappings: dict[int, Any] = {}
        self.waits: dict[str, list[Wait]] = {}
        self.done: list[str] = []
        self.tries: Counter[str] = Counter()
        self.ended: list[int] = []
        self.error: Exception | None = None
        self.slices: dict[str, int] = {}

    def registering(self, wanted: Wanted | Answer, last: bool) -> Gradual[Answer | Wait]:
        if self.error is not None:
            raise self.error
        for _ in range(self.slices.get(wanted.name, 0)):
            self.done.append(f"{wanted.name}…")
            yield
        self.tries[wanted.name] += 1
        if last and wanted.name == "busy":
            return Answer(wanted.id, wanted.name, error=TAKEN)
        if self.waits.get(wanted.name):
            return self.waits[wanted.name].pop(0)
        self.done.append(wanted.name)
        self.mappings[wanted.id] = wanted.name
        return Answer(wanted.id, wanted.name, 20_000)

    def told(self, answers: Iterable[Answer]) -> None:
        return

    def unregister_one(self, target_id: int) -> None:
        self.done.append(f"-{target_id}")
        del self.mappings[target_id]

    def end(self, code: int, text: str) -> None:
        self.ended.append(code)


@pytest.fixture
def registration() -> Iterator[Registration]:
    return Registration(Registrar(Proofs(gevent.get_hub().loop)))


def wanted(*names: str) -> list[Wanted]:
    return [Wanted(number, name, "h:1") for number, name in enumerate(names, 1)]


def finish(registration: Registration) -> None:
    until("nothing to do", lambda: not registration._running)
    assert not registration._waiting


def test_what_is_done_a_slice_at_a_time_is_done_before_the_next_and_given_up_with_its_worker(
    registration: Registration,
) -> None:
    worker, answers = Fake(), list[Answer]()
    worker.slices = {"wide": 3}
    registration.register(worker, wanted("a", "wide", "b"), answers.extend)
    finish(registration)
    assert worker.done == ["a", "wide…", "wide…", "wide…", "wide", "b"]
    worker.slices = {"wide": 10_000_000}
    registration.register(worker, wanted("wide", "c"), answers.extend)
    until("it to begin", lambda: len(worker.done) > 10)
    registration.close()
    finish(registration)
    assert worker.done[-1] == "wide…" and len(answers) == 3


def test_what_was_asked_first_is_done_first(registration: Registration) -> None:
    worker, answers = Fake(), list[Answer]()
    registration.register(worker, wanted("a", "b"), answers.extend)
    registration.unregister(worker, [2, 2, 77])
    registration.register(worker, wanted("c"), answers.extend)
    finish(registration)
    assert worker.done == ["a", "b", "-2", "c"] and [each.name for each in answers] == ["a", "b", "c"]


def test_a_target_that_waits_keeps_no_other_waiting(
    registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_RETRY_S", 0.01)
    worker, answers = Fake(), list[str]()
    worker.waits = {"slow": [Wait(busy=(1,)), Wait(cast(Any, (Holder(),)))]}
    registration.register(worker, wanted("slow", "quick"), lambda some: answers.extend(a.name for a in some))
    finish(registration)
    assert answers == ["quick", "slow"] and worker.tries == {"slow": 3, "quick": 1}


def test_nobody_waits_for_a_busy_port_for_ever(
    registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_RETRY_S", 0.01)
    monkeypatch.setattr(Limits, "LEASE_BUSY_S", 0.05)
    worker, answers = Fake(), list[Answer]()
    worker.waits = {"busy": [Wait(busy=(1,))] * 1000}
    registration.register(worker, wanted("busy"), answers.extend)
    finish(registration)
    assert [each.error for each in answers] == [TAKEN] and worker.tries["busy"] > 1


def test_an_error_of_ours_ends_the_worker_and_nothing_else(registration: Registration) -> None:
    worker = Fake()
    worker.error = ZeroDivisionError()
    registration.register(worker, wanted("a"), lambda answers: None)
    until("its end", lambda: worker.ended)
    assert worker.ended == [Close.INTERNAL]
    other, answers = Fake(), list[Answer]()
    again = Registration(registration._registrar)
    again.register(other, wanted("a"), answers.extend)
    finish(again)
    assert answers


def test_a_worker_that_is_gone_gets_nothing(registration: Registration) -> None:
    worker = Fake()
    registration.register(worker, wanted("a", "b"), lambda answers: None)
    registration.close()
    until("its greenlet to end", lambda: not registration._running)
    assert not worker.done
