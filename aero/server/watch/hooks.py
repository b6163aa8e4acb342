"""Hooks: what happens on the server is told to URLs, by POST with JSON, signed, in order, one at a time for each URL.

A hook server that is slow or dead costs events, never a stream: posts are made by a greenlet of their own, what waits
is bounded, each is tried a few times, and what was dropped is counted and told with the next one that arrives.
"""

from __future__ import annotations

import json
from collections import deque
from time import gmtime, monotonic, strftime

import gevent
from gevent.event import Event

from aero import logs
from aero.errors import DialError
from aero.net.loop import Loop, Watcher, stopped
from aero.server.watch.events import Events, Happening
from aero.server.watch.posting import Poster, without_secrets

log = logs.get("hook")

#: What hooks hear of, by the events' own names.
TOLD = (
    "worker up", "worker down", "link lost", "link resumed", "quota nearly used up", "quota used up", "target refused",
    "worker turned away", "target sick", "target well", "late",
)  # fmt: skip
#: So many events wait for each hook, some 300 bytes each; beyond them the oldest are dropped.
WAITING = 500
#: How long one post may take, how often it is made, and the pause before it is made again, doubled each time.
POST_S = 5.0
TRIES = 4
PAUSE_S = 1.0
#: A link that is lost is told when it was not back within so long, where --hook-lost says nothing else.
LOST_S = 10


def rfc3339(at: float) -> str:
    """A moment (Unix seconds) as hooks are told it: UTC, to the millisecond."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


def body_of(event: Happening, dropped: int) -> bytes:
    """The JSON of an event; ``dropped``: events before it that could not be told."""
    said = {
        "event": event.what,
        "at": rfc3339(event.at),
        "fault": event.fault,
        "number": event.number,
        **event.fields,
    }
    if dropped:
        said["dropped"] = dropped
    return json.dumps(said, default=str).encode()


class Hook:
    """One URL and what waits for it."""

    def __init__(self, url: str, poster: Poster) -> None:
        """``url``: http or https."""
        self.url = url
        self.dropped = 0
        self._poster = poster
        self._waiting: deque[Happening] = deque()
        self._some = Event()
        self._complained = False
        self._greenlet = gevent.spawn(self._run)

    def tell(self, event: Happening) -> None:
        """An event for it. Returns at once."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)
        self._some.set()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            while self._waiting:
                self._post(self._waiting.popleft())

    def _post(self, event: Happening) -> None:
        dropped = self.dropped
        body = body_of(event, dropped)
        pause_s = PAUSE_S
        why = ""
        for number in range(TRIES):
            if number:
                gevent.sleep(pause_s)
                pause_s *= 2
            try:
                posted = self._poster.post(self.url, body, POST_S)
            except DialError as error:
                why = str(error)
                continue
            if posted.thanks:
                self.dropped -= dropped
                self._complained = False
                return
            why = f"it answered {posted.status}"
        self.dropped += 1
        if not self._complained:
            self._complained = True
            log.warning("hook does not take events", hook=without_secrets(self.url), why=why)

    def close(self) -> None:
        """Tells nothing more."""
        self._greenlet.kill(block=False)


class Hooks:
    """All hooks of a server: chooses what they hear."""

    def __init__(
        self, loop: Loop, events: Events, urls: tuple[str, ...], poster: Poster, lost_s: int = LOST_S
    ) -> None:
        """``lost_s``: for how long a link has to be lost before that is told."""
        self._loop = loop
        self._events = events
        self._lost_s = lost_s
        self._hooks = [Hook(url, poster) for url in urls]
        self._lost: dict[str, tuple[float, Happening]] = {}  # by cid: when to tell, and what
        self._timer: Watcher | None = None
        events.listeners.add(self.hear)

    def hear(self, event: Happening) -> None:
        """Something happened."""
        if event.what not in TOLD:
            return
        cid = str(event.fields.get("cid", ""))
        if event.what == "link lost":
            self._lost[cid] = (monotonic() + self._lost_s, event)
            if self._timer is None:
                self._timer = self._loop.timer(1.0, 1.0)
                self._timer.start(self._look)
            return
        if event.what == "link resumed" and self._lost.pop(cid, None) is not None:
            return  # nobody has heard that it was lost
        if event.what == "worker down":
            self._lost.pop(cid, None)
        self._tell(event)

    def _look(self) -> None:
        now = monotonic()
        for cid in [cid for cid, (at, _) in self._lost.items() if at <= now]:
            self._tell(self._lost.pop(cid)[1])
        if not self._lost:
            stopped(self._timer)
            self._timer = None

    def _tell(self, event: Happening) -> None:
        for hook in self._hooks:
            hook.tell(event)

    def close(self) -> None:
        """Tells nothing more."""
        self._events.listeners.discard(self.hear)
        stopped(self._timer)
        self._timer = None
        for hook in self._hooks:
            hook.close()
