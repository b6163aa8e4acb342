"""The file: whatever is wrong with it costs a warning and nothing else, and older layouts are moved over."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from aero.server.store import database
from aero.server.store.database import FILE, LAYOUT, RETRY_S, STEPS, Database, statements
from aero.server.store.leases import Owner
from tests.server.store.conftest import Clock, Opener, Store

WEB, SSH = Owner("", "nas", "box", "web"), Owner("", "nas", "box", "ssh")
HERE = Path(__file__).parent


def rows(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as db:
        return db.execute("SELECT name, slot, port, identity FROM lease ORDER BY port").fetchall()


def layout(folder: Path) -> int:
    with closing(sqlite3.connect(folder / FILE)) as db:
        number: int = db.execute("PRAGMA user_version").fetchone()[0]
        return number


# ----------------------------------------------------------------------------
# Layouts
# ----------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with the file that the first layout's program wrote."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    shutil.copy(HERE / "layout1.sqlite", folder / FILE)
    return folder


def test_a_file_of_the_first_layout_keeps_every_lease(old: Path, open_store: Opener, said: list[str]) -> None:
    assert layout(old) == 1
    kept = open_store()
    assert [(lease.owner, lease.slot, lease.port, lease.identity) for lease in kept] == [
        (Owner("", "nas", "box", "web", "tcp"), 0, 20001, "a" * 32),
        (Owner("", "nas", "box", "ssh", "tcp"), 0, 20002, "a" * 32),
        (Owner("", "nas", "box", "web", "tcp"), 1, 20003, "b" * 32),
        (Owner("", "büro", "kiste", "drucker", "tcp"), 0, 30000, "c" * 32),
    ]
    assert [lease.used_at for lease in kept] == [1_700_000_000 + 3600 * hours for hours in range(4)]
    assert {lease.held_s for lease in kept} == {3600}, "none goes early for want of a number"
    kept.save(WEB, 20003, "d")
    assert (layout(old), said) == (LAYOUT, [])
    assert sorted(open_store()) == sorted(kept)


def test_a_new_file_takes_every_step(open_store: Opener, old: Path, tmp_path: Path) -> None:
    """It is laid out as one that came the whole way."""
    moved, fresh = open_store(), Store(str(tmp_path / "fresh"), Clock(pytest.MonkeyPatch()))
    fresh.database.close()
    moved.database.close()
    schemas = []
    for folder in (old, tmp_path / "fresh"):
        with closing(sqlite3.connect(folder / FILE)) as db:
            schemas.append(db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
    assert schemas[0] == schemas[1]


def test_a_step_that_fails_leaves_the_file_as_it_was(
    old: Path, open_store: Opener, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(old)
    broken = (*STEPS[1], "INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(database, "STEPS", (STEPS[0], broken))
    kept = open_store()
    kept.save(WEB, 8001, "i")
    assert len(said) == 1
    assert "cannot keep leases" in said[0]
    assert (layout(old), rows(old)) == (1, before)


def test_a_kill_in_the_middle_of_a_step_leaves_the_file_as_it_was(old: Path, open_store: Opener) -> None:
    before = rows(old)
    code = (
        "import os, signal, sqlite3, sys\n"
        "from aero.server.store import database\n"
        "class Killed(sqlite3.Connection):\n"
        "    def execute(self, statement, *more):\n"
        "        if statement.startswith('ALTER'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().execute(statement, *more)\n"
        "connect = sqlite3.connect\n"
        "database.sqlite3.connect = lambda *args, **more: connect(*args, factory=Killed, **more)\n"
        "database.Database(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old)], cwd=HERE.parents[2], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (layout(old), rows(old)) == (1, before)
    assert len(open_store()) == len(before)
    assert layout(old) == LAYOUT


def test_a_file_of_a_newer_version_is_left_alone(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db, db:
        db.execute("CREATE TABLE lease (everything TEXT)")
        db.execute("PRAGMA user_version=77")
    kept = open_store()
    kept.save(WEB, 8001, "i")
    assert len(said) == 1
    assert "layout 77" in said[0]
    assert layout(tmp_path / "state") == 77
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db:
        assert db.execute("SELECT * FROM lease").fetchall() == []


# ----------------------------------------------------------------------------
# Files and disks that fail
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"this is no database, by far" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_left_alone(
    open_store: Opener, tmp_path: Path, said: list[str], content: bytes
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(content)
    kept = open_store()
    kept.save(WEB, 8001, "i")
    assert kept.at(8001)
    assert len(said) == 1
    assert "cannot keep leases" in said[0]
    assert FILE in said[0]
    assert (tmp_path / "state" / FILE).read_bytes() == content, "perhaps somebody can mend it"


def test_a_damaged_page_costs_the_leases_on_it(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    first = open_store()
    for number in range(2000):
        first.keep(Owner("", "nas", "box", f"n{number}"), 8000 + number, "i" * 32)
    first.database.close()
    file = tmp_path / "state" / FILE
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 3 * 4096] = b"\xa5" * 3 * 4096
    file.write_bytes(content)
    kept = open_store()
    kept.save(WEB, 7000, "i")
    assert kept.at(7000)
    assert len(said) == 1
    assert "cannot keep leases" in said[0]


def test_a_folder_that_cannot_be_made(said: list[str], clock: Clock) -> None:
    kept = Store("/dev/null/state", clock)
    for number in range(100):
        kept.save(WEB, 8001 + number, "i")
        clock.steady += RETRY_S
    assert kept.at(8001)
    assert len(said) == 1
    assert "cannot keep leases" in said[0]
    kept.database.close()


def test_a_disk_that_is_full_for_a_while(
    open_store: Opener, clock: Clock, tmp_path: Path, said: list[str]
) -> None:
    """One warning, memory only, and all that was missed once there is room again."""
    kept = open_store()
    kept.save(WEB, 8001, "i")
    assert kept.database._db is not None
    kept.database._db.execute("PRAGMA max_page_count=1")  # SQLite's own way to be out of room
    for number in range(200):
        kept.save(Owner("", "nas", "box", f"n{number}"), 9000 + number, "i" * 32)
    assert len(said) == 1
    assert "cannot write leases" in said[0]
    assert "full" in said[0]
    written = len(rows(tmp_path / "state"))
    assert written < 201 == len(kept)
    clock.steady += RETRY_S - 1
    kept.save(SSH, 8002, "i")
    assert len(rows(tmp_path / "state")) == written, "not at every lease"
    clock.steady += 1
    kept.forget(9000)
    kept.save(SSH, 8003, "i")
    assert len(rows(tmp_path / "state")) == 202
    kept.save(SSH, 8004, "i")
    assert len(rows(tmp_path / "state")) == 203
    assert len(said) == 2
    assert "written again" in said[1]
    assert sorted(open_store()) == sorted(kept)


def test_a_file_that_somebody_else_holds_for_a_while(
    open_store: Opener, clock: Clock, tmp_path: Path, said: list[str]
) -> None:
    kept = open_store()
    with closing(sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.save(WEB, 8001, "i")
        clock.steady += RETRY_S
        kept.save(WEB, 8002, "i")
        assert len(said) == 1
        assert "locked" in said[0]
    clock.steady += RETRY_S
    kept.save(WEB, 8003, "i")
    assert [row[2] for row in rows(tmp_path / "state")] == [8001, 8002, 8003]


def test_a_folder_that_vanishes_and_comes_back(open_store: Opener, tmp_path: Path) -> None:
    kept = open_store()
    kept.save(WEB, 8001, "i")
    kept.database.close()
    kept = open_store()
    for name in os.listdir(tmp_path / "state"):
        (tmp_path / "state" / name).unlink()
    (tmp_path / "state").rmdir()
    kept.save(SSH, 8002, "i")  # SQLite may write to the file that nobody can see any more
    assert kept.at(8001)
    assert kept.at(8002)


def test_a_disk_that_hangs_stops_nobody(
    open_store: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller goes on at once; what changes meanwhile is written once, as it is at the end."""
    kept, free, batches = open_store(), threading.Event(), []
    write = database._write

    def slow(db: sqlite3.Connection, changes: list[database.Change]) -> database.Outcome:
        batches.append(sum(len(list(each.rows)) for each in changes))
        assert free.wait(30)
        return write(db, changes)

    monkeypatch.setattr(database, "_write", slow)
    kept.keep(WEB, 8001, "i")
    for _ in range(1000):
        kept.keep(SSH, 8002, "i")
        kept.keep(WEB, 8003, "i")
    assert not kept.database.flush(0.01), "the disk still hangs"
    assert len(kept.database._changed[kept]) == 2
    free.set()
    assert kept.database.flush(30)
    assert batches == [1, 2]
    assert sorted(open_store()) == sorted(kept)


