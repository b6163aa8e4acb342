"""Both sides of a handshake over real connections: what each gets, and what is said to those who do it wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from aero.core import frames, record
from aero.core.aead.choose import choose
from aero.core.codes import Close
from aero.core.spake2plus import Password, Verifier
from aero.errors import AeroError, LinkClosed, NetworkError, Rejected, SecurityError
from aero.net import handshake
from aero.net.handshake import Keyed, greet_server, greet_worker
from aero.net.transport import TcpTransport
from tests.faults.inside import until

BACKEND = choose("")
RIGHT, WRONG = Password(0xC0DE, 0xBEEF), Password(0xBAD, 0xBAD)
VERIFIER = Verifier.of(0xC0DE, 0xBEEF)


class Watch:
    """Remembers how far a guest came."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def hold(self) -> None:
        self.steps.append("hold")

    def answered(self) -> None:
        self.steps.append("answered")

    def failed(self) -> None:
        self.steps.append("failed")


Pair = tuple[TcpTransport, TcpTransport]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    transports = TcpTransport(near), TcpTransport(far)
    yield transports
    for each in transports:
        each.close()


def both(pair: Pair, password: Password, join: Any = lambda: b"{}") -> tuple[Any, Any, Watch]:
    """What worker and server end with: Keyed, or the error."""
    watch = Watch()

    def tried(greet: Any, *arguments: Any) -> Keyed | AeroError:
        try:
            keyed: Keyed = greet(*arguments)
        except AeroError as error:
            arguments[0].close()
            return error
        return keyed

    server = gevent.spawn(tried, greet_worker, pair[1], lambda user: VERIFIER, BACKEND, watch)
    worker = gevent.spawn(tried, greet_server, pair[0], password, "", BACKEND, join)
    return worker.get(timeout=30), server.get(timeout=30), watch


def test_both_have_keys_and_the_join_came_along(pair: Pair) -> None:
    worker, server, watch = both(pair, RIGHT, lambda: b"the payload")
    assert watch.steps == ["hold", "answered"]
    plain = memoryview(bytearray(record.MAX_PLAIN_BYTES))
    early = memoryview(bytearray(server.early))
    kind, size = record.record_bytes(early, 0)
    count = server.reader.open(early[:size], plain)
    assert (kind, bytes(plain[:count])) == (record.LINK, frames.pack(frames.JOIN, 0, b"the payload"))
    sealed = memoryview(bytearray(5 + record.OVERHEAD_BYTES))
    server.writer.seal(record.LINK, memoryview(b"hello"), sealed)
    assert bytes(plain[: worker.reader.open(sealed, plain)]) == b"hello"


def test_a_wrong_code_is_told_to_both(pair: Pair) -> None:
    worker, server, watch = both(pair, WRONG)
    assert isinstance(server, SecurityError)
    assert isinstance(worker, Rejected) and worker.code == Close.AUTH
    assert watch.steps == ["hold", "answered", "failed"]


def test_who_does_not_want_the_link_any_more_sends_no_proof(pair: Pair) -> None:
    """As a worker whose doubted link has spoken meanwhile."""

    def changed() -> bytes:
        raise LinkClosed("nobody wants it")

    worker, server, watch = both(pair, RIGHT, changed)
    assert str(worker) == "nobody wants it"
    assert isinstance(server, LinkClosed)
    assert watch.steps == ["hold", "answered", "failed"]


def served(far: TcpTransport) -> tuple[gevent.Greenlet, Watch]:
    watch = Watch()
    return gevent.spawn(greet_worker, far, lambda user: VERIFIER, BACKEND, watch), watch


def _into(transport: TcpTransport, buffer: bytearray) -> int:
    try:
        return transport.receive_into(memoryview(buffer))
    except BlockingIOError:
        return 0


def test_a_guest_that_hangs_up(pair: Pair) -> None:
    near, far = pair
    greenlet, watch = served(far)
    near.close()
    with pytest.raises(LinkClosed, match="hung up"):
        greenlet.get(timeout=30)
    assert watch.steps == []


@pytest.mark.parametrize("greet", ["server", "worker"])
def test_a_peer_that_says_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch, greet: str) -> None:
    monkeypatch.setattr(handshake, "TIMEOUT_S", 0.01)
    near, _ = pair
    with pytest.raises(NetworkError, match=r"did not answer the handshake|no handshake in time"):
        if greet == "server":
            greet_server(near, RIGHT, "", BACKEND, lambda: b"{}")
        else:
            greet_worker(near, lambda user: VERIFIER, BACKEND, Watch())


def test_a_peer_that_reads_nothing_has_as_long_as_the_handshake(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our message waits for room in the connection, not for ever."""
    monkeypatch.setattr(handshake, "TIMEOUT_S", 0.05)
    near, far = pair
    with pytest.raises(BlockingIOError):
        while True:
            near.send(memoryview(bytes(65536)))
    with pytest.raises(NetworkError):
        greet_server(near, RIGHT, "", BACKEND, lambda: b"{}")
    monkeypatch.setattr(handshake, "TIMEOUT_S", 10.0)
    greenlet = gevent.spawn(greet_server, near, RIGHT, "", BACKEND, lambda: b"{}")
    gevent.sleep(0)
    taken = bytearray(1 << 20)
    until("its HELLO", lambda: _into(far, taken) and b"AERO" in bytes(taken).upper())
    far.close()
    with pytest.raises(LinkClosed):
        greenlet.get(timeout=30)


def test_last_words_to_one_who_is_gone(pair: Pair) -> None:
    near, far = pair
    far.close()
    handshake.say_goodbye(near, b"words")  # never raises
