"""The lobby: where a worker's visitors wait, for a moment, while no link leads to it. Knows sockets and times only."""

from __future__ import annotations

import socket
from collections import deque
from time import monotonic
from typing import Any, Callable

from aero.limits import Limits
from aero.net.pipe import refuse


class Lobby:
    """Visitors of one worker, in the order in which they came. Nothing is read from them: they cost a descriptor."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, socket.socket, Callable[[socket.socket], None]]] = deque()
        self._timer: Any = None

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, sock: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        """``serve(sock)`` is called when a link is up; where none comes in time, the visitor gets a reset."""
        if len(self._waiting) >= Limits.WAITING_VISITORS:
            refuse(sock)
            return
        self._waiting.append((monotonic() + Limits.VISITOR_WAIT_S, sock, serve))
        if self._timer is None:
            self._arm()

    def open(self) -> None:
        """A link is up: everybody in."""
        waiting, self._waiting = self._waiting, deque()
        self._arm()
        for _, sock, serve in waiting:
            serve(sock)

    def close(self) -> None:
        """There will be no link."""
        waiting, self._waiting = self._waiting, deque()
        self._arm()
        for _, sock, _ in waiting:
            refuse(sock)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        if self._waiting:
            self._timer = self._loop.timer(max(self._waiting[0][0] - monotonic(), 0.0))
            self._timer.start(self._on_time)

    def _on_time(self) -> None:
        now = monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            refuse(self._waiting.popleft()[1])
        self._arm()
