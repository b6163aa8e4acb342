"""A link with its socket: who tells it that there is something to send, and when."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from aero.core import aead, features, frames, messages, record
from aero.core.outbox import BlockPool
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.errors import AeroError
from aero.net.link import Link
from tests.faults.inside import until

BACKEND = aead.choose("")
UP, DOWN = b"u" * 32, b"d" * 32


class Owner:
    """A role that expects nothing but the end."""

    def __init__(self) -> None:
        self.errors: list[AeroError] = []

    def link_ended(self, link: Link, error: AeroError) -> None:
        self.errors.append(error)

    def pong_received(self, number: int, round_trip_s: float) -> None:
        """Nobody waits for it."""


class Peer:
    """The other end of a link's socket: reads what the session says."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.said = bytearray()
        self._reader = RecordReader(BACKEND, DOWN)
        self._buffer = b""

    def read(self) -> bytes:
        """Everything of the session's sequence that has come by now."""
        try:
            self._buffer += self.sock.recv(1 << 20)
        except BlockingIOError:
            pass
        plain = memoryview(bytearray(record.MAX_PLAIN_BYTES))
        while len(self._buffer) >= record.HEADER_BYTES:
            kind, size = record.record_bytes(memoryview(self._buffer), 0)
            if len(self._buffer) < size:
                break
            count = self._reader.open(memoryview(self._buffer)[:size], plain)
            self._buffer = self._buffer[size:]
            if kind == record.SESSION:
                self.said += plain[:count]
        return bytes(self.said)


@pytest.fixture
def joined() -> Iterator[tuple[Link, Peer]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    link = Link(near, Owner(), RecordWriter(BACKEND, DOWN), RecordReader(BACKEND, UP), 60.0)  # type: ignore[arg-type]
    link.start()
    yield link, Peer(far)
    link.abandon(AeroError("the test is over"))
    far.close()


def session() -> Session:
    handler: Any = None
    return Session(handler, SERVER_FIRST_ID, BlockPool(8, 8), SessionLimits(), 0.0)


def frame(number: int) -> bytes:
    return frames.pack(frames.CONTROL, 0, messages.Unknown(f"{number}").pack())


@pytest.mark.parametrize("told", [False, True])
def test_a_link_that_takes_a_session_over_sends_what_is_kept_and_hears_of_what_comes(
    joined: tuple[Link, Peer], told: bool
) -> None:
    """Whether the former link had been told of output or not: it is gone, and the new one looks for itself."""
    link, peer = joined
    kept = session()
    kept.control(messages.Unknown("1"))
    assert kept.next_piece() is not None
    kept.dirty = told
    kept.take_over(0)
    link.carry(kept)
    until("what was kept", lambda: peer.read() == frame(1))
    until("the link to be idle", lambda: not kept.dirty)
    kept.control(messages.Unknown("2"))
    until("what came later", lambda: peer.read() == frame(1) + frame(2))


def test_a_link_that_carries_a_session_with_nothing_to_say_hears_of_its_first_word(
    joined: tuple[Link, Peer],
) -> None:
    link, peer = joined
    silent = session()
    link.carry(silent)
    until("the link to be idle", lambda: not silent.dirty)
    gevent.sleep(0)
    silent.control(messages.Unknown("1"))
    until("its word", lambda: peer.read() == frame(1))


def test_what_the_handshake_agreed_on_reaches_the_session() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    keys = RecordWriter(BACKEND, DOWN), RecordReader(BACKEND, UP)
    link = Link(near, Owner(), *keys, 60.0, features=features.ZSTD)  # type: ignore[arg-type]
    carried = session()
    link.carry(carried)
    assert link.machine.features == carried.features == features.ZSTD
    link.abandon(AeroError("the test is over"))
    far.close()
