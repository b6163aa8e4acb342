"""TCP under a link: what it says of itself, and what a broken connection does to those who ask."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from aero.net.loop import READ, WRITE
from aero.net.transport import USER_TIMEOUT_S, TcpTransport, Transport
from tests.faults.inside import until

Pair = tuple[TcpTransport, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    transport = TcpTransport(near)
    yield transport, far
    transport.close()
    far.close()


def test_it_never_waits(pair: Pair) -> None:
    transport: Transport = pair[0]
    with pytest.raises(BlockingIOError):
        transport.receive_into(memoryview(bytearray(10)))
    assert (transport.receive_waits_for, transport.send_waits_for, transport.pending) == (READ, WRITE, 0)
    with pytest.raises(BlockingIOError):
        while True:
            transport.send(memoryview(bytes(1 << 20)))


def test_bytes_and_the_end_arrive(pair: Pair) -> None:
    transport, far = pair
    assert transport.send(memoryview(b"hello")) == 5
    transport.shut()
    assert far.recv(10) == b"hello"
    assert far.recv(10) == b""
    far.close()
    buffer = memoryview(bytearray(10))
    until("the end", lambda: _received(transport, buffer) == 0)


def _received(transport: TcpTransport, buffer: memoryview) -> int:
    try:
        return transport.receive_into(buffer)
    except BlockingIOError:
        return -1


def test_no_event_comes_before_so_many_bytes_or_the_end(pair: Pair) -> None:
    transport, far = pair

    def readable() -> bool:
        return bool(select.select([transport.fileno()], [], [], 0)[0])

    transport.wake_at(1000)
    far.send(bytes(999))
    assert not readable()
    far.send(bytes(1))
    until("a thousand", readable)
    assert _received(transport, memoryview(bytearray(2000))) == 1000
    far.send(b"the last")
    assert not readable()
    far.close()
    until("the end", readable)
    assert _received(transport, memoryview(bytearray(2000))) == 8


def test_what_is_not_acknowledged_is_counted(pair: Pair) -> None:
    transport, far = pair
    assert transport.in_flight() == 0
    sent = 0
    try:
        while True:
            sent += transport.send(memoryview(bytes(1 << 20)))
    except BlockingIOError:
        pass
    waiting = transport.in_flight()  # more than the far kernel's buffer took: nobody reads
    assert 0 < waiting < sent
    far.settimeout(5)
    taken = 0
    while taken < sent:
        taken += len(far.recv(1 << 20))
    until("all to be acknowledged", lambda: transport.in_flight() == 0)


def test_a_closed_one_hides_it(pair: Pair) -> None:
    transport, _ = pair
    transport.close()
    assert transport.in_flight() == -1
    transport.keep_unsent(1)  # never raises
    transport.wake_at(1)
    transport.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_a_peer_that_reads_nothing_has_half_a_minute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
    transport = TcpTransport(sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_S * 1000 >= 30_000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()
    transport.close()
