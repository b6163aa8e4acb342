"""Names: one look-up at a time for each, kept for a while, and the last known addresses where the resolver is dead."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import gevent
import pytest

from aero.limits import Limits
from aero.net import lookup
from aero.net.lookup import Found, Names, at_port, fixed
from aero.net.loop import event_loop

HERE = (socket.AF_INET, ("192.0.2.1", 0))
THERE = (socket.AF_INET, ("192.0.2.2", 0))


class Resolver:
    """The system's resolver: answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Found] = {}
        self.silent: set[str] = set()
        self._speak = threading.Event()

    def __call__(self, host: str) -> Found:
        self.asked.append(host)
        if host in self.silent:
            self._speak.wait(30)
        return self.answers.get(host, Found((), "Name or service not known"))

    def speak(self) -> None:
        """Whoever waits for an answer gets it."""
        self.silent.clear()
        self._speak.set()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(lookup, "resolve", resolver)
    yield resolver
    resolver.speak()


@pytest.fixture
def names() -> Names:
    return Names(event_loop(), 4)


def until(what: str, condition: object) -> None:
    with gevent.Timeout(30, AssertionError(f"waited in vain for {what}")):
        while not condition():  # type: ignore[operator]
            gevent.sleep(0.002)


def answer(names: Names, host: str, kept_s: float = Limits.NAME_KEPT_S) -> Found:
    found: list[Found] = []
    names.ask(host, found.append, kept_s)
    until(f"the addresses of {host}", lambda: found)
    assert len(found) == 1
    return found[0]


def test_a_crowd_costs_one_look_up(names: Names, resolver: Resolver) -> None:
    resolver.answers["a.test"] = Found((HERE,))
    found: list[Found] = []
    for _ in range(500):
        names.ask("a.test", found.append, 5.0)
    until("all answers", lambda: len(found) == 500)
    assert names.ask("a.test", found.append, 5.0) is None, "what was found is kept"
    assert set(found) == {Found((HERE,))} and resolver.asked == ["a.test"]


def test_failures_are_kept_too(names: Names, resolver: Resolver) -> None:
    assert answer(names, "no.test").error == answer(names, "no.test").error == "Name or service not known"
    assert resolver.asked == ["no.test"]


def test_one_silent_name_keeps_no_other_waiting(names: Names, resolver: Resolver) -> None:
    resolver.silent = {"dead.test"}
    resolver.answers["a.test"] = Found((HERE,))
    waiting: list[Found] = []
    questions = [names.ask("dead.test", waiting.append, 5.0) for _ in range(200)]
    assert answer(names, "a.test").addresses == (HERE,)
    assert not waiting and resolver.asked.count("dead.test") == 1
    for question in questions[1:]:
        assert question is not None
        question.cancel()
    resolver.speak()
    until("the one that still waits", lambda: waiting)
    assert len(waiting) == 1, "who has left is told nothing"


def test_what_is_told_to_one_may_make_others_leave(names: Names, resolver: Resolver) -> None:
    told: list[str] = []
    second = []

    def first(_: Found) -> None:
        told.append("first")
        second[0].cancel()

    names.ask("a.test", first, 5.0)
    second.append(names.ask("a.test", lambda _: told.append("second"), 5.0))
    until("the first", lambda: told)
    assert told == ["first"]


def test_a_dead_resolver_leaves_the_last_known_address(
    names: Names, resolver: Resolver, capfd: pytest.CaptureFixture[str]
) -> None:
    resolver.answers["a.test"] = Found((HERE,))
    assert answer(names, "a.test", 0.0).addresses == (HERE,)
    resolver.answers["a.test"] = Found((), "Temporary failure in name resolution")
    for _ in range(3):
        assert answer(names, "a.test", -1.0).addresses == (HERE,)
    resolver.answers["a.test"] = Found((THERE,))
    until("the new address", lambda: answer(names, "a.test", -1.0).addresses == (THERE,))


def test_a_silent_resolver_costs_its_patience_once(
    names: Names, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "NAME_PATIENCE_S", 0.05)
    resolver.answers["a.test"] = Found((HERE,))
    assert answer(names, "a.test").addresses == (HERE,)
    resolver.silent = {"a.test"}
    assert answer(names, "a.test", -1.0).addresses == (HERE,), "after the patience"
    found: list[Found] = []
    assert names.ask("a.test", found.append, -1.0) is None
    assert found == [Found((HERE,))], "at once, while the look-up is still under way"
    assert resolver.asked == ["a.test"] * 2


def test_names_are_forgotten_when_there_are_too_many(
    names: Names, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "NAMES", 10)
    for number in range(50):
        answer(names, f"{number}.test")
    assert len(names._names) == 10


def test_localhost_needs_no_resolver(names: Names, resolver: Resolver) -> None:
    """RFC 6761, section 6.3: it and every name below it are loopback, IPv4 first."""
    loopback = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))
    for host in ("localhost", "LOCALHOST.", "web.localhost", "a.b.localhost."):
        assert answer(names, host).addresses == loopback == fixed(host)
    assert not fixed("notlocalhost") and not fixed("localhost.test")
    assert not resolver.asked


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", (socket.AF_INET, ("192.0.2.1", 80))),
        ("2001:db8::1", (socket.AF_INET6, ("2001:db8::1", 80, 0, 0))),
    ],
)
def test_an_address_needs_no_resolver(
    names: Names, resolver: Resolver, host: str, expected: lookup.SockAddr
) -> None:
    assert at_port(answer(names, host).addresses, 80) == (expected,)
    assert not resolver.asked


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    six = [(socket.AF_INET6, 1, 6, "", (f"2001:db8::{n}", 0, 0, 0)) for n in (1, 2)]
    four = [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [*six, *four])
    found = lookup.resolve("a.test")
    assert [address[0] for _, address in found.addresses] == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
