"""GET /traffic/history: what may be asked, and both forms of the answer."""

from __future__ import annotations

import json

import pytest

from aero.errors import Problem
from aero.server.api.history import CSV, PastAsked, as_csv, as_json, question, wants_csv
from aero.server.store.usage import Calendar, Past

UTC = Calendar(utc=True)
NOON = 1_772_366_400  # 2026-03-01 12:00 UTC
DAY_S = 86_400
MIDNIGHT = NOON - DAY_S // 2


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, PastAsked("target", "day", MIDNIGHT - 31 * DAY_S, NOON + 1)),
        ({"step": "hour", "by": "user"}, PastAsked("user", "hour", NOON - DAY_S, NOON + 1)),
        ({"step": "month"}, PastAsked("target", "month", UTC.local(2025, 2, 1), NOON + 1)),
        ({"from": "2026-03", "to": "2026-03"}, PastAsked("target", "day", MIDNIGHT, MIDNIGHT + 31 * DAY_S)),
        ({"from": "2026-03-01", "to": "2026-03-02"}, PastAsked("target", "day", MIDNIGHT, MIDNIGHT + 2 * DAY_S)),
        ({"from": "2026-03-01T12:00:00Z", "to": "2026-12"}, PastAsked("target", "day", NOON, UTC.local(2027, 1, 1))),
    ],
)  # fmt: skip
def test_questions(given: dict[str, str], asked: PastAsked) -> None:
    assert question(given, UTC, NOON) == asked
    assert question({**given, "top": "8"}, UTC, NOON) == asked._replace(top=8)


@pytest.mark.parametrize(
    "given",
    [
        {"by": "worker"}, {"step": "week"}, {"from": ""}, {"from": "yesterday"}, {"to": "2026-13"},
        {"to": "2026-03-32"}, {"to": "2026-03-01T24:00:00Z"}, {"from": "2026-03-01\n"}, {"from": "٢٠٢٦-03"},
        {"from": "2026-03-01T12:00:00+01:00"}, {"from": "9999-01"},
        {"top": "0"}, {"top": "51"}, {"top": "-1"}, {"top": "1.5"}, {"top": ""}, {"top": "٣"},
    ],
)  # fmt: skip
def test_wrong_questions_say_what_is_right(given: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        question(given, UTC, NOON)
    assert caught.value.status == 400


def test_both_forms_say_the_same() -> None:
    asked = PastAsked("target", "day", MIDNIGHT, NOON)
    lines = [Past(MIDNIGHT, "nas/web", (1, 2, 3, 4, 5, 6), {"quota": 7, "visitors": 1})]
    said = json.loads("".join(as_json(asked, UTC, NOON, lines)))
    assert said == {
        "by": "target", "step": "day", "from": "2026-03-01T00:00:00Z", "to": "2026-03-01T12:00:00Z", "zone": "UTC",
        "today": "2026-03-01",
        "lines": [
            {
                "start": "2026-03-01T00:00:00Z", "when": "2026-03-01",
                "name": "nas/web",
                "bytes_in": 1, "bytes_out": 2, "streams": 3,
                "requests": 4, "datagrams_in": 5, "datagrams_out": 6, "refused": {"quota": 7, "visitors": 1},
            }
        ],
    }  # fmt: skip
    assert "".join(as_csv(asked, lines)) == (
        "start,target,bytes_in,bytes_out,streams,requests,datagrams_in,datagrams_out,refused\r\n"
        '2026-03-01T00:00:00Z,"nas/web",1,2,3,4,5,6,8\r\n'
    )


@pytest.mark.parametrize(
    ("accept", "csv"),
    [
        ("", False), ("*/*", False), ("text/csv", True), ("application/json, text/csv", False),
        ("text/csv;q=1, application/json", True), ("TEXT/CSV", True), ("text/csvx", False),
    ],
)  # fmt: skip
def test_csv_is_for_who_asks_for_it(accept: str, csv: bool) -> None:
    assert wants_csv(accept) == csv
    assert CSV.startswith("text/csv")
