"""Pipes between a socket and a stream: what a stalled visitor costs."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from aero.core import frames
from aero.core import stream as streams
from aero.core.codes import Reset
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.net.pipe import Pipe
from tests.faults.inside import until

_CLOSE = 7  # the first byte of TCP_INFO: a reset has come


STAGES: list[Stage] = []


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Closes what a test leaves open."""
    yield
    while STAGES:
        stage = STAGES.pop()
        stage.pipe.reset(Reset.CANCELLED, "the test is over")
        stage.far.close()


class Stage:
    """A pipe between a real connection and a stream of a real session, whose output nobody takes."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.far = socket.create_connection(listener.getsockname())
            self.near = listener.accept()[0]
        STAGES.append(self)
        self.ended: list[str] = []
        self.pipe = Pipe(gevent.get_hub().loop, self.near, lambda pipe, why: self.ended.append(why))
        handler: Any = None
        self.session = Session(handler, SERVER_FIRST_ID, Memory(64 << 20), SessionLimits(), 0.0)
        self.stream: Stream = self.session.open(self.pipe, 1, "", 0.0)

    def wait(self) -> None:
        """Until the pipe has ended."""
        until("the pipe's end", lambda: self.ended)

    def hang_up(self) -> None:
        """Closes the far end while something is unread there: its kernel sends a reset, which is waited for."""
        self.near.send(b"unread")
        self.far.close()
        until("the reset", lambda: self.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) == _CLOSE)

    def frames(self) -> list[tuple[str, bytes]]:
        """What went into the session since the stream was opened: kinds and payloads."""
        piece = self.session.next_piece() or b""
        return [(frames.NAMES[kind], bytes(payload)) for kind, _, payload in frames.split(memoryview(piece))][
            1:
        ]


def test_an_answer_that_came_before_the_reset_is_still_passed_on() -> None:
    stage = Stage()
    stage.far.send(b"413, enough")
    stage.hang_up()
    stage.pipe.start(stage.stream)
    stage.pipe.data(memoryview(b"more of the request"))
    assert not stage.ended
    stage.pipe.data(memoryview(b"and more"))
    stage.pipe.finished()
    stage.wait()
    assert stage.ended == ["Connection reset by peer"]
    assert stage.stream.consumed == len(b"more of the requestand more")
    assert stage.frames() == [
        ("DATA", b"413, enough"),
        ("RESET", frames.pack_reason(Reset.CANCELLED, "Connection reset by peer")),
    ]


def test_an_answer_survives_a_reset_that_is_met_when_the_socket_takes_more_again() -> None:
    stage = Stage()
    stage.pipe.start(stage.stream)
    room = memoryview(bytes(65536))
    given = 0
    while stage.stream.consumed == given:  # until the socket does not take all of it
        stage.pipe.data(room)
        given += len(room)
    stage.far.send(b"413, enough")
    stage.hang_up()
    stage.wait()
    assert ("DATA", b"413, enough") in stage.frames()
    assert stage.stream.consumed == given


def test_what_can_take_no_more_and_has_said_all_ends_at_once() -> None:
    stage = Stage()
    stage.pipe.start(stage.stream)
    stage.far.shutdown(socket.SHUT_WR)
    until("our fin", lambda: stage.stream.state == streams.OURS_ENDED)
    stage.hang_up()
    stage.pipe.data(memoryview(b"more"))
    assert len(stage.ended) == 1


def test_nobody_waits_for_the_target_to_read_once_its_visitor_is_gone() -> None:
    stage = Stage()
    stage.stream.send_limit = 100  # the target reads no more than this
    stage.far.send(bytes(1000))
    stage.hang_up()
    stage.pipe.start(stage.stream)
    stage.pipe.data(memoryview(b"the target goes on speaking"))
    stage.wait()
    assert next((kind, len(payload)) for kind, payload in stage.frames()) == ("DATA", 100)


def test_single_bytes_for_a_visitor_that_never_reads_cost_what_they_are() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    ended = []
    pipe = Pipe(gevent.get_hub().loop, near, lambda pipe, why: ended.append(why))
    pipe.start(SimpleNamespace(session=SimpleNamespace(now=0.0), consume=lambda count, now: None, state=0))
    while True:
        try:
            near.send(bytes(65536))
        except BlockingIOError:
            break
    tracemalloc.start()
    try:
        for _ in range(100_000):
            pipe.data(memoryview(b"x"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100_000 <= held < 200_000
    pipe.reset(0, "enough")
    assert ended == ["enough"]
    far.close()


def test_both_directions_end_one_after_the_other_and_the_pipe_with_them() -> None:
    stage = Stage()
    stage.pipe.start(stage.stream)
    stage.far.sendall(b"question")
    stage.far.shutdown(socket.SHUT_WR)
    until("our fin", lambda: stage.stream.state == streams.OURS_ENDED)
    assert stage.frames() == [("DATA", b"question"), ("FIN", b"")]
    stage.pipe.data(memoryview(b"answer"))
    assert not stage.ended
    stage.session.stream_event(stage.stream, streams.THEIR_FIN)
    stage.pipe.finished()
    assert stage.ended == [""]
    assert (stage.far.recv(100), stage.far.recv(100)) == (b"answer", b"")
    stage.pipe.reset(Reset.CANCELLED, "too late")  # harmless
    assert stage.ended == [""]


def test_an_end_waits_for_what_the_socket_has_not_taken() -> None:
    stage = Stage()
    stage.pipe.start(stage.stream)
    room, given = memoryview(bytes(65536)), 0
    while stage.stream.consumed == given:
        stage.pipe.data(room)
        given += len(room)
    stage.session.stream_event(stage.stream, streams.THEIR_FIN)
    stage.pipe.finished()
    taken = 0
    stage.far.setblocking(False)

    def all_of_it() -> bool:
        nonlocal taken
        try:
            data = stage.far.recv(1 << 20)
        except BlockingIOError:
            return False
        taken += len(data)
        return not data

    until("the end", all_of_it)
    assert taken == given == stage.stream.consumed
    assert not stage.ended  # the other direction goes on
    stage.far.close()
    stage.wait()
    assert stage.ended == [""]


def test_a_socket_is_read_no_further_than_the_stream_may_send() -> None:
    stage = Stage()
    stage.stream.send_limit = 1000
    stage.far.sendall(bytes(1500))
    stage.pipe.start(stage.stream)
    until("the credit to be used up", lambda: stage.stream.starved)
    assert stage.frames() == [("DATA", bytes(1000))]
    assert not stage.pipe._reading.active
    stage.session._handle_window(stage.stream.id, memoryview(frames.pack_window(0, 2000)))
    until("the rest", lambda: stage.stream.sent == 1500)
    until("it to read again", lambda: stage.pipe._reading.active)
    stage.pipe.reset(Reset.LOST, "")
    assert stage.ended == ["reset"]
    stage.pipe.resume()  # harmless


def test_bulk_waits_for_its_turn_and_is_read_once_a_turn() -> None:
    stage = Stage()
    stage.session.burst_bytes = 32 * 1024
    stage.stream.send_limit = 1 << 40
    stage.far.sendall(bytes(200_000))
    stage.pipe.start(stage.stream)
    sent = 0
    while sent < 200_000:
        until("it to stand in line", lambda: stage.stream.waiting or stage.stream.sent == 200_000)
        assert stage.stream.sent - sent <= 2 * 32 * 1024
        sent = stage.stream.sent
        while stage.session.next_piece() is not None:
            pass
        stage.session.resume_waiting()
    stage.pipe.reset(Reset.LOST, "")


def test_a_reset_reaches_the_program_behind_the_socket() -> None:
    stage = Stage()
    stage.pipe.start(stage.stream)
    stage.pipe.reset(Reset.REFUSED, "refused")
    assert stage.ended == ["refused"] and stage.pipe.reset_code == Reset.REFUSED
    with pytest.raises(ConnectionResetError):
        stage.far.recv(1)
