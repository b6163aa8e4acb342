"""The registry: who may be in its tables, under which names, how many; and what is left when somebody goes."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import gevent
import pytest

from aero.core.codes import Close
from aero.core.control import INVALID, TAKEN, Answer, Wanted
from aero.core.flows import Flows
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Receiver
from aero.errors import Rejected, RemoteProtocolError, StreamError
from aero.limits import Limits
from aero.net.announced import Announcers
from aero.net.listen import listen_all
from aero.server.policy.proxies import Trust
from aero.server.registry import worker as module
from aero.server.registry.gradually import at_once
from aero.server.registry.ports import Ports
from aero.server.registry.registry import Registry
from aero.server.registry.worker import Worker, new_cid
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


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(monkeypatch)
    yield lab
    lab.registry.close(Close.DONE, "the test is over")
    assert not lab.registry.workers and not lab.memory.blocks.taken_bytes


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


def test_ids_are_never_given_twice() -> None:
    found = {new_cid() for _ in range(10_000)}
    assert len(found) == 10_000 and all(len(cid) == 13 and cid[0] == "c" for cid in found)


def test_a_target_is_listened_for_until_its_worker_goes(lab: Lab) -> None:
    worker = lab.worker()
    (answer,) = register(worker, [target()])
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
    first = register(worker, [target(1, "web"), target(2, "ssh")])
    assert register(worker, [target(1, "web"), target(2, "ssh")]) == first
    assert len(worker.mappings) == 2


@pytest.mark.parametrize(
    "second", [target(2, "web"), target(1, "ssh"), target(1, "web", local="127.0.0.1:81")]
)
def test_an_id_or_a_name_that_is_taken(lab: Lab, second: Wanted) -> None:
    worker = lab.worker()
    answers = register(worker, [target(1, "web"), second])
    assert answers[0].port and answers[1].error == "duplicate"
    assert list(worker.mappings) == [1] and lab.said[-1] == "target refused"


def test_a_bad_target_costs_the_others_nothing(lab: Lab) -> None:
    bad = Answer(2, "a b", error=INVALID, text="'a b' is not a name")
    answers = register(lab.worker(), [target(1, "web"), bad, target(3, "ssh")])
    assert [bool(answer.port) for answer in answers] == [True, False, True] and answers[1] is bad
    assert lab.said.count("target refused") == 1


def test_targets_of_one_worker_are_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "TARGETS_PER_WORKER", 3)
    worker = lab.worker()
    answers = register(worker, [target(number, f"n{number}") for number in range(1, 5)])
    assert answers[3].error == "too many" and len(worker.mappings) == 3
    unregister(worker, [2])
    assert register(worker, [target(9, "n9")])[0].port, "room for another"


def test_workers_are_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "WORKERS", 2)
    first = lab.worker()
    lab.worker()
    with pytest.raises(Rejected, match="2 workers, the most") as caught:
        lab.worker()
    assert not caught.value.final
    first.end(Close.DONE, "it goes")
    lab.worker()


def test_a_server_that_is_going_down_maps_nothing_anew(lab: Lab) -> None:
    worker = lab.worker()
    (first,) = register(worker, [target()])
    lab.registry.leaving = True
    lab.registry.drop_mapping(worker, worker.mappings[1])
    (again,) = register(worker, [target()])
    assert first.port and (again.error, again.text) == ("taken", "the server is going down")
    assert not worker.mappings


def test_no_port_is_an_answer_that_asks_to_come_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(*_: object) -> list[socket.socket]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(lab, "ports_bound", no_descriptor)
        (answer,) = register(lab.worker(), [target()])
        assert answer.error == "taken" and "Too many open files" in answer.text
    worker = lab.worker("other")
    (answer,) = register(worker, [target()])
    (answer,) = register(lab.worker("third"), [target(remote=answer.port)])
    assert answer.error == "out of range", "nobody chooses a port where the system does"


def test_a_former_self_that_answers_keeps_its_port(lab: Lab) -> None:
    (first,) = register(lab.worker(identity="i"), [target()])
    (clone,) = register(lab.worker(identity="j"), [target()])
    assert first.port and clone.port and clone.port != first.port
    (again,) = register(lab.worker(identity="i"), [target()])
    assert again.port not in (first.port, clone.port), "nor does it go to a clone of the same identity"


def test_a_former_self_without_a_link_or_an_answer_loses_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "PROOF_OF_LIFE_S", 0.05)
    monkeypatch.setattr("aero.server.registry.life.monotonic", lambda: lab.now)
    for identity in ("no link", "no answer"):
        former = lab.worker(identity=identity)
        (first,) = register(former, [target()])
        (session,) = cast("list[FakeSession]", former.sessions)
        session.alive, session.answers = identity == "no answer", False
        (second,) = register(lab.worker(identity=f"after {identity}"), [target()])
        assert second.port == first.port and listens(first.port)
        assert not former.mappings and [each.error for each in session.told] == ["taken"]
        former.end(Close.DONE, "it goes")
        assert listens(first.port)
        for worker in list(lab.registry.workers.values()):
            worker.end(Close.DONE, "the next round")


def test_many_targets_take_turns_with_the_loop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "REGISTER_TURN_S", 0.0)  # one target a turn
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    timer = gevent.get_hub().loop.timer(0.0001, 0.0001)
    timer.start(count)
    register(lab.worker(), [target(number, f"n{number}") for number in range(1, 31)])
    timer.stop()
    timer.close()
    assert turns >= 30


def test_whoever_asks_for_more_than_anybody_needs_is_told_to_stop(lab: Lab) -> None:
    worker = lab.worker()
    some = [target(number, f"n{number}") for number in range(1, 129)]
    for _ in range(4):
        worker.register(some, lambda answers: None)
    with pytest.raises(RemoteProtocolError, match="targets are waiting"):
        worker.register(some[:1], lambda answers: None)


def test_a_worker_that_goes_leaves_nothing_to_do(lab: Lab) -> None:
    worker = lab.worker()
    answers: list[Answer] = []
    worker.register([target()], answers.extend)
    worker.end(Close.DONE, "it goes")
    until("its greenlet to end", lambda: not worker._registration._running)
    assert not worker.mappings and not answers and "mapping up" not in lab.said


def test_unregistering_what_there_is_and_what_there_is_not(lab: Lab) -> None:
    worker = lab.worker()
    port = register(worker, [target()])[0].port
    unregister(worker, [2, 3])
    assert listens(port)
    unregister(worker, [1, 1])
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


def grouped(number: int, name: str = "web", key: str = "0" * 32, **more: Any) -> Wanted:
    return Wanted(number, name, "h:1", options={"group": "front", "group-key": key}, **more)


def answers(worker: Worker, *wanted: Wanted) -> list[Answer]:
    got = [at_once(worker.registering(each, True)) for each in wanted]
    return [each for each in got if isinstance(each, Answer)]


def test_a_group_has_one_port_for_as_long_as_it_has_a_member(lab: Lab) -> None:
    first, second = lab.worker(identity="a"), lab.worker(host="other", identity="b")
    (one,), (two,) = answers(first, grouped(1)), answers(second, grouped(1, "other"))
    assert one.port == two.port and one.listen == two.listen and not one.error + two.error
    assert one.options == grouped(1).options
    chosen = {lab.registry._groups.find("", grouped(1)).choose("192.0.2.1").worker.cid for _ in range(4)}  # type: ignore[union-attr]
    assert chosen == {first.cid, second.cid}
    with socket.create_connection(("127.0.0.1", one.port)):
        lab.registry.remove(first, "gone")
        socket.create_connection(("127.0.0.1", one.port)).close()
    lab.registry.remove(second, "gone")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one.port))
    (again,) = answers(lab.worker(host="third", identity="c"), grouped(1))
    assert again.port == one.port, "the lease is the group's"


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        (grouped(2, key="1" * 32), INVALID, "group front has another key"),
        (grouped(2)._replace(options={"group": "front"}), INVALID, "group front needs a key"),
        (grouped(2, remote=1), TAKEN, "group front has port"),
    ],
)
def test_who_may_not_join_a_group(lab: Lab, wanted: Wanted, error: str, text: str) -> None:
    answers(lab.worker(identity="a"), grouped(1))
    (answer,) = answers(lab.worker(identity="b"), wanted)
    assert answer.error == error and text in answer.text


def test_the_first_member_s_balance_counts_and_others_are_told(lab: Lab) -> None:
    def balanced(how: str) -> Wanted:
        return grouped(1)._replace(options={**grouped(1).options, "balance": how})

    (one,) = answers(lab.worker(tag="x", identity="a"), balanced("hash"))
    (two,) = answers(lab.worker(tag="y", identity="b"), balanced("least"))
    assert (one.options["balance"], two.options["balance"]) == ("hash", "hash")


def test_workers_of_one_identity_are_told_apart_when_visitors_are_hashed(lab: Lab) -> None:
    first, second = lab.worker(), lab.worker()
    assert (first.key, second.key) == ("i", second.cid)
