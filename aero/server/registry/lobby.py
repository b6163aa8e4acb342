"""The lobby: where a worker's visitors wait, for a moment, while no link leads to it. Knows times and numbers only."""

from __future__ import annotations

from time import monotonic
from typing import Callable

from aero.limits import Limits
from aero.net.faults import report
from aero.net.loop import Loop, Watcher, stopped

Call = Callable[[], None]


class Lobby:
    """Visitors of one worker, in the order in which they came."""

    def __init__(self, loop: Loop) -> None:
        """``loop``: for the time that each may wait."""
        self._loop = loop
        self._waiting: dict[Call, tuple[float, Call]] = {}  # until when, and what to call then
        self._timer: Watcher | None = None
        self._until = 0.0  # when it fires

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, serve: Call, turn_away: Call, wait_s: float | None = None) -> bool:
        """Calls ``serve()`` once a link is up, or ``turn_away()`` where none comes in time. Neither may raise.

        ``wait_s``: how long; None: as long as a redial takes. False when so many wait already that this one may not:
        then nothing is called.
        """
        if len(self._waiting) >= Limits.WAITING_VISITORS:
            return False
        until = monotonic() + (Limits.VISITOR_WAIT_S if wait_s is None else wait_s)
        self._waiting[serve] = (until, turn_away)
        if self._timer is None or until < self._until:
            self._arm()
        return True

    def leave(self, serve: Call) -> None:
        """The visitor waits no longer. Harmless when he does not."""
        self._waiting.pop(serve, None)

    def open(self) -> None:
        """A link is up: everybody in."""
        for serve in self._empty():
            _tell(serve)

    def close(self) -> None:
        """The worker is gone: everybody gets a reset."""
        for _, turn_away in self._empty().values():
            _tell(turn_away)

    def _empty(self) -> dict[Call, tuple[float, Call]]:
        waiting, self._waiting = self._waiting, {}
        self._arm()
        return waiting

    def _arm(self) -> None:
        stopped(self._timer)
        self._timer = None
        if self._waiting:
            self._until = min(until for until, _ in self._waiting.values())
            self._timer = self._loop.timer(max(self._until - monotonic(), 0.0))
            self._timer.start(self._on_time)

    def _on_time(self) -> None:
        now = monotonic()
        late = [serve for serve, (until, _) in self._waiting.items() if until <= now]
        for turn_away in [self._waiting.pop(serve)[1] for serve in late]:
            _tell(turn_away)
        self._arm()


def _tell(call: Call) -> None:
    """An error of this program in one visitor's must not leave the others waiting."""
    try:
        call()
    except Exception as error:
        report(error)
