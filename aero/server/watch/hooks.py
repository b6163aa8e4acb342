"""Hooks: what happens on the server is told to URLs, by POST with JSON, signed, in order, one at a time for each URL.

A hook server that is slow or dead costs events, never a stream: posts are made by a thread of their own, what waits is
bounded, each is tried a few times, and what was dropped is counted and told with the next one that arrives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import deque
from time import gmtime, monotonic, strftime

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from aero import logs
from aero.net.loop import Loop, Watcher, stopped
from aero.server.watch.events import Events, Happening

log = logs.get("hook")

#: What hooks hear of, by the events' own names.
TOLD = (
    "worker up", "worker down", "link lost", "link resumed", "quota nearly used up", "quota used up", "target refused",
    "worker turned away", "target sick", "target well",
)  # fmt: skip
#: So many events wait for each hook, some 300 bytes each; beyond them the oldest are dropped.
WAITING = 500
#: How long one post may take, how often it is made, and the pause before it is made again, doubled each time.
POST_S = 5.0
TRIES = 4
PAUSE_S = 1.0
#: A link that is lost is told when it was not back within so long, where --hook-lost says nothing else.
LOST_S = 10
#: What an answer may say that nobody reads.
ANSWER_BYTES = 64 * 1024


def body_of(event: Happening, dropped: int) -> bytes:
    """The JSON of an event; ``dropped``: events before it that could not be told."""
    at = strftime("%Y-%m-%dT%H:%M:%S", gmtime(event.at)) + f".{int(event.at % 1 * 1000):03d}Z"
    said = {"event": event.what, "at": at, "fault": event.fault, "number": event.number, **event.fields}
    if dropped:
        said["dropped"] = dropped
    return json.dumps(said, default=str).encode()


def signature(secret: str, body: bytes) -> str:
    """What X-Aero-Signature says: HMAC-SHA256 over the body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(url: str, secret: str, body: bytes, timeout_s: float) -> str:
    """Makes one POST; "" where the answer was 2xx, else what went wrong. A thread's: it blocks."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json", "User-Agent": "AeRO-proxy"}
    if secret:
        headers["X-Aero-Signature"] = signature(secret, body)
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers
        )
        answer = connection.getresponse()
        answer.read(ANSWER_BYTES)
        return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


class Hook:
    """One URL and what waits for it."""

    def __init__(self, url: str, secret: str) -> None:
        """``url``: http or https; ``secret``: "" for posts without a signature."""
        self.url = url
        self.dropped = 0
        self._secret = secret
        self._waiting: deque[Happening] = deque()
        self._some = Event()
        self._pool: ThreadPool | None = None
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
        if self._pool is None:
            self._pool = ThreadPool(1)
        pause_s = PAUSE_S
        for number in range(TRIES):
            why: str = self._pool.apply(post, (self.url, self._secret, body, POST_S))
            if not why:
                self.dropped -= dropped
                self._complained = False
                return
            if number + 1 < TRIES:
                gevent.sleep(pause_s)
                pause_s *= 2
        self.dropped += 1
        if not self._complained:
            self._complained = True
            log.warning("hook does not take events", hook=_without_secrets(self.url), why=why)

    def close(self) -> None:
        """Tells nothing more; a post that is under way is left to its thread."""
        self._greenlet.kill(block=False)


class Hooks:
    """All hooks of a server: chooses what they hear."""

    def __init__(
        self, loop: Loop, events: Events, urls: tuple[str, ...], secret: str, lost_s: int = LOST_S
    ) -> None:
        """``lost_s``: for how long a link has to be lost before that is told."""
        self._loop = loop
        self._events = events
        self._lost_s = lost_s
        self._hooks = [Hook(url, secret) for url in urls]
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


def _without_secrets(url: str) -> str:
    """A URL for the log: some have a token in their query."""
    return url.partition("?")[0]
