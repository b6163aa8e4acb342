"""The store: leases outlive the process, and whatever is wrong with the file costs a warning and nothing else."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aero.server.store import database as store
from aero.server.store.database import FILE, RETRY_S, Owner, Store

WEB, SSH = Owner("", "nas", "box", "web"), Owner("", "nas", "box", "ssh")


class Clock:
    """The store's clocks, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_700_000_000.0, 50.0
        monkeypatch.setattr(store, "time", lambda: self.wall)
        monkeypatch.setattr(store, "monotonic", lambda: self.steady)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines of the store's log."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    logger, listener = logging.getLogger("aero.store"), Listener()
    level, logger.level = logger.level, logging.INFO
    logger.addHandler(listener)
    yield lines
    logger.removeHandler(listener)
    logger.level = level


Opener = Callable[[], Store]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Opener]:
    """Opens stores on one folder; closes what is left."""
    opened: list[Store] = []

    def again() -> Store:
        opened.append(Store(str(tmp_path / "state")))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


def rows(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as db:
        return db.execute("SELECT name, slot, port, identity FROM lease ORDER BY port").fetchall()


def test_leases_outlive_the_process(open_store: Opener, clock: Clock, tmp_path: Path) -> None:
    first = open_store()
    first.keep(WEB, 8001, "i1")
    first.keep(SSH, 8002, "i1")
    second = open_store()  # the first one was killed: it has closed nothing
    assert second.of(WEB) == [store.Lease(WEB, 0, 8001, "i1", 1_700_000_000)]
    assert second.at(8002) == first.at(8002)
    assert second.at(8003) is None and second.of(Owner("", "nas", "box", "other")) == []
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_clones_share_an_owner_and_have_a_slot_each(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    for port, identity in ((8001, "i1"), (8002, "i2"), (8003, "i3")):
        kept.keep(WEB, port, identity)
    assert [lease.slot for lease in kept.of(WEB)] == [0, 1, 2]
    kept.keep(SSH, 8002, "i9")  # the second one's port is another's now
    kept.keep(WEB, 8004, "i2")
    assert sorted((lease.slot, lease.port) for lease in kept.of(WEB)) == [(0, 8001), (1, 8004), (2, 8003)]
    again = open_store()
    assert sorted(again.of(WEB)) == sorted(kept.of(WEB)) and again.of(SSH) == kept.of(SSH)


def test_a_lease_that_is_used_again_is_the_newest(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    for port in (8001, 8002, 8003):
        clock.wall += 1
        kept.keep(WEB, port, "i")
    clock.wall += 1
    kept.keep(WEB, 8001, "i")
    assert [lease.port for lease in kept.oldest(2)] == [8002, 8003]
    assert [lease.port for lease in open_store().oldest(9)] == [8002, 8003, 8001]


def test_a_clock_that_was_set_back_loses_no_lease(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    clock.wall -= 10 * 365 * 86_400
    kept.keep(SSH, 8002, "i")
    assert [lease.port for lease in open_store().oldest(9)] == [8002, 8001]


def test_memory_only_is_asked_for_and_silent(said: list[str]) -> None:
    kept = Store("")
    kept.keep(WEB, 8001, "i")
    assert kept.at(8001) and kept.files() == [] and said == []
    kept.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, by far" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_left_alone(
    open_store: Opener, tmp_path: Path, said: list[str], content: bytes
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(content)
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    assert kept.at(8001)
    assert len(said) == 1 and "cannot keep leases" in said[0] and FILE in said[0]
    assert (tmp_path / "state" / FILE).read_bytes() == content, "perhaps somebody can mend it"


def test_a_damaged_page_costs_the_leases_on_it(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    first = open_store()
    for number in range(2000):
        first.keep(Owner("", "nas", "box", f"n{number}"), 8000 + number, "i" * 32)
    first.close()
    file = tmp_path / "state" / FILE
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    file.write_bytes(content)
    kept = open_store()
    kept.keep(WEB, 7000, "i")
    assert kept.at(7000)
    assert len(said) == 1 and "cannot keep leases" in said[0]


def test_rows_that_make_no_sense_are_left_out(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    first = open_store()
    first.keep(WEB, 8001, "i")
    first.close()
    bad = [
        ("", "t", "h", "a", 0, 0, "i", 1),
        ("", "t", "h", "b", 0, "many", "i", 1),
        ("", "t", "h", "c", 0, 70_000, "i", 1),
    ]
    bad += [("", "t", "h", "d", 0, 8004, "i", "once"), (b"\xff", "t", "h", "e", 0, 8005, "i", 1)]
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db, db:
        db.executemany("INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?)", bad)
    kept = open_store()
    assert [lease.port for lease in kept.oldest(9)] == [8001]
    assert len(said) == 1 and "count=5" in said[0]


def test_a_file_of_another_version_is_left_alone(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db, db:
        db.execute("CREATE TABLE lease (everything TEXT)")
        db.execute("PRAGMA user_version=7")
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    assert len(said) == 1 and "layout 7" in said[0]
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (7,)
        assert db.execute("SELECT * FROM lease").fetchall() == []


def test_a_folder_that_cannot_be_made(said: list[str], clock: Clock) -> None:
    kept = Store("/dev/null/state")
    for number in range(100):
        kept.keep(WEB, 8001 + number, "i")
        clock.steady += RETRY_S
    assert kept.at(8001) and kept.files() == []
    assert len(said) == 1 and "cannot keep leases" in said[0]
    kept.close()


def test_a_disk_that_is_full_for_a_while(
    open_store: Opener, clock: Clock, tmp_path: Path, said: list[str]
) -> None:
    """One warning, memory only, and all that was missed once there is room again."""
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    assert kept._db is not None
    kept._db.execute("PRAGMA max_page_count=1")  # SQLite's own way to be out of room
    for number in range(200):
        kept.keep(Owner("", "nas", "box", f"n{number}"), 9000 + number, "i" * 32)
    assert len(said) == 1 and "cannot write leases" in said[0] and "full" in said[0]
    written = len(rows(tmp_path / "state"))
    assert written < 201 == len(kept.oldest(999))
    clock.steady += RETRY_S - 1
    kept.keep(SSH, 8002, "i")
    assert len(rows(tmp_path / "state")) == written, "not at every lease"
    clock.steady += 1
    kept.keep(SSH, 8003, "i")
    assert len(rows(tmp_path / "state")) == 203
    kept.keep(SSH, 8004, "i")
    assert len(rows(tmp_path / "state")) == 204
    assert len(said) == 2 and "written again" in said[1]


def test_a_file_that_somebody_else_holds_for_a_while(
    open_store: Opener, clock: Clock, tmp_path: Path, said: list[str]
) -> None:
    kept = open_store()
    with closing(sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.keep(WEB, 8001, "i")
        clock.steady += RETRY_S
        kept.keep(WEB, 8002, "i")
        assert len(said) == 1 and "locked" in said[0]
    clock.steady += RETRY_S
    kept.keep(WEB, 8003, "i")
    assert [row[2] for row in rows(tmp_path / "state")] == [8001, 8002, 8003]


def test_a_folder_that_vanishes_and_comes_back(open_store: Opener, clock: Clock, tmp_path: Path) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    kept.close()
    kept = open_store()
    for name in os.listdir(tmp_path / "state"):
        (tmp_path / "state" / name).unlink()
    (tmp_path / "state").rmdir()
    kept.keep(SSH, 8002, "i")  # SQLite may write to the file that nobody can see any more
    assert kept.at(8001) and kept.at(8002)


def test_what_another_user_needs_to_go_on(open_store: Opener, tmp_path: Path) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    folder = str(tmp_path / "state")
    files = kept.files()
    assert os.path.join(folder, FILE) in files and folder in files
    os.chmod(folder, 0o755)
    assert folder not in kept.files(), "a shared folder keeps its owner"


def test_nothing_is_written_once_it_is_closed(open_store: Opener, clock: Clock, tmp_path: Path) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    kept.close()
    kept.close()
    clock.steady += 10 * RETRY_S
    kept.keep(SSH, 8002, "i")
    assert [row[2] for row in rows(tmp_path / "state")] == [8001]
