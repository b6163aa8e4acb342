"""How targets get mappings: for how long, which port, and who shares one."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.core.codes import Close
from aero.core.control import INVALID, TAKEN, Answer, Wanted
from aero.limits import Limits
from aero.server.registry.gradually import at_once
from aero.server.registry.worker import Worker
from tests.server.registry.lab import FakeSession, Lab, listens, register, target


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


def test_a_server_that_is_going_down_maps_nothing_anew(lab: Lab) -> None:
    worker = lab.worker()
    (first,) = register(worker, [target()])
    lab.registry.leaving = True
    lab.registry.mappings.drop(worker, worker.mappings[1])
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
    chosen = {
        lab.registry.mappings._groups.find("", grouped(1)).choose("192.0.2.1").worker.cid for _ in range(4)
    }  # type: ignore[union-attr]
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


def test_a_group_leaves_the_mux_its_cookies(lab: Lab) -> None:
    wanted = grouped(1)._replace(options={**grouped(1).options, "balance": "cookie"})
    workers = [lab.worker(identity=identity) for identity in "abc"]
    for worker in workers:
        answers(worker, wanted)
    assert all(worker.mappings[1].sticky for worker in workers)


def test_the_first_member_s_balance_counts_and_others_are_told(lab: Lab) -> None:
    def balanced(how: str) -> Wanted:
        return grouped(1)._replace(options={**grouped(1).options, "balance": how})

    (one,) = answers(lab.worker(tag="x", identity="a"), balanced("hash"))
    (two,) = answers(lab.worker(tag="y", identity="b"), balanced("least"))
    assert (one.options["balance"], two.options["balance"]) == ("hash", "hash")


def test_the_quota_of_a_user_holds_for_every_member_of_a_group(lab: Lab) -> None:
    quotas: Any = SimpleNamespace(watch=lambda rule: None, close=lambda: None)
    lab.registry.quotas = quotas
    first, second = lab.worker(identity="a"), lab.worker(identity="b")
    answers(first, grouped(1))
    answers(second, grouped(1))
    assert [each.mappings[1].quotas for each in (first, second)] == [quotas, quotas]
