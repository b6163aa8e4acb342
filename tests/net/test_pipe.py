"""Pipes between a socket and a stream: what a stalled visitor costs."""

from __future__ import annotations

import socket
import tracemalloc
from types import SimpleNamespace

import gevent

from aero.net.pipe import Pipe


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
