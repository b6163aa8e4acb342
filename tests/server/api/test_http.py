"""The API's HTTP server against peers that are slow, many or gone; in one process, with short limits."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Callable

import gevent
import gevent.event
import pytest
from gevent import socket as gsocket

from aero.address import Address
from aero.limits import Limits
from aero.net.listen import listen_at
from aero.net.loop import event_loop
from aero.server.api import http
from aero.server.api.acceptor import Acceptor
from aero.server.api.http import HttpServer
from aero.server.api.turns import Turns

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE_S = 20.0

Start = Callable[[Callable[..., Any]], int]


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    servers: list[HttpServer] = []

    def start(application: Callable[..., Any]) -> int:
        servers.append(
            HttpServer(listen_at(Address("127.0.0.1", 0), "--api"), application, Turns(event_loop()))
        )
        return servers[-1].address.port

    monkeypatch.setattr(Limits, "API_REQUEST_S", 1.0)  # no less: a loaded machine has to send a request in it
    yield start
    for server in servers:
        server.close()


def dial(port: int) -> Any:
    return gsocket.create_connection(("127.0.0.1", port), PATIENCE_S)


def read_all(peer: Any) -> bytes:
    return b"".join(iter(lambda: peer.recv(65536), b""))


def test_a_head_that_never_ends_gets_no_more_time_by_dripping(serve: Start) -> None:
    port = serve(hello)
    peer = dial(port)

    def drip() -> None:
        try:
            peer.sendall(b"GET / HTTP/1.1\r\nX: ")
            while True:
                peer.sendall(b"y")
                gevent.sleep(0)
        except OSError:
            return  # cut off, as it should be

    dripping = gevent.spawn(drip)
    assert read_all(peer).startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 431 "))
    peer.close()
    dripping.join(PATIENCE_S)
    assert dripping.ready()


def test_a_body_that_drips_gets_no_more_time_either(serve: Start) -> None:
    peer = dial(serve(hello))

    def drip() -> None:
        try:
            peer.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n")
            for _ in range(3999):
                peer.sendall(b" ")
                gevent.sleep(0.01)
        except OSError:
            return  # cut off, as it should be

    dripping = gevent.spawn(drip)
    assert read_all(peer).startswith(b"HTTP/1.1 408 ")
    dripping.kill()
    peer.close()


def test_a_body_that_does_not_come(serve: Start) -> None:
    with dial(serve(hello)) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        assert read_all(peer).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_more_is_closed_without_a_word(serve: Start) -> None:
    with dial(serve(hello)) as peer:
        peer.sendall(REQUEST)
        assert read_all(peer).endswith(b"\r\n\r\nhello")


def test_an_answer_may_take_longer_than_a_request(serve: Start) -> None:
    asked, go_on = gevent.event.Event(), gevent.event.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        asked.set()
        go_on.wait()
        return hello(environ, start_response)

    with dial(serve(slow)) as peer:
        peer.sendall(REQUEST)
        asked.wait()
        late = gevent.get_hub().loop.timer(2 * Limits.API_REQUEST_S)
        late.start(go_on.set)
        assert b" 200 OK" in read_all(peer)


def test_a_reader_that_stops_reading_is_cut_off(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = gevent.event.Event()
    monkeypatch.setattr(Limits, "API_SEND_S", 0.2)

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    with dial(serve(endless)) as peer:
        peer.sendall(REQUEST)
        assert ended.wait(PATIENCE_S)


def test_requests_that_are_all_there_already_let_others_have_their_turn(serve: Start) -> None:
    """A socket that has more to read and room to write never makes its greenlet wait."""
    turns, seen = 0, []

    def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    def noting(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(turns)
        return hello(environ, start_response)

    port = serve(noting)
    counting = gevent.spawn(count_turns)
    with dial(port) as peer:
        peer.sendall(REQUEST * 100)
        peer.shutdown(gsocket.SHUT_WR)
        assert read_all(peer).count(b"hello") == 100
    counting.kill()
    assert len(set(seen)) == 100


@pytest.mark.parametrize("said", [b"", b"G", REQUEST[:-2]])
def test_who_has_asked_nothing_gives_way(serve: Start, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """However many say nothing, or never come to an end, whoever asks is answered at once."""
    monkeypatch.setattr(Limits, "API_CONNECTIONS", 4)
    monkeypatch.setattr(Limits, "API_REQUEST_S", 10 * PATIENCE_S)
    port = serve(hello)
    silent = [dial(port) for _ in range(12)]
    for each in silent:
        each.sendall(said)
    for _ in range(20):
        assert served(port)
    for each in silent:
        each.close()


def test_who_is_being_answered_keeps_his_place(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "API_CONNECTIONS", 2)
    go_on = gevent.event.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        go_on.wait()
        return hello(environ, start_response)

    port = serve(slow)
    with dial(port) as first, dial(port) as second:
        for peer in (first, second):
            peer.sendall(REQUEST)
        with gevent.Timeout(PATIENCE_S):
            while not (answer := turned_away(port)):
                pass
        assert b"Retry-After" in answer
        go_on.set()
        for peer in (first, second):
            assert b"hello" in read_all(peer)


def turned_away(port: int) -> bytes:
    """What somebody hears who finds all places taken; b"" where he found one that he could have."""
    with dial(port) as peer:
        peer.settimeout(0.2)
        try:
            answer = read_all(peer)
        except (TimeoutError, ConnectionResetError):
            return b""
    return answer if answer.startswith(b"HTTP/1.1 503 ") else b""


def served(port: int) -> bool:
    with dial(port) as peer:
        try:
            peer.sendall(REQUEST)
            return b"200 OK" in peer.recv(65536)
        except ConnectionResetError:  # turned away before it had spoken
            return False


def test_one_address_leaves_room_for_others(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "API_REQUEST_S", PATIENCE_S)
    monkeypatch.setattr(Limits, "API_CONNECTIONS_PER_ADDRESS", 3)
    port = serve(hello)
    with dial(port) as local:  # a proxy on this machine, perhaps: not counted
        local.sendall(REQUEST)
        assert b"200 OK" in local.recv(65536)
        monkeypatch.setattr(http, "is_loopback", lambda host: False)
        kept = [dial(port) for _ in range(3)]
        for peer in kept:
            peer.sendall(REQUEST)
            assert b"200 OK" in peer.recv(65536)
        with dial(port) as peer:
            answer = read_all(peer)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in answer
        with gsocket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.settimeout(PATIENCE_S)
            other.connect(("127.0.0.1", port))
            other.sendall(REQUEST)
            assert b"200 OK" in other.recv(65536)
        local.sendall(REQUEST)
        assert b"200 OK" in local.recv(65536)
        kept.pop().close()
        with gevent.Timeout(PATIENCE_S):
            while not served(port):
                pass
        for peer in kept:
            peer.close()


def test_out_of_descriptors_it_waits_and_goes_on(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = Acceptor.accept
    failures = 0

    def failing(self: Acceptor) -> Any:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(Acceptor, "accept", failing)
    monkeypatch.setattr(Acceptor, "max_delay", 0.01)
    faults: list[Any] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *fault: faults.append(fault))
    with dial(serve(hello)) as peer:
        peer.sendall(REQUEST)
        assert b"200 OK" in peer.recv(65536)
    assert failures > 2 and not faults
