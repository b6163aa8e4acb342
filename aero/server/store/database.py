"""The server's memory on disk: leases in an embedded SQLite file. Knows rows, not rules.

A store that cannot be opened or written says so once and goes on in memory: a full disk takes nobody's tunnel down.
Once it can be written again, it is.
"""

from __future__ import annotations

import os
import sqlite3
from time import monotonic, time
from typing import Any, NamedTuple

from aero import logs

log = logs.get("store")

FILE = "server.sqlite"
# Where the file's layout changes, this number does; an older file is then moved over, never guessed at.
SCHEMA_VERSION = 1
# A store that could not be written is tried again this often, when there is something to write: each try may block
# for a few milliseconds, and nobody is harmed by a lease that is a minute late.
RETRY_S = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    user TEXT NOT NULL, tag TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL, slot INTEGER NOT NULL,
    port INTEGER NOT NULL UNIQUE, identity TEXT NOT NULL, used_at INTEGER NOT NULL,
    PRIMARY KEY (user, tag, host, name, slot)
) WITHOUT ROWID
"""
_COLUMNS = "user, tag, host, name, slot, port, identity, used_at"
_READ = f"SELECT {_COLUMNS} FROM lease"  # noqa: S608 - a constant of ours
# A row of another owner with this port goes: the port is unique.
_WRITE = f"INSERT OR REPLACE INTO lease ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class Owner(NamedTuple):
    """To whom a port belongs: the same worker's same target."""

    user: str
    tag: str
    host: str
    name: str


class Lease(NamedTuple):
    """One remembered port. ``slot`` tells clones apart, which share an owner; ``used_at`` is in Unix seconds."""

    owner: Owner
    slot: int
    port: int
    identity: str
    used_at: int

    @property
    def row(self) -> tuple[str | int, ...]:
        """The lease as the file has it."""
        return (*self.owner, *self[1:])


def _lease(row: tuple[Any, ...]) -> Lease | None:
    """What a row of the file says; None where it was damaged: SQLite checks pages, not what is in them."""
    lease = Lease(Owner(*row[:4]), *row[4:])
    texts, numbers = (*lease.owner, lease.identity), (lease.slot, lease.port, lease.used_at)
    good = all(isinstance(each, str) for each in texts) and all(isinstance(each, int) for each in numbers)
    return lease if good and 0 < lease.port <= 0xFFFF else None


class Store:
    """Leases by port, kept in ``DIR/server.sqlite`` as long as that can be written."""

    def __init__(self, directory: str) -> None:
        """``directory``: "" for memory only."""
        self._directory = directory
        self._leases: dict[int, Lease] = {}
        self._db: sqlite3.Connection | None = None
        self._retry_at = 0.0
        if directory:
            try:
                self._db = self._open()
                self._load(self._db)
            except (OSError, sqlite3.Error) as error:
                path = os.path.join(directory, FILE)
                log.warning("cannot keep leases, ports may change after a restart", path=path, error=error)
                self._give_up()

    def _open(self) -> sqlite3.Connection:
        """Raises OSError, sqlite3.Error."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        db = sqlite3.connect(os.path.join(self._directory, FILE), isolation_level=None, timeout=0)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            # Survives kill -9; a power cut may cost the last lease, not the file.
            db.execute("PRAGMA synchronous=NORMAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"another version of this program wrote it (layout {version})")
            if not version:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _load(self, db: sqlite3.Connection) -> None:
        damaged = 0
        for row in db.execute(_READ):
            lease = _lease(row)
            if lease is not None:
                self._leases[lease.port] = lease
            else:
                damaged += 1
        if damaged:
            log.warning("leases that make no sense were left out", count=damaged)

    def _give_up(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None
        self._retry_at = monotonic() + RETRY_S

    def _write(self, lease: Lease) -> None:
        if self._db is not None:
            try:
                self._db.execute(_WRITE, lease.row)
            except sqlite3.Error as error:
                log.warning("cannot write leases, going on in memory", error=error)
                self._give_up()
        elif self._directory and monotonic() >= self._retry_at:
            self._write_all()

    def _write_all(self) -> None:
        """Perhaps the file can be written by now: all that it has missed."""
        try:
            self._db = self._open()
            self._db.execute("BEGIN")
            self._db.executemany(_WRITE, [lease.row for lease in self._leases.values()])
            self._db.execute("COMMIT")
        except (OSError, sqlite3.Error):  # it was said when it began
            self._give_up()
        else:
            log.info("leases are written again", count=len(self._leases))

    def at(self, port: int) -> Lease | None:
        """The lease of a port."""
        return self._leases.get(port)

    def of(self, owner: Owner) -> list[Lease]:
        """All leases of an owner."""
        return [lease for lease in self._leases.values() if lease.owner == owner]

    def oldest(self, limit: int) -> list[Lease]:
        """The leases that were not used for the longest time, oldest first."""
        return sorted(self._leases.values(), key=lambda lease: lease.used_at)[:limit]

    def keep(self, owner: Owner, port: int, identity: str) -> None:
        """Remembers, or remembers anew, that ``port`` is the owner's; whose it was before loses it."""
        former = self._leases.get(port)
        if former is not None and former.owner == owner:
            slot = former.slot
        else:
            taken = {lease.slot for lease in self.of(owner)}
            slot = next(number for number in range(len(taken) + 1) if number not in taken)
        self._leases[port] = lease = Lease(owner, slot, port, identity, int(time()))
        self._write(lease)

    def files(self) -> list[str]:
        """What a user who goes on with this store has to be able to write; the folder too where it is private."""
        if self._db is None:
            return []
        folder = self._directory
        private = not os.stat(folder).st_mode & 0o077
        names = [name for name in os.listdir(folder) if name.startswith(FILE)]
        return [os.path.join(folder, name) for name in names] + [folder] * private

    def close(self) -> None:
        """Writes what is left and lets go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._directory = ""
