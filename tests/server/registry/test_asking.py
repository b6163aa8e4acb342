"""A hook that is asked: its answer counts, and what happens where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import pywsgi

from aero.net.lookup import Names
from aero.server.policy.permission import Permission
from aero.server.registry import asking
from aero.server.registry.asking import AskedHook
from aero.server.watch.posting import Poster, without_secrets

LOOP = gevent.get_hub().loop
POSTER = Poster(Names(LOOP, 1), "")
NO_ANSWER = Permission(False, "the server cannot ask whether it may")


class Oracle:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status, self.body, self.pause_s = "200 OK", b'{"allow": true}', 0.0
        self.server = pywsgi.WSGIServer(("127.0.0.1", 0), self.answer, log=None)
        self.server.start()

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.asked.append(json.loads(environ["wsgi.input"].read()))
        gevent.sleep(self.pause_s)
        start_response(self.status, [])
        return [self.body]

    def hook(self, fails_open: bool = False) -> AskedHook:
        return AskedHook(f"http://127.0.0.1:{self.server.server_port}/?token=1", POSTER, fails_open)


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    made = Oracle()
    yield made
    made.server.stop()


def test_its_answer_counts(oracle: Oracle) -> None:
    hook = oracle.hook()
    assert hook.ask("worker", tag="nas").allowed
    assert oracle.asked[0]["ask"] == "worker" and oracle.asked[0]["tag"] == "nas"
    oracle.body = b'{"allow": false}'
    assert hook.ask("worker", tag="nas") == Permission(False, "the server's hook says no")
    oracle.body = b'{"allow": true, "port": 9}'
    assert hook.ask("target").port == 9


def test_no_clear_answer_is_what_the_operator_said(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, opened = oracle.hook(), oracle.hook(fails_open=True)
    for status, body in (("500 Oops", b'{"allow": true}'), ("302 Found", b""), ("200 OK", b"<html>")):
        oracle.status, oracle.body = status, body
        assert closed.ask("worker") == NO_ANSWER and opened.ask("worker") == Permission(True)
    monkeypatch.setattr(asking, "ASK_S", 0.05)
    oracle.status, oracle.body, oracle.pause_s = "200 OK", b'{"allow": true}', 5.0
    assert closed.ask("worker") == NO_ANSWER and opened.ask("worker") == Permission(True)
    dead = AskedHook("http://127.0.0.1:9/", POSTER, False)
    assert dead.ask("worker") == NO_ANSWER
    nameless = AskedHook("http://no-such-name.invalid/", POSTER, False)
    assert nameless.ask("worker") == NO_ANSWER


def test_a_crowd_waits_in_a_line_of_bounded_length(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AT_ONCE", 2)
    monkeypatch.setattr(asking, "WAITING", 3)
    oracle.pause_s = 0.05
    hook = oracle.hook()
    crowd = [gevent.spawn(hook.ask, "worker", number=number) for number in range(8)]
    gevent.joinall(crowd)
    assert sorted(each.get().allowed for each in crowd) == [False] * 3 + [True] * 5
    assert len(oracle.asked) == 5
    assert hook.ask("worker").allowed, "places are given back"


def test_the_log_has_no_secrets() -> None:
    assert without_secrets("https://me:pass@h:1/a/b?token=1") == "https://h:1/a/b"
    assert without_secrets("http://h") == "http://h"
