"""The lobby: where a worker's visitors wait, for a moment, while no link leads to it. Knows sockets and times only."""

from __future__ import annotations

import socket
from collections import deque
from time import monotonic
from typing import Callable, NamedTuple

from aero.limits import Limits
from aero.net.loop import Loop, Watcher, stopped
from aero.net.pipe import refuse


class _Waiting(NamedTuple):
    until: float
    sock: socket.socket
    serve: Callable[[socket.socket], None]
    refused: Callable[[], None]

    def refuse(self) -> None:
        refuse(self.sock)
        self.refused()


class Lobby:
    """Visitors of one worker, in the order in which they came. Nothing is read from them: they cost a descriptor."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[_Waiting] = deque()
        self._timer: Watcher | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(
        self, sock: socket.socket, serve: Callable[[socket.socket], None], refused: Callable[[], None]
    ) -> None:
        """``serve(sock)`` is called when a link is up. Where none comes in time, the visitor gets a reset, and
        ``refused()`` is called."""
        waiting = _Waiting(monotonic() + Limits.VISITOR_WAIT_S, sock, serve, refused)
        if len(self._waiting) >= Limits.WAITING_VISITORS:
            waiting.refuse()
            return
        self._waiting.append(waiting)
        if self._timer is None:
            self._arm()

    def open(self) -> None:
        """A link is up: everybody in."""
        waiting, self._waiting = self._waiting, deque()
        self._arm()
        for each in waiting:
            each.serve(each.sock)

    def close(self) -> None:
        """There will be no link."""
        waiting, self._waiting = self._waiting, deque()
        self._arm()
        for each in waiting:
            each.refuse()

    def _arm(self) -> None:
        stopped(self._timer)
        self._timer = None
        if self._waiting:
            self._timer = self._loop.timer(max(self._waiting[0].until - monotonic(), 0.0))
            self._timer.start(self._on_time)

    def _on_time(self) -> None:
        now = monotonic()
        while self._waiting and self._waiting[0].until <= now:
            self._waiting.popleft().refuse()
        self._arm()
