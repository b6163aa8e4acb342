"""Frames: the messages inside a record. This module knows their layout and nothing of what they mean.

A frame is a header of 8 bytes and a payload (PROTOCOL.md, section "Frames"):

    0        1                 4                        8
    | kind   | payload length  | stream id              | payload …
      u8       u24               u32                      big-endian

Session frames count in the session's sequence and are sent again on a new link until acknowledged; link frames
belong to one link and die with it. The two never share a record.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

from aero.core.codes import Close
from aero.errors import RemoteProtocolError

# kind << 24 | length, and the stream id: two words are cheaper to take apart than four fields.
HEADER = struct.Struct("!II")
HEADER_BYTES = HEADER.size
LENGTH_MASK = 0xFFFFFF

# Session frames
CONTROL = 0x01
OPEN = 0x02
DATA = 0x03
FIN = 0x04
RESET = 0x05
WINDOW = 0x06
GOAWAY = 0x07
FLOW_END = 0x08  # its stream id is a flow's (core/datagrams.py)
PACKED = 0x09  # compressed data (core/packing.py)

# Link frames
JOIN = 0x41
JOINED = 0x42
ACK = 0x43
PING = 0x44
PONG = 0x45
CLOSE = 0x46

NAMES = {
    value: name
    for name, value in list(globals().items())
    if isinstance(value, int) and name.isupper() and name not in ("HEADER_BYTES", "LENGTH_MASK")
}

# A frame header and what a PACKED's payload begins with: the length of what it holds.
PACKED_HEAD = struct.Struct("!III")
PACKED_HEAD_BYTES = PACKED_HEAD.size
MAX_PACKED_BYTES = 128 * 1024  # of what one PACKED holds

# A register message of 128 targets with the longest names and addresses has less than 50 KiB.
MAX_JSON_BYTES = 64 * 1024
# Of an integer in JSON: positions have 20, and the time to read one grows with the square of its length.
MAX_DIGITS = 64
MAX_TEXT_BYTES = 200  # an error's text: one line of a log
MAX_VISITOR_BYTES = 64  # "[" + 45 characters of IPv6 + "]:65535", and room for a zone

_OPEN = struct.Struct("!IH")
_WINDOW = struct.Struct("!QI")
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")


def pack(kind: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(kind << 24 | len(payload), stream_id) + payload


def split(view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yields (kind, stream id, payload) of every frame in a record's plaintext.

    Raises RemoteProtocolError when the frames do not fill the record exactly.
    """
    at, end = 0, len(view)
    while at < end:
        if end - at < HEADER_BYTES:
            raise RemoteProtocolError(Close.FRAME, f"{end - at} bytes left at the end of a record")
        word, stream_id = HEADER.unpack_from(view, at)
        start = at + HEADER_BYTES
        at = start + (word & LENGTH_MASK)
        if at > end:
            raise RemoteProtocolError(Close.FRAME, "a frame longer than its record")
        yield word >> 24, stream_id, view[start:at]


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("no number of this protocol is so long")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant)


def pack_json(message: dict[str, Any]) -> bytes:
    """Payload of CONTROL, JOIN and JOINED: a JSON object, compact, ASCII."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def unpack_json(payload: memoryview, kind: int) -> dict[str, Any]:
    """The JSON object of a CONTROL, JOIN or JOINED payload.

    Raises RemoteProtocolError for anything but one bounded JSON object.
    """
    if len(payload) > MAX_JSON_BYTES:
        raise RemoteProtocolError(
            Close.FRAME, f"{NAMES[kind]} of {len(payload)} bytes, allowed are {MAX_JSON_BYTES}"
        )
    try:
        text = str(payload, "utf-8")  # of bytes the decoder would guess UTF-16 and 32 as well
        message = _DECODER.decode(text)
        if "\\u" in text:
            # Escapes can spell halves of surrogate pairs: such a text cannot be encoded again, and whoever logs it,
            # stores it or answers with it would fail. This is a ValueError then.
            json.dumps(message, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise RemoteProtocolError(Close.FRAME, f"{NAMES[kind]} is not JSON") from None
    if not isinstance(message, dict):
        raise RemoteProtocolError(Close.FRAME, f"{NAMES[kind]} is not a JSON object")
    return message


def pack_open(window_bytes: int, target_id: int, visitor: str) -> bytes:
    """Payload of OPEN: u32 window, u16 target id, the visitor's address in UTF-8."""
    return _OPEN.pack(window_bytes, target_id) + visitor.encode("utf-8", "replace")[:MAX_VISITOR_BYTES]


def unpack_open(payload: memoryview) -> tuple[int, int, str]:
    """(window in bytes, target id, visitor's address); raises RemoteProtocolError."""
    if not _OPEN.size <= len(payload) <= _OPEN.size + MAX_VISITOR_BYTES:
        raise RemoteProtocolError(Close.FRAME, f"OPEN of {len(payload)} bytes")
    window_bytes, target_id = _OPEN.unpack_from(payload)
    return window_bytes, target_id, str(payload[_OPEN.size :], "utf-8", "replace")


def pack_window(consumed_bytes: int, window_bytes: int) -> bytes:
    """Payload of WINDOW: u64 bytes consumed since the stream's beginning, u32 window."""
    return _WINDOW.pack(consumed_bytes, window_bytes)


def unpack_window(payload: memoryview) -> tuple[int, int]:
    """(consumed bytes, window bytes); raises RemoteProtocolError."""
    if len(payload) != _WINDOW.size:
        raise RemoteProtocolError(Close.FRAME, f"WINDOW of {len(payload)} bytes")
    consumed, window = _WINDOW.unpack(payload)
    return consumed, window


def unpack_packed(payload: memoryview) -> tuple[int, memoryview]:
    """(length of what it holds, zstd frame) of a PACKED payload; raises RemoteProtocolError."""
    if len(payload) <= _U32.size:
        raise RemoteProtocolError(Close.FRAME, f"PACKED of {len(payload)} bytes")
    count: int = _U32.unpack_from(payload)[0]
    if not 1 <= count <= MAX_PACKED_BYTES:
        raise RemoteProtocolError(
            Close.FRAME, f"PACKED holds {count} bytes, allowed are 1 to {MAX_PACKED_BYTES}"
        )
    return count, payload[_U32.size :]


def pack_u64(number: int) -> bytes:
    """Payload of ACK, PING and PONG."""
    return _U64.pack(number)


def unpack_u64(payload: memoryview, kind: int) -> int:
    """The number in an ACK, PING or PONG; raises RemoteProtocolError."""
    if len(payload) != _U64.size:
        raise RemoteProtocolError(Close.FRAME, f"{NAMES[kind]} of {len(payload)} bytes")
    number: int = _U64.unpack(payload)[0]
    return number


def pack_reason(code: int, text: str) -> bytes:
    """Payload of RESET, GOAWAY, CLOSE and FLOW_END: u8 code, a text for people in UTF-8."""
    return bytes((code,)) + text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]


def unpack_reason(payload: memoryview, kind: int) -> tuple[int, str]:
    """(code, text) of a RESET, GOAWAY, CLOSE or FLOW_END; raises RemoteProtocolError."""
    if not 1 <= len(payload) <= 1 + MAX_TEXT_BYTES:
        raise RemoteProtocolError(Close.FRAME, f"{NAMES[kind]} of {len(payload)} bytes")
    return payload[0], str(payload[1:], "utf-8", "replace")
