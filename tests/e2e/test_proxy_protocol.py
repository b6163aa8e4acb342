"""The PROXY protocol with real processes: read from a load balancer on every port, written to a target by option."""

from __future__ import annotations

import re
import socket

import pytest

from aero.net.proxyheader import End, write
from tests.e2e import services
from tests.e2e.harness import LOOPBACK, Lab, connect, free_port, poll, read_all

VISITOR = End("203.0.113.9", 40123)
HERE = End("198.51.100.1", 443)
BALANCER = "127.0.0.2"


def balanced(port: int) -> socket.socket:
    """A connection that comes from the load balancer."""
    return socket.create_connection((LOOPBACK, port), 10, (BALANCER, 0))


def first_bytes(lab: Lab, answer: bytes = b"") -> tuple[int, list[bytes]]:
    """A target that keeps what comes first on each connection, and answers."""
    came: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        came.append(connection.recv(4096))
        connection.sendall(answer)

    return services.serve(lab, keep), came


@pytest.mark.parametrize("version", [1, 2])
def test_a_target_hears_who_comes_and_where_to(lab: Lab, version: int) -> None:
    port, came = first_bytes(lab, b"hello")
    server = lab.server()
    worker = lab.worker(server, targets={"x": f"{LOOPBACK}:{port}?proxy=v{version}"})
    with connect(worker.port("x")) as visitor:
        source = End(*visitor.getsockname())
        assert visitor.recv(5) == b"hello", "the header is the target's before anything is said"
    assert came[0] == write(version, source, End(LOOPBACK, worker.port("x")))


def test_a_balancer_says_who_comes_to_a_mapping_and_nobody_comes_without(lab: Lab) -> None:
    port, came = first_bytes(lab, b"ok")
    server = lab.server("--proxy-protocol", BALANCER, "--debug")
    worker = lab.worker(server, targets={"x": f"{LOOPBACK}:{port}?proxy=v1"})
    with balanced(worker.port("x")) as visitor:
        header = write(2, VISITOR, HERE)
        visitor.sendall(header[:20])
        visitor.sendall(header[20:] + b"and at once")
        assert visitor.recv(2) == b"ok"
    assert came[0].startswith(b"PROXY TCP4 203.0.113.9 127.0.0.1 40123 ")
    with balanced(worker.port("x")) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_all(stranger)
    assert len(came) == 1
    server.says("connection refused.*no PROXY header stands in front")


def test_requests_of_two_visitors_never_share_a_connection(lab: Lab) -> None:
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        buffer = b""
        while data := connection.recv(65536):
            head, end, buffer = (buffer + data).partition(b"\r\n\r\n")
            if end:
                heads.append(head)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                buffer = head

    mux = free_port()
    server = lab.server("--mux", f"{LOOPBACK}:{mux}", "--mux-host", "*", "--proxy-protocol", BALANCER)
    worker = lab.worker(server, targets={"x": f"{LOOPBACK}:{services.serve(lab, serve)}?proxy=v1"})
    worker.port("x")
    request = b"GET /t/x/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for number in (1, 2):
        with balanced(mux) as visitor:
            visitor.sendall(write(1, End(f"203.0.113.{number}", 9), HERE) + request)
            assert b"200 OK" in visitor.recv(4096)
            visitor.sendall(request)
            assert b"200 OK" in visitor.recv(4096)
    poll("four requests", lambda: len(heads) == 4)
    announced = [re.match(rb"PROXY TCP4 (\S+)", head) for head in heads]
    assert [found and found[1] for found in announced] == [b"203.0.113.1", None, b"203.0.113.2", None]
