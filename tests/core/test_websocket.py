"""WebSocket's frames and opening handshake: whole and byte by byte, against wsproto, and what broken rules cost."""

from __future__ import annotations

import os
import random

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request

from aero.core import websocket
from aero.core.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ZERO_MASK,
    Deframer,
    Head,
    apply_mask,
    control,
    header,
    parse_head,
)
from aero.errors import FrameError, MessageError

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 200_000)


def frame(payload: bytes, mask: bytes | None = None, kind: int = BINARY) -> bytes:
    data = bytearray(payload)
    if mask is not None:
        apply_mask(memoryview(data), mask)
    return header(kind, len(data), mask) + data


def taken(deframer: Deframer, data: bytes, step: int = 1 << 30) -> bytes:
    """The payload of frames that come in pieces of ``step`` bytes."""
    out = b""
    for start in range(0, len(data), step):
        piece = bytearray(data[start : start + step])
        out += piece[: deframer.feed(memoryview(piece), len(piece))]
    return out


@pytest.mark.parametrize("mask", [None, ZERO_MASK, b"\x01\x02\x03\x04", b"\xff\x00\xff\x00"])
@pytest.mark.parametrize("step", [1, 2, 7, 4096, 1 << 30])
def test_payload_of_every_size_arrives(mask: bytes | None, step: int) -> None:
    sizes = SIZES if step > 7 else SIZES[:5]
    payloads = [os.urandom(size) for size in sizes]
    data = b"".join(frame(payload, mask) for payload in payloads)
    assert taken(Deframer(from_client=mask is not None), data, step) == b"".join(payloads)


def test_a_message_in_fragments_with_a_ping_between() -> None:
    first = bytes((BINARY, 3)) + b"one"
    last = bytes((0x80 | CONTINUATION, 3)) + b"two"
    for step in (1, 3, 100):
        deframer = Deframer(from_client=False)
        assert taken(deframer, first + control(PING, b"?", None) + last + frame(b"!"), step) == b"onetwo!"
        assert deframer.ping == b"?"


def test_nothing_behind_a_close_is_looked_at() -> None:
    deframer = Deframer(from_client=False)
    data = frame(b"last") + control(CLOSE, b"\x03\xe9bye", None) + b"\xff" * 100
    assert taken(deframer, data) == b"last"
    assert deframer.closed == 1001


@pytest.mark.parametrize(
    ("data", "from_client", "code"),
    [
        (frame(b"x"), True, 1002),
        (frame(b"x", b"abcd"), False, 1002),
        (bytes((0x80 | TEXT, 0)), False, 1003),
        (bytes((0xC0 | BINARY, 0)), False, 1002),
        (bytes((0x80 | 3, 0)), False, 1002),
        (bytes((0x80 | 11, 0)), False, 1002),
        (bytes((PING, 0)), False, 1002),
        (bytes((0x80 | PING, 126, 0, 126)), False, 1002),
        (bytes((0x80 | CONTINUATION, 0)), False, 1002),
        (bytes((BINARY, 1)) + b"x" + frame(b"y"), False, 1002),
        (bytes((0x80 | BINARY, 126, 0, 125)), False, 1002),
        (bytes((0x80 | BINARY, 127)) + (65535).to_bytes(8, "big"), False, 1002),
        (bytes((0x80 | BINARY, 127)) + b"\x80" + bytes(7), False, 1002),
        (bytes((0x80 | CLOSE, 1, 3)), False, 1002),
    ],
)
def test_each_broken_rule_has_its_code(data: bytes, from_client: bool, code: int) -> None:
    for step in (1, 100):
        with pytest.raises(FrameError) as found:
            taken(Deframer(from_client), data, step)
        assert found.value.code == code
        assert isinstance(found.value, OSError)


