"""Flows between two ends: told once, ended once, in turn, never old, never more than bounded."""

from __future__ import annotations

import pytest

from aero.core import datagrams, features, frames, record
from aero.core.budget import Budget
from aero.core.codes import Close, Reset
from aero.core.datagrams import DATA, FULL, KNOWN, MEMORY, NO_LINK, OLD, OPENING, OVER, Drops
from aero.core.flows import FLOW_BYTES, LINK_BYTES, MAX_AGE_S, OVERHEAD_BYTES, RECORD_BYTES, Flow, Flows
from aero.core.memory import Room
from tests.core.joined import End, Joined, bulk, refused

VISITOR = "[2001:db8::1]:53"


class Socket:
    """Owner of a flow: remembers what comes, and says it back where it is an echo."""

    def __init__(self, flow: Flow | None = None, echo: bool = False) -> None:
        self.flow = flow
        self.echo = echo
        self.got: list[bytes] = []
        self.over: list[int] = []

    def datagram(self, view: memoryview) -> None:
        assert not self.over
        self.got.append(bytes(view))
        if self.echo and self.flow is not None:
            self.flow.send(bytes(view), 0.0)

    def flow_ended(self, code: int, text: str) -> None:
        self.over.append(code)


class Both(Joined):
    """Two ends with flows; the worker's targets echo, and 9 is none."""

    def __init__(self, agreed: int = features.DATAGRAMS) -> None:
        self.agreed = agreed
        super().__init__()
        self.room = Room(1 << 30)
        self.sockets: dict[int, Socket] = {}
        self.opened: list[tuple[int, str]] = []
        self.drops = Drops()
        self.near = self.add(self.server, None)
        self.far = self.add(self.worker, self)

    def add(self, end: End, handler: Both | None) -> Flows:
        flows = end.session.flows = Flows(end.session, self.room, handler)
        flows.now = self.now
        if self.agreed:
            flows.link_up()
        return flows

    def connect(self) -> None:
        super().connect()
        for end in self.ends:
            end.machine.features = self.agreed

    def flow_opened(self, flow: Flow, target_id: int, visitor: str) -> None:
        self.opened.append((target_id, visitor))
        if target_id == 9:
            flow.end(Reset.NO_TARGET, "no such target")
        else:
            flow.receiver = self.sockets[flow.id] = Socket(flow, echo=True)

    def visit(self, target_id: int = 1, data: bytes = b"") -> Socket:
        socket = Socket()
        socket.flow = self.near.open(socket, target_id, VISITOR, self.drops)
        if data:
            self.say(socket, data)
        return socket

    def say(self, socket: Socket, data: bytes) -> None:
        assert socket.flow is not None
        socket.flow.send(data, self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.near.now = self.far.now = self.now


@pytest.fixture
def both() -> Both:
    return Both()


def kinds(plain: bytes) -> list[tuple[int, int, bytes]]:
    return [(kind, flow_id, bytes(payload)) for kind, flow_id, payload in frames.split(memoryview(plain))]


def test_there_and_back_with_boundaries_kept(both: Both) -> None:
    sizes = [0, 1, 1200, 65_507, 0]
    socket = both.visit()
    for size in sizes:
        both.say(socket, bulk(size))
    both.far.now = 0.0  # the echo's own clock
    both.run()
    assert both.sockets[1].got == socket.got == [bulk(size) for size in sizes]
    assert both.opened == [(1, VISITOR)]
    assert socket.flow is not None and socket.flow.sent == socket.flow.received == sum(sizes)
    assert not both.drops.total and not both.room.taken_bytes


def test_the_origin_goes_with_each_datagram_until_the_other_end_knows_it(both: Both) -> None:
    origin = datagrams.pack_origin(1, VISITOR)
    socket = both.visit(data=b"lost")
    assert kinds(both.near.take()) == [(OPENING, 1, origin + b"lost")]
    both.say(socket, b"here")
    said = both.near.take()
    assert kinds(said) == [(OPENING, 1, origin + b"here")]
    both.far.receive(memoryview(said))
    both.sockets[1].echo = False
    assert kinds(both.far.take())[0] == (KNOWN, 1, b"")
    both.near.receive(memoryview(frames.pack(KNOWN, 1)))
    both.say(socket, b"again")
    assert kinds(both.near.take()) == [(DATA, 1, b"again")]
    assert both.opened == [(1, VISITOR)]


def test_an_answer_says_as_much(both: Both) -> None:
    socket = both.visit(data=b"x")
    both.near.take()
    both.near.receive(memoryview(frames.pack(DATA, 1, b"y")))
    both.say(socket, b"z")
    assert kinds(both.near.take()) == [(DATA, 1, b"z")]


def test_many_datagrams_make_one_record(both: Both) -> None:
    socket = both.visit()
    for _ in range(500):
        both.say(socket, bytes(64))
    both.server.write()
    assert len(both.server.out.bytes) < 500 * (64 + 8 + 24) + record.OVERHEAD_BYTES
    records, at = 0, 0
    while at < len(both.server.out.bytes):
        kind, size = record.record_bytes(memoryview(bytes(both.server.out.bytes)), at)
        assert kind == record.DATAGRAMS
        at, records = at + size, records + 1
    assert records == 1


def test_a_record_never_exceeds_what_one_may_have(both: Both) -> None:
    for _ in range(20):
        both.visit(data=bytes(65_507))
    sizes = []
    while both.near.waiting:
        sizes.append(len(both.near.take()))
    assert max(sizes) <= record.MAX_PLAIN_BYTES and max(sizes) > RECORD_BYTES


def test_a_call_does_not_wait_behind_a_download(both: Both) -> None:
    download, call = both.visit(), both.visit()
    for _ in range(300):
        both.say(download, bytes(1200))
    both.say(call, b"voice")
    both.say(call, b"voice")
    first = kinds(both.near.take())
    assert [flow_id for _, flow_id, _ in first[:6]] == [1, 1, 1, 1, 2, 2]


def test_datagrams_and_bulk_take_turns(both: Both) -> None:
    near, _ = both.pair()
    near.push(bulk(300_000))
    socket = both.visit()
    for _ in range(200):
        both.say(socket, bytes(1200))
    out = memoryview(bytearray(record.MAX_RECORD_BYTES))
    said = []
    while both.server.machine.next_record(out):
        said.append(out[0])
    assert said[:4] == [record.DATAGRAMS, record.SESSION, record.DATAGRAMS, record.SESSION]
    assert said.count(record.DATAGRAMS) >= 4
    assert both.server.session.flight.shared  # bulk is to keep less on its way now


def test_a_flows_oldest_go_first(both: Both) -> None:
    socket = both.visit()
    count = FLOW_BYTES // (1000 + OVERHEAD_BYTES) + 10
    for number in range(count):
        both.say(socket, number.to_bytes(1000, "big"))
    left = [int.from_bytes(payload[-1000:], "big") for _, _, payload in kinds(taken(both.near))]
    assert left == list(range(count - len(left), count))
    assert both.drops.counts[FULL] == count - len(left) >= 9
    assert not both.room.taken_bytes


def taken(flows: Flows) -> bytes:
    out = b""
    while flows.waiting:
        out += flows.take()
    return out


def test_a_full_link_costs_the_flow_that_has_the_most(both: Both) -> None:
    small = both.visit(data=b"mine")
    for _ in range(2 + LINK_BYTES // FLOW_BYTES):
        socket = both.visit()
        for _ in range(FLOW_BYTES // (1000 + OVERHEAD_BYTES)):
            both.say(socket, bytes(1000))
    assert small.flow is not None and small.flow.queue
    assert both.room.taken_bytes <= LINK_BYTES
    assert both.drops.counts[FULL]


def test_empty_datagrams_are_bounded_as_well(both: Both) -> None:
    socket = both.visit()
    for _ in range(20_000):
        both.say(socket, b"")
    assert socket.flow is not None and socket.flow.queue is not None
    assert len(socket.flow.queue) == FLOW_BYTES // OVERHEAD_BYTES


def test_a_process_without_memory_drops(both: Both) -> None:
    both.room.limit_bytes = 10_000
    sockets = [both.visit(data=bytes(1000)) for _ in range(20)]
    assert both.room.taken_bytes <= both.room.limit_bytes
    assert both.drops.counts[MEMORY] == 20 - 8
    assert sockets[-1].flow is not None


def test_nothing_old_is_sent(both: Both) -> None:
    socket = both.visit(data=b"old")
    both.pass_time(MAX_AGE_S / 2)
    both.say(socket, b"young")
    both.pass_time(MAX_AGE_S / 2 + 0.01)
    assert [payload[-5:] for _, _, payload in kinds(both.near.take())] == [b"young"]
    assert both.drops.counts[OLD] == 1
    both.say(socket, b"late")
    both.pass_time(1.0)
    assert both.near.waiting and not both.near.take() and not both.near.waiting


def test_what_is_too_old_lets_the_streams_go_on(both: Both) -> None:
    near, far = both.pair()
    both.visit(data=b"old")
    near.push(b"bytes")
    both.pass_time(1.0)
    both.run()
    assert far.got == b"bytes"


def test_a_lost_link_drops_what_waits_and_flows_stay(both: Both) -> None:
    socket = both.visit(data=b"before")
    both.run()
    both.say(socket, b"waits")
    both.cut()
    for flows in (both.near, both.far):
        flows.link_lost()
    both.say(socket, b"no link")
    assert both.drops.counts[NO_LINK] == 2 and not both.near.waiting
    both.connect()
    both.run()
    both.say(socket, b"after")
    both.run()
    assert both.sockets[1].got == [b"before", b"after"]
    assert not socket.over and len(both.opened) == 1


def test_a_link_without_the_feature_carries_none(both: Both) -> None:
    socket = both.visit(data=b"x")
    both.run()
    both.agreed = 0
    both.resume()
    both.say(socket, b"y")
    assert not both.near.waiting and both.drops.counts[NO_LINK] == 1


def test_an_end_is_told(both: Both) -> None:
    socket = both.visit(data=b"x")
    both.run()
    assert socket.flow is not None
    socket.flow.end(Reset.LIMIT, "somebody else needs the place")
    socket.flow.end(Reset.LIMIT)
    both.run()
    assert both.sockets[1].over == [Reset.LIMIT]
    assert not both.near.by_id and not both.far.by_id
    both.say(socket, b"y")
    assert both.drops.counts[OVER] == 1


def test_a_target_that_is_none_ends_the_flow_at_once_and_once(both: Both) -> None:
    socket = both.visit(9, b"x")
    both.say(socket, b"y")
    both.run()
    assert socket.over == [Reset.NO_TARGET] and both.opened == [(9, VISITOR)]
    assert both.far.drops.counts[OVER] == 2


def test_what_crosses_an_end_opens_no_flow_anew(both: Both) -> None:
    """The origin may still be on its way when the worker has ended the flow."""
    both.visit(9, b"x")
    said = both.near.take()
    both.far.receive(memoryview(said))
    both.far.receive(memoryview(said))
    assert both.opened == [(9, VISITOR)] and not both.far.by_id
    both.settle()
    both.visit(9, b"x")
    both.settle()
    assert len(both.far._gone) == 1  # what the server has processed is forgotten


def test_datagrams_that_cross_our_end_are_dropped(both: Both) -> None:
    socket = both.visit(data=b"x")
    both.run()
    assert socket.flow is not None
    socket.flow.end(Reset.LIMIT)
    both.near.receive(memoryview(frames.pack(DATA, 1, b"y")))
    assert both.near.drops.counts[OVER] == 1


def test_the_end_of_a_session_ends_its_flows(both: Both) -> None:
    sockets = [both.visit(data=b"x") for _ in range(3)]
    both.server.session.end(Reset.LOST, "over")
    assert [socket.over for socket in sockets] == [[Reset.LOST]] * 3
    assert both.server.session.flows is None and not both.room.taken_bytes


def test_the_last_flow_id_is_the_last(both: Both) -> None:
    both.near._next_id = datagrams.MAX_FLOW_ID
    assert not both.near.used_up
    both.visit(data=b"x")
    both.run()
    assert both.near.used_up and list(both.sockets) == [datagrams.MAX_FLOW_ID]


# What may not be


ORIGIN = datagrams.pack_origin(1, VISITOR)


@pytest.mark.parametrize(
    ("said", "code", "match"),
    [
        (frames.pack(DATA, 7, b"x"), Close.UNKNOWN_STREAM, "never opened"),
        (frames.pack(KNOWN, 7), Close.UNKNOWN_STREAM, "never opened"),
        (frames.pack(DATA, 0, b"x"), Close.FRAME, "flow 0"),
        (frames.pack(DATA, 1, bytes(65_508)), Close.FRAME, "65508 bytes"),
        (frames.pack(KNOWN, 1, b"x"), Close.FRAME, "KNOWN of 1"),
        (frames.pack(OPENING, 1, ORIGIN), Close.STATE, "may not be opened"),
        (frames.pack(0x84, 1), Close.FRAME, "kind 132"),
        (frames.pack(frames.DATA, 1, b"x"), Close.FRAME, "kind 3"),
        (frames.pack(DATA, 1, b"x")[:-1], Close.FRAME, "longer than its record"),
        (b"\x81\0\0", Close.FRAME, "3 bytes left"),
    ],
    ids=lambda each: each[:20].hex() if isinstance(each, bytes) else None,
)
def test_what_a_worker_may_not_say(both: Both, said: bytes, code: int, match: str) -> None:
    both.visit(data=b"x")
    both.run()
    with refused(code, match):
        both.server.arrive(both.worker.seal(record.DATAGRAMS, said))


@pytest.mark.parametrize(
    ("said", "code", "match"),
    [
        (frames.pack(OPENING, 0, ORIGIN), Close.FRAME, "flow 0"),
        (frames.pack(OPENING, 1, datagrams.pack_origin(2, VISITOR)), Close.STATE, "given twice"),
        (frames.pack(OPENING, 1, datagrams.pack_origin(1, "192.0.2.1:5")), Close.STATE, "given twice"),
        (frames.pack(OPENING, 2, ORIGIN + bytes(65_508)), Close.FRAME, "65508 bytes"),
        (frames.pack(OPENING, 2, b"\0\1"), Close.FRAME, "origin of 2 bytes"),
        (frames.pack(OPENING, 2, b"\0\1\5abcd"), Close.FRAME, "address of 5 bytes"),
        (frames.pack(OPENING, 2, b"\0\1\x41" + bytes(80)), Close.FRAME, "address of 65 bytes"),
        (frames.pack(KNOWN, 1), Close.STATE, "not opened there"),
    ],
    ids=lambda each: each[:20].hex() if isinstance(each, bytes) else None,
)
def test_what_a_server_may_not_say(both: Both, said: bytes, code: int, match: str) -> None:
    both.visit(data=b"x")
    both.run()
    with refused(code, match):
        both.worker.arrive(both.server.seal(record.DATAGRAMS, said))


@pytest.mark.parametrize("agreed", [0, features.DATAGRAMS])
def test_a_record_of_datagrams_where_none_can_be(agreed: int) -> None:
    """Without the feature, and with it at an end that has no flows and makes none."""
    both = Both(agreed)
    both.worker.session.flows = None
    with refused(Close.STATE, "no flows" if agreed else "not agreed on"):
        both.worker.arrive(both.server.seal(record.DATAGRAMS, frames.pack(DATA, 1, b"x")))


def test_datagrams_before_the_session(both: Both) -> None:
    both.cut()
    both.connect()
    with refused(Close.STATE, "not agreed on"):
        both.server.arrive(both.worker.seal(record.DATAGRAMS, frames.pack(DATA, 1, b"x")))


def test_the_end_of_a_flow_that_never_was(both: Both) -> None:
    end = frames.pack(frames.FLOW_END, 1, frames.pack_reason(1, ""))
    with refused(Close.UNKNOWN_STREAM, "never opened"):
        both.server.feed(end)
    both.server.session.flows = None
    with refused(Close.STATE, "no flows"):
        both.server.feed(end)


def test_ends_again_and_again(both: Both) -> None:
    both.near.ends = Budget(2, 1.0, both.now)
    end = frames.pack(frames.FLOW_END, 1, frames.pack_reason(1, ""))
    socket = both.visit(data=b"x")
    both.server.feed(end, end, end)
    assert socket.over == [1]
    with refused(Close.OVERLOAD, "again and again"):
        both.server.feed(end)
