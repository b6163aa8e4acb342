"""A UDP door with real sockets and a worker that only notes: who gets a flow, what may go back, what is dropped."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.core import datagrams
from aero.core.datagrams import Drops
from aero.core.flows import Flow, FlowReceiver, Flows
from aero.core.memory import Room
from aero.limits import Limits
from aero.net import datagrams as net_datagrams
from aero.net.loop import event_loop
from aero.server.registry.doors import udp
from aero.server.registry.doors.udp import Hall, UdpDoor
from aero.server.registry.gradually import at_once
from tests.faults.inside import until

LOOPBACK = "127.0.0.1"


class Wire:
    """In place of a session and its link."""

    dirty = True
    positions = (0, 0)

    def __init__(self) -> None:
        self.ends: list[int] = []

    def put(self, kind: int, flow_id: int, payload: bytes) -> None:
        self.ends.append(flow_id)


class House:
    """A door, and the worker behind it."""

    def __init__(self, **options: int) -> None:
        self.wire = Wire()
        self.flows = Flows(cast(Any, self.wire), Room(1 << 20), None)
        self.flows.linked = True
        self.up = True
        self.rates: Any = None
        self.opened: list[tuple[int, str]] = []
        self.joined: set[Flow] = set()
        self.drops = Drops()
        self.limits = Limits(FLOWS_PER_MAPPING=8, FLOWS_PER_ADDRESS=4)
        self.hall = Hall(event_loop())
        self.cid = "c1"
        self.tally = SimpleNamespace(datagrams_in=0, datagrams_out=0)
        mapping = SimpleNamespace(
            why_not=lambda *_: None,
            worker=self, name="dns", target_id=5, options=options, drops=self.drops, tally=self.tally,
            joined=self.joined.add, left=self.joined.discard, closed=False, row=1, port=0,
        )  # fmt: skip
        (sock,) = udp.bind((LOOPBACK,), 0)
        self.door = UdpDoor(self.hall, cast(Any, mapping))
        at_once(self.door.listen([sock]))
        self.where = sock.getsockname()
        self.socks: list[socket.socket] = []

    def open_flow(
        self, receiver: FlowReceiver, target_id: int, visitor: str, drops: Drops, offset: int = 0
    ) -> Flow | None:
        if not self.up:
            return None
        self.opened.append((target_id + offset, visitor))
        return self.flows.open(receiver, target_id + offset, visitor, drops)

    def flow_rates(self, target_id: int, visitor: str) -> Any:
        return self.rates

    def visit(self, data: bytes = b"?") -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.where)
        sock.setblocking(False)
        self.socks.append(sock)
        self.say(sock, data)
        return sock

    def say(self, sock: socket.socket, data: bytes) -> None:
        before = sum(flow.sent for flow in self.joined) + self.drops.total
        sock.send(data)
        until(
            "the datagram", lambda: sum(f.sent for f in self.joined) + self.drops.total != before or not data
        )

    def answer(self, number: int, data: bytes) -> None:
        flow = self.flows.by_id[number]
        flow.receiver.datagram(memoryview(data))

    def close(self) -> None:
        self.door.close()
        for sock in self.socks:
            sock.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback counts as anybody else does."""
    monkeypatch.setattr(udp, "is_near", lambda ip: False)


def got(sock: socket.socket) -> list[bytes]:
    found = []
    gevent.sleep(0.01)  # some turns of the loop: also for what may not come
    try:
        while True:
            found.append(sock.recv(65_536))
    except BlockingIOError:
        return found


def test_there_and_back(house: House) -> None:
    sock = house.visit(b"query")
    assert house.opened == [(5, f"{LOOPBACK}:{sock.getsockname()[1]}")]
    assert b"query" in house.flows.take()
    house.answer(1, b"reply")
    house.answer(1, b"")
    assert got(sock) == [b"reply", b""]
    house.say(sock, b"more")
    assert len(house.opened) == 1 and len(house.joined) == 1
    assert (house.tally.datagrams_in, house.tally.datagrams_out) == (2, 2)


