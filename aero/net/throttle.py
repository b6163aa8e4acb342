"""The timer of a process's token buckets (core/buckets.py): one for all that wait."""

from __future__ import annotations

from time import monotonic

from aero.core.buckets import Pace, RatedStream
from aero.core.codes import Reset
from aero.net.faults import report
from aero.net.loop import Loop, Watcher, stopped


class Throttle(Pace):
    """Serves the lines of all buckets in time."""

    def __init__(self, loop: Loop) -> None:
        """``loop``: for the timer, which runs only while somebody waits."""
        super().__init__(monotonic, self._arm, self._gave_up)
        self._loop = loop
        self._timer: Watcher | None = None

    def _arm(self, at: float) -> None:
        stopped(self._timer)
        self._timer = self._loop.timer(max(at - monotonic(), 0.0))
        self._timer.start(self._on_time)

    def _on_time(self) -> None:
        stopped(self._timer)
        self._timer = None
        self.serve()

    def _gave_up(self, stream: RatedStream, error: Exception) -> None:
        """A fault of this program's costs one stream."""
        report(error)
        stream.abort(Reset.INTERNAL, "an error of the program")

    def close(self) -> None:
        """Serves nobody any more."""
        stopped(self._timer)
        self._timer = None
