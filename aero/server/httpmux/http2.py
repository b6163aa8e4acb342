"""What a visitor gets who begins with HTTP/2: an answer in HTTP/2, which his program can show, that it is not served.

Knows frames (RFC 9113), and no header compression: what it says is the same few bytes each time, and what the visitor
says in his headers is not looked at. Pure.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: The part of it that looks like the head of an HTTP/1 request.
PREFACE_HEAD = PREFACE[:18]
TEXT = b"505 HTTP Version Not Supported: only HTTP/1.1 is served here. Try again without HTTP/2 by prior knowledge.\n"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_HEADER_BYTES = 9
_MOST_BYTES = 16 * 1024  # of a frame, unless we had said otherwise
# Literal fields without indexing (RFC 7541, section 6.2.2); the names by their numbers in the static table.
_FIELDS = b"\x08\x03505" + b"\x0f\x10\x19text/plain; charset=utf-8" + b"\x0f\x0d\x03%d" % len(TEXT)


class Refusal:
    """One visitor's connection, from its preface on. ``done``: all is said, nothing more needs to be read."""

    def __init__(self) -> None:
        """Begins before the connection's preface."""
        self.done = False
        self._left = bytearray()  # the beginning of a frame, or of the preface's end
        self._prefaced = False
        self._skip = 0  # bytes of a frame's payload still to come

    def start(self) -> bytes:
        """What to send first: some clients say nothing before they have it."""
        return _frame(_SETTINGS, 0, 0, b"")

    def feed(self, data: bytes) -> bytes:
        """``data``: what follows PREFACE_HEAD. What to send for it."""
        left, out = self._left, b""
        left += data
        rest = PREFACE[len(PREFACE_HEAD) :]
        if not self._prefaced:
            if not left.startswith(rest[: len(left)]):
                self.done = True
                return _goaway(0)
            if len(left) < len(rest):
                return b""
            del left[: len(rest)]
            self._prefaced = True
        while not self.done:
            skipped = min(self._skip, len(left))
            del left[:skipped]
            self._skip -= skipped
            if self._skip or len(left) < _HEADER_BYTES:
                break
            length = int.from_bytes(left[:3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", left, 3)
            del left[:_HEADER_BYTES]
            self._skip = length
            out += self._answer(kind, flags, stream & 0x7FFFFFFF, length)
        return out

    def _answer(self, kind: int, flags: int, stream: int, length: int) -> bytes:
        if length > _MOST_BYTES:
            self.done = True
            return _goaway(0)
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind != _HEADERS or not stream:
            return b""
        self.done = True
        said = _frame(_HEADERS, _END_HEADERS, stream, _FIELDS) + _frame(_DATA, _END_STREAM, stream, TEXT)
        if not flags & _END_STREAM:
            said += _frame(_RST_STREAM, 0, stream, bytes(4))  # a body is not waited for
        return said + _goaway(stream)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _goaway(last: int) -> bytes:
    """No error: with one, some clients would show that in place of the answer."""
    return _frame(_GOAWAY, 0, 0, struct.pack(">II", last, 0))
