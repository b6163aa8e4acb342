"""TLS and WebSocket as transports: whatever the connection below takes and gives, the bytes are the same."""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Iterator

import gevent
import pytest

from aero.core import websocket
from aero.errors import FrameError, UpgradeError
from aero.net.loop import READ, WRITE
from aero.net.tls import TlsTransport
from aero.net.transport import TcpTransport, Transport, receive, send_all
from aero.net.websocket import WebSocketTransport, upgrade
from tests.faults.inside import until
from tests.net import carried

Pair = tuple[Transport, Transport]


@pytest.fixture(params=carried.KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    both = carried.pair(request.param)
    yield both
    for each in both:
        each.close()


class Narrow:
    """A connection that takes and gives as little as its dice say."""

    kind = "tcp"
    receive_waits_for, send_waits_for, pending = READ, WRITE, 0

    def __init__(self, under: Transport, dice: random.Random, most: int = 3000) -> None:
        self._under, self._dice, self._most = under, dice, most
        self.fileno, self.keep_unsent, self.in_flight = under.fileno, under.keep_unsent, under.in_flight
        self.shut, self.close, self.congest = under.shut, under.close, under.congest

    def _some(self) -> int:
        if self._dice.random() < 0.3:
            raise BlockingIOError
        return self._dice.choice((1, 2, 5, self._most))

    def receive_into(self, buffer: memoryview) -> int:
        return self._under.receive_into(buffer[: self._some()])

    def send(self, data: memoryview) -> int:
        return self._under.send(data[: self._some()])


def moved(near: Transport, far: Transport, data: bytes, dice: random.Random) -> bytes:
    """What arrives of ``data``, offered and asked for as a link does it: refused bytes again, unchanged."""
    rest, got = memoryview(data), bytearray()
    buffer = memoryview(bytearray(300_000))
    while len(got) < len(data):
        if rest:
            try:
                rest = rest[near.send(rest[: dice.choice((1, 100, 70_000, 262_144))]) :]
            except BlockingIOError:
                pass
        try:
            count = far.receive_into(buffer[: dice.choice((1, 4096, 300_000))])
        except BlockingIOError:
            if not rest:
                try:  # what a layer keeps leaves with the next call, as a link makes when its descriptor is ready
                    near.receive_into(buffer)
                except BlockingIOError:
                    pass
            continue
        assert count
        got += buffer[:count]
    return bytes(got)


def test_bytes_arrive_both_ways(pair: Pair) -> None:
    dice = random.Random(1)
    data = os.urandom(3_000_000)
    assert moved(*pair, data, dice) == data
    assert moved(*reversed(pair), data, dice) == data


@pytest.mark.parametrize("kind", carried.KINDS)
def test_bytes_arrive_through_a_connection_that_takes_little(kind: str) -> None:
    for seed in range(5):
        dice = random.Random(seed)
        near, far = (TcpTransport(sock) for sock in carried.connected())
        both = carried.layered(Narrow(near, dice), Narrow(far, dice), kind)
        data = os.urandom(400_000)
        assert moved(*both, data, dice) == data
        for each in both:
            each.close()


def test_the_end_arrives_behind_the_last_bytes(pair: Pair) -> None:
    near, far = pair
    send_all(near, b"hello")
    near.shut()
    assert receive(far, 100) == b"hello"
    buffer = memoryview(bytearray(10))
    until("the end", lambda: _received(far, buffer) == 0)
    assert _received(far, buffer) == 0


def _received(transport: Transport, buffer: memoryview) -> int:
    try:
        return transport.receive_into(buffer)
    except BlockingIOError:
        return -1


def test_what_no_event_announces_is_pending(pair: Pair) -> None:
    near, far = pair
    send_all(near, bytes(10_000))
    got = len(receive(far, 10))
    buffer = memoryview(bytearray(100))
    while far.pending and (count := _received(far, buffer)) > 0:
        got += count
    if far.kind in ("tls", "wss"):
        assert got == 10_000  # one record, so one read has it all
    while got < 10_000:
        got += len(receive(far, 100_000))
    assert _received(far, buffer) == -1 and far.pending == 0


def test_a_full_connection_refuses_and_goes_on(pair: Pair) -> None:
    near, far = pair
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += near.send(memoryview(bytes(262_144)))
    assert near.in_flight() > 0
    assert near.send_waits_for == WRITE
    done = gevent.spawn(send_all, near, b"\0last")  # with the byte that was refused, if one was
    got = b""
    while not got.endswith(b"last"):
        got = receive(far, 1 << 20)[-10:]
    done.get(timeout=30)


def test_kinds() -> None:
    for kind in carried.KINDS:
        near, far = carried.pair(kind)
        assert near.kind == far.kind == kind.partition("-")[0]
        near.close()
        far.close()


# TLS


def test_a_peer_of_tls_1_1_is_told_so() -> None:
    near, far = carried.connected()
    server = TlsTransport(TcpTransport(far), carried.server_context(), server_side=True)
    greeting = gevent.spawn(server.handshake)
    # A ClientHello of TLS 1.1 with one suite: content type, version, length; kind, length, version, random, ...
    body = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    near.send(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
    with pytest.raises(ssl.SSLError):
        greeting.get(timeout=30)
    near.settimeout(30)
    assert near.recv(100)[:3] == b"\x15\x03\x02"  # an alert
    near.close()
    server.close()


def test_a_name_that_the_certificate_is_not_for() -> None:
    near, far = (TcpTransport(sock) for sock in carried.connected())
    client = TlsTransport(near, carried.client_context(), name="other.example.org")
    server = TlsTransport(far, carried.server_context(), server_side=True)
    theirs = gevent.spawn(server.handshake)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake()
    with pytest.raises(ssl.SSLError):
        theirs.get(timeout=30)
    client.close()
    server.close()


def test_the_certificate_is_shown() -> None:
    near, far = carried.pair("tls")
    assert isinstance(near, TlsTransport)
    text = carried.certificate().read_text()
    assert near.peer_certificate() == ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") :])
    near.close()
    far.close()


# WebSocket


def test_pings_are_answered_by_whoever_receives() -> None:
    near, far = carried.connected()
    server = WebSocketTransport(TcpTransport(far), client=False)
    near.send(
        websocket.control(websocket.PING, b"one", b"mask")
        + websocket.control(websocket.PING, b"two", b"mask")
    )
    buffer = memoryview(bytearray(100))
    until("the ping", lambda: _received(server, buffer) == -1 and server.in_flight() >= 0 and _peeked(near))
    assert near.recv(100) == websocket.control(websocket.PONG, b"two", None)
    near.close()
    server.close()


def _peeked(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_a_broken_rule_is_answered_by_a_close() -> None:
    near, far = carried.connected()
    server = WebSocketTransport(TcpTransport(far), client=False)
    near.send(websocket.header(websocket.BINARY, 1, None) + b"x")
    with pytest.raises(FrameError):
        until("the error", lambda: _received(server, memoryview(bytearray(10))) >= 0)
    assert near.recv(100) == websocket.control(websocket.CLOSE, (1002).to_bytes(2, "big"), None)
    near.close()
    server.close()


def asked(answer: bytes) -> UpgradeError:
    """What a client makes of an answer to its request."""
    near, far = carried.connected()
    asking = gevent.spawn(upgrade, TcpTransport(near), "h", "/p", [], False)
    server = TcpTransport(far)
    assert receive(server, 4096).startswith(b"GET /p HTTP/1.1\r\nHost: h\r\n")
    send_all(server, answer)
    server.shut()
    with pytest.raises(UpgradeError) as found:
        asking.get(timeout=30)
    near.close()
    server.close()
    return found.value


def test_an_upgrade_that_is_refused_says_all_that_is_known() -> None:
    error = asked(b"HTTP/1.1 403 Forbidden\r\nServer: nginx\r\n\r\n<html>no")
    assert (error.status, error.headers["server"], error.body) == (403, "nginx", b"<html>no")
    assert asked(b"SSH-2.0-OpenSSH\r\n").status == 0
    assert asked(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n").status == 101
    assert asked(b"HTTP/1.1 2xx x\r\n\r\n").status == 0
