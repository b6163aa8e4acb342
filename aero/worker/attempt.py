"""Several ways to a server at once, a moment apart, until one gets through. Blocks a greenlet; each way has its own.

net/schedule.py says when each begins, and all of them take their turn at the last step, the JOIN with our proof:
whoever gets there first goes on alone, and where it fails after all, the next one may.
Only who has several ways imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Callable

import gevent
from gevent.event import Event

from aero.errors import AeroError, DialError, LinkClosed, PassageError, Rejected, SecurityError
from aero.net.handshake import Keyed
from aero.net.schedule import Schedule
from aero.net.semaphore import Semaphore
from aero.net.transport import Transport
from aero.net.wayout import WayOut

#: What a try by one way gives: the connection, and what the handshake over it left.
Through = tuple[Transport, Keyed]
#: Goes one way: (way, what gives the JOIN's payload, what is called when there is a connection).
Go = Callable[[WayOut, Callable[[int], bytes], Callable[[], None]], Through]
Failed = Callable[[WayOut, AeroError], None]


class Attempt:
    """Several ways at once, a moment apart, until one gets through or all have failed."""

    def __init__(
        self, ways: tuple[WayOut, ...], join: Callable[[int], bytes], go: Go, failed: Failed
    ) -> None:
        """``join(ping_s)``: the JOIN's payload, as dialling.open_link has it; ``go``: one way to its end;
        ``failed``: told of each way that did not get through.
        """
        self._ways = ways
        self._join = join
        self._go_to_the_end = go
        self._tell = failed
        self._schedule = Schedule(len(ways), monotonic())
        self._turn = Semaphore()  # held by whoever sends the JOIN, until it is known what came of that
        self._holder: object = None
        self._stirred = Event()
        self._through: tuple[WayOut, Through] | None = None
        self._failed: dict[int, AeroError] = {}
        self._verdict: AeroError | None = None  # a server's own no, or ours
        self._bug: BaseException | None = None
        self._greenlets: dict[int, gevent.Greenlet] = {}

    def run(self) -> tuple[WayOut, Through]:
        """The way that got through, and what it gave. Raises AeroError."""
        try:
            while self._through is None and self._bug is None and not self._schedule.over:
                self._stirred.clear()
                while (index := self._schedule.due(monotonic())) is not None:
                    self._greenlets[index] = gevent.spawn(self._go, index)
                at = self._schedule.next_at
                self._stirred.wait(None if at is None else max(at - monotonic(), 0.0))
            through, self._through = self._through, None
        finally:
            gevent.killall(list(self._greenlets.values()), block=False)
            if self._through is not None:  # we are given up in the moment in which one got through
                self._through[1][0].close()
        if through is not None:
            return through
        if self._bug is not None:
            raise self._bug
        raise self._verdict or DialError(summary(self._ways, self._failed))

    def _go(self, index: int) -> None:
        """Goes one way to its end."""
        way = self._ways[index]
        try:
            through = self._go_to_the_end(way, self._take_turn, lambda: self._connected(index))
            if self._through is None:
                self._through = way, through
            else:
                through[0].close()
        except AeroError as error:
            self._fail(index, error)
        except Exception as error:  # our own: whoever runs us hears of it
            self._bug = error
        finally:
            self._leave()
            self._stirred.set()

    def _connected(self, index: int) -> None:
        self._schedule.connected(index, monotonic())
        self._stirred.set()

    def _take_turn(self, ping_s: int) -> bytes:
        """The JOIN's payload, for one way at a time. Raises AeroError where nobody wants it."""
        self._turn.acquire()
        self._holder = gevent.getcurrent()
        if self._through is not None:
            raise LinkClosed("another way was quicker")
        try:
            return self._join(ping_s)
        except AeroError as error:
            self._verdict = error
            self._give_up(range(len(self._ways)))
            raise

    def _leave(self) -> None:
        if self._holder is gevent.getcurrent():
            self._holder = None
            self._turn.release()

    def _fail(self, index: int, error: AeroError) -> None:
        """A way has failed; with a server's own no, so have all other ways to that server."""
        now, way = monotonic(), self._ways[index]
        self._failed[index] = error
        self._schedule.failed(index, now)
        self._tell(way, error)
        if isinstance(error, (Rejected, SecurityError)):
            self._verdict = self._verdict or error
            host = way.endpoint.host
            self._give_up(i for i, each in enumerate(self._ways) if each.endpoint.host == host)

    def _give_up(self, indices: Iterable[int]) -> None:
        for index in indices:
            self._schedule.failed(index, monotonic())
            greenlet = self._greenlets.get(index)
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)


def summary(ways: Sequence[WayOut], failed: Mapping[int, AeroError]) -> str:
    """Why no way got through, each reason once with the ways that it kept us from; what somebody said comes first."""
    by_reason: dict[str, list[str]] = {}
    for index, error in sorted(
        failed.items(), key=lambda item: (not isinstance(item[1], PassageError), item[0])
    ):
        by_reason.setdefault(str(error), []).append(str(ways[index].endpoint))
    return "; ".join(f"{reason} [{', '.join(names)}]" for reason, names in by_reason.items())
