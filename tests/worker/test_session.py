"""A session at the worker: newer takeovers win, and only the server or a long time can end it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from aero.core.control import Answer, Registered, Unknown
from aero.core.joining import JoinedAgain
from aero.limits import Limits
from aero.worker import session as sessions
from tests.worker import scene


class CarryingLink:
    """A link that carries what it is given."""

    def __init__(self) -> None:
        self.carried: list[object] = []

    def carry(self, session: object) -> None:
        self.carried.append(session)


def test_each_takeover_is_newer_than_those_before() -> None:
    kept = scene.session()
    asked = [kept.takeover(60) for _ in range(3)]
    assert [join.link for join in asked] == [2, 3, 4], "the first link was the one that began it"
    assert {(join.session, join.secret, join.received) for join in asked} == {("s1", "secret", 0)}


def test_it_is_kept_longer_than_the_server_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(sessions, "monotonic", lambda: now)
    kept = scene.session(resume_s=60.0)
    assert kept.away_s == 0.0 and not kept.hopeless
    kept.lose_link()
    now += 60.0 + Limits.RESUME_MARGIN_S - 1.0
    kept.lose_link()  # a try in vain does not count as another loss
    assert kept.away_s == 60.0 + Limits.RESUME_MARGIN_S - 1.0 and not kept.hopeless
    now += 2.0
    assert kept.hopeless


def test_a_link_that_takes_it_over_ends_the_waiting() -> None:
    kept, link = scene.session(), CarryingLink()
    kept.lose_link()
    kept.go_on(cast(Any, link), JoinedAgain("1", "s1", 0))
    assert link.carried == [kept.core] and kept.away_s == 0.0


def test_where_the_server_keeps_nothing_nothing_is_kept() -> None:
    assert scene.session(resume_s=60.0).core.resumable
    assert not scene.session(resume_s=0.0).core.resumable


def test_answers_go_to_the_desk_and_what_is_unknown_is_ignored() -> None:
    office = scene.Office()
    kept = scene.session()
    kept._desk = office
    kept.control_received(Registered((Answer(1, "a", port=7),)))
    kept.control_received(Unknown("of another version"))
    assert office.heard == ["1 answers"]
