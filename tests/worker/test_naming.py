"""Which name a code is proved under, while the server has one code, two, or has just changed to the other."""

from __future__ import annotations

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER
from aero.errors import LinkClosed, Rejected
from aero.worker.naming import Naming

AUTH, AUTH_NEXT = (Rejected(code, "wrong auth code", final=True) for code in (Close.AUTH, Close.AUTH_NEXT))


def test_a_wrong_code_is_tried_once_where_the_server_has_one() -> None:
    name = Naming()
    assert not name.other(AUTH)
    assert name.user == ""


def test_a_code_that_the_server_changes_to_is_tried_under_its_name() -> None:
    name = Naming()
    assert name.other(AUTH_NEXT)
    assert name.user == NEXT_USER
    name.proved = True
    assert not name.other(LinkClosed("the server went down"))
    assert name.user == NEXT_USER, "it was good, and is tried first"


def test_when_the_server_has_changed_the_next_code_is_its_own() -> None:
    name = Naming()
    name.other(AUTH_NEXT)
    name.proved = True
    assert name.other(AUTH)
    assert name.user == ""


def test_a_code_that_is_neither_is_tried_under_both_names_and_then_waits() -> None:
    name = Naming()
    for _ in range(3):
        assert name.other(AUTH_NEXT)
        assert not name.other(AUTH_NEXT)
        assert name.user == ""
