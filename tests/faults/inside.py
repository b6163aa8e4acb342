"""Server, worker, relay and services in this process: every table can be looked at, and a fault comes when it shall.

Services and visitors are greenlets; whoever waits here lets the loop run.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import socket as plain
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

import gevent
from gevent import socket
from gevent.server import StreamServer

from aero.address import Target
from aero.config.roles import ClientConfig, ServerConfig
from aero.core.codes import Close
from aero.endpoint import Endpoints
from aero.host.facts import facts
from aero.server.app import Server
from aero.worker.app import WorkerApp
from aero.worker.identity import once
from tests.faults.relay import LOOPBACK, Connection, Relay

CODE = "a code for tests"
# Ten times what a loaded machine with two cores was seen to need; only a failure waits this long.
DEADLINE_S = 30.0
BLOCK_BYTES = 64 * 1024

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], timeout_s: float = DEADLINE_S) -> T:
    """Lets the loop run until ``condition()`` is true, returns what it gave. Fails with ``what`` at the deadline."""
    deadline = monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        gevent.sleep(0.002)


# ----------------------------------------------------------------------------
# Data that shows every byte lost, doubled or reordered
# ----------------------------------------------------------------------------


def blocks(seed: int, total: int) -> Iterator[bytes]:
    """``total`` bytes, no two blocks of them alike."""
    body = random.Random(seed).randbytes(BLOCK_BYTES)
    for number in range(-(-total // BLOCK_BYTES)):
        block = struct.pack("!QQ", seed, number) + body[16:]
        yield block[: total - number * BLOCK_BYTES]


def digest_of(seed: int, total: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(seed, total):
        digest.update(block)
    return digest.hexdigest()


def send_blocks(sock: Any, seed: int, total: int) -> None:
    for block in blocks(seed, total):
        sock.sendall(block)


def receive_digest(sock: Any) -> tuple[str, int]:
    """(digest, bytes) of everything until the other side ends its direction."""
    digest, total = hashlib.sha256(), 0
    while True:
        data = sock.recv(256 * 1024)
        if not data:
            return digest.hexdigest(), total
        digest.update(data)
        total += len(data)


# ----------------------------------------------------------------------------
# Services: what they do is said in the first bytes of a connection
# ----------------------------------------------------------------------------

_REQUEST = struct.Struct("!4sQQ")  # what, seed, bytes
SEND, TAKE, ECHO, HOLD = b"SEND", b"TAKE", b"ECHO", b"HOLD"


class Service:
    """A target: sends blocks (SEND), takes them and answers with their digest (TAKE), echoes (ECHO), waits (HOLD)."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.resets = 0
        self.ends = 0
        self.accepted = 0
        self._server = StreamServer((LOOPBACK, 0), self._serve, backlog=2048)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, sock: Any, _: Any) -> None:
        self.connections.add(sock)
        self.accepted += 1
        try:
            self._talk(sock)
            self.ends += 1
        except OSError:
            self.resets += 1
        finally:
            self.connections.discard(sock)

    @staticmethod
    def _talk(sock: Any) -> None:
        head = b""
        while len(head) < _REQUEST.size:
            data = sock.recv(_REQUEST.size - len(head))
            if not data:
                return
            head += data
        what, seed, total = _REQUEST.unpack(head)
        if what == SEND:
            send_blocks(sock, seed, total)
            sock.shutdown(plain.SHUT_WR)
            sock.recv(1)
        elif what == TAKE:
            found = receive_digest(sock)[0]
            sock.sendall(found.encode())
        elif what == ECHO:
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                sock.sendall(data)
        else:
            sock.recv(1)

    def close(self) -> None:
        for sock in list(self.connections):
            sock.close()
        self._server.stop()


def ask(port: int, what: bytes, seed: int = 0, total: int = 0, timeout_s: float = 2 * DEADLINE_S) -> Any:
    """A visitor's connection, with its request sent."""
    sock = socket.socket()
    sock.settimeout(timeout_s)
    try:
        sock.connect((LOOPBACK, port))
        sock.sendall(_REQUEST.pack(what, seed, total))
    except OSError:
        sock.close()
        raise
    return sock


def download(port: int, seed: int, total: int) -> None:
    """Fetches blocks and checks them."""
    with ask(port, SEND, seed, total) as sock:
        found = receive_digest(sock)
    assert found == (digest_of(seed, total), total)