def test_masks_of_all_lengths_are_what_the_rfc_says() -> None:
    mask = b"\x12\x34\x56\x78"
    for size in (0, 1, 2, 3, 4, 5, 65535, 65536, 65537, 300_001):
        data = os.urandom(size)
        masked = bytearray(data)
        apply_mask(memoryview(masked), mask)
        wanted = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        assert masked == wanted.to_bytes(size, "big")


def test_wsproto_reads_our_frames_and_we_read_its() -> None:
    dice = random.Random(6455)
    theirs = Connection(ConnectionType.SERVER)
    ours = Deframer(from_client=True)
    it_writes = Connection(ConnectionType.CLIENT)
    sent, read = b"", b""
    for _ in range(200):
        payload = os.urandom(dice.choice((0, 1, 5, 125, 126, 4000, 70_000)))
        theirs.receive_data(frame(payload, dice.choice((ZERO_MASK, os.urandom(4)))))
        got = b"".join(bytes(each.data) for each in theirs.events() if isinstance(each, BytesMessage))
        assert got == payload
        data = it_writes.send(BytesMessage(payload, message_finished=dice.random() < 0.5))
        if dice.random() < 0.2:
            data += it_writes.send(Ping(b"are you there"))
        sent += payload
        read += taken(ours, data, dice.choice((1000, 1 << 20)))
    assert read == sent
    assert ours.ping == b"are you there"
    theirs.receive_data(control(PONG, b"yes", ZERO_MASK) + control(CLOSE, b"\x03\xe8", ZERO_MASK))
    events = list(theirs.events())
    assert isinstance(events[0], Pong) and isinstance(events[1], CloseConnection)


# The opening handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the RFC's own (section 1.3)


def fields(**changed: str) -> bytes:
    lines = {
        "Host": "example.com", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY.decode(), "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }  # fmt: skip
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items() if value)


def request(**changed: str) -> Head:
    return parse_head(b"GET /_aero/link HTTP/1.1\r\n" + fields(**changed) + b"\r\n")


def test_the_rfcs_example() -> None:
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in websocket.answer(request())


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": ""}, 426),
        ({"Sec-WebSocket-Key": ""}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": KEY.decode() + ", " + KEY.decode()}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Host": ""}, 400),
    ],
)
def test_requests_that_get_no_websocket(changed: dict[str, str], status: int) -> None:
    with pytest.raises(MessageError) as found:
        websocket.answer(request(**changed))
    assert found.value.status == status


@pytest.mark.parametrize("line", [b"no colon", b" folded: x", b"na me: x", b": x", b"name : x"])
def test_a_malformed_field_is_told(line: bytes) -> None:
    with pytest.raises(MessageError):
        parse_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")


def test_both_ends_and_wsproto_agree() -> None:
    asked = websocket.request("h:1", "/_aero/link", [("X-Token", "t")], KEY)
    head = parse_head(asked)
    assert head.first == [b"GET", b"/_aero/link", b"HTTP/1.1"] and head.fields[b"x-token"] == b"t"
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(asked)
    assert isinstance(next(iter(server.events())), Request)
    assert not websocket.refusal(parse_head(server.send(AcceptConnection())), KEY)
    client = WSConnection(ConnectionType.CLIENT)
    answer = websocket.answer(parse_head(client.send(Request(host="h", target="/_aero/link"))))
    client.receive_data(answer)
    assert isinstance(next(iter(client.events())), AcceptConnection)


@pytest.mark.parametrize(
    "changed",
    [
        {"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="},
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"Sec-WebSocket-Extensions": "permessage-deflate"},
        {"Sec-WebSocket-Protocol": "chat"},
    ],
)
def test_an_answer_that_is_none(changed: dict[str, str]) -> None:
    lines = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }  # fmt: skip
    good = b"HTTP/1.1 101 Switching\r\n%s\r\n"
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
    assert not websocket.refusal(parse_head(good % text), KEY)
    text = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **changed}.items()).encode()
    assert websocket.refusal(parse_head(good % text), KEY)
