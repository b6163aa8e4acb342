"""Several ways to a server: the first that gets through wins, one proof at a time, and what is told when none does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, cast

import gevent
import pytest

from aero.config.roles import ClientConfig
from aero.endpoint import Endpoint, Endpoints
from aero.errors import DialError, LinkClosed, NetworkError, PassageError, Rejected
from aero.net import schedule
from aero.net.wayout import WayOut
from aero.worker import dialling
from aero.worker.attempt import summary
from aero.worker.dialling import open_link
from aero.worker.outlets import Outlets


class Ways:
    """Stands for several ways to servers: each goes as the test says, in steps that it waits for."""

    def __init__(self, **ways: list[Any]) -> None:
        """``ways``: for each host what happens there, one after another.

        A number waits, "connected" and "join" say how far it has come, an error fails it. At the end it is through.
        """
        self.script = ways
        self.joined: list[str] = []
        self.open: list[str] = []
        self.outlets = Outlets(ClientConfig(server=Endpoints.parse(",".join(ways)), state=""), {})

    def connect(self, names: object, way: WayOut, connected: Callable[[], None]) -> Any:
        host = way.endpoint.host
        rest = list(self.script[host])
        while rest and rest[0] != "join":
            self._step(rest.pop(0), connected)
        self.open.append(host)
        return SimpleNamespace(close=lambda: self.open.remove(host), host=host, rest=rest)

    def greet(
        self, transport: Any, password: str, user: str, backend: str, join: Callable[[], bytes], offered: int
    ) -> Any:
        for step in transport.rest:
            if step == "join":
                join()
                self.joined.append(transport.host)
            else:
                self._step(step, lambda: None)
        return SimpleNamespace(writer="", reader="", early=b"", features=0, host=transport.host)

    @staticmethod
    def _step(step: Any, connected: Callable[[], None]) -> None:
        if isinstance(step, BaseException):
            raise step
        if step == "connected":
            connected()
        else:
            gevent.sleep(step)

    def go(self, monkeypatch: pytest.MonkeyPatch, join: Callable[[int], bytes] = lambda ping_s: b"") -> None:
        monkeypatch.setattr(dialling, "connect", self.connect)
        monkeypatch.setattr(dialling, "greet_server", self.greet)
        monkeypatch.setattr(
            dialling, "Link", lambda *_: SimpleNamespace(machine=SimpleNamespace(), congest=str)
        )
        monkeypatch.setattr(schedule, "STAGGER_S", 0.01)
        monkeypatch.setattr(schedule, "PATIENCE_S", 0.03)
        config = ClientConfig()
        ground = SimpleNamespace(
            config=config, names=None, password="", backend="", outlets=self.outlets, offered=0
        )
        with gevent.Timeout(20):
            open_link(cast(Any, ground), cast(Any, None), "", join, lambda: None)


LONG = 60.0


def test_the_first_way_that_gets_through_wins_and_leads_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = Ways(dead=[LONG], refused=[DialError("refused")], good=["connected", "join"], late=["join"])
    ways.go(monkeypatch)
    assert ways.joined == ["good"] and ways.open == ["good"]
    assert [way.endpoint.host for way in ways.outlets.in_order()] == ["good", "dead", "refused", "late"]
    ways.script["good"] = [PassageError("no more")]
    ways.open.clear()
    ways.go(monkeypatch)
    assert ways.joined == ["good", "late"] and str(ways.outlets.last) == "late:8080"


def test_what_answers_for_everybody_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways(portal=["connected", LONG, "join"], good=["join"])
    ways.go(monkeypatch)
    gevent.idle()
    assert ways.joined == ["good"] and ways.open == ["good"]


def test_one_proof_at_a_time_and_the_next_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways(cut=["join", 0.1, LinkClosed("cut")], good=["join", 0.1])
    asked = []

    def join(ping_s: int) -> bytes:
        asked.append(len(ways.open))
        return b""

    ways.go(monkeypatch, join)
    assert asked == [1, 1], "the second one waits until the first is closed"
    assert ways.joined == ["cut", "good"] and ways.open == ["good"]


def test_a_servers_own_no_is_not_asked_for_again_by_its_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    no = Rejected(3, "wrong code", final=False)
    ways = Ways(one=["join", no], other=["join", DialError("cut")])
    ways.outlets = Outlets(ClientConfig(server=Endpoints.parse("one,one:1,other,one:2"), state=""), {})
    with pytest.raises(Rejected) as raised:
        ways.go(monkeypatch)
    gevent.idle()
    assert raised.value is no and ways.joined == ["one", "other"] and not ways.open


def test_who_is_wanted_no_more_ends_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways(one=["join"], two=[LONG], three=["join"])
    over = LinkClosed("the session is over")

    def nobody(ping_s: int) -> bytes:
        raise over

    with pytest.raises(LinkClosed) as raised:
        ways.go(monkeypatch, nobody)
    assert raised.value is over and not ways.open and not ways.joined


def test_when_all_ways_fail_one_line_says_why_and_the_telling_reason_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silent = DialError("no answer within 15 s")
    proxy = PassageError("the proxy proxy.corp:3128 wants a password (407 Basic)")
    ways = Ways(one=[silent], two=[proxy], three=[proxy], four=[NetworkError("no handshake")])
    with pytest.raises(DialError) as raised:
        ways.go(monkeypatch)
    assert str(raised.value) == (
        "the proxy proxy.corp:3128 wants a password (407 Basic) [two:8080, three:8080];"
        " no answer within 15 s [one:8080]; no handshake [four:8080]"
    )
    assert not ways.open


def test_a_bug_on_one_way_is_heard_of_and_giving_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        Ways(one=[LONG], two=[ZeroDivisionError()]).go(monkeypatch)
    ways = Ways(one=["connected", "join", LONG], two=["join"])
    going = gevent.spawn(ways.go, monkeypatch)
    while not ways.joined:
        gevent.sleep(0.001)
    going.kill()
    gevent.idle()
    assert not ways.open


def test_the_summary_names_each_reason_once() -> None:
    ways = [WayOut(Endpoint("tcp", host, 1)) for host in "ab"]
    assert summary(ways, {0: DialError("x"), 1: DialError("x")}) == "x [a:1, b:1]"
