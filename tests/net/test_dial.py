"""Dialling: the first address that answers wins, a silent one delays by a moment, and nothing is left behind."""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Iterator

import gevent
import pytest

from aero.errors import DialError
from aero.net import dial as dialling
from aero.net import lookup
from aero.net.dial import Connector, Failures, Race, begin, dial
from aero.net.lookup import Found, Names, SockAddr
from aero.net.loop import event_loop

LOOPBACK = "127.0.0.1"


@pytest.fixture(autouse=True)
def loop() -> None:
    """The loop has descriptors of its own, which are there before any test counts."""
    event_loop()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as sock:
        yield sock


@pytest.fixture
def silent() -> Iterator[SockAddr]:
    """An address that neither accepts nor refuses: its queue is full."""
    with socket.socket() as full:
        full.bind((LOOPBACK, 0))
        full.listen(0)
        where = full.getsockname()
        crowd = [socket.socket() for _ in range(3)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(where)
        yield (socket.AF_INET, where)
        for sock in crowd:
            sock.close()


def at(sock: socket.socket) -> SockAddr:
    return (socket.AF_INET, sock.getsockname())


def refusing() -> SockAddr:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return at(sock)


def descriptors() -> int:
    gc.collect()  # another test may have left what only a collection closes
    return len(os.listdir("/proc/self/fd"))


class Result:
    """What a race came to."""

    def __init__(self) -> None:
        self.ended = False
        self.sock: socket.socket | None = None
        self.failed: Failures = []

    def __call__(self, sock: socket.socket | None, failed: Failures) -> None:
        assert not self.ended, "told twice"
        self.ended, self.sock, self.failed = True, sock, failed

    def wait(self) -> Result:
        with gevent.Timeout(30):
            while not self.ended:
                gevent.sleep(0.002)
        return self

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()


def test_a_race_wins_at_the_first_address_that_answers(listener: socket.socket, silent: SockAddr) -> None:
    before = descriptors()
    result = Result()
    race = Race(event_loop(), [silent, refusing(), at(listener)], result)
    result.wait()
    assert result.sock is not None and result.sock.getpeername() == listener.getsockname()
    assert [code for _, code in result.failed] == [errno.ECONNREFUSED]
    assert race.over
    result.close()
    assert descriptors() == before, "the silent one was given up"


def test_a_race_is_lost_when_every_address_has_failed() -> None:
    where = [refusing() for _ in range(3)]
    result = Result()
    Race(event_loop(), where, result)
    assert result.wait().sock is None
    assert result.failed == [(each, errno.ECONNREFUSED) for each in where]


def test_a_race_that_is_given_up_leaves_nothing(silent: SockAddr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "STAGGER_S", 0.005)
    before = descriptors()
    result = Result()
    race = Race(event_loop(), [silent] * 3, result)
    with gevent.Timeout(30):
        while descriptors() < before + 3:
            gevent.sleep(0.002)
    race.cancel()
    race.cancel()
    assert descriptors() == before and not result.ended


def test_a_connect_that_is_given_up_tells_nothing(silent: SockAddr) -> None:
    told: list[object] = []
    sock, code = begin(silent)
    assert sock is not None and code == errno.EINPROGRESS
    connector = Connector(event_loop(), sock, lambda *words: told.append(words))
    connector.cancel()
    connector.cancel()
    gevent.sleep(0)
    assert not told and sock.fileno() == -1


def test_dial_says_why_no_address_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "resolve", lambda host: Found(((socket.AF_INET, ("127.0.0.1", 0)),)))
    port = refusing()[1][1]
    with pytest.raises(
        DialError, match=rf"cannot reach a.test port {port} \(127.0.0.1: Connection refused\)"
    ):
        dial(Names(event_loop(), 1), "a.test", port)


def test_dial_has_a_deadline_for_name_and_connect(silent: SockAddr, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    with pytest.raises(DialError, match=r"no answer within 0 s"):
        dial(Names(event_loop(), 1), *silent[1], timeout_s=0.05)
    assert descriptors() == before

    import threading

    speak = threading.Event()
    monkeypatch.setattr(lookup, "resolve", lambda host: speak.wait(30) and Found(()))
    with pytest.raises(DialError, match=r"the name a.test does not resolve: no answer within 0 s"):
        dial(Names(event_loop(), 1), "a.test", 80, timeout_s=0.05)
    speak.set()
