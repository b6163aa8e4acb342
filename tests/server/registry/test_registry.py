"""The registry: who may be in its tables, under which names, how many; and what is left when somebody goes."""

from __future__ import annotations

from typing import cast

import gevent
import pytest

from aero.core.codes import Close
from aero.core.control import INVALID, Answer, Wanted
from aero.core.stream import Receiver
from aero.errors import Rejected, RemoteProtocolError, StreamError
from aero.limits import Limits
from aero.server.registry.worker import new_cid
from tests.faults.inside import until
from tests.server.registry.lab import FakeSession, Lab, Visitor, listens, register, target, unregister


def test_ids_are_never_given_twice() -> None:
    found = {new_cid() for _ in range(10_000)}
    assert len(found) == 10_000 and all(len(cid) == 13 and cid[0] == "c" for cid in found)


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


def test_workers_of_one_identity_are_told_apart_when_visitors_are_hashed(lab: Lab) -> None:
    first, second = lab.worker(), lab.worker()
    assert (first.key, second.key) == ("i", second.cid)
