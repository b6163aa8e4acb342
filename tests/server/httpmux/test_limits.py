"""The mux's limits of time and number, in one process with server and worker, so that they can be made small."""

from __future__ import annotations

import socket as plain
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from aero.address import Address
from aero.address import Target as TargetConfig
from aero.config.roles import ClientConfig, ServerConfig
from aero.core.codes import Close
from aero.endpoint import Endpoints
from aero.limits import Limits
from aero.server.app import Server
from aero.server.httpmux import server as mux_server
from aero.server.policy.proxies import Trust
from aero.server.registry.route import LocalRoute
from aero.worker.app import WorkerApp
from aero.worker.identity import once

IP = "127.0.0.1"
GET = b"GET /t/web/%b HTTP/1.1\r\nHost: a\r\n\r\n"
pause = Event().wait  # never set: how slowly the attacker goes on
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Stage:
    """A server, a worker and a target, which does as the path says."""

    def __init__(self) -> None:
        self.wedged = Event()
        self.connections = 0
        self.service = StreamServer((IP, 0), self._serve)
        self.service.start()
        self.server = Server(
            ServerConfig(
                ips=(IP,),
                port=0,
                mux_hosts=("*",),
                auth="a",
                api=None,
                mux=(Address(IP, 0),),
                ports=(0, 0),
                state="",
            )
        )
        ready = Event()
        target = TargetConfig("web", IP, self.service.server_port)
        config = ClientConfig(
            tag="t", host="host", server=Endpoints.at(IP, self.server.port), targets=(target,), auth="a"
        )
        self.worker = WorkerApp(config, lambda *_: ready.set(), once())
        self.worker.start()
        assert ready.wait(30)
        self.visits: list[Any] = []

    def _serve(self, sock: Any, _: Any) -> None:
        with suppress(OSError):  # the tunnel resets what a visitor has left
            self._answer(sock)

    def _answer(self, sock: Any) -> None:
        self.connections += 1
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            if b" /never " in head:
                self.wedged.wait()
                return
            if b" /big " in head:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n" + bytes(30_000_000))
            else:
                sock.sendall(OK)

    def visit(self) -> Any:
        assert self.server.mux_address is not None
        sock = socket.create_connection(self.server.mux_address)
        sock.settimeout(20)
        self.visits.append(sock)
        return sock

    def close(self) -> None:
        self.wedged.set()
        self.worker.stop()
        self.worker.close()
        self.server.close(Close.DONE)
        self.service.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mux_server, "SWEEP_S", 0.01)
        stage = Stage()
        yield stage
        stage.close()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    for sock in shared.visits:
        sock.close()
    shared.visits.clear()


def all_of(sock: Any) -> bytes:
    """Everything until the end, or the reset."""
    data = b""
    try:
        while True:
            more = sock.recv(65536)
            if not more:
                return data
            data += more
    except ConnectionResetError:
        return data + b"<reset>"


def test_a_head_that_does_not_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_HEAD_S", 0.05)
    sock = stage.visit()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert all_of(sock).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_drips(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowloris: each byte comes in time, the head does not."""
    monkeypatch.setattr(Limits, "MUX_HEAD_S", 0.1)
    sock = stage.visit()

    def drip() -> None:
        try:
            while True:
                sock.sendall(b"a")
                pause(0.01)
        except OSError:
            pass

    greenlet = gevent.spawn(drip)
    assert b" 408 " in all_of(sock)
    greenlet.kill()


def test_a_visitor_that_says_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_HEAD_S", 0.05)
    assert all_of(stage.visit()) == b""


def test_an_idle_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_IDLE_S", 0.05)
    sock = stage.visit()
    sock.sendall(GET % b"")
    assert all_of(sock) == OK


def test_a_body_that_stops(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_BODY_S", 0.05)
    sock = stage.visit()
    sock.sendall(b"POST /t/web/never HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    answer = all_of(sock)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"Connection: close" in answer


def test_a_target_that_does_not_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_ANSWER_S", 0.1)
    sock = stage.visit()
    sock.sendall(GET % b"never")
    answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 504 ") and b"Target web of worker t" in answer
    monkeypatch.undo()
    sock.sendall(GET % b"")
    assert sock.recv(65536) == OK, "the visitor's connection goes on"


def test_a_target_that_takes_no_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_ANSWER_S", 0.5)
    sock = stage.visit()

    def upload() -> None:
        try:
            sock.sendall(b"POST /t/web/never HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            sock.sendall(bytes(100_000_000))
        except OSError:
            pass

    greenlet = gevent.spawn(upload)
    assert b" 504 " in all_of(sock)
    greenlet.join()


def test_a_visitor_that_takes_no_more_where_the_operator_wants_less(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset, so that the part that came does not look like the whole; what waited was a window, not the body."""
    assert stage.server._mux is not None
    monkeypatch.setattr(stage.server._mux, "idle_s", 0.2)
    sock = stage.visit()
    sock.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4096)
    sock.sendall(GET % b"big")
    deadline = monotonic() + 20
    mux = stage.server._mux
    assert mux is not None
    while mux._visitors and monotonic() < deadline:
        gevent.sleep(0)
    assert not mux._visitors
    answer = all_of(sock)
    assert answer.endswith(b"<reset>") and len(answer) < 29_000_000


