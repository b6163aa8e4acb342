"""A link that joins: who gets a session, who is turned away, and what its end leaves behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Callable, cast

import gevent
import pytest

from aero.config import values
from aero.core.codes import CLOSE_NAMES, Close
from aero.core.joining import JoinBeside, JoinedAgain, JoinedNew, JoinInvited, JoinNew, JoinTakeOver, Welcome
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.errors import LinkClosed, LocalProtocolError, Rejected, RemoteProtocolError
from aero.limits import STANDARD, Limits
from aero.server.links.arrival import Arrival
from aero.server.links.sessions import Sessions
from aero.server.links.uplink import Uplink
from aero.server.policy.permission import Permission
from aero.server.policy.rules import Rule, Users
from aero.server.present import Present
from aero.server.registry.tenants import Tenants
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events
from tests.faults.inside import until

NEW = JoinNew("1", 30.0, "i1", "nas", "box")


class Timer:
    def __init__(self, after: float) -> None:
        self.after, self.running, self.closed = after, False, False
        self.call: Callable[[], object] = lambda: None

    def start(self, call: Callable[..., object], *args: object) -> None:
        self.running, self.call = True, lambda: call(*args)

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        self.closed = True


class Link:
    """A link of which only what is asked of it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.closed: list[tuple[int, str]] = []
        self.abandoned: list[Exception] = []
        self.faults: list[Exception] = []
        self.carried: list[Any] = []
        self.open = True
        self.owner: Arrival | None = None
        self.machine: Any = SimpleNamespace(
            pings=None, ping_s=60.0, session=object(), joined=self.said.append
        )

    def start(self) -> None:
        return

    def carry(self, session: object) -> None:
        self.carried.append(session)

    def close(self, code: int, text: str) -> None:
        self.closed.append((code, text))

    def abandon(self, error: Exception) -> None:
        self.abandoned.append(error)

    def faulted(self, error: Exception) -> None:
        self.faults.append(error)


class Worker:
    def __init__(self, user: str, names: tuple[str, ...]) -> None:
        self.login = user
        self.user, self.names, self.cid, self.tag = user, names, "c1", "nas"
        self.limits, self.ping_s = STANDARD, 0.0
        self.sessions: list[Any] = []
        self.lobby = SimpleNamespace(open=lambda: None)
        self.links = 0
        self.ended: list[int] = []

    def leave(self, session: object, why: str) -> None:
        self.sessions.remove(session)

    def end(self, code: int, text: str) -> None:
        self.ended.append(code)


