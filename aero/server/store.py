"""The server's memory on disk: leases in an embedded SQLite file. Knows rows, not rules.

A store that cannot be opened or written says so once and goes on in memory: a full disk takes nobody's tunnel down.
"""

from __future__ import annotations

import os
import sqlite3
from time import time
from typing import NamedTuple

from aero import logs

log = logs.get("store")

FILE = "server.sqlite"
# Where the file's layout changes, this number does; an older file is then moved over, never guessed at.
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    user TEXT NOT NULL, tag TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL, slot INTEGER NOT NULL,
    port INTEGER NOT NULL UNIQUE, identity TEXT NOT NULL, used_at INTEGER NOT NULL,
    PRIMARY KEY (user, tag, host, name, slot)
) WITHOUT ROWID
"""
_COLUMNS = "user, tag, host, name, slot, port, identity, used_at"


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


class Store:
    """Leases by port, kept in ``DIR/server.sqlite`` as long as that can be written."""

    def __init__(self, directory: str) -> None:
        """``directory``: "" for memory only."""
        self._directory = directory
        self._db = self._open(directory) if directory else None
        self._leases: dict[int, Lease] = {}
        if self._db is not None:
            try:
                for row in self._db.execute(f"SELECT {_COLUMNS} FROM lease"):  # noqa: S608 - a constant of ours
                    self._leases[row[5]] = Lease(Owner(*row[:4]), *row[4:])
            except sqlite3.Error as error:
                self._give_up(error)

    def _open(self, directory: str) -> sqlite3.Connection | None:
        path = os.path.join(directory, FILE)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            db = sqlite3.connect(path, isolation_level=None, timeout=0)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                "PRAGMA synchronous=NORMAL"
            )  # survives kill -9; a power cut may cost the last lease, not the file
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except (OSError, sqlite3.Error) as error:
            log.warning("cannot keep leases, ports may change after a restart", path=path, error=error)
            return None
        return db

    def _give_up(self, error: sqlite3.Error) -> None:
        log.warning("cannot write leases any more, going on in memory", error=error)
        if self._db is not None:
            self._db.close()
        self._db = None

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        if self._db is not None:
            try:
                self._db.execute(statement, values)
            except sqlite3.Error as error:
                self._give_up(error)

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
        lease = Lease(owner, slot, port, identity, int(time()))
        self._leases[port] = lease
        self._execute(  # a row of another owner with this port goes: the port is unique
            f"INSERT OR REPLACE INTO lease ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant of ours
            (*owner, slot, port, identity, lease.used_at),
        )

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
