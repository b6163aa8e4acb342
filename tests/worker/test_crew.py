"""Lanes together: whose session another may stand beside, when a worker is new, and who waits for whom."""

from __future__ import annotations

import gevent
import pytest

from aero.limits import Limits
from aero.worker.crew import Crew
from aero.worker.states import UP
from tests.worker import scene


@pytest.fixture
def office() -> scene.Office:
    return scene.Office()


@pytest.fixture
def crew(office: scene.Office) -> Crew:
    return Crew(scene.ground(pool=3), office, lambda error: None)


def test_a_sister_is_another_lane_with_a_session(crew: Crew) -> None:
    first, second, _ = crew.lanes
    assert crew.sister(first) is None
    first.session = scene.session()
    assert crew.sister(first) is None and crew.sister(second) is first.session
    assert crew.sessions() == [first.session]


def test_one_worker_is_begun_once_however_many_sessions_it_has(crew: Crew, office: scene.Office) -> None:
    for number in range(3):
        crew.session_begun(scene.session("c1", number=number))
    assert office.heard == ["worker begun"]
    crew.session_begun(scene.session("c2"))
    assert office.heard == ["worker begun"] * 2 and crew.cid == "c2"


def test_the_last_session_takes_the_worker_along(crew: Crew, office: scene.Office) -> None:
    for lane in crew.lanes[:2]:
        lane.session = scene.session()
        crew.session_begun(lane.session)
    office.heard.clear()
    crew.lanes[0].end_session("lost")
    assert office.heard == ["session lost"] and crew.cid == "c1"
    crew.lanes[1].end_session("lost")
    assert office.heard == ["session lost"] and crew.cid == ""


def test_a_session_that_the_server_forgot_is_ended_in_whichever_lane(crew: Crew) -> None:
    for number, lane in enumerate(crew.lanes):
        lane.session = scene.session(number=number)
    gone = crew.lanes[2].session
    assert gone is not None
    crew.session_gone(gone, "no such session")
    assert [lane.session is None for lane in crew.lanes] == [False, False, True]


def test_the_speaker_is_a_lane_that_is_up(crew: Crew) -> None:
    assert crew.speaker() is None
    crew.lanes[1].state = UP
    assert crew.speaker() is crew.lanes[1]


def test_other_lanes_wait_for_the_first_to_join(crew: Crew, office: scene.Office) -> None:
    first, second, _ = crew.lanes
    crew.wait_turn(first, 0.0)
    waiting = gevent.spawn(crew.wait_turn, second, 0.0)
    gevent.sleep(0.01)  # some turns of the loop, in which it may not go on
    assert not waiting.ready()
    first.session = scene.session()
    crew.session_begun(first.session)
    waiting.get(timeout=10)


def test_a_lane_that_has_reached_the_server_hurries_the_others(
    crew: Crew, office: scene.Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "RETRY_FIRST_S", 0.01)
    first, second, _ = crew.lanes
    first.session = second.session = scene.session()
    waiting = gevent.spawn(crew.wait_turn, second, 600.0)
    gevent.sleep(0.05)  # longer than the first retry would take
    assert not waiting.ready()
    crew.reached(first)
    waiting.get(timeout=10)
    assert office.heard == ["link up"]


def test_the_end_resets_every_session(crew: Crew) -> None:
    kept = scene.session()
    crew.lanes[0].session = kept
    crew.close("stopped")
    assert kept.core.ended and not crew.sessions() and crew.stopping
