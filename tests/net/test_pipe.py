"""Pipes between a socket and a stream: what a stalled visitor costs."""

from __future__ import annotations

import socket
import tracemalloc
from types import SimpleNamespace
from typing import Any

import gevent

from aero.core import frames
from aero.core import stream as streams
from aero.core.codes import Reset
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.net.pipe import Pipe
from tests.faults.inside import until

_CLOSE = 7  # the first byte of TCP_INFO: a reset has come


class Stage:
    """A pipe between a real connection and a stream of a real session, whose output nobody takes."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.far = socket.create_connection(listener.getsockname())
            self.near = listener.accept()[0]
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
