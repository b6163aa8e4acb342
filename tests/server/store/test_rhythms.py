"""Rhythms: who is late, and who never is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aero.server.store import rhythms
from aero.server.store.database import FILE, Database
from aero.server.store.rhythms import AFTER_START_S, FORGET_S, Late, Rhythms, Who, usual

HOUR = 3600
NAS = Who("ci", "nas", "box")


class Scene:
    """Runs of a server on one folder, with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1_700_000_000.0
        self.told: list[dict[str, Any]] = []
        self.databases: list[Database] = []
        self.start()

    def start(self) -> None:
        self.databases.append(Database(str(self.folder)))
        self.rhythms = Rhythms(self.databases[-1], self.tell, lambda: self.now)

    def stop(self) -> None:
        assert self.databases[-1].flush(10)

    def tell(self, what: str, **fields: Any) -> None:
        assert what == "late"
        self.told.append(fields)

    def job(self, *pauses: int, lasts_s: int = 300, who: Who = NAS) -> None:
        """It comes, works, goes, and stays away for so long each time; the last time it does not come back."""
        for pause in (*pauses, 0):
            self.rhythms.came(who)
            self.now += lasts_s
            self.rhythms.went(who)
            self.now += pause

    def late_after(self, seconds: float) -> bool:
        self.now += seconds
        self.rhythms.look()
        return bool(self.rhythms.late)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "state")
    made.now += AFTER_START_S
    yield made
    for each in made.databases:
        each.close()


def test_an_hourly_job_that_stays_away_is_late_and_told_once(scene: Scene) -> None:
    scene.job(3300, 3310, 3290, 3300)
    went_at = scene.now
    assert not scene.late_after(3310 + 60)
    assert scene.late_after(0.2 * 3310 + 1)
    assert not scene.rhythms.look() and len(scene.told) == 1
    assert scene.told[0] == {"user": "ci", "tag": "nas", "host": "box", "away_s": 4033, "usual_s": 3310}
    assert scene.rhythms.late == [Late(NAS, went_at, 3310)]
    scene.rhythms.came(NAS)
    assert not scene.rhythms.late


def test_one_that_cron_brings_back_within_a_minute(scene: Scene) -> None:
    scene.job(3, 58, 31)
    assert not scene.late_after(125)
    assert scene.late_after(10)


@pytest.mark.parametrize("pauses", [(), (3600,), (3600, 3600), (60, 600, 60_000), (5, 5, 90_000, 5)])
def test_whoever_has_no_rhythm_is_never_late(scene: Scene, pauses: tuple[int, ...]) -> None:
    assert not usual(pauses)
    scene.job(*pauses)
    assert not scene.late_after(20 * 86_400) and not scene.told


def test_one_of_two_alike_is_not_missed(scene: Scene) -> None:
    scene.job(3600, 3600, 3600)
    scene.rhythms.came(NAS)
    scene.rhythms.came(NAS)
    scene.rhythms.went(NAS)
    assert not scene.late_after(10 * HOUR)


def test_a_restart_remembers_and_gives_everybody_time(scene: Scene) -> None:
    scene.job(600, 600, 600, 600)
    scene.stop()
    scene.now += 5 * HOUR  # while the server was down nobody could come
    scene.start()
    assert not scene.late_after(700)
    assert scene.late_after(100)
    here = Who("", "nas", "here")
    scene.job(60, 60, 60, who=here)
    scene.rhythms.came(here)
    before = scene.rhythms._rhythms[here].pauses
    scene.stop()
    scene.rhythms.leaving = True
    scene.rhythms.went(here)
    scene.stop()
    scene.start()  # after a stop, or a kill: who was here is expected back, and that pause is none of its own
    scene.now += 130
    scene.rhythms.look()
    assert here not in {each.who for each in scene.rhythms.late}
    scene.rhythms.came(here)
    assert scene.rhythms._rhythms[here].pauses == before


def test_names_are_bounded_and_old_ones_forgotten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythms, "NAMES", 3)
    for number in range(10):
        scene.job(who=Who("", f"t{number}", "h"))
    assert [who.tag for who in scene.rhythms._rhythms] == ["t7", "t8", "t9"]
    scene.late_after(FORGET_S + 3600)
    assert not scene.rhythms._rhythms
    scene.stop()
    with closing(sqlite3.connect(scene.folder / FILE)) as db:
        assert db.execute("SELECT COUNT(*) FROM rhythm").fetchone() == (0,)


def test_damaged_rows_are_ignored(scene: Scene) -> None:
    scene.job(60, 60, 60)
    scene.stop()
    with closing(sqlite3.connect(scene.folder / FILE)) as db:
        db.execute("INSERT INTO rhythm VALUES ('', 'x', 'h', 'never', '1,2'), ('', 'y', 'h', 5, '1,b')")
        db.commit()
    scene.start()
    assert [who.tag for who in scene.rhythms._rhythms] == ["nas"]
