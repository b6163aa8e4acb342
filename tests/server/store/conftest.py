"""What both parts of the store are tried with: clocks, the lines of its log, and an opener of one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aero import logs
from aero.server.store import database
from aero.server.store.database import Database
from aero.server.store.leases import Leases, Owner


class Clock:
    """The store's clocks, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_700_000_000, 50.0
        monkeypatch.setattr(database, "monotonic", lambda: self.steady)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines of the store's log."""
    lines: list[str] = []

    def hear(line: logs.Line) -> None:
        if line.part == "store":
            lines.append(f"{'WARNING' if line.level == logs.WARNING else 'INFO'} {line.text}")

    logs.hearers.append(hear)
    yield lines
    logs.hearers.remove(hear)


class Store(Leases):
    """Leases with a database of their own, and shorthands for tests."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self.database = Database(directory)
        super().__init__(self.database, lambda: clock.wall)

    def save(self, owner: Owner, port: int, identity: str = "i") -> None:
        """``keep``, and wait until it is on disk or given up."""
        self.keep(owner, port, identity)
        assert self.database.flush(10)

    @property
    def ports(self) -> list[int]:
        """Those of owners who are away, who left first first."""
        return [lease.port for lease in self.absent(9999)]


Opener = Callable[[], Store]


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Opener]:
    """Opens stores on one folder; closes what is left."""
    opened: list[Store] = []

    def again() -> Store:
        opened.append(Store(str(tmp_path / "state"), clock))
        return opened[-1]

    yield again
    for each in opened:
        each.database.close()
