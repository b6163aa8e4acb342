"""Quotas: how much a user's targets may move in a day or a month, and what happens when that is used up.

At WARN an event; at the quota an event, and new streams are refused; a little beyond it (``quota-grace``) open streams
are ended. What was moved is the history's (store/usage.py), which is looked at more often while somebody has a quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time
from typing import Callable, Protocol

from aero.core.codes import Reset
from aero.core.stream import Stream
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.rules import MONTH as BY_MONTH
from aero.server.policy.rules import Rule
from aero.server.registry import mapping as mappings
from aero.server.registry.admission import NotAdmitted
from aero.server.store.usage import DAY, MONTH, Usage
from aero.server.watch.events import Events

#: What is used of a quota when people are told.
WARN = 0.8
#: How often is looked while somebody has a quota: what goes past it is what moves in so long.
LOOK_S = 0.5


class QuotaWorker(Protocol):
    """A worker, as far as quotas go."""

    user: str
    mappings: dict[int, mappings.Mapping]

    @property
    def rule(self) -> Rule:
        """What holds for its user now."""


class Quotas:
    """The quotas of all users."""

    def __init__(
        self,
        loop: Loop,
        usage: Usage,
        events: Events,
        workers: Mapping[str, QuotaWorker],
        clock: Callable[[], float] = time,
    ) -> None:
        """``workers``: those that are here; ``clock`` gives Unix seconds."""
        self._loop = loop
        self._usage = usage
        self._events = events
        self._workers = workers
        self._clock = clock
        self._told: dict[
            tuple[str, int], tuple[int, float]
        ] = {}  # by user and span: its start, what was told of
        self._timer: Watcher | None = None

    def watch(self, rule: Rule) -> None:
        """Somebody with this rule is here: begins to look, where he has a quota."""
        if rule.quota and self._timer is None:
            self._timer = self._loop.timer(LOOK_S, LOOK_S)
            self._timer.start(self.look)

    def why_not(self, rule: Rule, user: str) -> NotAdmitted | None:
        """Why a user's targets take no new streams now; None where they do."""
        for quota in rule.quota:
            span = MONTH if quota.per == BY_MONTH else DAY
            if self._usage.used(span, user) >= quota.bytes:
                calendar, now = self._usage.calendar, self._clock()
                left_s = calendar.end(span, calendar.starts(now)[span]) - now
                return NotAdmitted("quota", f"the quota of this {quota.per} is used up", max(int(left_s), 1))
        return None

    def look(self) -> None:
        """Looks at what was moved: tells people, and ends what goes on for too long."""
        users = {worker.user: worker.rule for worker in self._workers.values() if worker.rule.quota}
        if not users:
            self.close()
            return
        self._usage.look()
        for user, rule in users.items():
            for quota in rule.quota:
                span = MONTH if quota.per == BY_MONTH else DAY
                used = self._usage.used(span, user)
                part = used / quota.bytes
                self._tell(user, span, part, used=used, quota=quota.bytes, per=quota.per)
                if part >= 1 + rule.quota_grace / 100:
                    self._end(user, f"the quota of this {quota.per} is used up")

    def _tell(self, user: str, span: int, part: float, **fields: object) -> None:
        start = self._usage.calendar.starts(self._clock())[span]
        began, told = self._told.get((user, span), (start, 0.0))
        if began != start or part < WARN:
            told = 0.0
        if part >= 1.0 > told:
            told = 1.0
            self._events.fault("quota used up", user=user, **fields)
        elif part >= WARN > told:
            told = WARN
            self._events.emit("quota nearly used up", user=user, **fields)
        self._told[user, span] = start, told

    def _end(self, user: str, text: str) -> None:
        for worker in [each for each in self._workers.values() if each.user == user]:
            for mapping in list(worker.mappings.values()):
                ended(mapping.tally.open, text)

    def close(self) -> None:
        """Looks no more."""
        stopped(self._timer)
        self._timer = None


def ended(carrying: Iterable[object], text: str) -> None:
    """Ends streams at both ends; flows of datagrams end by themselves when nothing more of them is let in."""
    for stream in carrying:
        if isinstance(stream, Stream):
            receiver = stream.receiver
            stream.abort(Reset.LIMIT, text)
            receiver.reset(Reset.LIMIT, text)