def upload(port: int, seed: int, total: int) -> None:
    """Sends blocks and has them checked."""
    with ask(port, TAKE, seed, total) as sock:
        send_blocks(sock, seed, total)
        sock.shutdown(plain.SHUT_WR)
        answer = b""
        while len(answer) < 64:
            data = sock.recv(64)
            assert data, "the service ended without an answer"
            answer += data
    assert answer.decode() == digest_of(seed, total)


def exchange(sock: Any, text: bytes) -> None:
    """Sends ``text`` to an ECHO and checks what comes back."""
    sock.sendall(text)
    answer = b""
    while len(answer) < len(text):
        data = sock.recv(len(text) - len(answer))
        assert data, f"the echo ended after {len(answer)} of {len(text)} bytes"
        answer += data
    assert answer == text


# ----------------------------------------------------------------------------
# The lab
# ----------------------------------------------------------------------------


class Inside:
    """One server, one worker behind a relay, one service. Use it with ``with``; its end checks that nothing leaks."""

    def __init__(
        self,
        *,
        ping_s: int = 60,
        resume_s: int = 60,
        pool: int = 1,
        on_connection: Callable[[Connection], None] | None = None,
        start: bool = True,
    ) -> None:
        gevent.get_hub().threadpool.apply(int)  # the loop's own descriptors are there from here on
        gc.collect()
        self._before = facts()
        self.service = Service()
        self.server = Server(self.server_config(resume_s))
        self.relay = Relay(self.server.port, on_connection)
        self.port = 0
        self.announced = 0
        target = Target("svc", LOOPBACK, self.service.port)
        self.config = ClientConfig(
            tag="t",
            host="lab",
            server=Endpoints.at(LOOPBACK, self.relay.port),
            targets=(target,),
            auth=CODE,
            ping_s=ping_s,
            pool=pool,
        )
        self._identity = once()  # of every worker of this lab
        self.worker = self.new_worker()
        if start:
            self.start()

    @staticmethod
    def server_config(resume_s: int, port: int = 0, ports: tuple[int, int] = (0, 0)) -> ServerConfig:
        return ServerConfig(
            ips=(LOOPBACK,), port=port, auth=CODE, api=None, mux=(), ports=ports, resume_s=resume_s
        )

    def new_worker(self) -> WorkerApp:
        return WorkerApp(self.config, self._announce, self._identity)

    def _announce(self, target: Target, port: int) -> None:
        self.port = port
        self.announced += 1

    def start(self) -> None:
        self.worker.start()
        until("the worker's mapping", lambda: self.port)
        until("every lane", lambda: len(self.server.sessions.uplinks) == self.config.pool)

    @property
    def resumed(self) -> bool:
        """Every session has a link that has joined."""
        uplinks = self.server.sessions.uplinks.values()
        return bool(uplinks) and all(
            uplink.alive and lane.link is not None and lane.link.machine.session is not None
            for uplink, lane in zip(uplinks, self.worker.crew.lanes)
        )

    @property
    def streams(self) -> tuple[int, int]:
        """At the server, at the worker."""
        sessions = self.worker.crew.sessions()
        return self.server.registry.streams, sum(len(session.core.streams) for session in sessions)

    def quiet(self) -> None:
        """Waits until no stream is left, at any side."""
        until(f"the streams' end, {self.streams}", lambda: self.streams == (0, 0))

    def close(self) -> None:
        self.worker.stop()
        self.worker.close()
        self.server.close(Close.DONE)
        self.relay.close()
        self.service.close()

    def __enter__(self) -> Inside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.quiet()
        self.close()
        if kind is None:
            assert not self.server.registry.workers and not self.server.sessions.uplinks
            assert not self.server.ground.memory.blocks.taken_bytes
            assert not self.worker.ground.memory.blocks.taken_bytes

            until(f"all to be as before: {self._before}, now {facts()}", self._nothing_more)

    def _nothing_more(self) -> bool:
        gc.collect()
        now = facts()
        return all(now[what] <= self._before[what] for what in ("descriptors", "greenlets"))


@contextmanager
def pieces() -> Iterator[list[gevent.Greenlet]]:
    """Greenlets that must all succeed."""
    running: list[gevent.Greenlet] = []
    try:
        yield running
        gevent.joinall(running, timeout=4 * DEADLINE_S, raise_error=True)
        assert all(each.dead for each in running), "not all transfers have ended"
    finally:
        gevent.killall(running)


def noise(count: int) -> bytes:
    return os.urandom(count)
