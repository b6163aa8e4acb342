"""WebSocket between a link and its connection (RFC 6455); the frames themselves are aero/core/websocket.py's.

One send is one binary message. Imported at the first WebSocket.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence

from aero.core import websocket
from aero.errors import FrameError, LinkClosed, MessageError, UpgradeError
from aero.net.transport import Layer, Transport, receive, send_all

_SEND_BYTES = 256 * 1024  # of one message: nearly every record of a link
_READ_BYTES = 4096
_TRIES = (
    16  # control frames have no bytes for a link: so many reads of nothing else, and others have their turn
)
_BODY_BYTES = 4096  # of a refusal's text: enough to tell a login page from a proxy's

# Of the process: frames are put together and sent within one call.
_frame = memoryview(bytearray(websocket.MAX_HEADER_BYTES + _SEND_BYTES))


class WebSocketTransport(Layer):
    """A connection in a WebSocket whose opening handshake is done."""

    def __init__(self, under: Transport, *, client: bool, mask: bool = False, early: bytes = b"") -> None:
        """``client``: which end this is; ``mask``: with random masks in place of zero ones, at a client;
        ``early``: what came behind the opening handshake.
        """
        super().__init__(under)
        self.kind = "wss" if under.kind == "tls" else "ws"
        self._frames = websocket.Deframer(from_client=not client)
        self._early = early
        self.pending = len(early)
        self._mask = websocket.ZERO_MASK if client else None
        self._random = client and mask
        self._shut = False  # our CLOSE has left

    def _next_mask(self) -> bytes | None:
        return os.urandom(4) if self._random else self._mask

    def receive_into(self, buffer: memoryview, /) -> int:
        """See Transport."""
        if self._unsent:
            self._clear()
        frames = self._frames
        for _ in range(_TRIES):
            if frames.closed is not None:
                return 0
            count = self._take(buffer)
            if not count:
                return 0
            size = self._unframe(buffer, count)
            if size:
                return size
            if not self.pending:
                break
        raise BlockingIOError

    def _take(self, buffer: memoryview) -> int:
        """More frames; 0 at the end. Raises OSError."""
        if not self._early:
            return self.under.receive_into(buffer)
        count = min(len(self._early), len(buffer))
        buffer[:count], self._early = self._early[:count], self._early[count:]
        return count

    def _unframe(self, buffer: memoryview, count: int) -> int:
        """Leaves the payload of what came in ``buffer``; how many bytes. Raises FrameError, OSError."""
        frames = self._frames
        try:
            size = frames.feed(buffer, count)
        except FrameError as error:
            self._say_closed(error.code)
            raise
        if (
            frames.ping is not None and not self._unsent
        ):  # only the last one is owed an answer (section 5.5.3)
            payload, frames.ping = frames.ping, None
            self._add(websocket.control(websocket.PONG, payload, self._next_mask()))
        self.pending = len(self._early) + self.under.pending
        if frames.closed is not None:
            self.pending += 1  # the end is for the next call to say, and no event may announce it
            self._say_closed(websocket.NORMAL)
        return size

    def send(self, data: memoryview, /) -> int:
        """See Transport."""
        sent = self._begin_send()
        count = min(len(data) - sent, _SEND_BYTES)
        if not count:
            return sent
        mask = self._next_mask()
        head = websocket.header(websocket.BINARY, count, mask)
        size = len(head) + count
        _frame[: len(head)] = head
        _frame[len(head) : size] = data[sent : sent + count]
        if self._random and mask is not None:
            websocket.apply_mask(_frame[len(head) : size], mask)
        return sent + self._pass_on(_frame[:size], count)

    def _say_closed(self, code: int) -> None:
        """Sends a CLOSE, once, as far as it fits."""
        if not self._shut:
            self._shut = True
            self._add(websocket.control(websocket.CLOSE, code.to_bytes(2, "big"), self._next_mask()))

    def shut(self) -> None:
        """See Transport; the peer is told by a CLOSE, too."""
        self._say_closed(websocket.NORMAL)
        self.under.shut()


def upgrade(
    under: Transport, host: str, path: str, fields: Sequence[tuple[str, str]], mask: bool
) -> WebSocketTransport:
    """Client's side: asks for a WebSocket. Blocks the greenlet; whoever calls has a deadline.

    ``host``: the Host field's; ``fields``: more of the request, checked; ``mask``: with random masks.
    Raises UpgradeError, LinkClosed.
    """
    key = b64encode(os.urandom(16))
    send_all(under, websocket.request(host, path, fields, key))
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > websocket.MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
            raise UpgradeError(
                "the answer to our WebSocket request is none of HTTP's", body=data[:_BODY_BYTES]
            )
        data += receive(under, _READ_BYTES)
    text, _, rest = data.partition(b"\r\n\r\n")
    try:
        head = websocket.parse_head(text + b"\r\n\r\n")
        status = int(head.first[1])
    except (MessageError, ValueError) as error:
        raise UpgradeError(f"the answer to our WebSocket request is malformed: {error}", body=data) from None
    why = websocket.refusal(head, key) if status == 101 else ""
    if status != 101 or why:
        shown = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.fields.items()}
        body = rest + _some(under, _BODY_BYTES - len(rest)) if status != 101 else b""
        raise UpgradeError(why or f"no WebSocket there: HTTP {status}", status, shown, body)
    return WebSocketTransport(under, client=True, mask=mask, early=rest)


def _some(under: Transport, count: int) -> bytes:
    """What is here already of a refusal's text."""
    try:
        buffer = bytearray(max(count, 0))
        return bytes(buffer[: under.receive_into(memoryview(buffer))]) if buffer else b""
    except (OSError, LinkClosed):
        return b""
