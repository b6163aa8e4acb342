"""The registry: who may be in its tables, under which names, how many; and what is left when somebody goes."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import gevent
import pytest

from aero.core.codes import Close
from aero.core.messages import INVALID, Answer, Wanted
from aero.core.outbox import BlockPool
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Receiver
from aero.errors import Rejected, StreamError
from aero.limits import Limits
from aero.server.registry import worker as module
from aero.server.registry.ports import Ports
from aero.server.registry.registry import Registry
from aero.server.registry.worker import Worker, new_cid
from aero.server.store.database import Database
from aero.server.store.leases import Leases
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events


class FakeSession:
    """A session of a worker's, and a link of which only the ends are told."""

    def __init__(self, worker: Worker, pool: BlockPool) -> None:
        self.session = Session(cast(Any, None), SERVER_FIRST_ID, pool, SessionLimits(), 0.0)
        self.alive = True
        self.ended: list[int] = []
        self._worker = worker
        worker.sessions.append(self)

    def ping(self, on_pong: Callable[[float], None]) -> bool:
        return self.alive

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
        self.pool = BlockPool(64, 4)
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        ports = Ports(("127.0.0.1",), 0, 0, Leases(Database("")))
        self.registry = Registry(gevent.get_hub().loop, ports, Events(), Counters())

    def worker(self, tag: str = "t", host: str = "h", identity: str = "i", links: int = 1) -> Worker:
        worker = self.registry.add("", tag, host, identity, "192.0.2.1:5")
        for _ in range(links):
            FakeSession(worker, self.pool)
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


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(monkeypatch)
    yield lab
    lab.registry.close(Close.DONE, "the test is over")
    assert not lab.registry.workers and not lab.pool.taken


def target(number: int = 1, name: str = "web", local: str = "127.0.0.1:80", remote: int = 0) -> Wanted:
    return Wanted(number, name, local, remote)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_ids_are_never_given_twice() -> None:
    found = {new_cid() for _ in range(10_000)}
    assert len(found) == 10_000 and all(len(cid) == 13 and cid[0] == "c" for cid in found)


def test_a_target_is_listened_for_until_its_worker_goes(lab: Lab) -> None:
    worker = lab.worker()
    (answer,) = worker.register([target()])
    port = answer.port
    assert answer == Answer(1, "web", port, (f"127.0.0.1:{port}",))
    assert listens(port) and worker.mapping("web") is worker.mappings[1] and worker.mapping("ssh") is None
    worker.end(Close.DONE, "it goes")
    assert not listens(port) and not lab.registry.workers
    assert lab.said == ["worker up", "mapping up", "mapping down", "worker down"]
    lab.registry.remove(worker, "again")
    assert lab.said[-1] == "worker down" and len(lab.said) == 4


def test_the_same_registration_again_is_answered_with_the_same_port(lab: Lab) -> None:
    worker = lab.worker()
    first = worker.register([target(1, "web"), target(2, "ssh")])
    assert worker.register([target(1, "web"), target(2, "ssh")]) == first
    assert len(worker.mappings) == 2


@pytest.mark.parametrize(
    "second", [target(2, "web"), target(1, "ssh"), target(1, "web", local="127.0.0.1:81")]
)
def test_an_id_or_a_name_that_is_taken(lab: Lab, second: Wanted) -> None:
    worker = lab.worker()
    answers = worker.register([target(1, "web"), second])
    assert answers[0].port and answers[1].error == "duplicate"
    assert list(worker.mappings) == [1] and lab.said[-1] == "target refused"


def test_a_bad_target_costs_the_others_nothing(lab: Lab) -> None:
    bad = Answer(2, "a b", error=INVALID, text="'a b' is not a name")
    answers = lab.worker().register([target(1, "web"), bad, target(3, "ssh")])
    assert [bool(answer.port) for answer in answers] == [True, False, True] and answers[1] is bad
    assert lab.said.count("target refused") == 1


