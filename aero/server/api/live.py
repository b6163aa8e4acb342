"""Events as they happen, as server-sent events: one queue for each listener, bounded. Knows no routes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from gevent.event import Event as Flag

from aero import logs
from aero.limits import Limits
from aero.server.api.times import rfc3339
from aero.server.watch.events import Events, Happening

CONTENT_TYPE = "text/event-stream; charset=utf-8"
#: How long a listener that was cut off waits before it comes back, in ms: at once, as people see it.
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": still here\n\n"


class Live:
    """Who listens to the server's events. An event is written once, however many listen."""

    def __init__(self, events: Events) -> None:
        """``events``: what happens on the server."""
        self._events = events
        self._boot = os.urandom(6).hex()  # event numbers begin anew with every start
        self._readers: set[_Reader] = set()
        self._ends = 0  # how often all streams were ended

    @property
    def full(self) -> bool:
        """True when nobody more may listen."""
        return len(self._readers) >= Limits.API_LISTENERS

    def close(self) -> None:
        """Ends every stream that is open now, at its next event or heartbeat."""
        self._ends += 1

    def _missed(self, last_id: str) -> list[Happening]:
        """What is remembered of the events after one; everything when that one is from before our start."""
        boot, _, number = last_id.partition("-")
        known = boot == self._boot and number.isascii() and number.isdigit() and len(number) < 19
        return [event for event in self._events.past if not known or event.number > int(number)]

    def stream(self, last_id: str) -> Iterator[bytes]:
        """Events from now on; with ``last_id``, what came after that one first. Ends when the reader is too slow."""
        reader = _Reader([self._written(event) for event in self._missed(last_id)] if last_id else [])
        ends = self._ends
        if not self._readers:
            self._events.listeners.add(self._heard)
        self._readers.add(reader)
        try:
            yield _RETRY
            while ends == self._ends and len(reader.waiting) <= reader.limit:
                yield reader.take() or _HEARTBEAT
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._events.listeners.discard(self._heard)

    def _heard(self, event: Happening) -> None:
        written = self._written(event)
        for reader in self._readers:
            reader.waiting.append(written)
            reader.more.set()

    def _written(self, event: Happening) -> bytes:
        data = json.dumps(shown(event), ensure_ascii=False, separators=(",", ":"))
        name = event.what.replace(" ", "-")
        return f"id: {self._boot}-{event.number}\nevent: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


class _Reader:
    """One who listens: events that it has not been sent yet, as they are written."""

    def __init__(self, missed: list[bytes]) -> None:
        self.waiting = missed
        self.limit = len(missed) + Limits.API_EVENTS
        self.more = Flag()

    def take(self) -> bytes:
        """Everything that waits, as soon as there is something; b"" when nothing comes for API_HEARTBEAT_S."""
        if not self.waiting:
            self.more.clear()
            self.more.wait(Limits.API_HEARTBEAT_S)
        taken, self.waiting = self.waiting, []
        return b"".join(taken)


def shown(event: Happening) -> dict[str, Any]:
    """An event as JSON; what peers have written is cleaned."""
    fields = {
        name: value if isinstance(value, (int, float)) else logs.clean(value)
        for name, value in event.fields.items()
    }
    return {"at": rfc3339(event.at), "event": event.what, "fault": event.fault, **fields}
