"""The mux in situations that people report of tools like it: devices, outages, programs with habits of their own."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Lab, poll
from tests.e2e.mux import Message, Mux, Target, Wire, heard
from tests.e2e.services import find, serve

GET = b"GET /t/web/%b HTTP/1.1\r\nHost: mux.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Device:
    """Serves one connection until that is closed, then the next; a request for /hold waits for ``go``."""

    def __init__(self, lab: Lab) -> None:
        self.go = threading.Event()
        self.served = 0
        self._one = threading.Lock()
        self.port = serve(lab, self._serve)

    def _serve(self, sock: socket.socket) -> None:
        with self._one:
            wire = Wire(sock)
            while wire.buffer or wire.fill():
                head = wire.until(b"\r\n\r\n")
                self.served += 1
                if b"/hold" in head:
                    assert self.go.wait(60)
                wire.send(OK)


@pytest.fixture
def mux(lab: Lab) -> Iterator[Mux]:
    mux = Mux(lab)
    yield mux
    mux.leave()


def test_two_visitors_of_a_device_that_serves_one_connection(lab: Lab, mux: Mux) -> None:
    """The first one's connection is not kept: the second waits in the device's backlog until it is closed."""
    device = Device(lab)
    mux.worker(web=device.port)
    first, second = mux.visit(), mux.visit()
    first.send(GET % b"hold")
    poll("the first to be served", lambda: device.served == 1)
    second.send(GET % b"")
    device.go.set()
    first.sock.settimeout(8)
    second.sock.settimeout(8)  # a kept connection would stand in the way for 15 s
    assert first.message().body == b"ok"
    assert second.message().body == b"ok"


def test_a_request_under_way_at_a_killed_worker_is_answered_by_another(lab: Lab, mux: Mux) -> None:
    held, quick = Target(lab, "held"), Target(lab, "quick")
    reached = threading.Event()

    def hold(wire: Wire, _: Message) -> bool:
        reached.set()
        wire.fill()
        return False

    held.talks["/x"] = hold
    dying = mux.worker(web=held)
    wire = mux.visit()
    wire.send(GET % b"x")
    assert reached.wait(30)
    post = mux.visit()
    reached.clear()
    post.send(b"POST /t/web/x HTTP/1.1\r\nHost: mux.test\r\nContent-Length: 0\r\n\r\n")
    assert reached.wait(30)
    mux.worker(web=quick)
    dying.send(signal.SIGKILL)
    wire.sock.settimeout(20)
    assert heard(wire.message()).target == "/x", "what may be made twice goes to the next worker"
    assert len(quick.requests) == 1, "and what may not, does not"


def test_a_request_waits_while_its_worker_comes_back(lab: Lab, mux: Mux) -> None:
    target = Target(lab)
    worker = mux.worker(web=target)
    assert mux.ask("/t/web/").status == 200
    worker.send(signal.SIGKILL)
    mux.server.says("link lost")
    wire = mux.visit()
    wire.send(GET % b"later")
    mux.worker(web=target)
    assert heard(wire.message()).target == "/later", "a pause, not an error"


def test_a_target_that_is_removed_is_not_found(lab: Lab) -> None:
    mux, target = Mux(lab, "--resume", "0"), Target(lab)
    worker = mux.worker(web=target, other=target)
    assert mux.ask("/t/web/").status == 200
    worker.send(signal.SIGKILL)
    mux.server.says("worker down")
    assert mux.ask("/t/web/").status == 503, "it may come back"
    mux.worker(other=target)
    assert mux.ask("/t/web/").status == 404, "it came back without it"
    mux.leave()


@pytest.mark.parametrize("program", ["curl", "nghttp"])
def test_http2_by_prior_knowledge_is_refused_in_a_way_that_can_be_read(
    lab: Lab, mux: Mux, program: str
) -> None:
    url = mux.url("/t/web/")
    if program == "curl":
        argv = [find("curl"), "-sS", "--http2-prior-knowledge", "-w", "%{http_code}", url]
    else:
        argv = [find("nghttp"), "-v", "--no-dep", url]
    said = lab.check(argv)
    assert "505" in said and "only HTTP/1.1 is served here" in said


def test_docker_exec(lab: Lab, mux: Mux) -> None:
    """POST with a body of two bytes and an Upgrade; what follows is raw."""
    target = Target(lab)

    def exec_start(wire: Wire, request: Message) -> bool:
        assert request.body == b"{}" and request.get("Upgrade") == "tcp"
        wire.send(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n$ ")
        while wire.fill():
            wire.send(wire.exactly(len(wire.buffer)).upper())
        return False

    target.talks["/exec/1/start"] = exec_start
    mux.worker(web=target)
    wire = mux.visit()
    wire.send(
        b"POST /t/web/exec/1/start HTTP/1.1\r\nHost: mux.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    assert wire.until(b"$ ")
    wire.send(b"ls\n")
    assert wire.until(b"\n") == b"LS\n"


def test_a_page_whose_name_leads_here_reads_nothing(lab: Lab) -> None:
    mux, target = Mux(lab, "--mux-host", "aero.test"), Target(lab)
    mux.worker(web=target)
    assert mux.ask("/t/web/", host="rebound.test").status == 421
    assert mux.ask("/t/web/", host="aero.test:1").status == 200
    assert mux.ask("/t/web/", host=f"localhost:{mux.port}").status == 200
    assert not [request for request in target.requests if "rebound" in str(request)]
    mux.leave()


def test_strict_addresses(lab: Lab) -> None:
    mux, target = Mux(lab, "--mux-strict"), Target(lab)
    mux.worker(web=target)
    assert mux.ask("/t/web/").status == 200
    assert [mux.ask(path).status for path in ("/T/web/", "/t/Web/", f"/{mux.cid()}@/web/")] == [404] * 3
    mux.leave()
