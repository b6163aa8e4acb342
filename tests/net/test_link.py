"""A link with its socket: who tells it that there is something to send, and when."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from aero.core import control, features, frames, record
from aero.core.aead.choose import choose
from aero.core.datagrams import Drops
from aero.core.flight import BULK_BYTES, MOST_BYTES, Flight
from aero.core.flows import Flows
from aero.core.memory import Memory, Room
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.errors import AeroError
from aero.net.link import RECORDS_A_TURN, SHARED_RECORDS, WAKE_BYTES, WAKE_S, Link
from aero.net.loop import READ, WRITE
from aero.net.transport import TcpTransport
from tests.faults.inside import until

BACKEND = choose()
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
        self.datagrams: list[bytes] = []  # records of them
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
            elif kind == record.DATAGRAMS:
                self.datagrams.append(bytes(plain[:count]))
        return bytes(self.said)


class Layered:
    """A transport that holds bytes of its own, and whose each direction may wait for the other's event, as TLS does."""

    def __init__(self, sock: socket.socket) -> None:
        self.kind = "layered"
        self._inner = TcpTransport(sock)
        self.receive_waits_for = READ
        self.send_waits_for = WRITE
        self.held = bytearray()
        self.stuck_send = False  # until something was received
        self.stuck_receive = False  # until something was sent, or the descriptor could be written
        self.events: list[str] = []

    @property
    def pending(self) -> int:
        return len(self.held)

    def fileno(self) -> int:
        return self._inner.fileno()

    def receive_into(self, buffer: memoryview) -> int:
        self.events.append("receive")
        if self.stuck_receive:
            self.stuck_receive = False
            self.receive_waits_for = WRITE
            raise BlockingIOError
        self.receive_waits_for = READ
        self.stuck_send = False
        if not self.held:  # a layer takes all that the kernel has, and gives it out in pieces
            everything = memoryview(bytearray(1 << 20))
            self.held += everything[: self._inner.receive_into(everything)]
        count = min(len(self.held), len(buffer), 10)
        buffer[:count] = self.held[:count]
        del self.held[:count]
        return count

    def send(self, data: memoryview) -> int:
        self.events.append("send")
        if self.stuck_send:
            self.send_waits_for = READ
            raise BlockingIOError
        self.send_waits_for = WRITE
        return self._inner.send(data)

    def keep_unsent(self, count: int) -> None:
        self._inner.keep_unsent(count)

    def wake_at(self, count: int) -> None:
        """A layer does not know."""

    def congest(self, name: str) -> None:
        self._inner.congest(name)

    @property
    def congestion(self) -> str:
        return self._inner.congestion

    def in_flight(self) -> int:
        return self._inner.in_flight()

    def shut(self) -> None:
        self._inner.shut()

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def layered() -> Iterator[tuple[Link, Peer, Layered]]:
    near, far = socket.socketpair()
    far.setblocking(False)
    transport = Layered(near)
    link = Link(transport, Owner(), RecordWriter(BACKEND, DOWN), RecordReader(BACKEND, UP), 60.0)  # type: ignore[arg-type]
    link.start()
    yield link, Peer(far), transport
    link.abandon(AeroError("the test is over"))
    far.close()


def said(writer: RecordWriter, payload: bytes) -> bytes:
    """A session record of the peer's."""
    out = bytearray(len(payload) + record.OVERHEAD_BYTES)
    writer.seal(record.SESSION, memoryview(payload), memoryview(out))
    return bytes(out)


