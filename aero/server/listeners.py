"""Accepting: one persistent watcher per listening socket. Knows sockets, not what they lead to."""

from __future__ import annotations

import errno
import socket
from typing import Any, Callable

from aero import logs

log = logs.get("listener")

ACCEPTS_A_TURN = 64  # a burst of visitors must not keep the links waiting
PAUSE_S = 0.5  # with no descriptor left, accepting again at once would only burn the processor
_READ = 1
_MAPPED = "::ffff:"  # IPv4, as a socket sees it that listens for both (RFC 4291, section 2.5.5.2)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts on one socket and hands every connection to ``on_connection(sock, address)``."""

    def __init__(
        self, loop: Any, sock: socket.socket, on_connection: Callable[[socket.socket, Any], None]
    ) -> None:
        self.address = sock.getsockname()[:2]
        self._loop = loop
        self._sock = sock
        self._on_connection = on_connection
        self._timer: Any = None
        self._watcher = loop.io(sock.fileno(), _READ)
        self._watcher.start(self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # this visitor left before we came: the next one, please
            if address[0].startswith(_MAPPED):
                address = (address[0][len(_MAPPED) :], *address[1:])
            self._on_connection(sock, address)

    def _pause(self, error: OSError) -> None:
        """No descriptors left: those who wait stay in the kernel's queue until some are free again."""
        log.warning(
            "cannot accept for now; raise the limit of open files (ulimit -n)",
            listen=f"{self.address[0]}:{self.address[1]}",
            error=error.strerror,
        )
        self._watcher.stop()
        self._timer = self._loop.timer(PAUSE_S)
        self._timer.start(self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._watcher.start(self._on_readable)

    def close(self) -> None:
        """Stops listening."""
        if self._timer is not None:
            self._timer.stop()
        self._watcher.stop()
        self._watcher.close()
        self._sock.close()
