"""PROXY headers: the specification's examples, both versions both ways, every cut, and bytes that are none."""

from __future__ import annotations

import random
import struct

import pytest

from aero.errors import RemoteProtocolError
from aero.net.proxyheader import (
    SIGNATURE,
    V1_MAX_BYTES,
    V2_MAX_BYTES,
    End,
    crc32c,
    parse,
    peer,
    split,
    write,
)

FOUR, SIX = End("192.0.2.1", 56324), End("2001:db8::1", 443)


def v2(command: int = 0x21, family: int = 0x11, rest: bytes = bytes(12)) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("source", [FOUR, SIX])
@pytest.mark.parametrize("destination", [FOUR, SIX])
def test_what_is_written_is_read(version: int, source: End, destination: End) -> None:
    header = write(version, source, destination)
    assert split(header + b"GET /") == (len(header), True)
    assert parse(header) == source


def test_version_1_is_the_specifications_line() -> None:
    header = write(1, End("192.168.0.1", 56324), End("192.168.0.11", 443))
    assert header == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    assert write(1, FOUR, End("", 0)) == b"PROXY UNKNOWN\r\n"
    longest = b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"
    assert len(longest) <= V1_MAX_BYTES and parse(longest) == End("ffff:" * 7 + "ffff", 65535)


def test_version_2_is_the_specifications_bytes() -> None:
    assert write(2, End("192.0.2.1", 258), End("192.0.2.2", 772)) == (
        bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0000201 c0000202 0102 0304")
    )
    assert parse(write(2, End("", 0), FOUR)) is None


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        v2(command=0x20, family=0, rest=b""),  # a health check of the balancer's own
        v2(command=0x20),
        v2(family=0x31, rest=bytes(216)),  # a UNIX socket's
        v2(family=0x12),  # datagrams
    ],
)
def test_some_headers_say_nobody(header: bytes) -> None:
    assert split(header) == (len(header), True)
    assert parse(header) is None


def test_an_ipv4_visitor_of_an_ipv6_proxy_is_ipv4() -> None:
    assert parse(write(1, FOUR, SIX)) == FOUR
    assert parse(write(2, FOUR, SIX)) == FOUR


def test_every_cut_of_a_header_is_waited_for() -> None:
    for header in (write(1, FOUR, FOUR), write(2, SIX, SIX), v2(rest=bytes(12) + b"\x04\x00\x01x")):
        for cut in range(len(header)):
            assert split(header[:cut]) == (cut, False)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"AeRO\x02",
        b"PROXZ",
        b"\r\n\r\nX",
        b"PROXY " + b"x" * V1_MAX_BYTES,
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE + b"\x21\x11" + struct.pack("!H", V2_MAX_BYTES + 1),
    ],
)
def test_what_is_no_header_is_refused_as_soon_as_it_shows(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="PROXY protocol"):
        split(data)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 ² 2\r\n".encode(),
        b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY \r\n",
        v2(command=0x22),
        v2(rest=bytes(11)),
        v2(family=0x21, rest=bytes(35)),
        v2(rest=bytes(12) + b"\x03\x00"),
        v2(rest=bytes(12) + b"\x03\x00\x04abc"),
        v2(rest=bytes(12) + b"\x03\x00\x04abcd"),
        v2(rest=bytes(12) + b"\x03\x00\x02ab"),
    ],
)
def test_headers_that_cannot_be(header: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="PROXY protocol"):
        parse(header)


def test_a_checksum_is_checked() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value that catalogues of CRCs give
    zeroed = v2(
        rest=bytes((192, 0, 2, 7, 192, 0, 2, 8, 0, 9, 0, 10)) + b"\x04\x00\x03abc\x03\x00\x04" + bytes(4)
    )
    good = zeroed[:-4] + crc32c(zeroed).to_bytes(4, "big")
    assert parse(good) == End("192.0.2.7", 9)
    for at in range(16, len(good)):
        changed = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        try:
            assert parse(changed) == End("192.0.2.7", 9) and at in range(28, 40)  # a TLV's kind or length
        except RemoteProtocolError:
            pass


def test_random_bytes_never_raise_anything_else() -> None:
    random.seed(7)
    for _ in range(20_000):
        start = random.choice((b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"))
        data = start + random.randbytes(random.randrange(60))
        try:
            count, whole = split(data)
            assert 0 <= count <= len(data)
            if whole:
                parse(data[:count])
        except RemoteProtocolError:
            pass


def test_a_visitors_text_is_a_peer() -> None:
    assert peer("192.0.2.1:56324") == FOUR
    assert peer("[2001:db8::1]:443") == SIX
    assert peer("") == peer("somebody") == End("", 0)
