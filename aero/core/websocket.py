"""WebSocket (RFC 6455) as far as a link needs it: frames and the opening handshake, bytes in and bytes out.

What a link sends is one endless run of bytes. So of WebSocket's messages only the payload of binary ones counts, where
a frame or a message ends means nothing, and none is ever kept until it is whole. PROTOCOL.md, "Carriage".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from aero.errors import FrameError, MessageError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_FIN, _MASKED = 0x80, 0x80
MAX_HEADER_BYTES = 14
_MAX_CONTROL_BYTES = 125  # section 5.5
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # in the place of a length: that it follows (section 5.2)

# Why a connection is closed (section 7.4.1).
NORMAL, BROKEN, UNSUPPORTED = 1000, 1002, 1003

ZERO_MASK = bytes(4)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_VERSION = b"13"
MAX_HEAD_BYTES = 16 * 1024  # as proxies allow: cookies and tokens that somebody in between puts in
_MASK_BYTES = 64 * 1024  # a mask repeated so often that a call for it is worth it
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token (RFC 9110, section 5.6.2)
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64


def header(kind: int, length: int, mask: bytes | None) -> bytes:
    """What stands before the payload of a frame that is a message of its own. ``mask``: four bytes from a client,
    None from a server.
    """
    bit = _MASKED if mask is not None else 0
    if length < _TWO_BYTES:
        head = bytes((_FIN | kind, bit | length))
    elif length < 1 << 16:
        head = bytes((_FIN | kind, bit | _TWO_BYTES)) + length.to_bytes(2, "big")
    else:
        head = bytes((_FIN | kind, bit | _EIGHT_BYTES)) + length.to_bytes(8, "big")
    return head + (mask or b"")


def control(kind: int, payload: bytes, mask: bytes | None) -> bytes:
    """A whole control frame. ``mask``: see ``header``."""
    data = bytearray(payload)
    if mask is not None:
        apply_mask(memoryview(data), mask)
    return header(kind, len(data), mask) + data


def apply_mask(data: memoryview, mask: bytes) -> None:
    """Puts a mask on, or takes it off, in place (section 5.3). The zero mask costs nothing."""
    if mask == ZERO_MASK or not data:
        return
    from Crypto.Util.strxor import strxor

    pattern = memoryview(mask * ((min(len(data), _MASK_BYTES) + 3) // 4))
    for start in range(0, len(data), _MASK_BYTES):
        piece = data[start : start + _MASK_BYTES]
        strxor(piece, pattern[: len(piece)], output=piece)


class Deframer:
    """Takes the payload of binary messages out of the peer's frames, in place.

    What has to be answered is in ``ping`` and ``closed``: whoever feeds looks at them and sets them back.
    """

    def __init__(self, from_client: bool) -> None:
        """``from_client``: frames have to be masked then, and must not be otherwise (section 5.1)."""
        self.ping: bytes | None = (
            None  # payload of the last ping that came; older ones need no answer (5.5.3)
        )
        self.closed: int | None = None  # the code of the peer's CLOSE; nothing after it is looked at
        self._from_client = from_client
        self._head = b""  # an incomplete header
        self._left = 0  # bytes of the present frame's payload that are still to come
        self._mask = ZERO_MASK  # turned so that it begins at the next byte
        self._kind = CONTINUATION
        self._payload = b""  # of the present control frame
        self._within = False  # a message has begun, and its last frame has not come

    def feed(self, data: memoryview, count: int) -> int:
        """``data[:count]`` has come. Moves the payload in it to the front, and returns how many bytes that is.

        Raises FrameError with the code to close with, and then must not be called again.
        """
        at = out = 0
        while at < count and self.closed is None:
            if not self._left:
                at += self._begin(data[at:count])
                if not self._left:
                    continue
            size = min(self._left, count - at)
            piece = data[at : at + size]
            at += size
            self._left -= size
            if self._mask != ZERO_MASK:
                apply_mask(piece, self._mask)
                turn = size & 3
                self._mask = self._mask[turn:] + self._mask[:turn]
            if self._kind == BINARY:
                if out + size != at:
                    data[out : out + size] = piece  # they may overlap: a memoryview sees to that
                out += size
            else:
                self._payload += piece
                if not self._left:
                    self._control()
        return out

    def _begin(self, data: memoryview) -> int:
        """Reads (more of) a header; returns how many of these bytes belong to it."""
        before = len(self._head)
        head = self._head + bytes(data[: MAX_HEADER_BYTES - before])
        size = self._header_bytes(head)
        if len(head) < size:
            self._head = head
            return len(head) - before
        self._head = b""
        first, second = head[0], head[1]
        length, at = second & 0x7F, 2
        if length >= _TWO_BYTES:
            at = 4 if length == _TWO_BYTES else 10
            shortest = _TWO_BYTES if length == _TWO_BYTES else 1 << 16
            length = int.from_bytes(head[2:at], "big")
            if length < shortest or length >> 63:
                raise FrameError(BROKEN, "a WebSocket frame's length is not written as it has to be")
        self._mask = head[at:size] or ZERO_MASK
        self._left = length
        kind, final = first & 0x0F, bool(first & _FIN)
        if kind >= CLOSE:
            self._kind, self._payload = kind, b""
            if not length:
                self._control()
            return size - before
        if (kind == CONTINUATION) != self._within:
            raise FrameError(BROKEN, "WebSocket frames are out of order")
        self._within = not final
        self._kind = BINARY
        return size - before

    def _header_bytes(self, head: bytes) -> int:
        """How long this header is, as far as its beginning tells. Raises FrameError where that is wrong already."""
        kind = head[0] & 0x0F
        if head[0] & 0x70:
            raise FrameError(BROKEN, "a WebSocket frame uses an extension that nobody has agreed on")
        if kind == TEXT:
            raise FrameError(UNSUPPORTED, "a WebSocket message is text, a link's are binary")
        if kind not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            raise FrameError(BROKEN, f"a WebSocket frame's kind is unknown ({kind})")
        if kind >= CLOSE and not head[0] & _FIN:
            raise FrameError(BROKEN, "a WebSocket control frame is fragmented")
        if len(head) < 2:
            return 2
        masked, length = bool(head[1] & _MASKED), head[1] & 0x7F
        if masked != self._from_client:
            raise FrameError(BROKEN, f"a WebSocket frame is {'masked' if masked else 'not masked'}")
        if kind >= CLOSE and length > _MAX_CONTROL_BYTES:
            raise FrameError(BROKEN, "a WebSocket control frame is too long")
        return 2 + (0 if length < _TWO_BYTES else 2 if length == _TWO_BYTES else 8) + (4 if masked else 0)

    def _control(self) -> None:
        """A control frame is whole."""
        if self._kind == PING:
            self.ping = self._payload
        elif self._kind == CLOSE:
            if len(self._payload) == 1:
                raise FrameError(BROKEN, "a WebSocket CLOSE has half a code")
            self.closed = int.from_bytes(self._payload[:2], "big") or NORMAL


# The opening handshake (section 4)


class Head(NamedTuple):
    """A request's or an answer's head: its first line's words, and its fields by name in lower case; those that came
    more than once are joined by commas.
    """

    first: list[bytes]
    fields: dict[bytes, bytes]

    def has(self, name: bytes, token: bytes) -> bool:
        """Whether a field that is a list has this item, in any case."""
        return token in [each.strip().lower() for each in self.fields.get(name, b"").split(b",")]


def parse_head(data: bytes) -> Head:
    """``data``: up to the empty line and with it. Raises MessageError (400) where it is no head."""
    lines = data[:-4].split(b"\r\n")
    first = lines[0].split(b" ", 2)
    if len(first) < 2:
        raise MessageError(400, "the first line is none of HTTP's")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:
            raise MessageError(400, "a header field is malformed")
        name, value = name.lower(), value.strip(b" \t")
        fields[name] = fields[name] + b"," + value if name in fields else value
    return Head(first, fields)


def accept_key(key: bytes) -> bytes:
    """What a server answers to a client's key (section 4.2.2)."""
    from base64 import b64encode
    from hashlib import sha1

    return b64encode(sha1(key + _GUID).digest())  # noqa: S324 (the RFC's, and no secret)


