"""What comes from a visitor behind a head: passed on as the target takes it, left in the socket while it does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aero.errors import MessageError
from aero.limits import Limits
from aero.server.httpmux.body import Transfer
from aero.server.httpmux.head import CHUNKED
from aero.server.httpmux.receiving import Receiving
from tests.server.httpmux.scene import Sock, Watcher

CHUNKS = b"2\r\nok\r\n0\r\n\r\n"


class Reader:
    """The visitor, its loop, its tries, and a target that takes ``room`` bytes at a time."""

    def __init__(self, data: bytes, length: int, room: int = 100, ends: bool = True) -> None:
        self.sock = Sock(data, 1 << 16, stubborn=False)
        self.sock.ends = ends
        self.watcher = Watcher()
        self.closed = self.backlogged = self.heavy = self.waiting = self.starved = False
        self.room = room
        self.got = b""
        self.remembered = b""
        self.said: list[object] = []
        self.turns = 0
        self.stream = self.session = self
        self._block = memoryview(b"")
        self.receiving = Receiving(self, self.sock, self)  # type: ignore[arg-type]
        if length:
            self.receiving.body = Transfer(length)

    # The loop

    def io(self, *_: int) -> Watcher:
        return self.watcher

    # The visitor

    def readable(self) -> None:
        self.receiving.relay(self, self)  # type: ignore[arg-type]

    def wait(self, limit_s: float) -> None:
        self.said.append(limit_s)

    def ended(self) -> None:
        self.said.append("ended")

    def lost(self) -> None:
        self.said.append("lost")

    def malformed(self, error: MessageError) -> None:
        self.said.append(error.status)

    def remember(self, data: bytes) -> None:
        self.remembered += bytes(data)

    # The target

    def reserve(self, most: int = 1 << 20) -> memoryview | None:
        self._block = memoryview(bytearray(min(most, self.room)))
        return self._block if self.room else None

    def commit(self, count: int, more: bool) -> None:
        self.got += bytes(self._block[:count])
        self.said.append(("more", more))

    def send(self, data: bytes) -> None:
        self.got += bytes(data)

    def wait_turn(self, stream: object) -> None:
        assert stream is self
        self.turns += 1


def test_a_counted_body_ends_where_it_was_said_to() -> None:
    reader = Reader(b"0123456789GET", 10, room=6)
    reader.readable()
    assert reader.got == b"012345" and reader.said == [("more", True), Limits.MUX_BODY_S]
    reader.readable()
    assert reader.got == reader.remembered == b"0123456789" and reader.sock.data == b"GET"
    assert reader.receiving.body is None and not reader.receiving.rest
    assert reader.said[2:] == [("more", False), Limits.MUX_ANSWER_S]
    assert reader.watcher.active, "the next request may come"


def test_chunks_are_framed_anew_and_what_is_behind_them_is_kept() -> None:
    reader = Reader(CHUNKS + b"GET", CHUNKED)
    reader.readable()
    assert reader.got == reader.remembered == CHUNKS and reader.receiving.rest == b"GET"
    assert reader.receiving.body is None and reader.said == [Limits.MUX_ANSWER_S]


def test_what_came_with_the_head_is_taken_from_there() -> None:
    reader = Reader(b"", 4)
    assert reader.receiving.take() == b""
    reader.receiving.rest = b"12"
    assert reader.receiving.take() == b"12" and reader.receiving.body is not None
    reader.receiving.rest = b"34GET"
    assert reader.receiving.take() == b"34" and reader.receiving.body is None
    assert reader.receiving.take() == b"" and reader.receiving.rest == b"GET"


@pytest.mark.parametrize("why", ["no room", "backlogged"])
def test_nothing_is_read_that_the_target_does_not_take(why: str) -> None:
    reader = Reader(b"0123", 4, room=0 if why == "no room" else 100)
    reader.backlogged = why == "backlogged"
    reader.receiving.start()
    assert reader.receiving.expects
    reader.readable()
    assert reader.sock.data == b"0123" and not reader.watcher.active and not reader.receiving.expects
    assert reader.said == [Limits.MUX_ANSWER_S], "it is the target that is waited for"


@pytest.mark.parametrize("busy", ["waiting", "starved", "backlogged", ""])
def test_reading_goes_on_once_the_target_takes_more(busy: str) -> None:
    reader = Reader(b"", 4)
    if busy:
        setattr(reader, busy, True)
    reader.receiving.go_on(reader)  # type: ignore[arg-type]
    assert reader.watcher.active is (not busy) and not reader.turns


def test_a_heavy_stream_waits_for_its_turn() -> None:
    reader = Reader(b"", 4, ends=False)
    reader.heavy = True
    reader.receiving.go_on(reader)  # type: ignore[arg-type]
    assert reader.turns == 1 and not reader.watcher.active
    reader.readable()
    assert not reader.heavy and reader.watcher.active, "there was nothing to read: it is heavy no more"
    reader.receiving.go_on(reader)  # type: ignore[arg-type]
    assert reader.turns == 1


def test_without_a_body_there_is_nothing_to_go_on_with() -> None:
    reader = Reader(b"GET", 0)
    reader.readable()
    reader.receiving.go_on(reader)  # type: ignore[arg-type]
    assert reader.sock.data == b"GET" and not reader.said and not reader.watcher.active


def test_how_it_ends_early() -> None:
    ended, bad, lost = Reader(b"", 4), Reader(b"what\r\n", CHUNKED), Reader(b"", 4)
    lost.sock = lost.receiving._sock = SimpleNamespace(recv_into=_broken)  # type: ignore[assignment]
    for reader in (ended, bad, lost):
        reader.readable()
    assert (ended.said, bad.said, lost.said) == (["ended"], [400], ["lost"])


def _broken(_: memoryview) -> int:
    raise ConnectionResetError


def test_a_connection_that_ended_under_its_body_is_read_no_more() -> None:
    reader = Reader(b"0123", 4)
    reader.closed = True
    reader.readable()
    assert reader.got == b"0123" and not reader.watcher.active


def test_raw_bytes_follow_an_upgrade_at_once() -> None:
    reader = Reader(b"after", 0)
    reader.receiving.rest = b"before "
    reader.receiving.switched(reader, reader)  # type: ignore[arg-type]
    reader.readable()
    assert reader.got == b"before after" and reader.receiving.body is not None


def test_raw_bytes_wait_for_the_end_of_the_chunks() -> None:
    reader = Reader(CHUNKS[4:] + b"raw ", CHUNKED)
    reader.receiving.rest = CHUNKS[:4]
    reader.receiving.switched(reader, reader)  # type: ignore[arg-type]
    assert reader.receiving.body is not None and not reader.receiving.body.verbatim
    while reader.sock.data:
        reader.readable()  # at most what is left of a chunk at once
    assert reader.got.endswith(b"0\r\n\r\nraw ") and not reader.receiving.rest
    assert reader.receiving.body is not None and reader.receiving.body.verbatim
    reader.sock.data = CHUNKS
    reader.readable()
    assert reader.got.endswith(b"raw " + CHUNKS), "what looks like chunks is not read as such any more"


def test_what_is_kept_behind_a_request_is_bounded() -> None:
    reader = Reader(b"", 0)
    reader.receiving.start()
    reader.receiving.keep(b"GET", 5)
    assert reader.watcher.active
    reader.receiving.keep(b" /", 5)
    assert reader.receiving.rest == b"GET /" and not reader.watcher.active
    reader.receiving.start()
    reader.receiving.stop()
    assert not reader.watcher.active