class House:
    """As much of a server as an arrival needs: registry and proofs answer as the test says."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.loop: Any = SimpleNamespace(timer=self.timer, run_callback=lambda *_: None)
        self.memory, self.session_limits = Memory(64 << 20), SessionLimits()
        self.counters, self.events = Counters(), Events()
        self.present = Present(cast(Any, SimpleNamespace(resume_s=60)))
        self.registry: Any = self
        self.additions: Any = SimpleNamespace(greet=lambda worker: None)
        self.permits: Any = None
        self.invitations: Any = None
        self.proofs: Any = SimpleNamespace(ask=lambda worker, then: self.asked.append((worker, then)))
        self.asked: list[tuple[Worker, Callable[[list[Any]], None]]] = []
        self.former: list[Worker] = []
        self.added: list[Worker] = []
        self.refusal: Exception | None = None
        self.sessions = Sessions(cast(Any, self))
        self.tenants = Tenants(Users(rules={user: Rule(user) for user in ("eva", "bob")}))

    def timer(self, after: float, repeat: float = 0.0) -> Timer:
        self.timers.append(Timer(after))
        return self.timers[-1]

    def same(self, *names: str) -> list[Worker]:
        return self.former

    def add(self, user: str, *names: str) -> Worker:
        if self.refusal is not None:
            raise self.refusal
        self.added.append(Worker(user, names))
        return self.added[-1]

    def arrival(self, user: str = "") -> tuple[Arrival, Link]:
        made, link = (
            Arrival(
                cast(Any, self),
                self.sessions,
                user,
                "192.0.2.1:5",
                cast(Any, None),
                cast(Any, self.invitations),
            ),
            Link(),
        )
        made.link = cast(Any, link)
        made.start()
        return made, link

    def joined(self, user: str = "") -> tuple[Arrival, Link, Uplink]:
        """A worker with its first session."""
        arrival, link = self.arrival(user)
        arrival.joining(NEW)
        return arrival, link, self.sessions.uplinks[link.said[0].session]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    for uplink in list(made.sessions.uplinks.values()):
        uplink.end(Close.DONE, "the test is over")
    assert not made.memory.blocks.taken_bytes


def test_a_link_that_does_not_say_what_it_wants_is_closed(house: House) -> None:
    _, link = house.arrival()
    (timer,) = house.timers
    assert timer.after == Limits.JOIN_S and timer.running
    timer.call()
    assert link.closed == [(Close.SILENT, f"no JOIN within {Limits.JOIN_S:.0f} s")]


def test_a_new_worker_gets_a_session_by_the_present_configuration(house: House) -> None:
    house.present.config = cast(Any, SimpleNamespace(resume_s=7))  # as a reload does
    _, link, uplink = house.joined("eva")
    (said,) = link.said
    assert isinstance(said, JoinedNew) and (said.cid, said.secret, said.resume_s) == ("c1", uplink.secret, 7)
    (worker,) = house.added
    assert (worker.user, worker.names) == ("eva", ("nas", "box", "i1", "192.0.2.1:5", "eva"))
    assert worker.sessions == [uplink] and link.carried and link.machine.ping_s == 30.0
    assert house.timers[0].closed, "nobody waits for its JOIN any more"


INVITED = JoinInvited("1", "box", "k3j2x9ab", "spake2plus$x")


BESIDE = JoinBeside("1", 60, "s", "x")


@pytest.mark.parametrize(
    ("login", "join"),
    [("", INVITED), ("eva", INVITED), ("eva+k3j2", INVITED), ("+invited.4", NEW), ("+invited.4", BESIDE)],
)
def test_an_invitation_is_for_joining_and_joining_for_invitations(
    house: House, login: str, join: Any
) -> None:
    arrival, link = house.arrival(login)
    arrival.joining(join)
    (closed,) = link.closed
    assert closed[0] == Close.DENIED and "for aero join, and for that alone" in closed[1]
    assert not house.added and not link.said


def test_who_was_invited_gets_an_answer_and_goes(house: House) -> None:
    welcome = Welcome("1", "eva+k3j2x9ab", "nas", "")
    answers: list[Any] = [
        welcome,
        Rejected(Close.DENIED, "this invitation has expired", final=True),
        ValueError("bug"),
    ]

    def accept(*_: object) -> Welcome:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast(Welcome, answer)

    house.invitations = SimpleNamespace(accept=accept)
    links = []
    for _ in range(3):
        arrival, link = house.arrival("+invited.4")
        arrival.joining(INVITED)
        links.append((arrival, link))
    until("all to be answered", lambda: not answers and links[2][1].faults)
    good, late, broken = (link for _, link in links)
    assert good.said == [welcome] and good.closed == [(Close.DONE, "the credential counts")]
    assert late.closed == [(Close.DENIED, "this invitation has expired")] and not late.said
    assert not broken.said and not broken.closed


def test_it_waits_until_every_former_self_was_asked(house: House) -> None:
    house.former = [Worker("", ()), Worker("", ())]
    silent = SimpleNamespace(ended=[])
    silent.end = lambda code, text: silent.ended.append(code)
    house.former[1].links = 1
    arrival, link = house.arrival()
    arrival.joining(NEW)
    assert [worker for worker, _ in house.asked] == house.former
    house.asked[0][1]([silent])
    assert not house.added and silent.ended == [Close.REPLACED]
    house.asked[1][1]([])
    assert len(house.added) == 1 and link.said
    assert (house.former[0].ended, house.former[1].ended) == ([Close.REPLACED], []), "one has a link still"


@pytest.mark.parametrize("over", [True, False])
def test_one_that_goes_meanwhile_leaves_no_worker_behind(house: House, over: bool) -> None:
    house.former = [Worker("", ())]
    arrival, link = house.arrival()
    arrival.joining(NEW)
    if over:
        arrival.link_ended(cast(Any, link), LinkClosed("cut"))
    else:
        link.open = False
    house.asked[0][1]([])
    assert not house.added and not link.said


def test_an_error_while_it_is_let_in_ends_its_own_link(house: House) -> None:
    house.former = [Worker("", ())]
    arrival, link = house.arrival()
    arrival.joining(NEW)
    house.refusal = ZeroDivisionError()
    house.asked[0][1]([])
    assert link.faults == [house.refusal]


def test_a_full_server_says_so_also_after_a_wait(house: House) -> None:
    house.former = [Worker("", ())]
    house.refusal = Rejected(Close.LIMIT, "full", final=False)
    arrival, link = house.arrival()
    arrival.joining(NEW)
    house.asked[0][1]([])
    assert link.closed == [(Close.LIMIT, "full")]


def test_a_session_beside_another_of_the_same_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "POOL_LINKS", 2)
    *_, first = house.joined()
    beside, link = house.arrival()
    beside.joining(JoinBeside("1", 60.0, first.id, first.secret))
    (worker,) = house.added
    assert len(worker.sessions) == 2 and link.said[0].cid == worker.cid
    third, link = house.arrival()
    third.joining(JoinBeside("1", 60.0, first.id, first.secret))
    assert link.closed == [(Close.LIMIT, "a worker may have 2 links")] and len(worker.sessions) == 2


@pytest.mark.parametrize("wrong", ["secret", "session", "empty", "user"])
def test_a_session_is_its_owners_only(house: House, wrong: str) -> None:
    """All that is wrong is answered alike: nobody learns which sessions there are."""
    *_, uplink = house.joined("eva")
    thief, link = house.arrival("adam" if wrong == "user" else "eva")
    session = "s-none" if wrong == "session" else uplink.id
    secret = {"secret": "0" * 32, "empty": ""}.get(wrong, uplink.secret)
    for join in (JoinBeside("1", 60.0, session, secret), JoinTakeOver("1", 60.0, session, secret, 9, 0)):
        thief.joining(join)
        assert link.closed.pop() == (Close.GONE, "no such session (any more)")
    assert not link.said and uplink.link_number < 9
    assert house.counters.errors["worker turned away"] == 2


def test_a_takeover_goes_on_where_it_was_and_only_a_newer_one_counts(house: House) -> None:
    _, former, uplink = house.joined()
    second, link = house.arrival()
    second.joining(JoinTakeOver("1", 60.0, uplink.id, uplink.secret, uplink.link_number + 1, 0))
    assert link.said == [JoinedAgain(link.said[0].version, uplink.id, 0)] and link.carried == [uplink.session]
    assert former.machine.session is None, "nothing more comes in over it"
    late, refused = house.arrival()
    late.joining(JoinTakeOver("1", 60.0, uplink.id, uplink.secret, uplink.link_number, 0))
    assert [code for code, _ in refused.closed] == [Close.REPLACED] and uplink.link is cast(Any, link)


def test_a_takeover_that_asks_for_what_is_not_kept_ends_the_session(house: House) -> None:
    *_, uplink = house.joined()
    other, link = house.arrival()
    with pytest.raises(RemoteProtocolError):
        other.joining(JoinTakeOver("1", 60.0, uplink.id, uplink.secret, uplink.link_number + 1, 1 << 40))
    assert uplink.ended and uplink.id not in house.sessions.uplinks and not link.said


@pytest.mark.parametrize(
    ("error", "counted", "kept"),
    [
        (LinkClosed("cut"), "link lost", True),
        (LocalProtocolError(Close.INTERNAL, "ours"), "internal error", False),
        (RemoteProtocolError(Close.FRAME, "theirs"), f"rule broken: {CLOSE_NAMES[Close.FRAME]}", False),
    ],
)
def test_a_session_outlives_its_link_where_nobody_broke_a_rule(
    house: House, error: Any, counted: str, kept: bool
) -> None:
    arrival, link, uplink = house.joined()
    uplink.session.received = 1  # it has spoken
    before = dict(house.counters.errors)
    arrival.link_ended(cast(Any, link), error)
    assert uplink.ended is not kept
    new = [kind for kind, count in house.counters.errors.items() if count > before.get(kind, 0)]
    assert new == [counted]
    assert not house.sessions.links


@pytest.mark.parametrize(("code", "kept"), [(Close.DONE, False), (Close.SILENT, True)])
def test_a_worker_that_closes_its_link_says_whether_it_comes_back(
    house: House, code: int, kept: bool
) -> None:
    arrival, link, uplink = house.joined()
    uplink.session.received = 1  # it has spoken
    arrival.close_received(code, "bye")
    assert [str(error) for error in link.abandoned] == ["the worker closed the link: bye"]
    arrival.link_ended(cast(Any, link), cast(Any, link.abandoned[0]))
    assert uplink.ended is not kept


def test_keys_and_buffers_of_a_link_go_without_the_garbage_collector(house: House) -> None:
    arrival, link = house.arrival()
    link.owner = arrival
    gc.disable()
    try:
        arrival.link_ended(cast(Any, link), LinkClosed("cut"))
        assert house.timers.pop().closed
        gone = weakref.ref(link)
        del link
        assert gone() is None
    finally:
        gc.enable()


def test_a_hook_is_asked_before_anybody_makes_place(house: House) -> None:
    asked: list[dict[str, Any]] = []
    answers = [Permission(False, "not today"), Permission(True)]

    def ask(what: str, **about: Any) -> Permission:
        asked.append({"ask": what, **about})
        return answers.pop(0)

    house.permits = SimpleNamespace(ask=ask)
    arrival, link = house.arrival("eva")
    arrival.joining(NEW)
    gevent.sleep(0)
    assert asked[0].items() >= {"ask": "worker", "user": "eva", "tag": "nas", "host": "box"}.items()
    assert link.closed == [(Close.DENIED, "not today")]
    arrival, link = house.arrival("eva")
    arrival.joining(NEW)
    assert not link.said
    gevent.sleep(0)
    assert isinstance(link.said[0], JoinedNew)
