"""GET /traffic/history: what it may be asked, and its answer as JSON or CSV. Knows the calendar's spans, no SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from time import gmtime, strftime
from typing import NamedTuple

from aero.errors import Problem
from aero.server.api.replies import dumps
from aero.server.store.usage import BY, NUMBERS, SPANS, Calendar, Past

CSV = "text/csv; charset=utf-8"
#: A month, a day, or a moment in UTC; a day that its month lacks goes on into the next one.
WHEN = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?)?$"
)
_WHEN = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)Z)?)?")
#: How far back an answer goes where nobody says: a day of hours, a month of days, a year of months.
BACK_S = {"hour": 86_400, "day": 31 * 86_400, "month": 366 * 86_400}
PARAMETERS = ("by", "step", "from", "to", "top")
#: Names apart at the most, where only the first are wanted: more than a plot or a screen shows.
TOP = 50


class PastAsked(NamedTuple):
    """What is asked: by whom to sum up, in which steps, for spans that began in ``[since, until)`` (Unix seconds), and
    how many names apart (0: all).
    """

    by: str
    step: str
    since: int
    until: int
    top: int = 0


def question(given: dict[str, str], calendar: Calendar, now: float) -> PastAsked:
    """The question in a query's parameters. A month or a day as ``to`` is included. Raises Problem."""
    by, step = given.get("by", "target"), given.get("step", "day")
    if by not in BY:
        raise Problem(400, f"by is one of {', '.join(BY)}")
    if step not in SPANS:
        raise Problem(400, f"step is one of {', '.join(SPANS)}")
    until = _moment("to", given["to"], calendar, True) if "to" in given else int(now) + 1
    if "from" in given:
        since = _moment("from", given["from"], calendar, False)
    else:
        since = calendar.starts(max(until - BACK_S[step], 0))[SPANS[step]]
    top = given.get("top", "0")
    if "top" in given and not (re.fullmatch("[1-9][0-9]?", top, re.ASCII) and int(top) <= TOP):
        raise Problem(400, f"top is a number from 1 to {TOP}")
    return PastAsked(by, step, since, until, int(top))


def _moment(name: str, text: str, calendar: Calendar, end: bool) -> int:
    found = _WHEN.fullmatch(text) if re.match(WHEN, text) else None
    if found is None:
        raise Problem(
            400, f"{name} is a month (2026-11), a day (2026-11-30) or a time (2026-11-30T23:00:00Z)"
        )
    year, month, day, hour, minute, second = (int(each) if each else 0 for each in found.groups())
    if not day:
        return calendar.local(year, month + end, 1)
    if found[4] is None:
        return calendar.local(year, month, day + end)
    return Calendar(utc=True).local(year, month, day) + hour * 3600 + minute * 60 + second


def as_json(asked: PastAsked, calendar: Calendar, now: float, lines: Iterable[Past]) -> Iterator[str]:
    """The answer in pieces, each of them quickly made. What spans are called is the server's word: whoever reads it may
    be in another zone.
    """
    span, called = SPANS[asked.step], (0, "")
    head = {
        "by": asked.by,
        "step": asked.step,
        "from": _at(asked.since),
        "to": _at(asked.until),
        "zone": "UTC" if calendar.utc else "local",
        "today": calendar.when(SPANS["day"], int(now)),
    }
    yield dumps(head)[:-1] + ',"lines":['
    for number, line in enumerate(lines):
        if line.start != called[0]:
            called = line.start, calendar.when(span, line.start)
        said = {
            "start": _at(line.start),
            "when": called[1],
            "name": line.name,
            **dict(zip(NUMBERS, line.numbers)),
        }
        yield ("," if number else "") + dumps({**said, "refused": line.refused})
    yield "]}"


def as_csv(asked: PastAsked, lines: Iterable[Past]) -> Iterator[str]:
    """The same as RFC 4180 has it, refusals summed up."""
    yield f"start,{asked.by},{','.join(NUMBERS)},refused\r\n"
    for line in lines:
        numbers = ",".join(map(str, (*line.numbers, sum(line.refused.values()))))
        name = line.name.replace('"', '""')
        yield f'{_at(line.start)},"{name}",{numbers}\r\n'


def wants_csv(accept: str) -> bool:
    """Whether an Accept header prefers CSV to JSON: names it, and names JSON later or not at all."""
    kinds = [each.partition(";")[0].strip().lower() for each in accept.split(",")]
    return "text/csv" in kinds and "application/json" not in kinds[: kinds.index("text/csv")]


def _at(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(second))
