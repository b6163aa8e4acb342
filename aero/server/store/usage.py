"""Usage: how much went to and from every target, by hour, day and month, also after a restart.

What the parts of the server count (watch/counters.py) is looked at every SAMPLE_S. The difference to the last look is
added to the present hour, day and month of each name, whose rows in the file are absolute: writing one twice changes
nothing, and after a kill -9 at most the last look and what was not on disk yet are lost. Nothing here is on the way of
the bytes. Hours are kept for HOUR_DAYS, days for DAY_DAYS, months for as long as there is room.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import add, sub
from time import gmtime, localtime, mktime, strftime, time
from typing import Callable, NamedTuple, Protocol

from aero.server.store.database import Change, Database, Row

#: How often is looked; what a kill -9 costs at most is this and the time that one write takes.
SAMPLE_S = 2.0
#: How long rows are kept. A target that is used around the clock costs some 2,160 rows of hours and 1,095 of days.
HOUR_DAYS, DAY_DAYS = 90, 3 * 365
#: Rows of each span at the most, some 80 bytes each: those of the oldest hours, days or months make room.
SPAN_ROWS = 250_000
#: Rows of one answer about the past: a year of days for a hundred names.
ANSWER_ROWS = 40_000
_PRUNE_S = 3600

HOUR, DAY, MONTH = 0, 1, 2
SPANS = {"hour": HOUR, "day": DAY, "month": MONTH}
#: What may be asked by, and the column.
BY = ("user", "tag", "target")
#: Where only those are wanted that moved the most: the name of all others. No tag or target can be called that.
OTHERS = "(others)"

_COLUMNS = "bytes_in, bytes_out, streams, requests, datagrams_in, datagrams_out"
NUMBERS = tuple(_COLUMNS.split(", "))
_ZERO = (0,) * len(NUMBERS)
_KEY = "span, start, user, tag, target"
_NOW = "(span = 0 AND start = ?) OR (span = 1 AND start = ?) OR (span = 2 AND start = ?)"
# None of these statements has anything in it that comes from elsewhere: constants of ours, and values by "?".
_READ = f"SELECT {_KEY}, {_COLUMNS} FROM usage WHERE {_NOW}"  # noqa: S608
_READ_REFUSED = f"SELECT {_KEY}, reason, count FROM refused WHERE {_NOW}"  # noqa: S608
_WRITE = f"INSERT OR REPLACE INTO usage ({_KEY}, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_WRITE_REFUSED = f"INSERT OR REPLACE INTO refused ({_KEY}, reason, count) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_PRUNE = "DELETE FROM {table} WHERE span = ? AND start < ?"
_BOUND = (
    "DELETE FROM {table} WHERE span = ? AND start <="
    " (SELECT start FROM {table} WHERE span = ? ORDER BY start DESC LIMIT 1 OFFSET ?)"
)
_TABLES = ("usage", "refused")


class Key(NamedTuple):
    """A row: which span, when that began (Unix seconds), and of whom."""

    span: int
    start: int
    user: str
    tag: str
    target: str


class UsageName(Protocol):
    """Who is counted together."""

    @property
    def user(self) -> str:
        """Whose worker it was."""

    @property
    def tag(self) -> str:
        """The worker's tag."""

    @property
    def target(self) -> str:
        """The target's name."""


class Summed(Protocol):
    """What was counted of one name since the server's start: numbers that never go back."""

    refused: dict[str, int]
    stirred: bool  # something may have changed since `settle`

    @property
    def sums(self) -> tuple[int, ...]:
        """In the order of NUMBERS."""

    def settle(self) -> None:
        """All has been looked at."""


class Past(NamedTuple):
    """One line of an answer: when the span began (Unix seconds), of whom, the numbers, refusals by reason."""

    start: int
    name: str
    numbers: tuple[int, ...]
    refused: dict[str, int]


class Calendar:
    """When hours, days and months begin: those of this machine's time zone, or of UTC."""

    def __init__(self, utc: bool = False) -> None:
        """``utc``: whether days and months are those of UTC."""
        self.utc = utc

    def starts(self, at: float) -> tuple[int, int, int]:
        """The beginnings of the hour, the day and the month of a moment, in Unix seconds. Hours are UTC's always."""
        hour = int(at) // 3600 * 3600
        if self.utc:
            day = int(at) // 86400 * 86400
            return hour, day, day - (gmtime(at).tm_mday - 1) * 86400
        now = localtime(at)
        return hour, self.local(now.tm_year, now.tm_mon, now.tm_mday), self.local(now.tm_year, now.tm_mon, 1)

    def local(self, year: int, month: int, day: int) -> int:
        """When a day of the calendar begins, in Unix seconds; a month or a day too many goes on into the next one."""
        if not self.utc:
            return int(mktime((year, month, day, 0, 0, 0, 0, 0, -1)))
        from calendar import timegm

        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
        return timegm((year, month, 1, 0, 0, 0)) + (day - 1) * 86400

    def when(self, span: int, start: int) -> str:
        """What people call the span that began at ``start``: 2026-11, 2026-11-30, or 2026-11-30T23:00."""
        return strftime(
            ("%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y-%m")[span], gmtime(start) if self.utc else localtime(start)
        )

    def end(self, span: int, start: int) -> int:
        """When a span that began at ``start`` is over."""
        if span == HOUR:
            return start + 3600
        begun = gmtime(start) if self.utc else localtime(start)
        month, day = (begun.tm_mon, begun.tm_mday + 1) if span == DAY else (begun.tm_mon + 1, 1)
        return self.local(begun.tm_year, month, day)


