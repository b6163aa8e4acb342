"""Bodies of HTTP/1 messages: what bytes belong to one and what they say, and the framing of one in chunks.

Pure, and keeps nothing but the piece of a line that is not complete. Whatever comes in chunks is read to plain bytes
and framed anew for the other side: chunk extensions end here. Raises MessageError for what breaks the grammar of
RFC 9112, section 7.1.
"""

from __future__ import annotations

import re
from typing import Union

from aero.errors import MessageError
from aero.server.httpmux.head import CHUNKED, NO_BODY, parse_trailers

Bytes = Union[bytes, memoryview]

# A size of 15 digits is below 2^60. Extensions are there for nothing that anybody uses: a signature fits.
LINE_BYTES = 512
EXTENSIONS_BYTES = 16 * 1024  # all of one body
TRAILERS_BYTES = 8 * 1024
TRAILER_FIELDS = 32

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
#: As targets may write it: blanks behind the size, and a lone LF at the line's end.
_FORGIVEN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(;[\t\x20-\x7e\x80-\xff]*)?\r?\n")
_AT_SIZE, _IN_DATA, _AT_DATA_END, _IN_TRAILERS = range(4)
_CRLF = b"\r\n"
_NOTHING = b""


def chunk(data: Bytes) -> list[Bytes]:
    """``data`` as one chunk, in pieces; nothing for no data, since an empty chunk would end the body."""
    return [b"%x\r\n" % len(data), data, _CRLF] if len(data) else []


def last_chunk(trailers: bytes) -> bytes:
    """The end of a body in chunks. ``trailers``: whole lines."""
    return b"0\r\n%b\r\n" % trailers


class Transfer:
    """One body as it comes in. ``done``: its end was seen; ``left``: bytes still to come, where that is known, else -1;
    ``trailers``: lines that came behind it, once it is done.
    """

    __slots__ = ("_chunked", "_extensions", "_forgiving", "_line", "_state", "done", "left", "trailers")

    def __init__(self, length: int, forgiving: bool = False) -> None:
        """``length``: bytes, or one of head's NO_BODY, CHUNKED, UNTIL_CLOSE; ``forgiving``: it is a target's."""
        self.done = length in (NO_BODY, 0)
        self.left = length if length > 0 else -1
        self.trailers = _NOTHING
        self._chunked = length == CHUNKED
        self._forgiving = forgiving
        self._state = _AT_SIZE
        self._line = _NOTHING
        self._extensions = 0

    @property
    def verbatim(self) -> bool:
        """True when bytes pass as they come; then ``passed`` may count them instead of ``feed``."""
        return not self._chunked

    def passed(self, count: int) -> None:
        """``count`` bytes, at most ``left``, went through by themselves."""
        if self.left >= 0:
            self.left -= count
            self.done = not self.left

    def feed(self, data: Bytes) -> tuple[Bytes, int]:
        """The body's bytes in ``data``, and how much of it belonged to the body: less than all only when done."""
        if self._chunked:
            return self._feed_chunks(bytes(data))
        count = len(data) if self.left < 0 else min(self.left, len(data))
        self.passed(count)
        return data[:count], count

    def finish(self) -> None:
        """The sender has ended its direction. Raises MessageError when the body is incomplete."""
        if not self.done and (self.left >= 0 or self._chunked):
            raise MessageError(400, "the body ends too early")
        self.done = True

    def _feed_chunks(self, data: bytes) -> tuple[Bytes, int]:
        view, at, end = memoryview(data), 0, len(data)
        pieces: list[memoryview] = []
        while at < end and not self.done:
            if self._state == _IN_DATA:
                count = min(self.left, end - at)
                pieces.append(view[at : at + count])
                at += count
                self.left -= count
                if not self.left:
                    self._state = _AT_DATA_END
                continue
            stop = data.find(b"\n", at, at + LINE_BYTES) + 1 or min(end, at + LINE_BYTES)
            line = self._line + data[at:stop]
            at = stop
            if line.endswith(b"\n"):
                self._line = _NOTHING
                self._take_line(line)
            else:
                self._line = self._incomplete(line)
        if self.done:
            self.left = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), at

    def _incomplete(self, line: bytes) -> bytes:
        if self._state == _AT_DATA_END and line != b"\r":
            raise MessageError(400, "a chunk is longer than its size")
        if len(line) >= LINE_BYTES and self._state == _AT_SIZE:
            raise MessageError(400, "an overlong chunk extension")
        if len(line) + len(self.trailers) > TRAILERS_BYTES:
            raise MessageError(400, f"more than {TRAILERS_BYTES} bytes of trailers")
        return line

    def _take_line(self, line: bytes) -> None:
        if self._forgiving and self._state != _AT_SIZE and not line.endswith(_CRLF):
            line = line[:-1] + _CRLF
        if self._state == _AT_DATA_END:
            if line != _CRLF:
                raise MessageError(400, "a chunk is longer than its size")
            self._state = _AT_SIZE
        elif self._state == _AT_SIZE:
            self._take_size(line)
        elif line == _CRLF:
            self.trailers = parse_trailers(self.trailers, TRAILER_FIELDS)
            self.done = True
        else:
            self.trailers += self._incomplete(line)

    def _take_size(self, line: bytes) -> None:
        match = (_FORGIVEN_SIZE if self._forgiving else _SIZE).fullmatch(line)
        if match is None:
            raise MessageError(400, "bad chunk size")
        self._extensions += len(match[2] or _NOTHING)
        if len(line) > LINE_BYTES or self._extensions > EXTENSIONS_BYTES:
            raise MessageError(400, "an overlong chunk extension")
        self.left = int(match[1], 16)
        self._state = _IN_DATA if self.left else _IN_TRAILERS


def framed(body: Transfer, data: Bytes) -> bytes:
    """``data`` of a body as it goes on, in chunks where it came in chunks; with its end, once that has come."""
    if body.verbatim:
        return bytes(data)
    return b"".join([*chunk(data), last_chunk(body.trailers)] if body.done else chunk(data))
