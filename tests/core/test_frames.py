"""Frames: every layout both ways, and every way in which a peer can get one wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core import frames
from aero.core.codes import Close
from aero.errors import RemoteProtocolError
from tests.core.joined import refused

KINDS = sorted(frames.NAMES)


def split(plain: bytes) -> list[tuple[int, int, bytes]]:
    return [(kind, stream_id, bytes(payload)) for kind, stream_id, payload in frames.split(memoryview(plain))]


def test_the_header_is_kind_length_and_stream() -> None:
    assert frames.pack(frames.DATA, 0x01020304, b"abc") == bytes.fromhex("03 000003 01020304") + b"abc"


def test_every_kind_has_a_name_and_the_link_kinds_stand_apart() -> None:
    assert [frames.NAMES[kind] for kind in KINDS[:9]] == (
        ["CONTROL", "OPEN", "DATA", "FIN", "RESET", "WINDOW", "GOAWAY", "FLOW_END", "PACKED"]
    )
    assert [frames.NAMES[kind] for kind in KINDS[9:]] == ["JOIN", "JOINED", "ACK", "PING", "PONG", "CLOSE"]
    assert all(bool(kind & 0x40) == (kind >= frames.JOIN) for kind in KINDS)


_frames = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=8
)


@given(_frames)
def test_what_is_packed_is_split_again(some: list[tuple[int, int, bytes]]) -> None:
    assert split(b"".join(frames.pack(*each) for each in some)) == some


@given(_frames.filter(bool), st.data())
def test_a_record_cut_anywhere_inside_a_frame_is_refused(
    some: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    packed = [frames.pack(*each) for each in some]
    whole = b"".join(packed)
    edges = {sum(map(len, packed[:count])) for count in range(len(packed) + 1)}
    at = data.draw(st.integers(1, len(whole)).filter(lambda at: at not in edges or at == len(whole)))
    if at == len(whole):
        assert split(whole[:at]) == some
        return
    with refused(Close.FRAME):
        split(whole[:at])


@given(_frames, st.binary(min_size=1, max_size=7))
def test_a_tail_shorter_than_a_header_is_refused(some: list[tuple[int, int, bytes]], tail: bytes) -> None:
    with refused(Close.FRAME, "left at the end of a record"):
        split(b"".join(frames.pack(*each) for each in some) + tail)


@given(st.binary(max_size=200))
def test_garbage_is_split_or_refused_never_more(plain: bytes) -> None:
    try:
        parts = split(plain)
    except RemoteProtocolError as error:
        assert error.code == Close.FRAME
    else:
        assert b"".join(frames.pack(*part) for part in parts) == plain


def test_a_frame_longer_than_its_record_is_refused() -> None:
    with refused(Close.FRAME, "longer than its record"):
        split(bytes.fromhex("03 ffffff 00000001"))


# JSON


def test_json_is_compact_ascii() -> None:
    assert frames.pack_json({"do": "x", "name": "Köln"}) == b'{"do":"x","name":"K\\u00f6ln"}'


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.integers(-(2**200), 2**200), st.text(max_size=8), st.booleans())
    )
)
def test_json_objects_come_back(message: dict[str, object]) -> None:
    assert frames.unpack_json(memoryview(frames.pack_json(message)), frames.JOIN) == message


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a":1}x', b"[" * 60_000, b'{"a":' * 12_000, b'{"a":1e}', b"\0"]
    + [b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":["x\\udc80\\ud800"]}', b'{"a":NaN}', b'{"a":-Infinity}']
    + [b'{"a":%s}' % (b"9" * 60_000)],
    ids=lambda payload: repr(payload[:8]),
)
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    with refused(Close.FRAME, "JOIN is not JSON"):
        frames.unpack_json(memoryview(payload), frames.JOIN)


@pytest.mark.parametrize("payload", [b"[]", b'"JOIN"', b"1", b"null", b"true", b"1e999"])
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    with refused(Close.FRAME, "CONTROL is not a JSON"):
        frames.unpack_json(memoryview(payload), frames.CONTROL)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_json_in_another_encoding_is_refused(encoding: str) -> None:
    """json.loads guesses UTF-16 and 32 from zero bytes; the wire knows UTF-8 only."""
    with refused(Close.FRAME, "JOIN is not JSON"):
        frames.unpack_json(memoryview('{"v":"1"}'.encode(encoding)), frames.JOIN)


def test_json_of_65_kib_is_refused_and_of_64_taken() -> None:
    def payload(size: int) -> memoryview:
        return memoryview(json.dumps({"a": "x" * (size - 9)}).encode())

    assert frames.unpack_json(payload(frames.MAX_JSON_BYTES), frames.JOIN)
    with refused(Close.FRAME, "JOIN of 65537 bytes"):
        frames.unpack_json(payload(frames.MAX_JSON_BYTES + 1), frames.JOIN)


# OPEN


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.text("0123456789.:[]%é", max_size=30))
def test_open_comes_back(window: int, target_id: int, visitor: str) -> None:
    assert frames.unpack_open(memoryview(frames.pack_open(window, target_id, visitor))) == (
        (window, target_id, visitor)
    )


def test_the_longest_visitor_fits_and_a_longer_one_is_cut() -> None:
    longest = "[" + "1234:" * 7 + "255.255.255.255%interface0]:65535"
    assert len(longest) > 50
    assert frames.unpack_open(memoryview(frames.pack_open(1, 2, longest)))[2] == longest[:64]
    assert len(frames.pack_open(1, 2, "x" * 1000)) == 6 + frames.MAX_VISITOR_BYTES


@pytest.mark.parametrize("size", [0, 5, 6 + 65, 1000])
def test_open_of_another_size_is_refused(size: int) -> None:
    with refused(Close.FRAME, f"OPEN of {size} bytes"):
        frames.unpack_open(memoryview(bytes(size)))


def test_a_visitor_that_is_no_utf8_is_shown_not_refused() -> None:
    assert frames.unpack_open(memoryview(bytes(6) + b"\xff\xc0"))[2] == "\ufffd\ufffd"


# Numbers and reasons


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_window_comes_back(consumed: int, window: int) -> None:
    assert frames.unpack_window(memoryview(frames.pack_window(consumed, window))) == (consumed, window)


@given(st.integers(0, 2**64 - 1))
def test_numbers_come_back(number: int) -> None:
    assert frames.unpack_u64(memoryview(frames.pack_u64(number)), frames.ACK) == number


@pytest.mark.parametrize("size", [0, 7, 9, 11, 13])
def test_window_and_numbers_of_another_size_are_refused(size: int) -> None:
    with refused(Close.FRAME, f"WINDOW of {size} bytes"):
        frames.unpack_window(memoryview(bytes(size)))
    with refused(Close.FRAME, f"PONG of {size} bytes"):
        frames.unpack_u64(memoryview(bytes(size)), frames.PONG)


@given(st.integers(0, 255), st.text(max_size=50))
def test_reasons_come_back(code: int, text: str) -> None:
    assert frames.unpack_reason(memoryview(frames.pack_reason(code, text)), frames.RESET) == (code, text)


def test_a_long_reason_is_cut_even_within_a_letter() -> None:
    packed = frames.pack_reason(1, "é" * 101)
    assert len(packed) == 1 + frames.MAX_TEXT_BYTES
    assert frames.unpack_reason(memoryview(frames.pack_reason(1, "x" + "é" * 100)), frames.CLOSE)[1] == (
        "x" + "é" * 99 + "\ufffd"
    )


@pytest.mark.parametrize("size", [0, 202, 5000])
def test_a_reason_of_another_size_is_refused(size: int) -> None:
    with refused(Close.FRAME, f"GOAWAY of {size} bytes"):
        frames.unpack_reason(memoryview(bytes(size)), frames.GOAWAY)