class Usage:
    """The rows of the present hour, day and month; those of the past are on disk."""

    def __init__(
        self,
        database: Database,
        counted: Callable[[], Iterable[tuple[UsageName, Summed]]],
        calendar: Calendar,
        clock: Callable[[], float] = time,
    ) -> None:
        """``counted()``: what is looked at; ``clock`` gives Unix seconds. Goes on with what the file has."""
        self.calendar = calendar
        self._database = database
        self._counted = counted
        self._clock = clock
        self._last: dict[UsageName, tuple[int, ...]] = {}
        self._last_refused: dict[UsageName, dict[str, int]] = {}
        self._rows: dict[Key, tuple[int, ...]] = {}
        self._refused: dict[Key, dict[str, int]] = {}
        self._changed: dict[Key, None] = {}  # rows that are to be written
        self._used: dict[
            tuple[int, str], int
        ] = {}  # bytes both ways in the present day or month, by span and user
        self._starts = calendar.starts(clock())
        self._until = self._starts[HOUR] + 3600
        self._prune_at = 0.0
        self._take(
            database.attach(self, _READ, self._starts), database.attach(self, _READ_REFUSED, self._starts)
        )

    def _take(self, rows: Iterable[Row], refused: Iterable[Row]) -> None:
        """Rows of the file; what is counted already is newer."""
        for row in rows:
            key = Key(*row[:5])
            if all(isinstance(each, int) for each in row[5:]):  # SQLite checks pages, not what is in them
                self._rows.setdefault(key, tuple(row[5:]))
        for row in refused:
            if isinstance(row[6], int):
                self._refused.setdefault(Key(*row[:5]), {}).setdefault(str(row[5]), row[6])
        self._sum_up()

    def _sum_up(self) -> None:
        self._used = {}
        for key, row in self._rows.items():
            if key.start == self._starts[key.span]:
                used = key.span, key.user
                self._used[used] = self._used.get(used, 0) + row[0] + row[1]

    def used(self, span: int, user: str) -> int:
        """Bytes both ways of a user's targets in the present day or month, as of the last look."""
        return self._used.get((span, user), 0)

    # Looking

    def sample(self) -> None:
        """Looks at everything that is counted, and has what changed written."""
        self.look()
        changed, self._changed = self._changed, {}
        if changed:
            self._database.changed(self, *changed)

    def look(self) -> None:
        """Looks at everything that is counted; what changed is written with the next sample."""
        now = self._clock()
        if not self._starts[HOUR] <= now < self._until:
            self._turn(now)
        changed = self._changed
        for name, counted in self._counted():
            if not counted.stirred:
                continue
            sums = counted.sums
            last = self._last.get(name, _ZERO)
            if sums != last:
                self._last[name] = sums
                more = tuple(map(sub, sums, last))
                for key in self._keys(name):
                    self._rows[key] = tuple(map(add, self._rows.get(key, _ZERO), more))
                    self._used[key.span, key.user] = (
                        self._used.get((key.span, key.user), 0) + more[0] + more[1]
                    )
                    changed[key] = None
            if counted.refused:
                self._sample_refused(name, counted.refused, changed)
            counted.settle()

    def _sample_refused(self, name: UsageName, refused: dict[str, int], changed: dict[Key, None]) -> None:
        last = self._last_refused.setdefault(name, {})
        for reason, count in refused.items():
            more = count - last.get(reason, 0)
            if more:
                last[reason] = count
                for key in self._keys(name):
                    row = self._refused.setdefault(key, {})
                    row[reason] = row.get(reason, 0) + more
                    changed[key] = None

    def _keys(self, name: UsageName) -> list[Key]:
        return [Key(span, start, name.user, name.tag, name.target) for span, start in enumerate(self._starts)]

    def _turn(self, now: float) -> None:
        """Another hour. What was counted in the last one stays a while: it may not be written yet."""
        before, self._starts = self._starts, self.calendar.starts(now)
        self._until = self._starts[HOUR] + 3600
        kept = {*enumerate(before), *enumerate(self._starts)}
        for rows in (self._rows, self._refused):
            for key in [key for key in rows if (key.span, key.start) not in kept]:
                del rows[key]
        if now < before[HOUR]:  # the clock was set back: into an hour of which the file knows more than we do
            self._take(*(self._database.read(each, self._starts) for each in (_READ, _READ_REFUSED)))
        self._sum_up()

    # For the database

    def changes(self, keys: Collection[Key] | None) -> list[Change]:
        """These rows, or all that are in memory, as changes to the file; now and then, what makes room there."""
        wanted = {*self._rows, *self._refused} if keys is None else keys
        rows = [(*key, *self._rows[key]) for key in wanted if key in self._rows]
        refused = [
            (*key, reason, count)
            for key in wanted
            if key in self._refused
            for reason, count in self._refused[key].items()
        ]
        return [Change(_WRITE, rows), Change(_WRITE_REFUSED, refused), *self._prune()]

    def _prune(self) -> list[Change]:
        now = self._clock()
        if now < self._prune_at:
            return []
        self._prune_at = now + _PRUNE_S
        old = [(HOUR, int(now) - HOUR_DAYS * 86400), (DAY, int(now) - DAY_DAYS * 86400)]
        bound = [(span, span, SPAN_ROWS) for span in SPANS.values()]
        return [
            change
            for table in _TABLES
            for change in (Change(_PRUNE.format(table=table), old), Change(_BOUND.format(table=table), bound))
        ]

    # The past

    def history(self, by: str, span: int, since: int, until: int, top: int = 0) -> list[Past]:
        """What went in each span that began in ``[since, until)``, by user, tag or target, the oldest first.

        For a greenlet that can wait. A target is named ``TAG/NAME``. ``top``: only so many names, those that moved the
        most in all, apart, and the others together as OTHERS; 0 for all. At most ANSWER_ROWS; the newest, where there
        are more.
        """
        if not self._database.kept:
            return self._present(by, span, since, until, top)
        name: str = {"user": "user", "tag": "tag", "target": "tag || '/' || target"}[by]
        where = "span = ? AND start >= ? AND start < ?"
        within = (span, since, until)
        named: tuple[str, ...] = ()
        if top:
            first = self._database.ask(
                f"SELECT {name} AS name FROM usage WHERE {where} GROUP BY name"  # noqa: S608 - constants of ours
                " ORDER BY SUM(bytes_in + bytes_out) DESC, name LIMIT ?",
                (*within, top),
            )
            named = tuple(row[0] for row in first)
            name = f"CASE WHEN {name} IN ({', '.join('?' * len(named))}) THEN {name} ELSE '{OTHERS}' END"
        sums = ", ".join(f"SUM({each})" for each in NUMBERS)
        values = (*named, *within, ANSWER_ROWS)
        rows = self._database.ask(
            f"SELECT start, {name} AS name, {sums} FROM usage WHERE {where}"  # noqa: S608 - constants of ours
            " GROUP BY 1, 2 ORDER BY 1 DESC, 2 LIMIT ?",
            values,
        )
        refused = self._database.ask(
            f"SELECT start, {name} AS name, reason, SUM(count) FROM refused WHERE {where}"  # noqa: S608
            " GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2 LIMIT ?",
            values,
        )
        reasons: dict[tuple[int, str], dict[str, int]] = {}
        for start, whose, reason, count in refused:
            reasons.setdefault((start, whose), {})[reason] = count
        found = {(row[0], row[1]): tuple(row[2:]) for row in rows}
        return [Past(*key, found.get(key, _ZERO), reasons.get(key, {})) for key in sorted({*found, *reasons})]

    def _present(self, by: str, span: int, since: int, until: int, top: int) -> list[Past]:
        """The same of what is in memory, where nothing can be kept: the present hour, day and month."""
        wanted = [
            (key, f"{key.tag}/{key.target}" if by == "target" else str(getattr(key, by)))
            for key in {*self._rows, *self._refused}
            if key.span == span and since <= key.start < until
        ]
        moved: dict[str, int] = {}
        for key, name in wanted:
            moved[name] = moved.get(name, 0) + sum(self._rows.get(key, _ZERO)[:2])
        named = set(sorted(moved, key=lambda each: (-moved[each], each))[: top or None])
        found: dict[tuple[int, str], Past] = {}
        for key, whose in wanted:
            name = whose if whose in named else OTHERS
            before = found.get((key.start, name), Past(key.start, name, _ZERO, {}))
            refused = dict(before.refused)
            for reason, count in self._refused.get(key, {}).items():
                refused[reason] = refused.get(reason, 0) + count
            numbers = tuple(map(add, before.numbers, self._rows.get(key, _ZERO)))
            found[key.start, name] = before._replace(numbers=numbers, refused=refused)
        return [found[each] for each in sorted(found)]
