"""A worker: which session takes a stream, how it shows itself, and how its targets are answered for."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.core.codes import Close, Reset
from aero.core.control import (
    DENIED,
    DUPLICATE,
    INVALID,
    NO_OPTIONS,
    OUT_OF_RANGE,
    TAKEN,
    TOO_MANY,
    Answer,
    Options,
    Wanted,
)
from aero.core.datagrams import Drops
from aero.errors import PortError, StreamError
from aero.limits import Limits
from aero.net.link import Figures
from aero.server.policy.permission import Permission
from aero.server.registry import terms
from aero.server.registry import worker as module
from aero.server.registry.gradually import at_once
from aero.server.registry.ports.claims import Holder
from aero.server.registry.registration import Allowed, Unasked
from aero.server.registry.worker import Worker
from aero.server.store.leases import TCP, Owner
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

NOW = 1000.0


class Session:
    """A session of a worker's and its link."""

    def __init__(
        self,
        name: str = "",
        streams: int = 0,
        alive: bool = True,
        doubtful: bool = False,
        leaving: bool = False,
        rushed: bool = False,
        transport: str = "tcp",
    ) -> None:
        self.name, self.alive, self.doubtful, self.lived_at = name, alive, doubtful, float("-inf")
        self.flows: Any = None
        self.transport = transport if alive else ""
        self.figures = Figures(transport, 0.25, 12_500_000, 2048, 65536, "cubic") if alive else None
        self.end: Any = None
        self.told: list[Answer] = []
        self.byes: list[int] = []
        self.session: Any = SimpleNamespace(
            streams=dict.fromkeys(range(streams)),
            leaving=leaving,
            rushed=rushed,
            open=lambda *_: name,
            goaway=lambda code, text: self.byes.append(code),
            outbox=SimpleNamespace(kept_bytes=3000),
        )

    def tell(self, answers: Iterable[Answer]) -> None:
        self.told += answers


class Home:
    """The registry, which gives every target the port that the test says, or none."""

    def __init__(self) -> None:
        self.events, self.counters = Events(), Counters()
        self.registrar: Any = None
        self.rates: Any = SimpleNamespace(of=lambda *_: None)
        self.permits: Any = None
        self.lacks: tuple[str, ...] = ()
        self.timer = SimpleNamespace(start=lambda *_: None, stop=lambda: None, close=lambda: None)
        self.loop: Any = SimpleNamespace(timer=lambda *_: self.timer)
        self.refusal: PortError | None = None
        self.removed: list[str] = []

    def may_claim(self, worker: Worker, options: Options) -> str:
        return ""

    @property
    def mappings(self) -> Home:
        return self

    def add(self, worker: Worker, wanted: Wanted, last: bool) -> Any:
        if self.refusal is not None:
            raise self.refusal
        mapping = mapped(wanted.id, wanted.name, wanted.local, wanted.proto, wanted.options)
        worker.added(mapping)
        return mapping
        yield

    def drop(self, worker: Worker, mapping: Any) -> None:
        assert worker.dropped(mapping)

    def remove(self, worker: Worker, why: str) -> None:
        self.removed.append(why)


def mapped(
    number: int, name: str, local: str = "h:1", proto: str = TCP, options: Options = NO_OPTIONS
) -> Any:
    owner = Owner("", "nas", "box", name, proto)
    port = 20_000 + number
    return SimpleNamespace(
        target_id=number, name=name, called=name, local=local, owner=owner, port=port,
        addresses=[f"127.0.0.1:{port}"], options=options, told=options, row=1,
    )  # fmt: skip


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(module, "monotonic", lambda: NOW)
    return Home()


def worker(
    home: Home, *sessions: Session, address: str = "192.0.2.1:5", limits: Limits | None = None
) -> Worker:
    made = Worker(cast(Any, home), "", "nas", "box", "i1", address, limits or Limits())
    made.sessions += cast(Any, sessions)
    return made


@pytest.mark.parametrize(
    ("address", "ip"), [("192.0.2.1:5", "192.0.2.1"), ("[2001:db8::1]:5", "2001:db8::1"), ("[::1]:80", "::1")]
)
def test_its_ip_is_its_address_without_port_and_brackets(home: Home, address: str, ip: str) -> None:
    assert worker(home, address=address).ip == ip


