"""Events as they happen, as server-sent events: one queue for each listener, bounded. Knows no routes."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

from gevent.event import Event as Flag

from aero import logs
from aero.limits import Limits
from aero.server.api.times import rfc3339
from aero.server.watch.events import Event, Events

CONTENT_TYPE = "text/event-stream; charset=utf-8"
#: How long a listener that was cut off waits before it comes back, in ms: at once, as people see it.
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": still here\n\n"


class Live:
    """Who listens to the server's events."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._boot = os.urandom(6).hex()  # event numbers begin anew with every start
        self._listeners = 0
        self._ends = 0  # how often all streams were ended

    @property
    def full(self) -> bool:
        """True when nobody more may listen."""
        return self._listeners >= Limits.API_LISTENERS

    def close(self) -> None:
        """Ends every stream that is open now, at its next event or heartbeat."""
        self._ends += 1

    def _missed(self, last_id: str) -> list[Event]:
        """What is remembered of the events after one; everything when that one is from before our start."""
        boot, _, number = last_id.partition("-")
        known = boot == self._boot and number.isascii() and number.isdigit() and len(number) < 19
        return [event for event in self._events.past if not known or event.number > int(number)]

    def stream(self, last_id: str) -> Iterator[bytes]:
        """Events from now on; with ``last_id``, what came after that one first. Ends when the reader is too slow."""
        waiting = deque(self._missed(last_id) if last_id else [])
        limit = len(waiting) + Limits.API_EVENTS
        more = Flag()
        ends = self._ends

        def heard(event: Event) -> None:
            waiting.append(event)
            more.set()

        self._listeners += 1
        self._events.listeners.add(heard)
        try:
            yield _RETRY
            while ends == self._ends and len(waiting) <= limit:
                if waiting:
                    yield self._written(waiting.popleft())
                    continue
                more.clear()
                if not more.wait(Limits.API_HEARTBEAT_S):
                    yield _HEARTBEAT
        finally:
            self._events.listeners.discard(heard)
            self._listeners -= 1

    def _written(self, event: Event) -> bytes:
        data = json.dumps(shown(event), ensure_ascii=False, separators=(",", ":"))
        name = event.what.replace(" ", "-")
        return f"id: {self._boot}-{event.number}\nevent: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


def shown(event: Event) -> dict[str, Any]:
    """An event as JSON; what peers have written is cleaned."""
    fields = {
        name: value if isinstance(value, (int, float)) else logs.clean(value)
        for name, value in event.fields.items()
    }
    return {"at": rfc3339(event.at), "event": event.what, "fault": event.fault, **fields}
