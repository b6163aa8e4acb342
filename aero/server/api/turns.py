"""Turns: the API's share of the loop's thread. Streams come first: callers work one after another, a little at a time.

All greenlets that can run do so in one turn of the loop: 64 callers at once would keep every stream waiting for 64
answers. So a greenlet takes a turn before it reads a request's head and before it writes an answer, and again whenever
it has worked for SLICE_S. One greenlet at most takes its turn in each turn of the loop; what is ready on sockets comes
in between. Who is alone waits for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic

from gevent.hub import Waiter

from aero.net.loop import Loop, Watcher, stopped

#: How long one turn of a long answer lasts. With what the last piece may take longer, a stream waits 2 ms at most.
SLICE_S = 0.001


class Turns:
    """Whose turn it is."""

    def __init__(self, loop: Loop) -> None:
        """``loop``: the one that all callers run on."""
        self._loop = loop
        self._waiting: deque[Waiter] = deque()
        self._taken: Watcher | None = None  # while there is one, somebody went in this turn of the loop

    def take(self) -> None:
        """Returns when it is the calling greenlet's turn: at once where nobody else works or waits."""
        if self._taken is None:
            self._go()
            return
        waiter = Waiter()
        self._waiting.append(waiter)
        waiter.get()

    def _go(self) -> None:
        self._taken = self._loop.timer(0.0)  # fires in the next turn, after what is ready on sockets
        self._taken.start(self._on_next_turn)

    def _on_next_turn(self) -> None:
        stopped(self._taken)
        self._taken = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if waiter.greenlet is not None:  # else it was killed while it waited
                self._go()
                waiter.switch(None)
                return

    def whole(self, pieces: Iterable[str]) -> bytes:
        """All pieces as one text in UTF-8. Making a piece must not take long; what they are made of may change."""
        made: list[str] = []
        until = monotonic() + SLICE_S
        for piece in pieces:
            made.append(piece)
            if monotonic() >= until:
                self.take()
                until = monotonic() + SLICE_S
        return "".join(made).encode("utf-8", "replace")

    def close(self) -> None:
        """Forgets who waits: their connections are ended."""
        stopped(self._taken)
        self._taken = None
        self._waiting.clear()
