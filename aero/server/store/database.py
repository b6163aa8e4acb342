"""The server's file: one SQLite database, brought to today's layout when it is opened, written by one thread.

Knows files, layouts and failures; what the rows mean is known to the tables (leases.py, usage.py). Writing never
waits for a disk on the loop's thread: what changed is handed to a thread, a transaction a batch. Tables read once, at
the start; people's questions about the past are read by threads of their own (``ask``).
A database that cannot be opened or written says so once and does without; once it can be written again, everything
that it has missed is written.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Protocol

from aero import logs
from aero.net.threads import Threads, apart

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import _sqlite3 as sqlite3  # all of sqlite3 but what it does with dates, whose module is 0.4 MB
    except ImportError:
        import sqlite3

log = logs.get("store")

FILE = "server.sqlite"
# A database that could not be written is tried again this often, when there is something to write: nobody is harmed
# by a lease that is a minute late on disk.
RETRY_S = 60.0
# At the end: longer than a disk that is merely busy needs, shorter than service managers wait before they kill.
CLOSE_S = 5.0
# Readers wait for a writer only while a file is made anew (WAL lets them read beside it).
READ_S = 2.0

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
    (
        # Traffic by name and span (0 hour, 1 day, 2 month), which begins at ``start`` (Unix seconds): usage.py.
        """CREATE TABLE usage (
            span INTEGER NOT NULL, start INTEGER NOT NULL, user TEXT NOT NULL, tag TEXT NOT NULL, target TEXT NOT NULL,
            bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, streams INTEGER NOT NULL, requests INTEGER NOT NULL,
            datagrams_in INTEGER NOT NULL, datagrams_out INTEGER NOT NULL,
            PRIMARY KEY (span, start, user, tag, target)
        ) WITHOUT ROWID""",
        """CREATE TABLE refused (
            span INTEGER NOT NULL, start INTEGER NOT NULL, user TEXT NOT NULL, tag TEXT NOT NULL, target TEXT NOT NULL,
            reason TEXT NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (span, start, user, tag, target, reason)
        ) WITHOUT ROWID""",
    ),
    (
        # What workers have that were invited, besides what the operator's file of users says: credentials.py.
        """CREATE TABLE credential (
            login TEXT NOT NULL PRIMARY KEY, tag TEXT NOT NULL, may TEXT NOT NULL, verifier TEXT NOT NULL,
            host TEXT NOT NULL, address TEXT NOT NULL, made_at INTEGER NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        # Targets that an operator has added to the workers of a tag: registry/additions.py.
        """CREATE TABLE addition (
            tag TEXT NOT NULL, name TEXT NOT NULL, proto TEXT NOT NULL, local TEXT NOT NULL, remote INTEGER NOT NULL,
            PRIMARY KEY (tag, name, proto)
        ) WITHOUT ROWID""",
    ),
    (
        # How long workers are usually away: rhythms.py.
        """CREATE TABLE rhythm (
            user TEXT NOT NULL, tag TEXT NOT NULL, host TEXT NOT NULL, went_at INTEGER NOT NULL, pauses TEXT NOT NULL,
            PRIMARY KEY (user, tag, host)
        ) WITHOUT ROWID""",
    ),
    # A lease may be of several ports in a row, from ``port`` on.
    ("ALTER TABLE lease ADD COLUMN ports INTEGER NOT NULL DEFAULT 1",),
    # How long visitors wait while the worker is away, in seconds.
    ("ALTER TABLE lease ADD COLUMN wait_s INTEGER NOT NULL DEFAULT 0",),
)
LAYOUT = len(STEPS)

Row = tuple[Any, ...]


class Change(NamedTuple):
    """A statement and the rows that it is executed with, one after another."""

    statement: str
    rows: Iterable[Row]


class Statements(NamedTuple):
    """How the rows of one table are read and changed."""

    read: str
    write: str
    delete: str
    delete_all: str


def statements(table: str, columns: str, key: str, order: str = "") -> Statements:
    """Those of a table; all of it are words of ours. ``columns``, and those of ``key``, are separated by commas.

    A row takes the place of one with the same key, and of one that has something else which is unique.
    """
    places = ", ".join("?" * len(columns.split(",")))
    where = " AND ".join(f"{each.strip()} = ?" for each in key.split(","))
    return Statements(
        f"SELECT {columns} FROM {table}" + (f" ORDER BY {order}" if order else ""),  # noqa: S608
        f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})",  # noqa: S608
        f"DELETE FROM {table} WHERE {where}",  # noqa: S608
        f"DELETE FROM {table}",  # noqa: S608
    )


