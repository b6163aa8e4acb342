"""Workers that ask without end for what is cheap to ask, and visitors that send what nobody reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from aero.address import Target
from aero.core import frames
from aero.core.codes import Close
from aero.core.memory import Incoming
from aero.limits import Limits
from tests.faults.hostile import Hostile
from tests.faults.inside import ECHO, LOOPBACK, Inside, ask, exchange, until

MIB = 1024 * 1024

PING = frames.pack(frames.PING, 0, bytes(8))
GOAWAY = frames.pack(frames.GOAWAY, 0, frames.pack_reason(Close.DONE, "bye"))


@pytest.fixture
def lab() -> Iterator[Inside]:
    """A server with one worker and one visitor of its, who notice nothing."""
    with Inside() as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"before")
        yield lab
        until("the flood's end", lambda: len(lab.server.sessions.links) == 1)
        exchange(visitor, b"after")
        assert lab.relay.count == 1


def opens(first: int, count: int) -> list[bytes]:
    payload = frames.pack_open(1 << 16, 1, "x")
    return [frames.pack(frames.OPEN, 2 * number, payload) for number in range(first, first + count)]


def test_pings_without_end_whose_answers_are_read(lab: Inside) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        reader = gevent.spawn(worker.close_code)
        while not worker.ended and not worker.closed:
            worker.link(*[PING] * 1000)
            gevent.sleep(0)
        reader.join()
        assert worker.closed is not None and worker.closed[0] == Close.OVERLOAD


def test_an_honest_workers_pings_are_answered(lab: Inside) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        worker.link(*[PING] * Limits.PINGS_BURST)
        worker.say({"do": "register", "targets": [{"id": 1, "name": "n", "local": "h:1"}]})
        while not worker.control:
            assert worker.read()


@pytest.mark.parametrize("leaving", [False, True])
def test_streams_that_are_opened_at_the_server(lab: Inside, leaving: bool) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        if leaving:
            worker.session(GOAWAY)
        worker.session(*opens(1, Limits.OPENS_BURST))
        while worker.resets < Limits.OPENS_BURST:
            assert worker.read()
        for batch in range(50):
            if not worker.session(*opens(1000 + 1000 * batch, 1000)):
                break
        assert worker.close_code() == Close.OVERLOAD
        assert worker.resets <= 2 * Limits.OPENS_BURST
    until("the session's end", lambda: len(lab.server.sessions.uplinks) == 1)


def test_goaways_without_end_are_logged_once(lab: Inside, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with Hostile(lab.server.port) as worker:
        worker.join()
        for _ in range(20):
            worker.session(*[GOAWAY] * 1000)
        worker.link(PING)
        worker.say({"do": "register", "targets": [{"id": 1, "name": "n", "local": "h:1"}]})
        while not worker.control:
            assert worker.read()
    assert sum("is leaving" in each.getMessage() for each in caplog.records) == 1


def test_visitors_that_send_to_a_target_that_accepts_and_never_reads() -> None:
    """The worker keeps what the target does not take, up to a limit; then those go that have waited the longest."""
    limit = MIB
    with Inside(start=False) as lab, socket.socket() as target:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        target.bind((LOOPBACK, 0))
        target.listen(128)  # the system accepts for it
        stuck = Target("stuck", LOOPBACK, target.getsockname()[1])
        lab.config = lab.config.replace(targets=(*lab.config.targets, stuck))
        lab.worker = lab.new_worker()
        lab.worker.ground.memory.incoming = Incoming(limit)
        lab.start()
        (worker,) = lab.server.registry.workers.values()
        until("both mappings", lambda: len(worker.mappings) == 2)
        ports = {mapping.name: mapping.port for mapping in worker.mappings.values()}
        (session,) = (each.core for each in lab.worker.crew.sessions())
        most = 0

        def held() -> int:
            return sum(each.received - each.consumed for each in session.streams.values())

        with ask(ports["svc"], ECHO) as right:
            exchange(right, b"before")
            visitors = [socket.create_connection((LOOPBACK, ports["stuck"])) for _ in range(60)]
            senders = [gevent.spawn(_send_without_end, visitor) for visitor in visitors]
            while sum(sender.dead for sender in senders) < 20:
                most = max(most, held())
                exchange(right, b"meanwhile")
            assert limit // 2 < most <= limit + limit // 8 + 256 * 1024
            gevent.killall(senders)
            for visitor in visitors:
                visitor.close()
            exchange(right, b"after")


def _send_without_end(visitor: Any) -> None:
    try:
        while True:
            visitor.sendall(bytes(65536))
    except OSError:
        return
