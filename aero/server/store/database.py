"""The server's file: one SQLite database, brought to today's layout when it is opened, written by one thread.

Knows files, layouts and failures; what the rows mean is known to the table (leases.py). Reading happens once, at the
start. Writing never waits for a disk on the loop's thread: what changed is handed to a thread, a transaction a batch.
A database that cannot be opened or written says so once and does without; once it can be written again, everything
that it has missed is written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable
from time import monotonic
from typing import Any, Callable, NamedTuple, Protocol

from gevent.threadpool import ThreadPool

from aero import logs

log = logs.get("store")

FILE = "server.sqlite"
# A database that could not be written is tried again this often, when there is something to write: nobody is harmed
# by a lease that is a minute late on disk.
RETRY_S = 60.0
# At the end: longer than a disk that is merely busy needs, shorter than service managers wait before they kill.
CLOSE_S = 5.0

#: ``STEPS[n]`` brings a file of layout n to layout n + 1; a new file is layout 0. A step that was ever released stays
#: as it is: a change of the layout is one more step, and a file with its outcome for tests/server/store.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE lease (
            user TEXT NOT NULL, tag TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL, slot INTEGER NOT NULL,
            port INTEGER NOT NULL UNIQUE, identity TEXT NOT NULL, used_at INTEGER NOT NULL,
            PRIMARY KEY (user, tag, host, name, slot)
        ) WITHOUT ROWID""",
    ),
    (
        # A port belongs to its protocol; how long it was in use and from which address says what it is worth. How long
        # those of layout 1 were in use is not known: an hour is put down, so that they do not go early.
        """CREATE TABLE newer (
            user TEXT NOT NULL, tag TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL, proto TEXT NOT NULL,
            slot INTEGER NOT NULL, port INTEGER NOT NULL, identity TEXT NOT NULL, address TEXT NOT NULL,
            used_at INTEGER NOT NULL, held_s INTEGER NOT NULL,
            PRIMARY KEY (user, tag, host, name, proto, slot), UNIQUE (proto, port)
        ) WITHOUT ROWID""",
        """INSERT INTO newer
            SELECT user, tag, host, name, 'tcp', slot, port, identity, '', used_at, 3600 FROM lease""",
        "DROP TABLE lease",
        "ALTER TABLE newer RENAME TO lease",
    ),
)
LAYOUT = len(STEPS)

Row = tuple[Any, ...]


class Change(NamedTuple):
    """A statement and the rows that it is executed with, one after another."""

    statement: str
    rows: Iterable[Row]


class LeaseTable(Protocol):
    """What the database asks of whoever keeps rows in it. All of it is called on the loop's thread."""

    def changes(self, keys: Collection[Any] | None) -> list[Change]:
        """What makes the file say what the table says, for these rows or (None) for all.

        The rows of a change are read on the writer's thread: they must not look at what may change meanwhile.
        """