@pytest.fixture
def joined() -> Iterator[tuple[Link, Peer]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    link = Link(TcpTransport(near), Owner(), RecordWriter(BACKEND, DOWN), RecordReader(BACKEND, UP), 60.0)  # type: ignore[arg-type]
    link.start()
    yield link, Peer(far)
    link.abandon(AeroError("the test is over"))
    far.close()


def session(handler: Any = None) -> Session:
    return Session(handler, SERVER_FIRST_ID, Memory(64 << 20), SessionLimits(), 0.0)


def frame(number: int) -> bytes:
    return frames.pack(frames.CONTROL, 0, control.Unknown(f"{number}").pack())


@pytest.mark.parametrize("told", [False, True])
def test_a_link_that_takes_a_session_over_sends_what_is_kept_and_hears_of_what_comes(
    joined: tuple[Link, Peer], told: bool
) -> None:
    """Whether the former link had been told of output or not: it is gone, and the new one looks for itself."""
    link, peer = joined
    kept = session()
    kept.control(control.Unknown("1"))
    assert kept.next_piece() is not None
    kept.dirty = told
    kept.take_over(0)
    link.carry(kept)
    until("what was kept", lambda: peer.read() == frame(1))
    until("the link to be idle", lambda: not kept.dirty)
    kept.control(control.Unknown("2"))
    until("what came later", lambda: peer.read() == frame(1) + frame(2))


def test_a_link_that_carries_a_session_with_nothing_to_say_hears_of_its_first_word(
    joined: tuple[Link, Peer],
) -> None:
    link, peer = joined
    silent = session()
    link.carry(silent)
    until("the link to be idle", lambda: not silent.dirty)
    gevent.sleep(0)
    silent.control(control.Unknown("1"))
    until("its word", lambda: peer.read() == frame(1))


class Silent:
    """A receiver that takes all and says nothing."""

    def data(self, view: memoryview) -> None:
        """Nobody reads it."""

    def finished(self) -> None:
        """Nobody waits for it."""

    def reset(self, code: int, text: str) -> None:
        """Nobody asks why."""

    def resume(self) -> None:
        """All of it fits."""


def idle_stream(link: Link) -> Stream:
    """A stream over ``link``, which has nothing left to send."""
    carried = session()
    link.carry(carried)
    stream = carried.open(Silent(), 1, "", 0.0)
    until("the link to be idle", lambda: not carried.dirty)
    gevent.sleep(0)
    return stream


def test_a_message_leaves_at_once_where_nothing_else_happens_in_the_turn(joined: tuple[Link, Peer]) -> None:
    link, peer = joined
    stream = idle_stream(link)
    peer.read()
    stream.send(memoryview(b"question"))
    assert peer.read().endswith(b"question")  # and no turn of the loop has passed
    assert not stream.session.dirty
    stream.send(memoryview(b"another"))
    assert peer.read().endswith(b"another")


def test_messages_of_one_turn_leave_as_one_record_at_its_end(joined: tuple[Link, Peer]) -> None:
    link, peer = joined
    stream = idle_stream(link)
    before = link.sent_bytes
    link.schedule()  # as for something else that came in this turn
    stream.send(memoryview(b"first"))
    stream.send(memoryview(b"second"))
    assert link.sent_bytes == before
    until("both", lambda: peer.read().endswith(b"second"))
    assert link.sent_bytes == before + record.OVERHEAD_BYTES + 2 * frames.HEADER_BYTES + len("firstsecond")


class Visitor:
    """The receiver of a flow."""

    def datagram(self, view: memoryview) -> None:
        """Nobody reads it."""

    def flow_ended(self, code: int, text: str) -> None:
        """Nobody asks why."""


def test_a_datagram_that_is_alone_leaves_at_once_and_others_share_a_record(joined: tuple[Link, Peer]) -> None:
    link, peer = joined
    link.machine.features = features.DATAGRAMS
    carried = idle_stream(link).session
    carried.flows = Flows(carried, Room(1 << 20), None)
    carried.flows.link_up()
    flow = carried.flows.open(Visitor(), 1, "192.0.2.1:5", Drops())
    flow.send(b"alone", monotonic(), alone=True)
    peer.read()
    assert peer.datagrams[0].endswith(b"alone")  # and no turn of the loop has passed
    assert not carried.dirty
    flow.send(b"one of many", monotonic())
    flow.send(b"another", monotonic())
    peer.read()
    assert len(peer.datagrams) == 1
    until("both", lambda: peer.read() and len(peer.datagrams) == 2)
    assert b"one of many" in peer.datagrams[1] and peer.datagrams[1].endswith(b"another")


def test_a_link_that_breaks_under_a_message_says_so_to_nobody_before_the_next_event(
    joined: tuple[Link, Peer],
) -> None:
    """Whoever sends may be in the middle of anything."""
    link, peer = joined
    stream = idle_stream(link)
    peer.sock.close()
    stream.send(memoryview(b"to nobody"))
    owner: Any = link.owner
    assert not link.ended and not owner.errors
    until("the end", lambda: len(owner.errors) == 1)


def test_of_a_message_that_the_kernel_does_not_take_the_rest_leaves_later(
    layered: tuple[Link, Peer, Layered],
) -> None:
    link, peer, transport = layered
    stream = idle_stream(link)
    transport.stuck_send = True
    stream.send(memoryview(b"late"))
    assert transport.send_waits_for == READ
    peer.sock.send(said(RecordWriter(BACKEND, UP), frame(7)))
    until("the message", lambda: peer.read().endswith(b"late"))


def test_bulk_that_no_record_follows_is_acknowledged_by_a_tick_that_then_stops(
    joined: tuple[Link, Peer],
) -> None:
    link, peer = joined
    heard = session(SimpleNamespace(stream_opened=lambda *_: None))
    link.carry(heard)
    writer = RecordWriter(BACKEND, UP)
    first = frames.pack(frames.OPEN, 2, frames.pack_open(1 << 16, 1, ""))
    first += frames.pack(frames.DATA, 2, bytes(BULK_BYTES))
    more = frames.pack(frames.DATA, 2, bytes(BULK_BYTES))
    acks = link.machine.acks
    peer.sock.send(said(writer, first))
    until("the first", lambda: acks.position == len(first))
    acks.said(len(first), monotonic() + 60)  # the second comes too soon after that to be worth another
    peer.sock.send(said(writer, more))
    until("the tick", lambda: link._tick.active)
    assert acks.position == len(first)
    until("both", lambda: acks.position == len(first + more))
    until("the end of the tick", lambda: not link._tick.active)
    assert acks.at == 0


def test_an_acknowledgement_lets_a_stream_go_on_that_waits_for_it(joined: tuple[Link, Peer]) -> None:
    """Nothing else is to be sent then, and the next look would be 50 ms later."""
    link, peer = joined
    stream = idle_stream(link)
    stream.session.waiting[stream.id] = stream
    ack = frames.pack(frames.ACK, 0, frames.pack_u64(stream.session.outbox.sent))
    out = bytearray(len(ack) + record.OVERHEAD_BYTES)
    RecordWriter(BACKEND, UP).seal(record.LINK, memoryview(ack), memoryview(out))
    peer.sock.send(out)
    assert not stream.session.dirty and not link._scheduled
    link._on_readable()
    assert link._scheduled


@pytest.mark.parametrize(("shared", "records"), [(False, RECORDS_A_TURN), (True, SHARED_RECORDS)])
def test_a_link_that_always_has_more_leaves_the_other_sockets_their_turn(
    joined: tuple[Link, Peer], shared: bool, records: int
) -> None:
    link, _ = joined
    stream = idle_stream(link)
    session = stream.session
    session.flight = flight = Flight(0.0)
    flight.bound_bytes, flight.lately_shared = MOST_BYTES, shared
    stream.send_limit = 1 << 40
    endless: Any = stream.receiver
    endless.resume = lambda: stream.send(memoryview(bytes(1 << 20)))
    sent = 0

    def send(data: memoryview) -> int:
        nonlocal sent
        sent += 1
        session.outbox.acknowledge(session.outbox.sent)
        return len(data)

    link._send = send
    seen: list[int] = []
    watcher = link._loop.io(link._transport.fileno(), WRITE)  # there is always such an event
    watcher.start(lambda: seen.append(sent))
    try:
        endless.resume()
        until("some turns", lambda: len(seen) > 5 and sent > 3 * RECORDS_A_TURN)
    finally:
        watcher.stop()
    assert max(after - before for before, after in zip(seen, seen[1:])) == records


def test_an_acknowledgement_leaves_in_one_call_with_what_is_said_in_the_same_turn(
    joined: tuple[Link, Peer],
) -> None:
    link, peer = joined
    stream = idle_stream(link)
    until("what opened it", peer.read)
    calls: list[int] = []
    send = link._send
    link._send = lambda data: calls.append(len(data)) or send(data)  # type: ignore[func-returns-value]
    answering: Any = stream.receiver
    answering.data = lambda view: (stream.send(memoryview(b"answer")), stream.consume(len(view), 0.0))
    peer.sock.send(said(RecordWriter(BACKEND, UP), frames.pack(frames.DATA, stream.id, bytes(BULK_BYTES))))
    until("the answer", lambda: peer.read().endswith(b"answer"))
    until("the acknowledgement", lambda: link.machine.acks.position)
    ack = record.OVERHEAD_BYTES + frames.HEADER_BYTES + 8
    assert calls == [ack + record.OVERHEAD_BYTES + frames.HEADER_BYTES + len("answer")]


@pytest.mark.parametrize("pause_s", [0.0, 2 * WAKE_S])
def test_a_large_record_that_comes_fast_in_packets_does_not_wake_for_each(
    joined: tuple[Link, Peer], pause_s: float
) -> None:
    link, peer = joined
    stream = idle_stream(link)
    link._reading.stop()
    wakes: list[int] = []
    link._transport.wake_at = wakes.append  # type: ignore[method-assign]
    whole = said(RecordWriter(BACKEND, UP), frames.pack(frames.DATA, stream.id, bytes(50_000)))
    for at in range(0, len(whole), 1400):
        peer.sock.send(whole[at : at + 1400])
        link.machine.heard_at = monotonic() - pause_s
        link._on_readable()
    assert stream.received == 50_000
    if pause_s:  # nobody knows when the rest comes, and silence has to show
        assert not wakes
    else:
        assert wakes[0] == WAKE_BYTES
        assert wakes == sorted(wakes, reverse=True)
        assert wakes[-1] == 1


def test_what_comes_slowly_of_a_record_is_a_sign_of_life_though_no_event_tells_of_it(
    joined: tuple[Link, Peer],
) -> None:
    """A path that has become slow in the middle of a record that came fast: its bytes stay below the mark for long."""
    link, peer = joined
    stream = idle_stream(link)
    link._reading.stop()  # as below the mark
    whole = said(RecordWriter(BACKEND, UP), frames.pack(frames.DATA, stream.id, bytes(50_000)))
    peer.sock.send(whole[:1400])
    link.machine.heard_at = monotonic()
    link._on_readable()
    assert link._wakes_at == WAKE_BYTES
    long_ago = link.machine.heard_at = monotonic() - 60.0
    link._on_time()
    assert link.machine.heard_at == long_ago and link._wakes_at == WAKE_BYTES, "nothing has come"
    peer.sock.send(whole[1400:2800])
    link._on_time()
    assert link.machine.heard_at > long_ago
    assert link._wakes_at == 1, "and from here on each byte tells of itself"


def test_what_the_handshake_agreed_on_reaches_the_session() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    keys = RecordWriter(BACKEND, DOWN), RecordReader(BACKEND, UP)
    link = Link(TcpTransport(near), Owner(), *keys, 60.0, features=features.ZSTD)  # type: ignore[arg-type]
    carried = session()
    link.carry(carried)
    assert link.machine.features == carried.features == features.ZSTD
    link.abandon(AeroError("the test is over"))
    far.close()


def test_what_the_connection_holds_is_received_before_the_loop_waits(
    layered: tuple[Link, Peer, Layered],
) -> None:
    """After the first ten bytes the descriptor is empty: no event would ever bring the rest."""
    link, peer, transport = layered
    heard: list[Any] = []
    link.carry(session(SimpleNamespace(control_received=heard.append)))
    writer = RecordWriter(BACKEND, UP)
    peer.sock.send(said(writer, frame(1)) + said(writer, frame(2)))
    until("both", lambda: len(heard) == 2)
    assert heard == [control.Unknown("1"), control.Unknown("2")]
    assert not transport.pending


def test_a_send_that_has_to_receive_first_goes_on_when_something_came(
    layered: tuple[Link, Peer, Layered],
) -> None:
    link, peer, transport = layered
    ours = session(SimpleNamespace(control_received=lambda message: None))
    link.carry(ours)
    until("the first ping", lambda: transport.events)
    transport.stuck_send = True
    ours.control(control.Unknown("1"))
    until("the try", lambda: transport.send_waits_for == READ)
    tries = len(transport.events)
    gevent.sleep(0.01)  # some turns of the loop, in which nothing may be tried
    assert len(transport.events) == tries  # the descriptor can be written all the time: that is not asked for
    assert peer.read() == b""
    peer.sock.send(said(RecordWriter(BACKEND, UP), frame(7)))
    until("our word", lambda: peer.read() == frame(1))


def test_a_receive_that_has_to_send_first_goes_on_when_that_can_be(
    layered: tuple[Link, Peer, Layered],
) -> None:
    link, peer, transport = layered
    heard: list[Any] = []
    link.carry(session(SimpleNamespace(control_received=heard.append)))
    transport.stuck_receive = True
    peer.sock.send(said(RecordWriter(BACKEND, UP), frame(1)))
    until("its word", lambda: heard == [control.Unknown("1")])
