"""wait=: visitors of a target whose worker is away wait until cron has brought it back."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from time import monotonic

from tests.e2e.harness import LOOPBACK, Lab, connect, free_port, free_ports, is_reset, listening, poll
from tests.e2e.mux import Mux, Wire
from tests.e2e.services import serve


def hello(lab: Lab) -> int:
    """Answers a line, in HTTP where it was asked so."""

    def talk(sock: socket.socket) -> None:
        asked = sock.recv(1000)
        body = b"hello " + asked[:4]
        http = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        sock.sendall(http + body if asked.startswith(b"GET") else body)

    return serve(lab, talk)


def ask(http: int, more: bytes = b"") -> tuple[int, float]:
    """A GET's status, and the seconds that it took."""
    began = monotonic()
    with connect(http) as sock:
        sock.sendall(b"GET /t/web/ HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % more)
        return int(Wire(sock).until(b"\r\n").split()[1]), monotonic() - began


def test_visitors_wait_for_a_worker_that_is_away(lab: Lab) -> None:
    ours, state, own = free_ports(9), Path(lab.new_folder("server")), Path(lab.new_folder("worker"))
    http, ports = free_port(), f"{ours[0]}-{ours[-1]}"
    server = lab.server("--resume", "0", "--mux", f"{LOOPBACK}:{http}", state=state, ports=ports)
    to = {"web": f"{LOOPBACK}:{hello(lab)}?wait=30"}
    worker = lab.worker(server, targets=to, state=own)
    port = worker.port("web")
    worker.stop(signal.SIGKILL)
    server.says("worker down")
    assert listening(port), "also while its worker is away"
    visitor = connect(port)
    visitor.sendall(b"line")
    answers: list[tuple[int, float]] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(http)))
    waiting.start()
    status, took_s = ask(http, b"Prefer: respond-async, wait=1\r\n")
    assert status == 503 and 0.9 < took_s < 10, "as long as it would"
    worker = lab.worker(server, targets=to, state=own)
    assert worker.port("web") == port
    assert visitor.recv(100) == b"hello line"
    visitor.close()
    waiting.join()
    assert answers[0][0] == 200
    with connect(port) as later:
        later.sendall(b"next")
        assert later.recv(100) == b"hello next"
    # The server is started anew while the worker is away: the lease knows.
    worker.stop(signal.SIGKILL)
    server.says("(?s)worker down.*worker down")
    server.stop(signal.SIGKILL)
    server = lab.server("--resume", "2", "--mux", f"{LOOPBACK}:{http}", state=state, ports=ports)
    poll("the port", lambda: listening(port) and listening(http))
    with connect(port) as visitor:
        visitor.sendall(b"line")
        worker = lab.worker(server, targets=to, state=own)
        assert worker.port("web") == port
        assert visitor.recv(100) == b"hello line"
    # Whoever has come while only the link was down waits on when the session is given up.
    worker.stop(signal.SIGKILL)
    server.says("link (down|lost)")
    with connect(port) as visitor:
        visitor.sendall(b"line")
        waiting = threading.Thread(target=lambda: answers.append(ask(http)))
        waiting.start()
        server.says("worker down")
        worker = lab.worker(server, targets=to, state=own)
        assert visitor.recv(100) == b"hello line"
        waiting.join()
    assert answers[-1][0] == 200 and len(answers) == 2


def test_a_visitor_waits_no_longer_than_he_may(lab: Lab) -> None:
    mux = Mux(lab, "--resume", "0")
    worker = lab.worker(mux.server, targets={"web": f"{LOOPBACK}:{hello(lab)}?wait=1", "other": hello(lab)})
    port, other = worker.port("web"), worker.port("other")
    worker.stop(signal.SIGKILL)
    mux.server.says("worker down")
    assert not listening(other)
    began = monotonic()
    assert is_reset(port) and 0.9 < monotonic() - began < 10
    status, took_s = ask(mux.port)
    assert status == 503 and 0.9 < took_s < 10
    for text, why in (("wait=0", "write"), ("wait=601", "write"), ("wait=5&group=g", "group")):
        done = lab.aero("client", "--server", "localhost:1", "--once", "--target", f"x@{LOOPBACK}:1?{text}")
        assert done.returncode in (1, 2) and (done.returncode == 1 or why in done.stderr), done.stderr
