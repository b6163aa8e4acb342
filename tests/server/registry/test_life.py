"""Proof of life: one at a time for each worker, shared by all who ask, and given by a ping's answer or by new bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, cast

import pytest

from aero.core.control import Answer
from aero.server.registry import life
from aero.server.registry.life import Proofs
from aero.server.registry.session import WorkerSession


class Timer:
    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None

    def start(self, call: Callable[[], None]) -> None:
        self.call = call

    def stop(self) -> None:
        self.call = None

    def close(self) -> None:
        return


class Loop:
    """Time and turns pass when a test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.callbacks: list[Callable[[], None]] = []

    def timer(self, *_: float) -> Timer:
        self.timers.append(Timer())
        return self.timers[-1]

    def run_callback(self, call: Callable[[], None]) -> None:
        self.callbacks.append(call)

    def turn(self) -> None:
        calls, self.callbacks = self.callbacks, []
        for call in calls:
            call()

    def time_is_over(self) -> None:
        for timer in self.timers:
            if timer.call is not None:
                timer.call()


class Session:
    def __init__(self) -> None:
        self.session = cast(Any, None)
        self.alive = True
        self.lived_at = 0.0
        self.received_bytes = 0
        self.pings: list[Callable[[float], None]] = []

    def ping(self, on_pong: Callable[[float], None], *, fresh: bool = False) -> bool:
        assert fresh
        self.pings.append(on_pong)
        return True

    def tell(self, answers: Iterable[Answer]) -> None:
        return

    def end(self, code: int, text: str) -> None:
        return


class Worker:
    def __init__(self, cid: str, links: int = 1) -> None:
        self.cid = cid
        self.silent_at = 0.0
        self.fakes = [Session() for _ in range(links)]
        self.sessions: list[WorkerSession] = [*self.fakes]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(life, "monotonic", lambda: 50.0)
    return Loop()


def test_an_answer_proves_life(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1", links=2)
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    worker.fakes[0].pings[0](0.001)
    assert not found
    worker.fakes[1].pings[0](0.001)
    assert found == [[]] and not worker.silent_at
    loop.time_is_over()
    assert found == [[]]


def test_who_does_not_answer_in_time_is_named(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1", links=2)
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    worker.fakes[0].pings[0](0.001)
    loop.time_is_over()
    assert found == [[worker.fakes[1]]] and not worker.silent_at, "one link answered"


def test_a_worker_of_which_no_link_answers_is_silent(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1", links=2)
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    loop.time_is_over()
    assert found == [worker.sessions] and worker.silent_at == 50.0


def test_forty_who_ask_at_once_share_one_ping(loop: Loop) -> None:
    """A link takes 16 pings at once: the other 24 must not take the worker for dead."""
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1")
    found: list[list[WorkerSession]] = []
    for _ in range(40):
        proofs.ask(worker, found.append)
    assert len(worker.fakes[0].pings) == 1
    worker.fakes[0].pings[0](0.3)
    assert found == [[]] * 40
    proofs.ask(worker, found.append)
    assert len(worker.fakes[0].pings) == 2, "the next question is a new one"


def test_bytes_that_come_in_a_later_turn_prove_life(loop: Loop) -> None:
    """It is busy with bulk, and its answer stands behind that."""
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1")
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    worker.fakes[0].received_bytes = 1000  # read in the same turn: they may have been here for long
    loop.turn()
    worker.fakes[0].received_bytes = 1001
    loop.time_is_over()
    assert found == [[]] and worker.fakes[0].lived_at == 50.0


def test_bytes_that_were_here_prove_nothing(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1")
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    worker.fakes[0].received_bytes = 1000
    loop.turn()
    loop.time_is_over()
    assert found == [worker.sessions]


def test_a_worker_without_a_link_is_not_asked(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1")
    worker.fakes[0].alive = False
    found: list[list[WorkerSession]] = []
    proofs.ask(worker, found.append)
    assert found == [[]] and not worker.fakes[0].pings and not worker.silent_at


def test_a_slip_of_one_who_asked_is_not_the_others_loss(loop: Loop) -> None:
    proofs, worker = Proofs(cast(Any, loop)), Worker("c1")
    found: list[list[WorkerSession]] = []

    def slip(_: object) -> None:
        raise ValueError("a slip of ours")

    proofs.ask(worker, slip)
    proofs.ask(worker, found.append)
    loop.time_is_over()
    assert found == [worker.sessions]
