"""All sessions of the server and the links that are up; and what their ends leave to be cleaned up."""

from __future__ import annotations

import gc
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event

from aero.core.memory import Memory
from aero.core.spake2plus import Verifier
from aero.host.daemon import trim_memory
from aero.net.faults import report
from aero.net.link import Link
from aero.net.loop import Loop, Watcher, stopped
from aero.server.links.uplink import Uplink

LOOK_S = 1.0  # how often frozen sessions look at the clock and at the memory that all of them keep
_TIDY_S = 5.0  # after a session's end: rarely enough that the tens of milliseconds it takes do not count


class SessionsGround(Protocol):
    """What the table needs of the server."""

    @property
    def loop(self) -> Loop:
        """The event loop."""

    @property
    def memory(self) -> Memory:
        """What all sessions may hold."""


class Sessions:
    """The sessions by their ids, whether a link carries them or not; and all links that are up."""

    def __init__(self, ground: SessionsGround) -> None:
        """``ground``: what it needs of the server."""
        self.uplinks: dict[str, Uplink] = {}  # by session id
        self.links: dict[
            Link, Verifier
        ] = {}  # and what each has proved; those that have not joined yet included
        self._ground = ground
        self._frozen: dict[str, Uplink] = {}  # those that no link carries
        self._looking: Watcher | None = None  # the timer that looks at them
        self._quiet = Event()  # set when the last link is gone
        self._tidying: Any = None  # the timer that cleans up after sessions

    def add(self, uplink: Uplink) -> None:
        """A session begins; ``forget`` ends it."""
        self.uplinks[uplink.id] = uplink

    def forget(self, uplink: Uplink) -> None:
        """A session is over."""
        self.uplinks.pop(uplink.id, None)
        if self._tidying is None:
            self._tidying = self._ground.loop.timer(_TIDY_S)
            self._tidying.start(self._tidy)

    def _tidy(self) -> None:
        """Gives back what sessions that are over have left: after a crowd came and went, some ten megabytes."""
        self._tidying = None
        gc.collect(1)  # the young ones: a whole collection would keep the loop for tens of milliseconds
        self._ground.memory.blocks.trim()
        trim_memory()

    def state(self) -> dict[str, object]:
        """For people who ask: links, sessions, and how many of those no link carries."""
        return {"links": len(self.links), "sessions": len(self.uplinks), "frozen": len(self._frozen)}

    def freeze(self, uplink: Uplink) -> None:
        """No link carries a session: it is looked at once a second from now on."""
        self._frozen[uplink.id] = uplink
        if self._looking is None:
            self._looking = self._ground.loop.timer(LOOK_S, LOOK_S)
            self._looking.start(self._look_at_frozen)

    def thaw(self, uplink: Uplink) -> None:
        """A link carries it again, or it is over. Harmless when it was not frozen."""
        self._frozen.pop(uplink.id, None)
        if not self._frozen:
            stopped(self._looking)
            self._looking = None

    def _look_at_frozen(self) -> None:
        """All frozen sessions give up in time; and where memory has run out, the one that keeps the most does."""
        most_bytes = max(uplink.session.outbox.kept_bytes for uplink in self._frozen.values())
        now = monotonic() + LOOK_S / 2  # what ends before the next look ends now or then, whichever is nearer
        for uplink in list(self._frozen.values()):
            try:
                uplink.look_frozen(now, most_bytes)
            except Exception as error:
                report(error)
                uplink.faulted(error)

    def link_up(self, link: Link, proved: Verifier) -> None:
        """A handshake is done, which has proved the code of this verifier; ``link_down`` ends it."""
        self.links[link] = proved
        self._quiet.clear()

    def link_down(self, link: Link) -> None:
        """A link is gone."""
        self.links.pop(link, None)
        if not self.links:
            self._quiet.set()

    def close(self, patience_s: float) -> None:
        """Stops cleaning up, and waits until the last link is gone or ``patience_s`` have passed."""
        if self._tidying is not None:
            self._tidying.stop()
        if self.links:
            self._quiet.wait(patience_s)
