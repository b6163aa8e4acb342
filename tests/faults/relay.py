"""A relay between a worker and its server that does what networks do: cut, stall, lose, delay, reorder, damage.

One thread and one poll for all connections, so it serves tests in this process and tests of real processes alike.
Knows TCP, and of the protocol only where its messages and records begin, which is not secret.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from aero.core import handshake, record

LOOPBACK = "127.0.0.1"
_LINGER_ZERO = struct.pack("ii", 1, 0)
_READ_BYTES = 256 * 1024
_MOST_QUEUED = 4 * 1024 * 1024
_MESSAGES = 2  # of the handshake, in each direction; then records


class Way:
    """One direction of one connection. Its faults are plain attributes, set them before or while bytes flow."""

    def __init__(self) -> None:
        self.source: socket.socket
        self.sink: socket.socket
        self.delay_s = 0.0
        self.not_before = 0.0  # when the connection itself would have come up, far away
        self.stalled = False  # takes nothing any more: the sender's buffers fill up
        self.lost = False  # takes everything, delivers nothing, not even the end
        self.cut_at: int | None = None  # the connection is cut when so many bytes have passed
        self.cut_in_unit: tuple[int, float] | None = None  # or when this fraction of a message or record has
        self.flip_at: int | None = None  # one bit of this byte is turned over
        self.taken = 0  # bytes from the source
        self.passed = 0  # bytes to the sink
        self.queue: deque[tuple[float, bytes]] = deque()
        self.queued = 0
        self.ended = False  # the source has
        self.shut = False  # and the sink knows
        self._units = 0
        self._unit_left = 0
        self._head = b""

    def take(self, data: bytes) -> None:
        if self.lost:
            return
        if self.flip_at is not None and self.taken <= self.flip_at < self.taken + len(data):
            at = self.flip_at - self.taken
            data = data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]
        if self.cut_in_unit is not None and self.cut_at is None:
            self._find_unit(data)
        self.taken += len(data)
        self.queued += len(data)
        self.queue.append((max(monotonic(), self.not_before) + self.delay_s, data))

    def _find_unit(self, data: bytes) -> None:
        """Follows the lengths that messages and records begin with, up to the one that is to be cut."""
        assert self.cut_in_unit is not None
        number, fraction = self.cut_in_unit
        at = 0
        while at < len(data):
            if self._unit_left:
                inside = min(self._unit_left, len(data) - at)
                self._unit_left -= inside
                at += inside
                continue
            header_bytes = handshake.HEADER_BYTES if self._units < _MESSAGES else record.HEADER_BYTES
            piece = data[at : at + header_bytes - len(self._head)]
            self._head += piece
            at += len(piece)
            if len(self._head) < header_bytes:
                return
            if self._units < _MESSAGES:
                size = header_bytes + handshake.HEADER.unpack(self._head)[3]
            else:
                size = record.record_bytes(memoryview(self._head), 0)[1]
            if self._units == number:
                self.cut_at = self.taken + at - header_bytes + int(size * fraction)
                return
            self._units += 1
            self._unit_left = size - header_bytes
            self._head = b""


class Connection:
    """One connection through the relay: ``up`` leads from the worker to the server, ``down`` back."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.up, self.down = Way(), Way()
        self.closed = False
        self.began_at = monotonic()

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.up, self.down