class Database:
    """``DIR/server.sqlite`` as long as that can be written; nothing where DIR is "".

    One table uses it for now. It says which of its rows changed, and is asked for their content when the writer is
    free: what changes often is written once, and what waits is bounded by the number of rows.
    """

    def __init__(self, directory: str) -> None:
        """Opens the file, makes it where there is none, and brings it to today's layout."""
        self._directory = directory
        self._db: sqlite3.Connection | None = None
        self._table: LeaseTable | None = None
        self._changed: dict[Any, None] = {}  # keys in the order in which they changed
        self._thread: ThreadPool | None = None
        self._job: Any = None  # what the thread does now
        self._retry_at = 0.0
        if directory:
            try:
                self._db = _open(directory)
            except (OSError, sqlite3.Error) as error:
                self._cannot_be_kept(error)

    def _cannot_be_kept(self, error: Exception) -> None:
        path = os.path.join(self._directory, FILE)
        log.warning("cannot keep leases, ports may change after a restart", path=path, error=error)
        self._give_up()

    def _give_up(self) -> None:
        db, self._db = self._db, None
        self._changed.clear()
        self._retry_at = monotonic() + RETRY_S
        if db is not None:
            db.close()

    def attach(self, table: LeaseTable, select: str) -> list[Row]:
        """Every row that ``select`` finds, none where there is no file; changes are ``table``'s from now on."""
        self._table = table
        if self._db is None:
            return []
        try:
            return self._db.execute(select).fetchall()
        except sqlite3.Error as error:
            self._cannot_be_kept(error)
            return []

    def changed(self, key: Any) -> None:
        """A row of the table is another one now, or gone. Returns at once."""
        if self._db is not None or self._job is not None:
            self._changed[key] = None
        if self._job is None:
            self._write()

    def _write(self) -> None:
        """Hands what changed to the writer; everything where the file could not be written for a while."""
        if self._table is None:
            return
        if self._db is not None:
            keys, self._changed = self._changed, {}
            self._start(_write, self._db, self._table.changes(keys))
        elif self._directory and monotonic() >= self._retry_at:
            self._start(_write_all, self._directory, self._table.changes(None))

    def _start(self, work: Callable[..., Outcome], *arguments: Any) -> None:
        if self._thread is None:
            self._thread = ThreadPool(1)  # not before the first write: a thread does not survive a fork
        self._job = self._thread.spawn(work, *arguments)
        self._job.rawlink(self._on_done)

    def _on_done(self, job: Any) -> None:
        """A batch was written, or was not. Called on the loop's thread, by the job or by ``flush``."""
        if job is not self._job:
            return
        self._job = None
        outcome: Outcome = job.get()
        if outcome.db is None:
            if self._db is not None:  # else it was said when it began
                log.warning("cannot write leases, going on in memory", error=outcome.error)
            self._give_up()
        elif self._db is None:
            self._db = outcome.db
            log.info("leases are written again")
        if self._changed:
            self._write()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything that changed is written or given up. Whether that is so."""
        while self._job is not None:
            job = self._job
            job.wait(timeout_s)
            if not job.ready():
                return False
            self._on_done(job)
        return True

    def close(self) -> None:
        """Writes what changed, and lets go of the file. A disk that hangs is not waited for."""
        done, self._directory = self.flush(CLOSE_S), ""
        db, self._db, self._table = self._db, None, None
        if done:
            if db is not None:
                db.close()
            if self._thread is not None:
                self._thread.kill()
                self._thread = None


# ----------------------------------------------------------------------------
# What runs on either thread: none of it knows the database object
# ----------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of a batch: the connection to go on with, or None and why."""

    db: sqlite3.Connection | None
    error: Exception | None


def _open(directory: str) -> sqlite3.Connection:
    """Raises OSError, sqlite3.Error."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, FILE)
    db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        # Survives kill -9; a power cut may cost the last lease, not the file.
        db.execute("PRAGMA synchronous=NORMAL")
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """Takes every step that the file lacks, all in one transaction. Raises sqlite3.Error."""
    layout = db.execute("PRAGMA user_version").fetchone()[0]
    if layout == LAYOUT:
        return
    if not 0 <= layout < LAYOUT:
        raise sqlite3.DatabaseError(f"another version of this program wrote it (layout {layout})")
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[layout:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA user_version={LAYOUT}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _write(db: sqlite3.Connection, changes: list[Change]) -> Outcome:
    try:
        db.execute("BEGIN")
        for statement, rows in changes:
            db.executemany(statement, rows)
        db.execute("COMMIT")
    except (sqlite3.Error, ValueError, OverflowError) as error:  # the latter two: rows that no file can hold
        return Outcome(None, error)  # whoever closes the connection rolls it back
    return Outcome(db, None)


def _write_all(directory: str, changes: list[Change]) -> Outcome:
    """Perhaps the file can be written by now: all that it has missed."""
    try:
        db = _open(directory)
    except (OSError, sqlite3.Error) as error:
        return Outcome(None, error)
    outcome = _write(db, changes)
    if outcome.db is None:
        db.close()
    return outcome
