"""One dial: a link that has asked for its session, or an error that says why, and never a connection left open."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Callable, cast

import gevent
import pytest

from aero.config.roles import ClientConfig
from aero.core.codes import Close
from aero.endpoint import Endpoints
from aero.errors import (
    AeroError,
    DialError,
    LinkClosed,
    NetworkError,
    PassageError,
    Rejected,
    RemoteProtocolError,
    SecurityError,
)
from aero.net.wayout import WayOut
from aero.worker import dialling
from aero.worker.dialling import open_link
from aero.worker.outlets import Outlets


class Server:
    """Stands for the network: dial, handshake and link go as the test says."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.dial_fails: Exception | None = None
        self.greet_fails: BaseException | None = None
        self.answers = True  # before that
        self.keyed_fails: Exception | None = None
        self.link_fails: Exception | None = None
        self.keys = SimpleNamespace(writer="writer", reader="reader", early=b"early", features=3)
        self.linked: tuple[Any, ...] = ()

    def connect(self, names: object, way: WayOut, connected: Callable[[], None]) -> Any:
        if self.dial_fails is not None:
            raise self.dial_fails
        self.steps.append(f"connect {way}")
        return SimpleNamespace(close=lambda: self.steps.append("close"))

    def greet(
        self,
        transport: object,
        password: str,
        user: str,
        backend: str,
        join: Callable[[], bytes],
        offered: int,
    ) -> Any:
        self.steps.append(f"greet {user} {password} {backend}")
        if self.answers:
            self.steps.append(join().decode())
        if self.greet_fails is not None:
            raise self.greet_fails
        return self.keys

    def keyed(self) -> None:
        self.steps.append("keyed")
        if self.keyed_fails is not None:
            raise self.keyed_fails

    def link(self, *arguments: Any) -> Any:
        if self.link_fails is not None:
            raise self.link_fails
        self.linked = arguments[1:]
        return SimpleNamespace(machine=SimpleNamespace(eager=False), congest=lambda name: None)

    def open(
        self,
        join: Callable[[int], bytes] = lambda ping_s: b"join",
        server: str = "s.test:8080",
    ) -> Any:
        config = ClientConfig(server=Endpoints.parse(server), ping_s=30)
        ground = SimpleNamespace(
            offered=0, config=config, names=None, password="code", backend="aes", outlets=Outlets(config, {})
        )
        return open_link(cast(Any, ground), cast(Any, "owner"), "eva", join, self.keyed)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(dialling, "connect", made.connect)
    monkeypatch.setattr(dialling, "greet_server", made.greet)
    monkeypatch.setattr(dialling, "Link", made.link)
    yield made
    assert made.steps.count("close") <= 1


def test_a_link_is_made_of_what_the_handshake_gave(server: Server) -> None:
    link = server.open()
    assert server.steps == ["connect s.test:8080", "greet eva code aes", "join", "keyed"]
    assert server.linked[:5] == ("owner", "writer", "reader", 30, b"early") and server.linked[-1] == 3
    assert link.machine.eager, "it begins as soon as the answer is here"


def test_who_is_not_reached_leaves_nothing_to_close(server: Server) -> None:
    server.dial_fails = DialError("cannot reach s.test")
    with pytest.raises(DialError):
        server.open()
    assert not server.steps


@pytest.mark.parametrize(
    "error", [SecurityError("a proof did not match"), Rejected(16, "full", final=False), LinkClosed("cut")]
)
def test_what_the_handshake_says_comes_as_it_is(server: Server, error: AeroError) -> None:
    server.greet_fails = error
    with pytest.raises(AeroError) as raised:
        server.open()
    assert raised.value is error and server.steps[-1] == "close" and "keyed" not in server.steps


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("no words of the system's"), "no words of the system's"),
    ],
)
def test_an_error_of_the_connection_is_a_link_that_closed(server: Server, error: OSError, text: str) -> None:
    server.greet_fails = error
    with pytest.raises(LinkClosed) as raised:
        server.open()
    assert str(raised.value) == text and raised.value.__cause__ is error and server.steps[-1] == "close"


@pytest.mark.parametrize(
    "error",
    [
        NetworkError("the server did not answer"),
        LinkClosed("the peer hung up"),
        RemoteProtocolError(Close.NOT_AERO, "the peer speaks an HTTP server's answer"),
    ],
)
def test_what_is_no_server_within_tls_may_be_the_one_who_ended_it(server: Server, error: AeroError) -> None:
    server.greet_fails, server.answers = error, False
    with pytest.raises(PassageError, match=rf"^{error}; .* wss:// in place of tls://"):
        server.open(server="tls://s.test")
    server.steps.clear()
    with pytest.raises(type(error), match=rf"^{error}$"):
        server.open()
    server.steps.clear()
    server.answers = True
    with pytest.raises(type(error), match=rf"^{error}$"):
        server.open(server="tls://s.test")


def test_who_is_wanted_by_nobody_any_more_hangs_up(server: Server) -> None:
    def nobody(ping_s: int) -> bytes:
        raise LinkClosed("the session is over")

    with pytest.raises(LinkClosed, match="the session is over"):
        server.open(nobody)
    assert server.steps[-1] == "close"


def test_a_dial_that_is_given_up_or_goes_wrong_late_hangs_up(server: Server) -> None:
    server.greet_fails = gevent.GreenletExit()
    with pytest.raises(gevent.GreenletExit):
        server.open()
    assert server.steps.pop() == "close"
    server.greet_fails, server.keyed_fails = None, ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        server.open()
    assert server.steps.pop() == "close"
    server.keyed_fails, server.link_fails = None, OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(LinkClosed, match="Too many open files"):
        server.open()
    assert server.steps[-1] == "close"
