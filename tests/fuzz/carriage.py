"""What is fuzzed of the carriage of links: first bytes, WebSocket, and certificates."""

from __future__ import annotations

from aero.core import websocket
from aero.errors import FrameError, MessageError
from aero.net.pin import first_in, names_of, pin_of
from aero.server.links import dialect, selfmade
from tests.fuzz.guided import Target


def fuzz_frames(data: bytes) -> None:
    """Frames: however they are cut, the same payload comes out, or the same rule is broken."""
    found = []
    for step in (1 << 30, 1, 5):
        deframer = websocket.Deframer(from_client=bool(data) and bool(data[0] & 1))
        out: bytes | int = b""
        try:
            for start in range(1, len(data), step):
                piece = bytearray(data[start : start + step])
                count = deframer.feed(memoryview(piece), len(piece))
                assert count <= len(piece)
                if isinstance(out, bytes):
                    out += piece[:count]
        except FrameError as error:
            out = error.code
        found.append((out, deframer.closed))
    assert found[0] == found[1] == found[2]


def fuzz_upgrade(data: bytes) -> None:
    """The head of a request or an answer, and the first bytes of a connection."""
    kind = dialect.kind_of(data) if data else ""
    assert kind in ("", *websocket_kinds)
    dialect.asks_for(b"/_aero/link", data)
    try:
        head = websocket.parse_head(data + b"\r\n\r\n")
        websocket.refusal(head, b"key")
        websocket.answer(head)
    except MessageError as error:
        assert error.status in (400, 426)


websocket_kinds = (dialect.LINK, dialect.TLS, dialect.HTTP, dialect.HTTP2, dialect.OTHER)


def fuzz_certificate(data: bytes) -> None:
    """A certificate's DER, and PEM."""
    for read in (pin_of, names_of):
        try:
            read(data)
        except ValueError:
            pass
    try:
        first_in(data.decode("latin-1"))
    except ValueError:
        pass


_FRAMES = [
    websocket.header(websocket.BINARY, size, mask) + bytes(size)
    for size in (0, 5, 126, 300)
    for mask in (None, websocket.ZERO_MASK, b"mask")
]
_CONTROLS = [
    websocket.control(kind, b"\x03\xe8", mask)
    for kind in (websocket.PING, websocket.PONG, websocket.CLOSE)
    for mask in (None, b"mask")
]
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_HEADS = [
    websocket.request("h", "/_aero/link", [("a", "b")], _KEY)[:-4],
    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x",
]
_CERTIFICATE = first_in(selfmade.make())

TARGETS: dict[str, tuple[Target, list[bytes], list[bytes]]] = {
    "websocket-frames": (fuzz_frames, [b"\0" + b"".join(_FRAMES[::3]), b"\1" + b"".join(_FRAMES)], _CONTROLS),
    "websocket-upgrade": (
        fuzz_upgrade,
        _HEADS,
        [b"Sec-WebSocket-Version: 8\r\n", b"AeRO", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\n", b"\r\n"],
    ),
    "certificate": (
        fuzz_certificate,
        [_CERTIFICATE],
        [b"\x30\x80", b"\x30\x84\xff", b"\xa3\x03\x30\x01\x00"],
    ),
}
