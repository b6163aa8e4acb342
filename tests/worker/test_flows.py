"""The worker's end of flows: a socket each, other addresses where one refuses, places that run out, silence."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.address import Target
from aero.core import datagrams
from aero.core.codes import Reset
from aero.core.datagrams import Drops
from aero.core.flows import Flow
from aero.limits import Limits
from aero.net.lookup import Found, at_port
from aero.net.loop import event_loop
from aero.worker import flows as module
from aero.worker.flows import Conversations, FlowPlaces
from tests.faults.inside import until

LOOPBACK = "127.0.0.1"


class Wire:
    """In place of a session's flows: what is sent, and which flows have ended, why."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.ended: dict[int, tuple[int, str]] = {}

    def enqueue(self, flow: Flow, data: bytes, now: float, alone: bool = False) -> None:
        self.sent.append((flow.id, data))

    def end(self, flow: Flow, code: int, text: str) -> None:
        flow.ended = True
        self.ended[flow.id] = code, text


class Place:
    """The way to a target, whose name has the addresses that the test says, when it says so."""

    def __init__(self, port: int, *fixed: str) -> None:
        self.loop = event_loop()
        self.host, self.port = "svc.test", port
        self.fixed = tuple(self._at(ip) for ip in fixed)
        self.barred = False
        self.names = self
        self.waiting: list[Any] = []

    def _at(self, ip: str) -> tuple[int, tuple[str, int]]:
        return socket.AF_INET, (ip, self.port)

    def at(self, addresses: Any) -> Any:
        return at_port(addresses, self.port)

    def nowhere(self, found: Any) -> str:
        return f"the name {self.host} does not resolve: {found.error}"

    def ask(self, host: str, done: Any, kept_s: float) -> Place:
        self.waiting.append(done)
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def answer(self, *ips: str, error: str = "") -> None:
        self.waiting.pop()(Found(tuple((socket.AF_INET, (ip, 0)) for ip in ips), error))


class Bench:
    """A target's conversations, and a service for it."""

    def __init__(self, *fixed: str) -> None:
        self.service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.service.bind((LOOPBACK, 0))
        self.service.setblocking(False)
        self.place = Place(self.service.getsockname()[1], *fixed)
        self.wire = Wire()
        self.places = FlowPlaces()
        target = Target("dns", "svc.test", self.place.port, 0, "udp")
        self.all = Conversations(cast(Any, self.place).loop, self.places, target)

    def flow(self, number: int, *first: bytes) -> Flow:
        flow = Flow(cast(Any, self.wire), number, b"", Drops())
        self.all.add(flow, cast(Any, self.place))
        for data in first:
            if not flow.ended:
                flow.receiver.datagram(memoryview(data))
        return flow

    def came(self, count: int = 1) -> list[tuple[bytes, Any]]:
        found: list[tuple[bytes, Any]] = []

        def look() -> bool:
            try:
                found.append(self.service.recvfrom(65_536))
            except BlockingIOError:
                return False
            return len(found) == count

        until("what was sent", look)
        return found

    def close(self) -> None:
        for each in list(self.all._all):
            each.flow_ended(0, "")
        self.service.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(LOOPBACK)
    yield made
    made.close()


def test_each_flow_has_a_socket_of_its_own(bench: Bench) -> None:
    bench.flow(1, b"one")
    bench.flow(2, b"two")
    (one, first), (two, second) = bench.came(2)
    assert {one, two} == {b"one", b"two"} and first != second
    bench.service.sendto(b"answer", first if one == b"one" else second)
    until("the answer", lambda: bench.wire.sent == [(1, b"answer")])
    assert len(bench.all) == bench.places.taken == 2


def test_a_target_that_refuses_ends_the_flow_and_the_log_says_so_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.service.close()
    for number in (1, 2):
        flow = bench.flow(number, b"?")
        until("the refusal", lambda flow=flow: flow.ended)  # type: ignore[misc]
        assert bench.wire.ended[number][0] == Reset.REFUSED
    assert not len(bench.all) and not bench.places.taken and bench.all._timer is None
    assert sum("does not answer" in each.getMessage() for each in caplog.records) == 1


def test_another_address_of_the_target_is_tried() -> None:
    bench = Bench("127.0.0.9", LOOPBACK)  # nobody listens at the first
    try:
        flow = bench.flow(1, b"early")
        ((data, where),) = bench.came()
        assert data == b"early" and not flow.ended
        bench.service.sendto(b"yes", where)
        until("the answer", lambda: bench.wire.sent == [(1, b"yes")])
        flow.receiver.datagram(memoryview(b"more"))
        assert bench.came()[0][0] == b"more"
    finally:
        bench.close()


def test_what_comes_while_the_name_is_looked_up_waits_and_is_bounded() -> None:
    bench = Bench()
    try:
        flow = bench.flow(1, *(str(number).encode() for number in range(Limits.FLOW_EARLY + 3)))
        assert flow.drops.counts[datagrams.FULL] == 3
        bench.place.answer(LOOPBACK)
        assert [int(data) for data, _ in bench.came(Limits.FLOW_EARLY)] == list(range(Limits.FLOW_EARLY))
    finally:
        bench.close()


def test_a_name_that_does_not_resolve_ends_the_flow() -> None:
    bench = Bench()
    flow = bench.flow(1, b"?")
    bench.place.answer(error="no such name")
    assert flow.ended and bench.wire.ended[1] == (
        Reset.UNREACHABLE,
        "target dns: the name svc.test does not resolve: no such name",
    )
    bench.close()


def test_a_flow_that_leaves_waits_for_no_name() -> None:
    bench = Bench()
    flow = bench.flow(1, b"?")
    flow.receiver.flow_ended(Reset.TIMEOUT, "")
    assert not bench.place.waiting and not bench.places.taken
    bench.close()


def test_the_oldest_goes_where_a_place_is_needed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "FLOWS_PER_WORKER", 2)
    one, two, three = (bench.flow(number, b"?") for number in (1, 2, 3))
    assert one.ended and bench.wire.ended[1][0] == Reset.LIMIT
    assert not two.ended and not three.ended and bench.places.taken == 2
    bench.places.taken = 2  # another target has them
    for each in list(bench.all._all):
        each.flow_ended(0, "")
    bench.places.taken = 2
    assert bench.flow(4).ended


def test_descriptors_are_kept_for_links(bench: Bench) -> None:
    one = bench.flow(1, b"?")
    bench.places.line = 0
    two = bench.flow(2, b"?")
    assert one.ended and not two.ended


def test_who_is_silent_goes_later_than_at_the_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = bench.flow(1, b"?")
    bench.all._look()
    assert not flow.ended and bench.all._idle_s == 60 + Limits.FLOW_MARGIN_S
    now = module.monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: now + 91)
    bench.all._look()
    assert bench.wire.ended[1][0] == Reset.TIMEOUT


def test_what_is_faster_than_a_limit_is_dropped(bench: Bench) -> None:
    bench.all.rates = cast(Any, SimpleNamespace(admit=lambda count: count < 100))
    flow = bench.flow(1, b"?")
    ((_, where),) = bench.came()
    for size in (200, 50):
        bench.service.sendto(bytes(size), where)
    until("the answer", lambda: bench.wire.sent == [(1, bytes(50))])
    assert flow.drops.counts[datagrams.RATE] == 1


def test_a_datagram_that_is_too_large_costs_itself_alone(bench: Bench) -> None:
    flow = bench.flow(1)
    flow.receiver.datagram(memoryview(bytes(65_508)))
    assert flow.drops.counts[datagrams.LARGE] == 1 and not flow.ended
    gevent.sleep(0)
