"""Visitors that mean harm, at the mux and at the API: the others are served all the while, and memory stays bounded."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.api import ApiServer
from tests.e2e.harness import DEADLINE_S, Lab, Program, connect, poll
from tests.e2e.mux import Mux, Target, heard

MIB = 1024 * 1024
# What a process may grow by while it is attacked: a tenth of what most attacks here would cost where it is kept.
GROWTH_BYTES = 24 * MIB
# At once, from this machine, which neither face counts: few enough for any limit of open files.
CROWD = 300


class Face:
    """A listening port of a server, a request that it answers, and somebody who asks for that as people do."""

    def __init__(self, program: Program, port: int, request: bytes, ask: Callable[[], bool]) -> None:
        self.program = program
        self.port = port
        self.request = request
        self.ask = ask
        assert ask()  # what is made once is made
        self.descriptors = self.open_descriptors()
        self.before = self.memory()

    def memory(self) -> int:
        """Resident, in bytes."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        found = re.search(r"VmRSS:\s*(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def open_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.program.pid}/fd"))

    def visit(self) -> socket.socket:
        return connect(self.port)

    def check(self) -> None:
        """Others are served, and nothing has grown much."""
        for _ in range(5):
            assert self.ask()
        grown = self.memory() - self.before
        assert grown < GROWTH_BYTES, f"{grown // MIB} MiB more than before"


@pytest.fixture(scope="module")
def mux() -> Iterator[Face]:
    lab = Lab()
    try:
        mux, target = Mux(lab), Target(lab)
        mux.worker(web=target)

        def ask() -> bool:
            served = heard(mux.ask("/t/web/")).target == "/"
            mux.leave()
            return served

        yield Face(mux.server, mux.port, b"GET /t/web/ HTTP/1.1\r\nHost: a\r\n", ask)
    finally:
        lab.close()


@pytest.fixture(scope="module")
def api() -> Iterator[Face]:
    lab = Lab()
    try:
        api = ApiServer(lab)
        yield Face(
            api.program,
            api.port,
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
            lambda: api.call("/health").status == 200,
        )
    finally:
        lab.close()


@pytest.fixture(params=["mux", "api"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    face: Face = request.getfixturevalue(request.param)
    yield face
    face.check()
    poll("every connection to be gone", lambda: face.open_descriptors() <= face.descriptors)


@pytest.fixture
def crowded(mux: Face) -> Iterator[Face]:
    """The mux, which serves crowds; the API's answer to them is tests/server/api's."""
    yield mux
    mux.check()
    poll("every connection to be gone", lambda: mux.open_descriptors() <= mux.descriptors)


def answer_to(sock: socket.socket, send: Callable[[], None]) -> bytes:
    """What comes back while ``send`` sends, which may be cut off: all until the end, or the reset."""

    def run() -> None:
        try:
            send()
        except OSError:
            pass  # nobody listens any more

    sender = threading.Thread(target=run)
    sender.start()
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    sock.close()
    sender.join(DEADLINE_S)
    assert not sender.is_alive()
    return data


def unread(sock: socket.socket) -> int:
    """Bytes that have come and were not read."""
    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return count


@contextmanager
def in_background(send: Callable[[], None]) -> Iterator[None]:
    """Something that somebody goes on with until it is cut off."""

    def run() -> None:
        try:
            send()
        except OSError:
            pass

    sender = threading.Thread(target=run)
    sender.start()
    yield
    sender.join(DEADLINE_S)
    assert not sender.is_alive()


# ----------------------------------------------------------------------------
# One who sends too much
# ----------------------------------------------------------------------------


def test_a_header_line_of_100_mb(face: Face) -> None:
    sock = face.visit()

    def send() -> None:
        sock.sendall(face.request + b"X: ")
        for _ in range(100):
            sock.sendall(b"x" * MIB)

    assert answer_to(sock, send).startswith(b"HTTP/1.1 431 ")


def test_a_request_line_of_100_mb(face: Face) -> None:
    sock = face.visit()

    def send() -> None:
        sock.sendall(b"GET /")
        for _ in range(100):
            sock.sendall(b"x" * MIB)

    assert answer_to(sock, send).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 414 "))


@pytest.mark.parametrize("count", [300, 1_000_000])
def test_a_flood_of_headers(face: Face, count: int) -> None:
    sock = face.visit()

    def send() -> None:
        sock.sendall(face.request)
        for _ in range(count // 10):
            sock.sendall(b"A: b\r\n" * 10)
        sock.sendall(b"\r\n")

    assert answer_to(sock, send).startswith(b"HTTP/1.1 431 ")


def test_a_hundred_thousand_requests_whose_answers_are_never_read(face: Face) -> None:
    sock = face.visit()

    def send() -> None:
        for _ in range(1000):
            sock.sendall((face.request + b"\r\n") * 100)

    with in_background(send):
        poll("answers that nobody reads", lambda: unread(sock) > 64 * 1024)
        face.check()
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def test_requests_that_lead_nowhere_in_one_piece(crowded: Face) -> None:
    """The same where every answer is the mux's own, which no target slows down."""
    sock = crowded.visit()
    count = 20_000
    sender = threading.Thread(
        target=lambda: sock.sendall(b"GET /nobody/there/ HTTP/1.1\r\nHost: a\r\n\r\n" * count)
    )
    sender.start()
    first = b""
    while first.count(b"HTTP/1.1 404 ") < 2:
        first += sock.recv(65536)
    size = first.index(b"HTTP/1.1", 1)  # of one answer
    read = len(first)
    while read < count * size:
        read += len(sock.recv(1 << 16))
    sender.join()
    sock.close()


# ----------------------------------------------------------------------------
# Many who send little
# ----------------------------------------------------------------------------


def test_a_crowd_that_says_nothing(crowded: Face) -> None:
    crowd = [crowded.visit() for _ in range(CROWD)]
    crowded.check()
    for sock in crowd:
        sock.close()


@pytest.mark.parametrize(
    "words",
    [
        b"GET /t/web/ HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["heads", "bodies", "chunks"],
)
def test_a_crowd_that_sends_byte_by_byte(crowded: Face, words: bytes) -> None:
    """Slowloris: connections that stay in the middle of a request as long as they may."""
    crowd = [crowded.visit() for _ in range(CROWD)]
    for sock in crowd:
        sock.sendall(words)
    for turn in range(20):
        for sock in crowd:
            sock.sendall((b"1\r\nx\r\n" * 4)[turn : turn + 1] if b"chunked" in words else b"x")
        if turn % 5 == 0:
            crowded.check()
    for sock in crowd:
        sock.close()


def test_a_crowd_that_comes_and_goes(face: Face) -> None:
    for _ in range(5):
        crowd = [face.visit() for _ in range(100)]
        for number, sock in enumerate(crowd):
            if number % 3:
                sock.sendall(face.request[: number % 20])
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    face.check()
