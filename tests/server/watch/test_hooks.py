"""Hooks: what they hear, in order and signed; a hook server that is slow, dead, or says no."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import pywsgi

from aero.config.values import hook_urls
from aero.errors import ConfigError
from aero.net.lookup import Names
from aero.server.watch import hooks
from aero.server.watch.events import Events
from aero.server.watch.hooks import Hooks
from aero.server.watch.posting import Poster
from tests.faults.inside import until

SECRET = "a secret"
LOOP = gevent.get_hub().loop


class HookServer:
    """Takes posts; answers as the test says."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.signed: list[bool] = []
        self.status, self.pause_s = "204 No Content", 0.0
        self.server = pywsgi.WSGIServer(("127.0.0.1", 0), self.answer, log=None)
        self.server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?token=1"

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        gevent.sleep(self.pause_s)
        if self.status.startswith("2"):
            self.got.append(json.loads(body))
            right = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            self.signed.append(environ.get("HTTP_X_AERO_SIGNATURE") == right)
        start_response(self.status, [])
        return []

    @property
    def heard(self) -> list[str]:
        return [each["event"] for each in self.got]


@pytest.fixture
def server() -> Iterator[HookServer]:
    made = HookServer()
    yield made
    made.server.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSE_S", 0.001)


def start(events: Events, *urls: str, lost_s: int = 0) -> Hooks:
    return Hooks(LOOP, events, urls, Poster(Names(LOOP, 1), SECRET), lost_s)


def test_events_are_told_in_order_and_signed(server: HookServer) -> None:
    events = Events()
    made = start(events, server.url)
    events.emit("worker up", cid="c1", tag="nas")
    events.emit("mapping up", cid="c1")
    events.fault("quota used up", user="ci", used=5)
    events.emit("worker down", cid="c1", why=OSError("gone"))
    until("three posts", lambda: len(server.got) == 3)
    assert server.heard == ["worker up", "quota used up", "worker down"]
    assert server.signed == [True] * 3
    assert server.got[0]["tag"] == "nas"
    assert server.got[2]["why"] == "gone"
    made.close()
    events.emit("worker up", cid="c2")
    gevent.sleep(0)
    assert len(server.got) == 3


def test_a_link_that_is_back_in_time_is_not_told(server: HookServer) -> None:
    events = Events()
    made = start(events, server.url, lost_s=60)
    events.fault("link lost", cid="c1")
    events.emit("link resumed", cid="c1")
    made._lost_s = 0
    events.fault("link lost", cid="c2")
    made._look()
    events.emit("link resumed", cid="c2")
    until("two posts", lambda: len(server.got) == 2)
    assert [(each["event"], each["cid"]) for each in server.got] == [
        ("link lost", "c2"),
        ("link resumed", "c2"),
    ]
    made.close()


def test_one_that_says_no_or_is_dead_costs_events_that_are_counted(server: HookServer) -> None:
    events = Events()
    made = start(events, server.url, "http://127.0.0.1:9/")
    hook, dead = made._hooks
    server.status = "500 Internal Server Error"
    events.emit("worker up", cid="c1")
    until("both to give up", lambda: hook.dropped == 1 and dead.dropped == 1)
    server.status = "200 OK"
    events.emit("worker up", cid="c2")
    until("the next one", lambda: len(server.got) == 1)
    assert (server.got[0]["cid"], server.got[0]["dropped"]) == ("c2", 1)
    until("the count to be settled", lambda: hook.dropped == 0)
    made.close()


def test_a_slow_one_has_a_bounded_queue(server: HookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "WAITING", 5)
    server.pause_s = 0.05
    events = Events()
    made = start(events, server.url)
    for number in range(50):
        events.emit("worker up", cid=f"c{number}")
    assert len(made._hooks[0]._waiting) <= 5
    until("the last one", lambda: server.got and server.got[-1]["cid"] == "c49")
    assert sum(each.get("dropped", 0) for each in server.got) + len(server.got) == 50
    made.close()


@pytest.mark.parametrize(
    "wrong", ["", "example.org", "ftp://h/", "http://", "http://h:x/", "http://h/ x", "http://h/\n"]
)
def test_urls_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        hook_urls([wrong])
    assert hook_urls(["https://h:8443/a?b=c"]) == ("https://h:8443/a?b=c",)
