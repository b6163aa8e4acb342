"""Credentials: what is on disk is what is in memory, and damaged rows cost themselves alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aero.server.store import credentials as module
from aero.server.store.credentials import Credential, CredentialTable
from aero.server.store.database import FILE, Database


def made(login: str, at: int = 5) -> Credential:
    return Credential(login, "nas", "127.0.0.1:22", "spake2plus$x", "box", "192.0.2.1:5", at)


def test_they_survive_and_go(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    kept = CredentialTable(database)
    for number, login in enumerate(("ci+bbbb", "ci+aaaa", "nas+cccc")):
        kept.add(made(login, number))
    assert kept.remove("ci+bbbb") == made("ci+bbbb", 0)
    assert kept.remove("ci+bbbb") is None
    assert kept.written(10)
    database.close()
    database = Database(str(tmp_path))
    again = CredentialTable(database)
    assert list(again) == [made("ci+aaaa", 1), made("nas+cccc", 2)]
    assert again.get("ci+aaaa") == made("ci+aaaa", 1) and again.get("ci+aaaa").user == "ci"  # type: ignore[union-attr]
    assert [len(list(change.rows)) for change in again.changes(None)] == [1, 2], (
        "all of them, after a failure"
    )
    database.close()


def test_damaged_rows(tmp_path: Path, said: list[str]) -> None:
    Database(str(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        for login, at in (("ci+aaaa", 1), ("ci", 2), ("a+b+c", 3), ("nas+bbbb", "x")):
            file.execute(module._SQL.write, (*made(login)[:-1], at))
        file.execute(module._SQL.write, ("nas+cccc", b"\xff", "", "", "", "", 1))
    database = Database(str(tmp_path))
    assert [each.login for each in CredentialTable(database)] == ["ci+aaaa"]
    assert said == ["WARNING ignored damaged credentials count=4"]
    database.close()


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CREDENTIALS", 3)
    monkeypatch.setattr(module, "PER_USER", 2)
    kept = CredentialTable(Database(""))
    assert not kept.kept and not kept.full("ci")
    kept.add(made("ci+aaaa"))
    kept.add(made("ci+bbbb"))
    assert "user ci has 2" in kept.full("ci") and not kept.full("nas")
    kept.add(made("nas+aaaa"))
    assert "there are 3" in kept.full("db")
    kept.remove("ci+aaaa")
    assert not kept.full("db") and not kept.full("ci")
