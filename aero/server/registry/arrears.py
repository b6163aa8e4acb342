"""Arrears: workers that send faster than they were told to, and what holds them back.

A worker has the buckets of what it sends itself. One that ignores them, or is too old to be told, is found here: what
came from each limited target is looked at several times a second, and from whoever is ahead of his rate credit is held
back (core/buckets.py, Inlet) until time has caught up with him. Who keeps to his rates never meets any of this:
ALLOWANCE and BURST_S are more than his own buckets overdraw. A visitor's limit is not looked after here.
"""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic
from typing import NamedTuple, Protocol

from aero.core.buckets import Inlet
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.rules import Rule
from aero.server.registry.mapping import Mapping

#: How much faster than his rate somebody may be: shares of a user's limit are told some time before they count.
ALLOWANCE = 1.1
#: How far ahead he may be, in seconds of the rate.
BURST_S = 2.0
#: How often is looked.
LOOK_S = 0.25


class Debtor(Protocol):
    """A worker, as far as its arrears go."""

    cid: str
    user: str

    @property
    def rule(self) -> Rule:
        """What holds for its user now."""


def target_limit(rule: Rule, mapping: Mapping) -> int:
    """The rate of a target: the smaller of what its user's rule and the target's own option say; 0 for none."""
    own = mapping.limit
    return min(own or rule.target_limit, rule.target_limit or own)


class _Entry(NamedTuple):
    """A target that is looked after."""

    worker: Debtor
    inlet: Inlet


class Arrears:
    """How far ahead of their rates all limited workers are."""

    def __init__(self, loop: Loop) -> None:
        """Nobody is looked after, and nothing costs anything."""
        self._loop = loop
        self._entries: dict[Mapping, _Entry] = {}
        self._counted: dict[Mapping, int] = {}  # bytes from each target at the last look
        self._room: dict[
            Hashable, float
        ] = {}  # of users, workers and targets: negative for who is in arrears
        self._looked_at = 0.0
        self._timer: Watcher | None = None

    def inlet(self, worker: Debtor, mapping: Mapping) -> Inlet:
        """What holds the streams of a target to its rates."""
        entry = self._entries.get(mapping)
        if entry is None:
            entry = self._entries[mapping] = _Entry(worker, Inlet())
            self._counted[mapping] = mapping.bytes_out
            if self._timer is None:
                self._looked_at = monotonic()
                self._timer = self._loop.timer(LOOK_S, LOOK_S)
                self._timer.start(self.look)
            self.look()  # at the first look much may have come already, and would take long to be paid back
        return entry.inlet

    def look(self) -> None:
        """Counts what came, and says how much more may."""
        now = monotonic()
        elapsed_s, self._looked_at = now - self._looked_at, now
        rates: dict[Hashable, int] = {}
        moved: dict[Hashable, int] = {}
        scopes: dict[Mapping, list[Hashable]] = {}
        for mapping, entry in self._entries.items():
            came = mapping.bytes_out
            more, self._counted[mapping] = came - self._counted[mapping], came
            rule, worker = entry.worker.rule, entry.worker
            mine = scopes[mapping] = []
            for scope, rate in (
                (("user", worker.user), rule.limit),
                (("worker", worker.cid), rule.worker_limit),
                (mapping, target_limit(rule, mapping)),
            ):
                if rate:
                    mine.append(scope)
                    rates[scope] = rate
                    moved[scope] = moved.get(scope, 0) + more
        self._room = {
            scope: min(
                self._room.get(scope, rate * BURST_S) + rate * ALLOWANCE * elapsed_s - moved[scope],
                rate * BURST_S,
            )
            for scope, rate in rates.items()
        }
        for mapping, entry in self._entries.items():
            entry.inlet.count(min((self._room[each] for each in scopes[mapping]), default=float("inf")), now)

    def gone(self, mapping: Mapping) -> None:
        """A target is closed; its open streams are not held back any more."""
        entry = self._entries.pop(mapping, None)
        if entry is not None:
            del self._counted[mapping]
            entry.inlet.count(float("inf"), monotonic())
            if not self._entries:
                self.close()

    def faulted(self, error: Exception) -> None:
        """A fault of this program's in our timer: it is started anew for the next target, and until then nobody is
        held back.
        """
        stopped(self._timer)
        self._timer = None
        for entry in self._entries.values():
            entry.inlet.count(float("inf"), monotonic())
        self._entries.clear()
        self._counted.clear()

    def close(self) -> None:
        """Looks no more."""
        stopped(self._timer)
        self._timer = None
        self._room = {}