def test_targets_of_one_worker_are_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "TARGETS_PER_WORKER", 3)
    worker = lab.worker()
    answers = worker.register([target(number, f"n{number}") for number in range(1, 5)])
    assert answers[3].error == "too many" and len(worker.mappings) == 3
    worker.unregister([2])
    assert worker.register([target(9, "n9")])[0].port, "room for another"


def test_workers_are_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "WORKERS", 2)
    first = lab.worker()
    lab.worker()
    with pytest.raises(Rejected, match="2 workers, the most") as caught:
        lab.worker()
    assert not caught.value.final
    first.end(Close.DONE, "it goes")
    lab.worker()


def test_no_port_is_an_answer_that_asks_to_come_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen_all(*_: object) -> list[socket.socket]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("aero.server.registry.ports.listen_all", listen_all)
        (answer,) = lab.worker().register([target()])
        assert answer.error == "taken" and "Too many open files" in answer.text
    worker = lab.worker("other")
    (answer,) = worker.register([target()])
    (answer,) = lab.worker("third").register([target(remote=answer.port)])
    assert answer.error == "taken"


def test_unregistering_what_there_is_and_what_there_is_not(lab: Lab) -> None:
    worker = lab.worker()
    port = worker.register([target()])[0].port
    worker.unregister([2, 3])
    assert listens(port)
    worker.unregister([1, 1])
    assert not worker.mappings and not listens(port)


def test_the_same_worker_has_all_four_names(lab: Lab) -> None:
    one, clone = lab.worker("t", "h", "i"), lab.worker("t", "h", "i")
    for names in (("u", "h", "i"), ("t", "x", "i"), ("t", "h", "x")):
        lab.worker(*names)
    assert lab.registry.same("", "t", "h", "i") == [one, clone]
    assert lab.registry.same("somebody", "t", "h", "i") == []
    assert [each.identity for each in lab.registry.tagged("t")] == ["i", "i", "i", "x"]


def test_streams_go_where_least_are_and_a_link_is_up(lab: Lab) -> None:
    worker = lab.worker(links=3)
    first, second, third = worker.sessions
    visitor = cast(Receiver, Visitor())
    opened = [worker.open_stream(visitor, 1, "v").session for _ in range(3)]
    assert {id(each) for each in opened} == {id(each.session) for each in worker.sessions}
    cast(FakeSession, first).alive = cast(FakeSession, second).alive = False
    assert worker.links == 1 and worker.streams == lab.registry.streams == 3
    for _ in range(5):
        assert worker.open_stream(visitor, 1, "v").session is third.session
    cast(FakeSession, third).alive = False
    assert worker.open_stream(visitor, 1, "v").session is first.session, "it waits there for a link"
    for each in worker.sessions:
        each.session.goaway(Close.DONE, "leaving")
    with pytest.raises(StreamError, match="leaving"):
        worker.open_stream(visitor, 1, "v")


def test_a_kicked_worker_goes_with_its_last_stream(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.fake_timers(monkeypatch)
    worker = lab.worker()
    (session,) = cast("list[FakeSession]", worker.sessions)
    worker.open_stream(cast(Receiver, Visitor()), 1, "v")
    worker.kick()
    worker.kick()
    (timer,) = lab.timers
    timer.fire()
    assert session.session.leaving and not session.ended, "its visitor has a moment"
    session.session.end(0, "the visitor goes")
    timer.fire()
    assert session.ended == [Close.KICKED] and not lab.registry.workers
    assert not timer.running and timer.closed


def test_a_kicked_worker_goes_when_its_time_is_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.fake_timers(monkeypatch)
    worker = lab.worker(links=2)
    worker.open_stream(cast(Receiver, Visitor()), 1, "v")
    worker.kick()
    lab.now += Limits.KICK_S - 0.1
    lab.timers[0].fire()
    assert lab.registry.workers
    lab.now += 0.1
    lab.timers[0].fire()
    assert not lab.registry.workers and not lab.timers[0].running
