"""Targets that operators add: who is asked for them, for how long, and what is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest

from aero.core.control import Added, AddedTargets
from aero.errors import PortError
from aero.net.loop import event_loop
from aero.server.registry import additions as module
from aero.server.registry.additions import Addition, Additions
from aero.server.store.database import FILE, Database
from tests.faults.inside import until

DB, WEB = Added("db", "127.0.0.1:5432"), Added("web", "127.0.0.1:80", remote=8000)


class Asked:
    """A worker that keeps what it is asked for."""

    def __init__(self, cid: str, tag: str) -> None:
        self.cid, self.tag = cid, tag
        self.heard: list[list[str]] = []
        self.session = self
        self.sessions = [cast(Any, self)]

    def control(self, message: AddedTargets) -> None:
        self.heard.append([each.name for each in message.targets])


class Place:
    def __init__(self, state: str = "") -> None:
        self.workers = [Asked("c1", "nas"), Asked("c2", "nas"), Asked("c3", "lab")]
        self.database = Database(state)
        self.additions = Additions(event_loop(), self.named, self.database)

    def named(self, where: str) -> list[Any]:
        return [each for each in self.workers if where in (each.tag, each.cid + "@")]

    @property
    def heard(self) -> list[list[list[str]]]:
        return [each.heard for each in self.workers]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(str(tmp_path))
    yield made
    made.additions.close()
    made.database.close()


def test_all_of_a_tag_are_asked_and_nobody_else(place: Place) -> None:
    place.additions.add(Addition("nas", DB))
    place.additions.add(Addition("c2@", WEB))
    assert place.heard == [[["db"]], [["db"], ["db", "web"]], []]
    late, other = Asked("c4", "nas"), Asked("c5", "other")
    for each in (late, other):
        place.additions.greet(each)
    assert (late.heard, other.heard) == ([["db"]], [])
    place.additions.remove(Addition("nas", DB))
    assert [heard[-1:] for heard in place.heard] == [[[]], [["web"]], []]
    place.additions.left(place.workers[1])
    assert not list(place.additions), "what was one worker's goes with it"


def test_time_is_up(place: Place) -> None:
    place.additions.add(Addition("nas", DB, monotonic() + 0.01))
    place.additions.add(Addition("nas", WEB, monotonic() + 3600))
    until("the first to go", lambda: [each.target for each in place.additions] == [WEB])
    assert place.heard[0] == [["db"], ["db", "web"], ["web"]]


def test_what_is_for_good_is_kept(place: Place, tmp_path: Path) -> None:
    place.additions.add(Addition("nas", DB))
    place.additions.add(Addition("nas", WEB, monotonic() + 3600))
    place.additions.add(Addition("c2@", WEB))
    place.additions.add(Addition("lab", WEB))
    place.additions.remove(Addition("lab", WEB))
    assert place.database.flush(10)
    again = Place(str(tmp_path))
    assert list(again.additions) == [Addition("nas", DB)]
    again.additions.greet(again.workers[0])
    assert again.heard[0] == [["db"]]
    again.database.close()
    assert [len(list(change.rows)) for change in place.additions.changes(None)] == [1, 1]


def test_damaged_rows(tmp_path: Path) -> None:
    Database(str(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        file.execute(module._SQL.write, ("nas", "db", "tcp", "h:1", "x"))
        file.execute(module._SQL.write, ("nas", "web", "tcp", b"\xff", 0))
        file.execute(module._SQL.write, ("nas", "good", "tcp", "h:1", 0))
    place = Place(str(tmp_path))
    assert [each.target.name for each in place.additions] == ["good"]
    place.database.close()


def test_bounds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_PLACE", 2)
    monkeypatch.setattr(module, "ALL", 3)
    for name in ("a", "b", "b"):
        place.additions.add(Addition("nas", DB._replace(name=name)))
    with pytest.raises(PortError, match="2 targets were added to nas"):
        place.additions.add(Addition("nas", DB))
    place.additions.add(Addition("lab", DB))
    with pytest.raises(PortError, match="3 targets were added, the most"):
        place.additions.add(Addition("x", DB))
