"""A connection that somebody has logged in on serves him and nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.server.httpmux.login import Login

ANNA = ((b"x-forwarded-for", b"192.0.2.1"),)
BERT = ((b"x-forwarded-for", b"192.0.2.2"),)


class Connection:
    """A connection to a target, which counts how often it was ended."""

    def __init__(self) -> None:
        self.ended = 0

    def abort(self) -> None:
        self.ended += 1


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def login(connection: Connection) -> Login:
    return Login(cast(Any, connection), ANNA)


def take(login: Login, said: Any, usable: bool = True) -> Any:
    tries = SimpleNamespace(may_use=lambda upstream: usable)
    return login.take(cast(Any, SimpleNamespace(forwarded=said)), cast(Any, tries))


def test_the_same_person_goes_on_with_it_once(login: Login, connection: Connection) -> None:
    assert take(login, ANNA) is connection
    assert take(login, ANNA) is None, "it is the visitor's now"
    login.end()
    assert connection.ended == 0


def test_somebody_else_behind_the_same_proxy_ends_it(login: Login, connection: Connection) -> None:
    assert take(login, BERT) is None
    assert connection.ended == 1
    assert take(login, ANNA) is None, "nobody is logged in any more"


def test_for_another_target_it_is_kept(login: Login, connection: Connection) -> None:
    assert take(login, BERT, usable=False) is None
    assert connection.ended == 0
    assert take(login, ANNA) is connection


def test_its_end_is_one(login: Login, connection: Connection) -> None:
    login.end()
    login.end()
    assert connection.ended == 1
