"""The lanes of one worker: which of them may dial, what they carry, and the cid that they share."""

from __future__ import annotations

from typing import Callable, Protocol

import gevent
from gevent.event import Event

from aero.core.codes import Close
from aero.limits import Limits
from aero.worker.ground import Ground
from aero.worker.lane import Lane
from aero.worker.session import Desk, KeptSession
from aero.worker.states import UP

GOODBYE_S = 1.0  # what the server gets to hear that we leave


class Office(Desk, Protocol):
    """What has to know of the worker's sessions as well as of what they say."""

    def worker_begun(self) -> None:
        """The worker is new to the server, which knows none of its targets."""

    def session_lost(self) -> None:
        """A session is gone, another lives: what the server had not answered yet may have gone with it."""

    def link_up(self) -> None:
        """A link may be up that was not."""


class Crew:
    """All lanes of a worker."""

    def __init__(self, ground: Ground, office: Office, failed: Callable[[Exception], None]) -> None:
        """``failed`` gets the error that ends a lane, and with it the worker."""
        self.stopping = False
        self.cid = ""
        self.lanes = [Lane(ground, self, office, number) for number in range(1, ground.config.pool + 1)]
        self._office = office
        self._failed = failed
        self._first_joined = Event()
        self._greenlets: list[gevent.Greenlet] = []

    def start(self) -> None:
        """Begins to dial."""
        self._greenlets = [gevent.spawn(self._run, lane) for lane in self.lanes]

    def _run(self, lane: Lane) -> None:
        try:
            lane.run()
        except Exception as error:  # also our own bugs: a worker that silently lacks a lane helps nobody
            self._failed(error)

    def sessions(self) -> list[KeptSession]:
        """Those that live, with a link or without."""
        return [lane.session for lane in self.lanes if lane.session is not None]

    def speaker(self) -> Lane | None:
        """A lane that is up, to send control messages on."""
        return next((lane for lane in self.lanes if lane.state == UP), None)

    # What lanes ask and tell

    def wait_turn(self, lane: Lane, delay_s: float) -> None:
        """Blocks a lane until it may dial: the delay, and for all but one lane until there is a worker to join."""
        lane.hurry.clear()
        gevent.sleep(min(delay_s, Limits.RETRY_FIRST_S))
        lane.hurry.wait(max(delay_s - Limits.RETRY_FIRST_S, 0.0))
        if lane is not self.lanes[0] and lane.session is None:
            self._first_joined.wait()

    def reached(self, lane: Lane) -> None:
        """A lane has reached a server that was away, and may be up: the others need not wait for their next try."""
        for other in self.lanes:
            if other is not lane:
                other.hurry.set()
        self._office.link_up()

    def sister(self, lane: Lane) -> KeptSession | None:
        """The session of another lane."""
        return next((each.session for each in self.lanes if each is not lane and each.session), None)

    def session_begun(self, session: KeptSession) -> None:
        """A lane has a new session; with another cid than before, the whole worker is new to the server."""
        if session.cid != self.cid:
            self.cid = session.cid
            self._office.worker_begun()
        self._first_joined.set()

    def session_lost(self) -> None:
        """A lane's session is gone for good."""
        if self.sessions():
            self._office.session_lost()
        else:
            self.cid = ""
            self._first_joined.clear()

    def session_gone(self, session: KeptSession, text: str) -> None:
        """The server does not know this session any more, whichever lane has it."""
        for lane in self.lanes:
            if lane.session is session:
                lane.gone(text)

    # The end

    def close(self, text: str) -> None:
        """Says goodbye on every link and ends all lanes; targets see resets, not ends that look complete."""
        self.stopping = True
        linked = [each for each, lane in zip(self._greenlets, self.lanes) if lane.link is not None]
        for lane in self.lanes:
            if lane.link is not None:
                lane.link.close(Close.DONE, text)
        with gevent.Timeout(GOODBYE_S, False):
            gevent.joinall(linked)
        gevent.killall(self._greenlets)
        for lane in self.lanes:
            lane.end_session(text)
