"""A registry for tests, with workers whose sessions are played."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, cast

import gevent
import pytest

from aero.core.control import Answer, Wanted
from aero.core.flows import Flows
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.net.announced import Announcers
from aero.net.listen import listen_all
from aero.server.policy.proxies import Trust
from aero.server.registry import worker as module
from aero.server.registry.ports.ports import Ports
from aero.server.registry.registry import Registry
from aero.server.registry.worker import Worker
from aero.server.store.database import Database
from aero.server.store.leases import Leases
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events
from tests.faults.inside import until


class FakeSession:
    """A session of a worker's, and a link of which only the ends are told."""

    def __init__(self, worker: Worker, memory: Memory) -> None:
        self.session = Session(cast(Any, None), SERVER_FIRST_ID, memory, SessionLimits(), 0.0)
        self.alive = True
        self.doubtful = False
        self.flows: Flows | None = None
        self.answers = True  # pings
        self.lived_at = 0.0
        self.received_bytes = 0
        self.ended: list[int] = []
        self.told: list[Answer] = []
        self._worker = worker
        worker.sessions.append(self)

    def ping(self, on_pong: Callable[[float], None], *, fresh: bool = False) -> bool:
        if self.alive and self.answers:
            self.lived_at = 100.0  # the clock of these tests
            gevent.spawn(on_pong, 0.001)
        return self.alive

    def tell(self, answers: Iterable[Answer]) -> None:
        self.told += answers

    def end(self, code: int, text: str) -> None:
        self.ended.append(code)
        self.session.end(code, text)
        self._worker.leave(self, text)


class Visitor:
    """A stream's receiver that takes everything."""

    def data(self, view: memoryview) -> None:
        return

    def finished(self) -> None:
        return

    def reset(self, code: int, text: str) -> None:
        return

    def resume(self) -> None:
        return


class Timer:
    """A timer that fires when the test says so."""

    def __init__(self) -> None:
        self.running = self.closed = False
        self._call: Callable[[], None] = lambda: None

    def start(self, call: Callable[[], None]) -> None:
        self._call, self.running = call, True

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        self.closed = True

    def fire(self) -> None:
        assert self.running
        self._call()


class Lab:
    """A registry on loopback, any free port, no memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.memory = Memory(64 << 20)
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self.ports_bound = listen_all
        leases = Leases(Database(""))
        ports = Ports("tcp", lambda *where: self.ports_bound(*where), ("127.0.0.1",), 0, 0, leases, 1e9)
        self.registry = Registry(
            gevent.get_hub().loop,
            {"tcp": ports},
            Events(),
            Counters(),
            Announcers.build(gevent.get_hub().loop, Trust(())),
        )

    def worker(self, tag: str = "t", host: str = "h", identity: str = "i", links: int = 1) -> Worker:
        worker = self.registry.add("", tag, host, identity, "192.0.2.1:5")
        for _ in range(links):
            FakeSession(worker, self.memory)
        return worker

    def fake_timers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def timer(*_: float) -> Timer:
            self.timers.append(Timer())
            return self.timers[-1]

        monkeypatch.setattr(
            self.registry, "loop", cast(Any, type("Loop", (), {"timer": staticmethod(timer)}))
        )

    @property
    def said(self) -> list[str]:
        return [event.what for event in self.registry.events.past]


def target(number: int = 1, name: str = "web", local: str = "127.0.0.1:80", remote: int = 0) -> Wanted:
    return Wanted(number, name, local, remote)


def register(worker: Worker, targets: list[Wanted | Answer]) -> list[Answer]:
    answers: list[Answer] = []
    worker.register(targets, answers.extend)
    until("all answers", lambda: len(answers) == len(targets))
    return answers


def unregister(worker: Worker, ids: list[int]) -> None:
    worker.unregister(ids)
    until("nothing to do", lambda: not worker._registration._running)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_reset(visitor: socket.socket) -> bool:
    """Whether that has come by now: a reset, and not a clean end."""
    visitor.setblocking(False)
    try:
        return visitor.recv(1) == b"?"
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