@pytest.mark.parametrize(
    ("sessions", "best"),
    [
        ((Session("few", 1), Session("many", 2)), "few"),
        ((Session("doubtful", 0, doubtful=True), Session("busy", 99)), "busy"),
        ((Session("down", 0, alive=False), Session("doubtful", 9, doubtful=True)), "doubtful"),
        ((Session("leaving", 0, leaving=True), Session("down", 9, alive=False)), "down"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_best_session_takes_a_stream(home: Home, sessions: tuple[Session, ...], best: str) -> None:
    assert worker(home, *sessions).open_stream(cast(Any, None), 1, "192.0.2.9:1") == best
    assert worker(home, *reversed(sessions)).open_stream(cast(Any, None), 1, "192.0.2.9:1") == best


def test_no_session_takes_a_stream_where_all_are_leaving(home: Home) -> None:
    for some in ((), (Session(leaving=True), Session(leaving=True))):
        with pytest.raises(StreamError) as raised:
            worker(home, *some).route(1)
        assert raised.value.code == Reset.LOST


def test_visitors_wait_only_where_every_link_that_is_up_has_enough_to_open(home: Home) -> None:
    assert worker(home, Session(rushed=True), Session(alive=False)).rushed
    assert not worker(home, Session(rushed=True), Session()).rushed
    assert not worker(home, Session(rushed=True, alive=False)).rushed, "the lobby is for those"
    assert not worker(home).rushed


def test_a_sign_of_life_and_a_silence_count_for_so_long(home: Home) -> None:
    session = Session()
    some = worker(home, session)
    assert some.holder() == Holder(linked=True, alive=False)
    session.lived_at = NOW - Limits.PROOF_OF_LIFE_S + 0.1
    assert some.holder() == Holder(linked=True, alive=True)
    session.lived_at = NOW - Limits.PROOF_OF_LIFE_S
    assert some.holder() == Holder(linked=True, alive=False)
    some.silent_at = NOW - Limits.PROOF_OF_LIFE_S + 0.1
    assert some.holder() == Holder(linked=False, alive=False)
    some.silent_at = NOW - Limits.PROOF_OF_LIFE_S
    assert some.holder() == Holder(linked=True, alive=False)
    session.alive, session.lived_at = False, NOW
    assert some.holder() == Holder(linked=False, alive=False), "what it said counts with its link only"


def test_only_the_last_session_takes_it_off_the_registry(home: Home) -> None:
    first, second = Session(), Session()
    some = worker(home, first, second)
    some.leave(cast(Any, first), "cut")
    assert not home.removed
    some.leave(cast(Any, second), "done")
    assert home.removed == ["done"]


def test_what_it_says_of_itself(home: Home) -> None:
    some = worker(
        home,
        Session(streams=2, transport="wss"),
        Session(transport="tcp"),
        Session(transport="wss"),
        Session(streams=1, alive=False, transport="tls"),
    )
    some.added(mapped(1, "web"))
    some.added(mapped(2, "ssh"))
    state = some.state()
    assert (state["links"], state["sessions"], state["streams"]) == (3, 4, 3)
    assert some.transports == ["tcp", "wss"] and state["transports"] == "tcp,wss"
    assert str(state["paths"]).split("; ")[0] == "wss 0.25 ms 12.5 MB/s 2/64 KiB cubic"
    assert len(some.paths) == 3
    assert (state["kept_kib"], state["targets"]) == (11, "web:20001,ssh:20002")


def test_a_repeated_registration_is_answered_even_where_there_is_no_room_for_more(home: Home) -> None:
    some = worker(home, limits=Limits(TARGETS_PER_WORKER=1))
    wanted = Wanted(1, "web", "h:1")
    first = at_once(some.registering(wanted, False))
    assert first == Answer(1, "web", 20_001, ("127.0.0.1:20001",))
    assert at_once(some.registering(wanted, False)) == first
    more = at_once(some.registering(Wanted(2, "ssh", "h:1"), False))
    assert isinstance(more, Answer) and (more.error, more.text) == (TOO_MANY, "a worker may have 1 targets")
    some.unregister_one(1)
    some.unregister_one(1)
    again = at_once(some.registering(Wanted(2, "ssh", "h:1"), False))
    assert isinstance(again, Answer) and not again.error


def test_options_that_are_known_are_repeated_and_belong_to_the_registration(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "HONOURED", {"door": terms.word("open", "shut")})
    some = worker(home)
    wanted = Wanted(1, "web", "h:1", options={"door": "shut", "later": 1})
    first = at_once(some.registering(wanted, False))
    assert first == Answer(1, "web", 20_001, ("127.0.0.1:20001",), {"door": "shut"})
    assert at_once(some.registering(wanted, False)) == first
    for options, error in (({"door": "open"}, DUPLICATE), ({"door": "ajar"}, INVALID)):
        answer = at_once(some.registering(wanted._replace(options=options), False))
        assert isinstance(answer, Answer) and answer.error == error
    assert some.mappings[1].options == {"door": "shut"}


def test_a_worker_whose_link_carries_no_datagrams_has_no_udp_targets(home: Home) -> None:
    some = worker(home)
    some.sessions.append(cast(Any, Session()))
    answer = at_once(some.registering(Wanted(1, "dns", "h:1", proto="udp"), False))
    assert isinstance(answer, Answer) and answer.error == INVALID and "no datagrams" in answer.text
    assert some.open_flow(cast(Any, None), 1, "v", Drops()) is None


def test_a_flow_goes_over_the_session_with_the_fewest_and_an_exhausted_one_ends(home: Home) -> None:
    some = worker(home)
    ended: list[str] = []
    for name, count, used_up in (("full", 0, True), ("busy", 3, False), ("idle", 1, False)):
        session = Session(name)
        session.flows = SimpleNamespace(
            used_up=used_up, by_id=dict.fromkeys(range(count)), open=lambda *_, name=name: name
        )
        session.end = lambda code, text, name=name: ended.append(name)
        some.sessions.append(cast(Any, session))
    assert some.open_flow(cast(Any, None), 1, "v", Drops()) == "idle"
    assert ended == ["full"]


def test_a_name_counts_once_for_each_protocol(home: Home) -> None:
    some = worker(home)
    session = Session()
    session.flows = SimpleNamespace()
    some.sessions.append(cast(Any, session))
    for wanted, error in (
        (Wanted(1, "dns", "h:1"), ""),
        (Wanted(2, "dns", "h:1", proto="udp"), ""),
        (Wanted(3, "dns", "h:1"), DUPLICATE),
    ):
        answer = at_once(some.registering(wanted, False))
        assert isinstance(answer, Answer) and answer.error == error
    found = some.mapping("dns"), some.mapping("dns", "udp")
    assert [each and each.target_id for each in found] == [1, 2]


@pytest.mark.parametrize(("final", "error"), [(True, OUT_OF_RANGE), (False, TAKEN)])
def test_a_port_that_cannot_be_had_is_an_answer_and_told_to_people(
    home: Home, final: bool, error: str
) -> None:
    some = worker(home)
    home.refusal = PortError("port 80 is not ours to give", final=final)
    answer = at_once(some.registering(Wanted(1, "web", "h:1"), False))
    assert answer == Answer(1, "web", error=error, text="port 80 is not ours to give")
    assert home.counters.errors["target not mapped"] == 1
    assert [event.what for event in home.events.past] == ["target refused"] and not some.mappings


def test_a_mapping_that_another_has_replaced_is_not_dropped_with_it(home: Home) -> None:
    some, old, new = worker(home), mapped(1, "web"), mapped(1, "web")
    some.added(old)
    assert some.dropped(old) and not some.dropped(old)
    some.added(new)
    assert not some.dropped(old) and some.mapping("web") is new


def test_a_lost_port_is_told_once_and_to_nobody_where_there_is_no_session(home: Home) -> None:
    first, second = Session(), Session()
    worker(home, first, second).lost(mapped(1, "web"))
    worker(home).lost(mapped(1, "web"))
    assert [(each.id, each.error) for each in first.told] == [(1, TAKEN)] and not second.told


def test_a_kick_is_said_once_to_every_session(home: Home) -> None:
    sessions = Session(streams=1), Session()
    some = worker(home, *sessions)
    some.kick()
    some.kick()
    assert [each.byes for each in sessions] == [[Close.KICKED]] * 2
    assert [event.what for event in home.events.past] == ["worker kicked"]


def test_a_target_is_asked_for_once_everything_else_is_right(home: Home) -> None:
    asked: list[dict[str, Any]] = []
    answers = [Permission(True, port=7), Permission(False, "not today")]

    def ask(what: str, **about: Any) -> Permission:
        asked.append({"ask": what, **about})
        return answers.pop(0)

    home.permits = SimpleNamespace(ask=ask)
    some = worker(home, limits=Limits(TARGETS_PER_WORKER=1))
    wanted = Wanted(1, "web", "h:1", remote=3, had=4)
    assert at_once(some.registering(wanted, False)) == Unasked(wanted)
    allowed = some.ask(wanted)
    assert allowed == Allowed(wanted._replace(remote=7, had=0))
    assert (
        asked[0].items()
        >= {"ask": "target", "target": "web", "local": "h:1", "port": 3, "proto": TCP}.items()
    )
    first = at_once(some.registering(allowed, False))
    assert at_once(some.registering(wanted, False)) == first, "what it has already is not asked for again"
    other = Wanted(2, "ssh", "h:2")
    refused = at_once(some.registering(other, False))
    assert isinstance(refused, Answer) and refused.error == TOO_MANY, "nor what no answer could help"
    assert some.ask(other) == Answer(2, "ssh", error=DENIED, text="not today")


def test_compression_is_honoured_only_where_this_host_has_it(home: Home) -> None:
    for lacks, answered in (((), {"zstd": "auto"}), (("zstd",), {})):
        home.lacks = lacks
        worker = Worker(cast(Any, home), "", "tag", "host", "identity", "192.0.2.1:1")
        answer = at_once(worker.registering(Wanted(1, "web", "h:1", options={"zstd": "auto"}), last=True))
        assert isinstance(answer, Answer)
        assert answer.options == answered
