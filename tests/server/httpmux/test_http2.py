"""HTTP/2 by prior knowledge: the answer is HTTP/2 that says that there is none, whole or byte by byte."""

from __future__ import annotations

import pytest

from aero.server.httpmux import http2
from aero.server.httpmux.http2 import PREFACE, PREFACE_HEAD, TEXT, Refusal

SETTINGS, HEADERS, PRIORITY, DATA, RST, GOAWAY = 4, 1, 2, 0, 3, 7


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, payload) of each."""
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def said(data: bytes, step: int) -> tuple[bytes, Refusal]:
    refusal = Refusal()
    out = refusal.start()
    for at in range(0, len(data), step):
        out += refusal.feed(data[at : at + step])
    return out, refusal


REST = PREFACE[len(PREFACE_HEAD) :]
FRAME = http2._frame
CLIENT = REST + FRAME(SETTINGS, 0, 0, bytes(12)) + FRAME(PRIORITY, 0, 3, bytes(5)) + FRAME(8, 0, 0, bytes(4))


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize("stream", [1, 13])
def test_the_first_request_is_answered(step: int, stream: int) -> None:
    out, refusal = said(CLIENT + FRAME(HEADERS, 5, stream, b"\x82\x84"), step)
    assert refusal.done
    settings, ack, headers, data, goaway = frames(out)
    assert settings == (SETTINGS, 0, 0, b"") and ack == (SETTINGS, 1, 0, b"")
    assert headers[:3] == (HEADERS, 4, stream) and b"\x08\x03505" in headers[3]
    assert data == (DATA, 1, stream, TEXT)
    assert goaway == (GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4))
    assert b"\x0f\x0d\x03%d" % len(TEXT) in headers[3]


def test_a_body_is_not_waited_for() -> None:
    out, _ = said(CLIENT + FRAME(HEADERS, 4, 1, b"\x82"), 1000)
    assert [kind for kind, *_ in frames(out)][-3:] == [DATA, RST, GOAWAY]


@pytest.mark.parametrize("bad", [b"SM\r\r", REST + (1 << 20).to_bytes(3, "big") + bytes(6)])
def test_nonsense_ends_it(bad: bytes) -> None:
    out, refusal = said(bad, 1)
    assert refusal.done
    assert [kind for kind, *_ in frames(out)] == [SETTINGS, GOAWAY]


def test_no_request_no_answer() -> None:
    out, refusal = said(CLIENT + FRAME(SETTINGS, 1, 0, b""), 3)
    assert not refusal.done and [kind for kind, *_ in frames(out)] == [SETTINGS, SETTINGS]