def test_where_no_link_is_up_nothing_waits(house: House) -> None:
    house.up = False
    house.visit()
    assert house.drops.counts[datagrams.NO_LINK] == 1 and not len(house.door.visits)


def test_when_the_flow_ends_the_next_datagram_begins_another(house: House) -> None:
    sock = house.visit()
    house.flows.end_received(1, 1, "refused", 0.0)
    assert not house.joined and not house.hall.visits
    house.say(sock, b"again")
    assert len(house.opened) == 2 and house.hall.visits == 1


def test_the_latest_have_the_places_and_both_ends_know(house: House) -> None:
    for _ in range(12):
        house.visit()
    assert len(house.door.visits) == len(house.joined) == house.hall.visits == 8
    assert house.wire.ends == [1, 2, 3, 4]


def test_one_address_has_its_share(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    far(monkeypatch)
    for _ in range(6):
        house.visit()
    assert len(house.door.visits) == 4


def test_new_flows_of_one_address_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    far(monkeypatch)
    house.hall.arrivals = udp.Allowances(2, 0, 10)
    for _ in range(4):
        house.visit()
    assert len(house.opened) == 2 and house.drops.counts[datagrams.CROWD] == 2


def test_no_more_than_the_process_may_have(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "FLOWS", 2)
    for _ in range(4):
        house.visit()
    assert house.hall.visits == 2
    house.hall.visits = 2
    for each in list(house.door.visits):
        house.door.forget(each, "ok")
    house.hall.visits = 2  # another mapping has them
    house.visit()
    assert house.drops.counts[datagrams.CROWD] == 1


def test_answers_to_who_may_be_made_up_come_from_an_allowance(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    far(monkeypatch)
    house.hall.answers = udp.Allowances(1000, 0, 10)
    sock, other = house.visit(), house.visit()
    for _ in range(5):
        house.answer(1, bytes(300))
    house.answer(2, bytes(300))  # the same prefix
    assert len(got(sock)) == 3 and not got(other) and house.drops.counts[datagrams.BUDGET] == 3
    house.say(sock, b"I am here")
    for _ in range(5):
        house.answer(1, bytes(300))
    assert len(got(sock)) == 5


def test_all_of_a_mapping_share_one_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    far(monkeypatch)
    house.door._answers = udp.Allowance(500, 0, 0.0)
    sock = house.visit()
    house.answer(1, bytes(300))
    house.answer(1, bytes(300))
    assert len(got(sock)) == 1


def test_amplify_is_strict_and_always() -> None:
    house = House(amplify=3)
    try:
        sock = house.visit(bytes(100))
        for _ in range(2):
            house.answer(1, bytes(200))
        house.answer(1, bytes(100))
        assert [len(each) for each in got(sock)] == [200, 100]
        house.say(sock, bytes(100))
        house.answer(1, bytes(300))
        assert [len(each) for each in got(sock)] == [300]
    finally:
        house.close()


def test_who_is_silent_goes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.visit()
    house.door._idle_s = 0.0
    until("the flow's end", lambda: house.wire.ends == [1])
    assert house.door._timer is None and not house.joined


def test_a_closed_door_ends_its_flows(house: House) -> None:
    house.visit()
    house.door.close()
    assert house.wire.ends == [1] and not house.joined and not house.door.addresses


def test_a_datagram_that_no_socket_takes_is_counted(house: House) -> None:
    house.visit()
    house.answer(1, bytes(65_508))
    assert house.drops.counts[datagrams.LARGE] == 1


def test_what_is_faster_than_a_limit_is_dropped(house: House) -> None:
    house.rates = SimpleNamespace(admit=lambda count: count < 100)
    sock = house.visit(bytes(50))
    house.say(sock, bytes(200))
    assert house.drops.counts[datagrams.RATE] == 1 and {flow.sent for flow in house.joined} == {50}


def test_what_the_kernel_had_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_datagrams, "BUFFER_BYTES", 4096)
    made = House()
    sock = made.visit()
    for _ in range(200):  # and the loop has no turn in which to read them
        sock.send(bytes(500))
    unread = until("the drops", lambda: made.drops.counts[datagrams.UNREAD], 10)
    assert made.tally.datagrams_in + unread == 201
    made.close()
