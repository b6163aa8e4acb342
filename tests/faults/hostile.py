"""A worker that knows the code and means harm: speaks the handshake and the records rightly, and then anything.

Built on the protocol core; what it is told to send, it sends.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write

from aero.core import frames, record
from aero.core.aead.choose import choose
from aero.core.spake2plus import Password
from aero.core.stretch import stretch
from aero.net.handshake import Keyed, greet_server
from aero.net.transport import TcpTransport
from tests.faults.inside import CODE, DEADLINE_S, LOOPBACK

BACKEND = choose()


@cache
def password(code: str) -> Password:
    return Password(*stretch(code, ""))


def connect(port: int, source: str = LOOPBACK) -> socket.socket:
    """A non-blocking connection, from another address of this machine if need be."""
    sock = socket.socket()
    sock.bind((source, 0))
    sock.connect((LOOPBACK, port))
    sock.setblocking(False)
    return sock


class _Heard(TcpTransport):
    """The connection during the handshake, with somebody who listens."""

    def __init__(self, worker: Hostile) -> None:
        super().__init__(worker.sock)
        take = self.send

        def send(data: memoryview) -> int:
            count = take(data)
            worker.spoken += data[:count]
            return count

        self.send = send


JOIN = {"v": "0", "identity": "hostile", "tag": "hostile", "host": "hostile", "ping": 60}


class Hostile:
    """One link of it."""

    def __init__(
        self, port: int, join: dict[str, Any] | None = None, code: str = CODE, source: str = LOOPBACK
    ) -> None:
        self.sock = connect(port, source)
        self.closed: tuple[int, str] | None = None  # what the server's CLOSE said
        self.joined: dict[str, Any] = {}
        self.control: list[dict[str, Any]] = []
        self.resets = 0
        self.received = 0
        self.ended = False
        self.answers_pings = False
        self.spoken = b""  # all that we sent, as an eavesdropper hears it
        self._buffer = b""
        try:
            keyed: Keyed = greet_server(
                _Heard(self),
                password(code),
                "",
                BACKEND,
                lambda: frames.pack_json(JOIN if join is None else join),
            )
        except BaseException:
            self.sock.close()
            raise
        self._writer, self._reader = keyed.writer, keyed.reader
        self._take(keyed.early)

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # Sending

    def send(self, kind: int, plaintext: bytes) -> bool:
        """Seals and sends one record; False when the server has hung up."""
        out = bytearray(len(plaintext) + record.OVERHEAD_BYTES)
        self._writer.seal(kind, memoryview(plaintext), memoryview(out))
        return self.send_raw(bytes(out))

    def send_raw(self, data: bytes) -> bool:
        """Sends bytes as they are."""
        view = memoryview(data)
        try:
            with gevent.Timeout(DEADLINE_S):
                while view:
                    try:
                        view = view[self.sock.send(view) :]
                    except BlockingIOError:
                        wait_write(self.sock.fileno())
        except OSError:
            self.ended = True
            return False
        return True

    def session(self, *parts: bytes) -> bool:
        return self.send(record.SESSION, b"".join(parts))

    def link(self, *parts: bytes) -> bool:
        return self.send(record.LINK, b"".join(parts))

    def say(self, message: dict[str, Any]) -> bool:
        return self.session(frames.pack(frames.CONTROL, 0, frames.pack_json(message)))

    # Receiving

    def read(self) -> bool:
        """Waits for bytes and takes what they bring; False at the end."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            wait_read(self.sock.fileno(), timeout=DEADLINE_S)
            return True
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        buffer = memoryview(self._buffer + data)
        at = 0
        plain = memoryview(bytearray(record.MAX_PLAIN_BYTES))
        while len(buffer) - at >= record.HEADER_BYTES:
            kind, size = record.record_bytes(buffer, at)
            if len(buffer) - at < size:
                break
            count = self._reader.open(buffer[at : at + size], plain)
            at += size
            if kind == record.SESSION:
                self.received += count
            for frame, _, payload in frames.split(plain[:count]):
                if frame == frames.CLOSE:
                    self.closed = frames.unpack_reason(payload, frame)
                elif frame == frames.PING and self.answers_pings:
                    self.link(frames.pack(frames.PONG, 0, bytes(payload)))
                elif frame == frames.JOINED:
                    self.joined = frames.unpack_json(payload, frame)
                elif frame == frames.CONTROL:
                    self.control.append(frames.unpack_json(payload, frame))
                elif frame == frames.RESET:
                    self.resets += 1
        self._buffer = bytes(buffer[at:])

    def join(self) -> dict[str, Any]:
        """Waits for JOINED."""
        while not self.joined:
            assert self.read(), f"the server hung up: {self.closed}"
        return self.joined

    def close_code(self) -> int | None:
        """Reads to the end; the code of the server's CLOSE, None where it said nothing."""
        with gevent.Timeout(DEADLINE_S):
            while self.closed is None and self.read():
                pass
        return self.closed[0] if self.closed else None