class Table(Protocol):
    """What the database asks of whoever keeps rows in it. All of it is called on the loop's thread."""

    def changes(self, keys: Collection[Any] | None) -> list[Change]:
        """What makes the file say what the table says, for these rows or (None) for all.

        The rows of a change are read on the writer's thread: they must not look at what may change meanwhile.
        """


class Database:
    """``DIR/server.sqlite`` as long as that can be written; nothing where DIR is "".

    A table says which of its rows changed, and is asked for their content when the writer is free: what changes often
    is written once, and what waits is bounded by the number of rows.
    """

    def __init__(self, directory: str) -> None:
        """Opens the file, makes it where there is none, and brings it to today's layout."""
        self._directory = directory
        self._db: sqlite3.Connection | None = None
        self._changed: dict[
            Table, dict[Any, None]
        ] = {}  # each table's keys in the order in which they changed
        self._thread: Threads | None = None
        self._job: Any = None  # what the thread does now
        self._retry_at = 0.0
        if directory:
            try:
                self._db = _open(directory)
            except (OSError, sqlite3.Error) as error:
                self._cannot_be_kept(error)

    def _cannot_be_kept(self, error: Exception) -> None:
        path = os.path.join(self._directory, FILE)
        log.warning(
            "cannot keep leases and traffic, ports may change after a restart", path=path, error=error
        )
        self._give_up()

    def _give_up(self) -> None:
        db, self._db = self._db, None
        for keys in self._changed.values():
            keys.clear()
        self._retry_at = monotonic() + RETRY_S
        if db is not None:
            db.close()

    def attach(self, table: Table, select: str, values: Row = ()) -> list[Row]:
        """Every row that ``select`` finds, none where there is no file; rows of ``table`` may be ``changed`` from now
        on.
        """
        self._changed[table] = {}
        if self._db is None:
            return []
        try:
            return self._db.execute(select, values).fetchall()
        except sqlite3.Error as error:
            self._cannot_be_kept(error)
            return []

    @property
    def kept(self) -> bool:
        """Whether there is a file now."""
        return self._db is not None

    def read(self, select: str, values: Row) -> list[Row]:
        """As ``ask``, at once: for the rare moment in which a table has to know more than it remembers."""
        if self._db is None:
            return []
        rows = _read(os.path.join(self._directory, FILE), select, values)
        return [] if isinstance(rows, Exception) else rows

    def changed(self, table: Table, *keys: Any) -> None:
        """Rows of ``table`` are others now, or gone. Returns at once."""
        if self._db is not None or self._job is not None:
            self._changed[table].update(dict.fromkeys(keys))
        if self._job is None:
            self._write()

    def _write(self) -> None:
        """Hands what changed to the writer; everything where the file could not be written for a while."""
        if self._db is not None:
            changes = [
                change for table, keys in self._changed.items() if keys for change in table.changes(keys)
            ]
            self._changed = {table: {} for table in self._changed}
            self._start(_write, self._db, changes)
        elif self._directory and monotonic() >= self._retry_at:
            changes = [change for table in self._changed for change in table.changes(None)]
            self._start(_write_all, self._directory, changes)

    def ask(self, select: str, values: Row) -> list[Row]:
        """What is on disk, for a greenlet that can wait; none where there is no file, or it cannot be read.

        Read beside the writer, by another thread. SQLite's snapshot has what was written before.
        """
        if self._db is None:
            return []
        path = os.path.join(self._directory, FILE)
        rows = apart(_read, path, select, values)
        if isinstance(rows, Exception):
            log.warning("cannot read the traffic of the past", path=path, error=rows)
            return []
        return rows

    def _start(self, work: Callable[..., Outcome], *arguments: Any) -> None:
        if self._thread is None:
            self._thread = Threads(1)  # not before the first write: a thread does not survive a fork
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
                log.warning("cannot write leases and traffic, going on in memory", error=outcome.error)
            self._give_up()
        elif self._db is None:
            self._db = outcome.db
            log.info("leases and traffic are written again")
        if any(self._changed.values()):
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
        db, self._db = self._db, None
        if done:
            if db is not None:
                db.close()
            if self._thread is not None:
                self._thread.close()
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


def _read(path: str, select: str, values: Row) -> list[Row] | Exception:
    from urllib.parse import quote

    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=READ_S)) as db:
            return db.execute(select, values).fetchall()
    except (OSError, sqlite3.Error) as error:
        return error


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