class Relay:
    """Listens on ``port`` and connects to ``to``. ``on_connection`` may set a new connection's faults."""

    def __init__(self, to: int, on_connection: Callable[[Connection], None] | None = None) -> None:
        self._to = to
        self._on_connection = on_connection
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.count = 0  # connections since the beginning
        self.cuts = 0
        self.delay_s = 0.0  # each way, of connections to come
        self.holding = False  # connections that come are kept, and let through by release()
        self.refusing = False
        self._held: list[socket.socket] = []
        self._connections: list[Connection] = []
        self._lock = threading.RLock()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> list[Connection]:
        """Those that stand, in the order in which they came."""
        with self._lock:
            return list(self._connections)

    @property
    def held(self) -> int:
        """Connections that wait for release()."""
        with self._lock:
            return len(self._held)

    def change(self, what: Callable[[Connection], None]) -> None:
        """Does something with every connection that stands, between two turns of the relay."""
        with self._lock:
            for connection in self._connections:
                what(connection)
        self._wake()

    def cut(self) -> int:
        """Resets every connection; how many there were."""
        with self._lock:
            count = len(self._connections)
            for connection in list(self._connections):
                self._cut(connection)
        self._wake()
        return count

    def release(self, newest_first: bool = False) -> None:
        """Lets held connections through."""
        with self._lock:
            self.holding = False
            held, self._held = self._held, []
            for near in reversed(held) if newest_first else held:
                self._connect(near)
        self._wake()

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake, or it has seen the end already
            self._wake_in.send(b"!")

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        finally:
            self.cut()
            for sock in (*self._held, self._listener, self._wake_in, self._wake_out):
                sock.close()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_out, select.POLLIN)
        wait_s = 1.0
        with self._lock:
            interest: dict[int, int] = {}
            now = monotonic()
            for connection in self._connections:
                for way in connection.ways:
                    if not (way.ended or way.stalled) and way.queued < _MOST_QUEUED:
                        number = way.source.fileno()
                        interest[number] = interest.get(number, 0) | select.POLLIN
                    if way.queue and not way.lost:
                        due = way.queue[0][0] - now
                        if due <= 0:
                            number = way.sink.fileno()
                            interest[number] = interest.get(number, 0) | select.POLLOUT
                        else:
                            wait_s = min(wait_s, due)
            for number, events in interest.items():
                poll.register(number, events)
        # A millisecond is as exact as poll gets: rounded up, or it would spin.
        ready = dict(poll.poll(int(wait_s * 1000) + 1))
        with self._lock:
            if self._wake_out.fileno() in ready:
                self._wake_out.recv(4096)
            if self._listener.fileno() in ready:
                self._accept()
            for connection in list(self._connections):
                self._serve(connection, ready)

    def _accept(self) -> None:
        try:
            near = self._listener.accept()[0]
        except BlockingIOError:
            return
        if self.refusing:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            near.close()
        elif self.holding:
            self._held.append(near)
        else:
            self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection((LOOPBACK, self._to))
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            near.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.count += 1
        connection = Connection(self.count)
        connection.up.source = connection.down.sink = near
        connection.up.sink = connection.down.source = far
        connection.up.delay_s = connection.down.delay_s = self.delay_s
        connection.up.not_before = connection.began_at + 2 * self.delay_s
        if self._on_connection is not None:
            self._on_connection(connection)
        self._connections.append(connection)

    def _serve(self, connection: Connection, ready: dict[int, int]) -> None:
        for way in connection.ways:
            try:
                if ready.get(way.source.fileno(), 0) & ~select.POLLOUT and not (way.ended or way.stalled):
                    self._read(way)
                if way.queue and not way.lost:
                    self._write(connection, way)
                if way.ended and not way.queue and not way.shut and not way.lost:
                    way.shut = True
                    way.sink.shutdown(socket.SHUT_WR)
            except OSError:
                self._cut(connection)
            if connection.closed:
                return
        if all(way.shut for way in connection.ways):
            self._cut(connection)

    @staticmethod
    def _read(way: Way) -> None:
        try:
            data = way.source.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if data:
            way.take(data)
        else:
            way.ended = True

    def _write(self, connection: Connection, way: Way) -> None:
        now = monotonic()
        while way.queue and way.queue[0][0] <= now:
            due, data = way.queue[0]
            room = len(data) if way.cut_at is None else max(way.cut_at - way.passed, 0)
            try:
                count = way.sink.send(data[:room]) if room else 0
            except BlockingIOError:
                return
            way.passed += count
            way.queued -= count
            if way.cut_at is not None and way.passed >= way.cut_at:
                self.cuts += 1
                self._cut(connection)
                return
            way.queue.popleft()
            if count < len(data):
                way.queue.appendleft((due, data[count:]))
                return

    def _cut(self, connection: Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        self._connections.remove(connection)
        for sock in (connection.up.source, connection.up.sink):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            sock.close()