# ----------------------------------------------------------------------------
# Others
# ----------------------------------------------------------------------------


def test_what_was_changed_last_is_written_at_the_end(
    open_store: Opener, clock: Clock, tmp_path: Path
) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    kept.keep(WEB, 8002, "i")
    kept.database.close()
    kept.database.close()
    clock.steady += 10 * RETRY_S
    kept.keep(SSH, 8003, "i")
    assert [row[2] for row in rows(tmp_path / "state")] == [8001, 8002], "and nothing after it"


def test_nothing_runs_before_the_first_write(tmp_path: Path) -> None:
    """A process that goes to the background forks after this, and threads do not survive that."""
    opened = Database(str(tmp_path / "state"))
    assert opened._thread is None
    opened.close()


def test_the_statements_of_a_table() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE pet (kind TEXT, name TEXT, age INTEGER, PRIMARY KEY (kind, name))")
    sql = statements("pet", "kind, name, age", "kind, name", "age")
    for row in (("cat", "a", 9), ("dog", "a", 3), ("cat", "a", 5)):
        db.execute(sql.write, row)
    assert db.execute(sql.read).fetchall() == [("dog", "a", 3), ("cat", "a", 5)]
    db.execute(sql.delete, ("cat", "a"))
    assert db.execute(sql.read).fetchall() == [("dog", "a", 3)]
    db.execute(sql.delete_all)
    assert not db.execute(sql.read).fetchall()