def test_connections_from_one_address(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is not counted, so that a proxy on this machine may have as many as it needs."""
    for _ in range(4):
        sock = stage.visit()
        sock.sendall(GET % b"")
        assert sock.recv(65536) == OK
    mux = stage.server._mux
    assert mux is not None
    monkeypatch.setattr(mux._shares, "_minimum", 2)
    ends = [plain.socketpair() for _ in range(3)]
    try:
        for ours, theirs in ends:
            mux._connected(theirs, (f"2001:db8:0:1::{ours.fileno():x}", 1))
        answers = [_peek(ours) for ours, _ in ends]
        assert [answer[:12] for answer in answers] == [b"", b"", b"HTTP/1.1 503"]
    finally:
        for ours, _ in ends:
            ours.close()
    _until(lambda: not mux._shares._held)


def test_visitors_behind_a_trusted_proxy_are_counted_by_their_own_addresses(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = stage.server._mux
    assert mux is not None
    monkeypatch.setattr(mux, "_trust", Trust((ip_network(IP),)))
    monkeypatch.setattr(mux._shares, "_minimum", 2)
    mux.kept.close()  # so that the next requests open streams
    names: list[str] = []
    opened = LocalRoute.open

    def note(self: LocalRoute, receiver: Any, visitor: str) -> Any:
        names.append(visitor)
        return opened(self, receiver, visitor)

    monkeypatch.setattr(LocalRoute, "open", note)

    def ask(path: bytes, chain: bytes) -> Any:
        sock = stage.visit()
        sock.sendall((GET % path)[:-2] + b"X-Forwarded-For: %b\r\n\r\n" % chain)
        return sock

    waiting = [ask(b"never", b"6.6.6.6, 192.0.2.7"), ask(b"never", b"192.0.2.7:40312")]
    _until(lambda: len(names) == 2)
    assert ask(b"", b"192.0.2.7").recv(65536).startswith(b"HTTP/1.1 503 ")
    for _ in range(3):  # what is answered counts no more, and another's count is his own
        assert ask(b"", b"192.0.2.8").recv(65536) == OK
    assert names[:3] == ["192.0.2.7:0", "192.0.2.7:40312", "192.0.2.8:0"]
    for sock in waiting:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # they leave with a reset
        sock.close()
    _until(lambda: not mux._shares._held)
    assert ask(b"", b"192.0.2.7").recv(65536) == OK


def test_heads_that_never_end_give_way_where_memory_is_short(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = stage.server._mux
    assert mux is not None
    monkeypatch.setattr(mux._incoming, "_limit", 256 * 1024)
    monkeypatch.setattr(mux._incoming, "left", 256 * 1024)
    slow = [stage.visit() for _ in range(20)]
    for number, sock in enumerate(slow):
        sock.sendall(b"GET /t/web/ HTTP/1.1\r\nX: " + b"y" * (20_000 + 1000 * number))
        _until(lambda: mux._holdings.held_bytes > 0)
        assert mux._holdings.held_bytes <= 384 * 1024
        asking = stage.visit()
        asking.sendall(GET % b"")
        assert asking.recv(65536) == OK
        asking.close()
    _until(lambda: sum(each.held_bytes > 0 for each in mux._visitors) < 20)
    answers = [_peek(sock) for sock in slow]
    assert answers[0] == b"" and any(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    for sock in slow:
        sock.close()


def test_bodies_kept_for_another_try_go_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    mux = stage.server._mux
    assert mux is not None
    posts = [stage.visit() for _ in range(8)]
    for sock in posts:
        sock.sendall(b"POST /t/web/never HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n")
    for sock in posts:
        sock.sendall(bytes(16_000))
    _until(lambda: sum(each.repeated_bytes for each in mux._visitors) == 8 * 16_000)
    assert mux._holdings.give_way(50_000) >= 50_000
    assert sum(each.repeated_bytes for each in mux._visitors) == 4 * 16_000
    assert sum(not each.closed for each in mux._visitors) >= 8
    for sock in posts:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def test_connections_in_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_VISITORS", 0)
    answer = all_of(stage.visit())
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in answer


def test_the_last_descriptors_are_kept_for_links_and_the_api(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = stage.server._mux
    assert mux is not None
    monkeypatch.setattr(mux, "_line", 0)  # as if every descriptor below the line were in use
    assert all_of(stage.visit()).startswith(b"HTTP/1.1 503 ")


def test_kept_connections_are_bounded_and_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    mux = stage.server._mux
    assert mux is not None
    monkeypatch.setattr(Limits, "MUX_POOLED_PER_TARGET", 2)
    socks = [stage.visit() for _ in range(5)]
    for sock in socks:
        sock.sendall(GET % b"")
    for sock in socks:
        assert sock.recv(65536) == OK
    _until(lambda: stage.server.registry.streams == 2)
    monkeypatch.setattr(Limits, "MUX_POOLED_S", 0.0)
    _until(lambda: stage.server.registry.streams == 0)


def test_posts_take_fresh_connections_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the target may be about to close could lose a request that must not be repeated."""
    sock = stage.visit()
    monkeypatch.setattr(Limits, "MUX_POOLED_FRESH_S", 60.0)

    def post() -> int:
        sock.sendall(b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert sock.recv(65536) == OK
        return stage.connections

    first = post()
    assert post() == first
    monkeypatch.setattr(Limits, "MUX_POOLED_FRESH_S", 0.0)
    assert post() == first + 1


def _peek(sock: plain.socket) -> bytes:
    sock.setblocking(False)
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


def _until(condition: Any) -> None:
    deadline = monotonic() + 20
    while not condition():
        assert monotonic() < deadline
        gevent.sleep(0)


def test_absent_visitors_are_noticed_by_the_kernel() -> None:
    with plain.socket() as sock:
        mux_server.notice_absence(sock)
        values = [
            sock.getsockopt(plain.IPPROTO_TCP, getattr(plain, f"TCP_KEEP{name}"))
            for name in ("IDLE", "INTVL", "CNT")
        ]
        assert values == [60, 15, 4]
