"""A visitor's connection in TLS, with what of a socket the mux uses. Imported for the first visitor who comes by HTTPS.

TLS may hold bytes that no event of the descriptor announces. So this socket makes its own watcher for reading, which
calls back for them, too, before the loop waits again: for the rest of the mux it is a socket as any other.
"""

from __future__ import annotations

import socket
from typing import Any, Callable, Union

from aero.net.loop import READ, Loop, Watcher
from aero.net.transport import Transport

_RECEIVE_BYTES = 64 * 1024
_Bytes = Union[bytes, bytearray, memoryview]


class SecureSocket:
    """As far as the mux knows, a socket."""

    def __init__(self, transport: Transport, sock: socket.socket, loop: Loop) -> None:
        """``transport``: its handshake is done; ``sock``: the one below it all, non-blocking."""
        self._transport = transport
        self._sock = sock
        self._loop = loop
        self._gentle = False  # to be closed with an end, not with a reset
        self._watcher: _EagerWatcher | None = None
        self.fileno = sock.fileno

    def watch(self) -> Watcher:
        """What calls back while there is something to read."""
        self._watcher = _EagerWatcher(self._loop, self._transport)
        return self._watcher

    def recv(self, count: int) -> bytes:
        """As a socket's."""
        buffer = memoryview(bytearray(min(count, _RECEIVE_BYTES)))
        return bytes(buffer[: self.recv_into(buffer)])

    def recv_into(self, buffer: memoryview) -> int:
        """As a socket's."""
        try:
            return self._transport.receive_into(buffer)
        finally:
            if self._watcher is not None:
                self._watcher.look()

    def send(self, data: _Bytes) -> int:
        """As a socket's; what was refused is to be offered again unchanged."""
        return self._transport.send(memoryview(data))

    def shutdown(self, _: int) -> None:
        """Ends our direction."""
        self._transport.shut()

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        """As a socket's."""
        if name == socket.SO_LINGER:
            self._gentle = not any(bytes(value))
        self._sock.setsockopt(level, name, value)

    def close(self) -> None:
        """As a socket's, with a word of farewell where the end is a good one."""
        if self._gentle:
            try:
                self._transport.shut()
            except OSError:
                pass  # gone already
        self._transport.close()


class _EagerWatcher:
    """A watcher for reading that looks at what TLS holds, too."""

    def __init__(self, loop: Loop, transport: Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._io = loop.io(transport.fileno(), READ)
        self._call: Callable[[], None] = _nothing
        self._due = False

    @property
    def active(self) -> bool:
        return self._io.active

    def start(self, callback: Callable[..., Any], *_: Any) -> None:
        self._call = callback
        self._io.start(callback)
        self.look()

    def look(self) -> None:
        """Has the callback be called once more where something is held."""
        if self._transport.pending and self._io.active and not self._due:
            self._due = True
            self._loop.run_callback(self._on_pending)

    def _on_pending(self) -> None:
        self._due = False
        if self._io.active:
            self._call()

    def faulted(self, error: Exception) -> None:
        """Passes an error of this program on to whose callback it was (net/faults.py)."""
        owner: Any = getattr(self._call, "__self__", None)
        if hasattr(owner, "faulted"):
            owner.faulted(error)

    def stop(self) -> None:
        self._io.stop()

    def close(self) -> None:
        self._io.close()
        self._call = _nothing


def _nothing() -> None:
    """Takes the place of a callback that nobody waits for."""
