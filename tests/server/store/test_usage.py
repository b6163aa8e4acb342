"""Usage: what was counted comes back by hour, day and month, also after a kill, another month, and a clock set back."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from aero.server.store import usage as usages
from aero.server.store.database import FILE, Database
from aero.server.store.usage import DAY, HOUR, HOUR_DAYS, MONTH, NUMBERS, Calendar, Usage

UTC = Calendar(utc=True)
NOON = 1_772_366_400  # 2026-03-01 12:00 UTC
DAY_S = 86_400


class Name(NamedTuple):
    tag: str
    target: str
    user: str = ""


class Total:
    """What the watch room counts of one name."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.stirred = True  # every look counts
        self.sums: tuple[int, ...] = (0,) * len(NUMBERS)

    def settle(self) -> None:
        """It may move again without a word."""

    def move(self, into: int, out: int, streams: int = 0) -> None:
        self.sums = (self.sums[0] + into, self.sums[1] + out, self.sums[2] + streams, *self.sums[3:])


class Scene:
    """One server's run after another on the same folder, with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, float(NOON)
        self.databases: list[Database] = []

    def start(self) -> None:
        self.totals: dict[Name, Total] = {}
        self.database = Database(str(self.folder) if self.folder.name else "")
        self.databases.append(self.database)
        self.usage = Usage(self.database, lambda: list(self.totals.items()), UTC, lambda: self.now)

    def total(self, tag: str, target: str, user: str = "") -> Total:
        return self.totals.setdefault(Name(tag, target, user), Total())

    def look(self) -> None:
        self.usage.sample()
        assert self.database.flush(10)

    def history(self, by: str, span: int) -> dict[tuple[int, str], tuple[int, ...]]:
        found = self.usage.history(by, span, 0, 1 << 40)
        return {(each.start, each.name): each.numbers[:3] for each in found}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path / "state")
    scene.start()
    yield scene
    for each in scene.databases:
        each.close()


def test_what_moved_is_kept_by_hour_day_and_month_and_goes_on_after_a_kill(scene: Scene) -> None:
    scene.total("nas", "web", "ci").move(100, 1000, 1)
    scene.total("nas", "ssh").move(5, 7, 1)
    scene.look()
    scene.start()  # without a word of goodbye, and the new process counts from nothing
    scene.total("nas", "web", "ci").move(11, 22, 2)
    scene.look()
    hour, day, month = UTC.starts(NOON)
    assert (hour, day, month) == (NOON, NOON - 12 * 3600, NOON - 12 * 3600)
    for span, start in ((HOUR, hour), (DAY, day), (MONTH, month)):
        assert scene.history("target", span) == {
            (start, "nas/ssh"): (5, 7, 1),
            (start, "nas/web"): (111, 1022, 3),
        }
    assert scene.history("user", DAY) == {(day, ""): (5, 7, 1), (day, "ci"): (111, 1022, 3)}
    assert scene.history("tag", DAY) == {(day, "nas"): (116, 1029, 4)}
    assert scene.usage.used(DAY, "ci") == 1133
    assert scene.usage.used(MONTH, "") == 12


def test_the_next_month_begins_with_nothing_and_the_last_one_stays(scene: Scene) -> None:
    total = scene.total("nas", "web", "ci")
    total.move(0, 500)
    scene.look()
    for _ in range(31):
        scene.now += DAY_S
        total.move(0, 10)
        scene.look()
    march, april = NOON - 12 * 3600, NOON - 12 * 3600 + 31 * DAY_S
    assert scene.history("user", MONTH) == {(march, "ci"): (0, 800, 0), (april, "ci"): (0, 10, 0)}
    assert len(scene.history("user", DAY)) == 32
    assert scene.usage.used(MONTH, "ci") == 10
    assert len(scene.usage._rows) <= 6, "memory has the present and what came just before"


def test_refusals_are_kept_by_reason(scene: Scene) -> None:
    total = scene.total("nas", "web")
    total.refused["quota"] = 2
    scene.look()
    scene.start()
    scene.total("nas", "web").refused.update({"quota": 1, "visitors": 4})
    scene.look()
    (line,) = scene.usage.history("target", DAY, 0, 1 << 40)
    assert line.refused == {"quota": 3, "visitors": 4}


@pytest.mark.parametrize("kept", [True, False])
def test_those_who_moved_the_most_and_the_others_together(scene: Scene, kept: bool) -> None:
    if not kept:
        scene.folder = Path()
        scene.start()
    for number in range(5):
        scene.total("nas", f"t{number}", "ci" if number else "").move(number, 10 * number, 1)
    scene.total("nas", "none").refused = {"quota": 2}
    scene.look()
    found = scene.usage.history("target", DAY, 0, 1 << 40, 2)
    assert [(each.name, each.numbers[:3], each.refused) for each in found] == [
        ("(others)", (3, 30, 3), {"quota": 2}),
        ("nas/t3", (3, 30, 1), {}),
        ("nas/t4", (4, 40, 1), {}),
    ]
    assert len(scene.usage.history("target", DAY, 0, 1 << 40, 20)) == 6


def test_a_clock_that_is_set_back_loses_nothing(scene: Scene) -> None:
    total = scene.total("nas", "web")
    total.move(0, 100)
    scene.look()
    for step in (1, 1, -1, -1):
        scene.now += step * 5 * 3600
        total.move(0, 10)
        scene.look()
    assert scene.history("tag", HOUR) == {
        (NOON, "nas"): (0, 110, 0),
        (NOON + 5 * 3600, "nas"): (0, 20, 0),
        (NOON + 10 * 3600, "nas"): (0, 10, 0),
    }


def test_old_hours_go_and_so_does_what_there_is_no_room_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = scene.total("nas", "web")
    for _ in range(4):
        total.move(1, 1)
        scene.look()
        scene.now += 3600
    scene.now += HOUR_DAYS * DAY_S
    total.move(1, 1)
    scene.look()
    assert len(scene.history("tag", HOUR)) == 1
    assert sum(each[0] for each in scene.history("tag", MONTH).values()) == 5
    monkeypatch.setattr(usages, "SPAN_ROWS", 3)
    for _ in range(6):
        scene.now += 3600
        total.move(1, 1)
        scene.look()
    with closing(sqlite3.connect(scene.folder / FILE)) as db:
        assert db.execute("SELECT COUNT(*) FROM usage WHERE span = 0").fetchone()[0] <= 4


def test_without_a_file_the_present_is_told(scene: Scene) -> None:
    scene.folder = Path()
    scene.start()
    scene.total("nas", "web").move(3, 4, 1)
    scene.total("nas", "ssh").refused["quota"] = 1
    scene.look()
    assert [
        (each.name, each.numbers[:3], each.refused) for each in scene.usage.history("target", DAY, 0, 1 << 40)
    ] == [
        ("nas/ssh", (0, 0, 0), {"quota": 1}),
        ("nas/web", (3, 4, 1), {}),
    ]


def test_damaged_rows_are_ignored(scene: Scene) -> None:
    scene.total("nas", "web").move(3, 4, 1)
    scene.look()
    with closing(sqlite3.connect(scene.folder / FILE)) as db:
        db.execute("UPDATE usage SET bytes_in = 'x' WHERE span = 1")
        db.commit()
    scene.start()
    assert scene.usage.used(DAY, "") == 0
    assert scene.usage.used(MONTH, "") == 7


def test_days_and_months_are_those_of_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        here = Calendar()
        hour, day, month = here.starts(NOON)
        assert (hour, day, month) == (NOON, NOON - (17 * 3600 + 1800), NOON - (17 * 3600 + 1800))
        assert here.end(HOUR, hour) == NOON + 3600
        assert here.end(DAY, day) == day + DAY_S
        assert here.end(MONTH, month) == month + 31 * DAY_S
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_calendar_of_utc_knows_leap_years() -> None:
    february = UTC.local(2028, 2, 1)
    assert UTC.end(MONTH, february) - february == 29 * DAY_S
    december = UTC.local(2027, 12, 31)
    assert UTC.end(DAY, december) == UTC.end(MONTH, UTC.local(2027, 12, 1)) == UTC.local(2028, 1, 1)
