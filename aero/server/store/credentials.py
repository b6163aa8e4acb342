"""Credentials: what users' workers have that were invited, each with its tag. In memory, and in the database.

A user may have several. What is in the operator's file of users is not here; whose user that file does not name any
more is here, and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from aero import logs
from aero.server.store.database import Change, Database, Row, statements

log = logs.get("store")

#: Each costs a millisecond and some kilobytes at the start.
CREDENTIALS = 4096
PER_USER = 256
_SQL = statements("credential", "login, tag, may, verifier, host, address, made_at", "login", "made_at")


class Credential(NamedTuple):
    """What one worker has been given.

    ``login``: USER+ID; ``tag``: the one that it has; ``may``: where its targets may be (aero/allow.py), "" for
    anywhere; ``verifier``: what is kept of its code; ``host``, ``address``: who joined, for people; ``made_at``: Unix
    seconds.
    """

    login: str
    tag: str
    may: str
    verifier: str
    host: str
    address: str
    made_at: int

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.login.partition("+")[0]


class CredentialTable:
    """The table."""

    def __init__(self, database: Database) -> None:
        """Takes over what the database has."""
        self._database = database
        self._by_login: dict[str, Credential] = {}
        self._of: dict[str, int] = {}  # how many each user has
        damaged = 0
        for row in database.attach(self, _SQL.read):
            credential = _credential(row)
            if credential is None or len(self._by_login) >= CREDENTIALS:
                damaged += 1
            else:
                self._take(credential)
        if damaged:
            log.warning("ignored damaged credentials", count=damaged)

    def __iter__(self) -> Iterator[Credential]:
        """All of them, the oldest first."""
        return iter(list(self._by_login.values()))

    def get(self, login: str) -> Credential | None:
        """The one with this name."""
        return self._by_login.get(login)

    @property
    def kept(self) -> bool:
        """Whether they outlive the process."""
        return self._database.kept

    def full(self, user: str) -> str:
        """Why a user may have no further one; "" where he may."""
        if len(self._by_login) >= CREDENTIALS:
            return f"there are {CREDENTIALS} credentials, the most there may be"
        if self._of.get(user, 0) >= PER_USER:
            return f"user {user} has {PER_USER} credentials, the most there may be"
        return ""

    def add(self, credential: Credential) -> None:
        """One more."""
        self._take(credential)
        self._database.changed(self, credential.login)

    def remove(self, login: str) -> Credential | None:
        """It counts no more. What it was, None where there is none."""
        credential = self._by_login.pop(login, None)
        if credential is not None:
            self._of[credential.user] -= 1
            self._database.changed(self, login)
        return credential

    def _take(self, credential: Credential) -> None:
        self._by_login[credential.login] = credential
        self._of[credential.user] = self._of.get(credential.user, 0) + 1

    def written(self, timeout_s: float) -> bool:
        """Blocks a greenlet until what changed is on disk, or cannot be."""
        return self._database.flush(timeout_s) and self._database.kept

    def changes(self, keys: Collection[str] | None) -> list[Change]:
        """For the database."""
        if keys is None:
            return [Change(_SQL.delete_all, [()]), Change(_SQL.write, [tuple(each) for each in self])]
        found = [self._by_login[key] for key in keys if key in self._by_login]
        gone = [(key,) for key in keys if key not in self._by_login]
        return [Change(_SQL.delete, gone), Change(_SQL.write, [tuple(each) for each in found])]


def _credential(row: Row) -> Credential | None:
    """What a row of the file says; None where it was damaged: SQLite checks pages, not what is in them."""
    credential = Credential(*row)
    good = all(isinstance(each, str) for each in credential[:-1]) and isinstance(credential.made_at, int)
    return credential if good and credential.login.count("+") == 1 else None
