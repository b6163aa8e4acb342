"""Events: each is told once, to the log and to whoever listens, and the last ones are remembered.

Knows no event by its name, and nothing of where events come from.
"""

from __future__ import annotations

from collections import deque
from time import time
from typing import Any, Callable, NamedTuple

from aero import logs

log = logs.get("server")

REMEMBERED = 200  # what somebody who just came sees of the past: some screens full


class Happening(NamedTuple):
    """One event: its number, Unix time in seconds, what happened, its fields, and whether that is a fault."""

    number: int
    at: float
    what: str
    fields: dict[str, Any]
    fault: bool


class Events:
    """The server's events."""

    def __init__(self) -> None:
        """Begins with nothing remembered."""
        self.past: deque[Happening] = deque(maxlen=REMEMBERED)
        self.listeners: set[Callable[[Happening], None]] = set()
        self.count = 0

    def emit(self, what: str, **fields: Any) -> None:
        """Something happened that is as it should be."""
        self._tell(what, fields, False)

    def fault(self, what: str, **fields: Any) -> None:
        """Something happened that people should look at."""
        self._tell(what, fields, True)

    def _tell(self, what: str, fields: dict[str, Any], fault: bool) -> None:
        self.count += 1
        # An error as such would keep everything that its traceback leads to, links and sessions.
        said = {key: str(value) if isinstance(value, Exception) else value for key, value in fields.items()}
        (log.warning if fault else log.info)(what, **said)
        event = Happening(self.count, time(), what, said, fault)
        self.past.append(event)
        for listener in list(self.listeners):
            listener(event)