def request(host: str, path: str, fields: Sequence[tuple[str, str]], key: bytes) -> bytes:
    """A client's request. ``host``: as in a Host field; ``key``: 16 random bytes in base64."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key.decode()}", f"Sec-WebSocket-Version: {_VERSION.decode()}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def refusal(head: Head, key: bytes) -> str:
    """Why a server's 101 is none that we asked for, "" where it is (section 4.1)."""
    if not head.has(b"upgrade", b"websocket") or not head.has(b"connection", b"upgrade"):
        return "it switches to something else than WebSocket"
    if head.fields.get(b"sec-websocket-accept") != accept_key(key):
        return "its answer is not to our request"
    if b"sec-websocket-extensions" in head.fields or b"sec-websocket-protocol" in head.fields:
        return "it wants an extension or a protocol that was not asked for"
    return ""


def wants_upgrade(head: Head) -> bool:
    """Whether a request asks for a WebSocket, well or badly."""
    return head.has(b"upgrade", b"websocket")


def answer(head: Head) -> bytes:
    """A server's 101 to a client's request. Raises MessageError: 400, or 426 for another version (section 4.2.2)."""
    fields = head.fields
    if head.first[0] != b"GET" or head.first[-1] != b"HTTP/1.1" or b"host" not in fields:
        raise MessageError(400, "a WebSocket begins with GET, HTTP/1.1 and a Host")
    if not head.has(b"connection", b"upgrade"):
        raise MessageError(400, "Upgrade without Connection: Upgrade")
    if fields.get(b"sec-websocket-version") != _VERSION:
        raise MessageError(426, "only version 13 of WebSocket is spoken here")
    key = fields.get(b"sec-websocket-key", b"")
    if _KEY.fullmatch(key) is None:
        raise MessageError(400, "Sec-WebSocket-Key is missing, or is not 16 bytes in base64")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key(key)
    )
