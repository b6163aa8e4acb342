"""Rhythms: how long workers are usually away, and who is late. What cron starts comes and goes by the clock.

A worker is known by its user, tag and host. Of each the last PAUSES times that it was away are remembered, also after a
restart. Whoever comes at random has no rhythm, and is never late.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from time import time
from typing import Any, Callable, NamedTuple

from aero.server.store.database import Change, Database, Row, statements

#: Times away that are remembered, and how many there must be before anything is said: of a daily job, four days.
PAUSES, FEWEST = 8, 3
#: The longest pause may be so many times the usual one, or two of cron's minutes; else there is no rhythm.
STEADY, BRIEF_S = 4, 120
#: Late is who has been away for longer than ever, and a fifth and a minute more: machines boot, jobs wait for others.
PATIENCE, SLACK_S = 1.2, 60
#: After a start of the server nobody is late before as much of his time has gone: while it was down nobody could come.
AFTER_START_S = 3600
#: How often is looked who is late.
LOOK_S = 5.0
#: Whoever has been away for so long is forgotten, and so are those of more names than this who left first.
FORGET_S = 30 * 86_400
NAMES = 10_000
_SQL = statements("rhythm", "user, tag, host, went_at, pauses", "user, tag, host", "went_at")


class Who(NamedTuple):
    """A worker, as it is known while it is away."""

    user: str
    tag: str
    host: str


class Late(NamedTuple):
    """Somebody who is late: since when he is away (Unix seconds), and for how long he usually is at the most."""

    who: Who
    since: float
    usual_s: int


class _Rhythm:
    __slots__ = ("counts", "here", "late", "pauses", "went_at")

    def __init__(self, went_at: float, pauses: tuple[int, ...]) -> None:
        self.went_at = went_at  # 0 while it is here
        self.pauses = pauses  # the latest last
        self.here = 0  # workers with these names
        self.counts = True  # whether the present pause is one to remember: not where we ended it
        self.late = False


def usual(pauses: tuple[int, ...]) -> int:
    """For how many seconds somebody is away at the most, as a rule; 0 for whoever has no rhythm."""
    if len(pauses) < FEWEST or max(pauses) > max(STEADY * sorted(pauses)[len(pauses) // 2], BRIEF_S):
        return 0
    return max(*pauses, 1)


class Rhythms:
    """The rhythms of all workers."""

    def __init__(
        self, database: Database, tell: Callable[..., None], clock: Callable[[], float] = time
    ) -> None:
        """``tell("late", …)`` is an event that people should look at; ``clock`` gives Unix seconds."""
        self._database = database
        self._tell = tell
        self._clock = clock
        self._began_at = clock()
        self._rhythms: OrderedDict[Who, _Rhythm] = OrderedDict()  # who left first comes first
        self.leaving = False  # the server goes down: nobody leaves by himself any more
        for row in database.attach(self, _SQL.read):
            self._take(row)

    def _take(self, row: Row) -> None:
        try:
            pauses = tuple(int(each) for each in str(row[4]).split(",") if each)[-PAUSES:]
            rhythm = _Rhythm(float(row[3]), pauses)
        except (ValueError, OverflowError):
            return  # SQLite checks pages, not what is in them
        if not rhythm.went_at:  # it was here when we ended
            rhythm.went_at, rhythm.counts = self._began_at, False
        self._rhythms[Who(*map(str, row[:3]))] = rhythm

    def hear(self, what: str, fields: dict[str, Any]) -> None:
        """An event of the server's."""
        if what in ("worker up", "worker down"):
            who = Who(*(str(fields.get(each, "")) for each in Who._fields))
            (self.came if what == "worker up" else self.went)(who)

    def came(self, who: Who) -> None:
        """A worker with these names is here."""
        rhythm = self._rhythms.get(who)
        if rhythm is None:
            self._make_room()
            rhythm = self._rhythms[who] = _Rhythm(0.0, ())
        rhythm.here += 1
        if rhythm.went_at:
            if rhythm.counts:
                pause = max(int(self._clock() - rhythm.went_at), 0)
                rhythm.pauses = (*rhythm.pauses, pause)[-PAUSES:]
            rhythm.went_at, rhythm.counts, rhythm.late = 0.0, True, False
        self._database.changed(self, who)

    def went(self, who: Who) -> None:
        """One of these workers is gone."""
        rhythm = self._rhythms.get(who)
        if rhythm is None or self.leaving:
            return
        rhythm.here = max(rhythm.here - 1, 0)
        if not rhythm.here:
            rhythm.went_at = self._clock()
            self._rhythms.move_to_end(who)
            self._database.changed(self, who)

    def _make_room(self) -> None:
        if len(self._rhythms) < NAMES:
            return
        away = next((who for who, each in self._rhythms.items() if not each.here), None)
        if away is not None:
            del self._rhythms[away]
            self._database.changed(self, away)

    def look(self) -> None:
        """Says who is late now, each once, and forgets whoever has been away for ages."""
        now = self._clock()
        for who, rhythm in list(self._rhythms.items()):
            if rhythm.here or not rhythm.went_at:
                continue
            if now - rhythm.went_at > FORGET_S:
                del self._rhythms[who]
                self._database.changed(self, who)
            elif not rhythm.late and now >= self._due(rhythm):
                rhythm.late = True
                self._tell(
                    "late",
                    **({"user": who.user} if who.user else {}),
                    tag=who.tag,
                    host=who.host,
                    away_s=int(now - rhythm.went_at),
                    usual_s=usual(rhythm.pauses),
                )

    def _due(self, rhythm: _Rhythm) -> float:
        longest = usual(rhythm.pauses)
        if not longest:
            return float("inf")
        patience = PATIENCE * longest + SLACK_S
        return max(rhythm.went_at + patience, self._began_at + min(patience, AFTER_START_S))

    @property
    def late(self) -> list[Late]:
        """Those who are late."""
        return [
            Late(who, rhythm.went_at, usual(rhythm.pauses))
            for who, rhythm in self._rhythms.items()
            if rhythm.late
        ]

    # For the database

    def changes(self, keys: Collection[Who] | None) -> list[Change]:
        """These rhythms, or all, as changes to the file."""
        if keys is None:
            return [
                Change(_SQL.delete_all, [()]),
                Change(_SQL.write, [self._row(who) for who in self._rhythms]),
            ]
        gone = [tuple(who) for who in keys if who not in self._rhythms]
        return [
            Change(_SQL.delete, gone),
            Change(_SQL.write, [self._row(who) for who in keys if who in self._rhythms]),
        ]

    def _row(self, who: Who) -> Row:
        rhythm = self._rhythms[who]
        return (*who, int(rhythm.went_at), ",".join(map(str, rhythm.pauses)))
