"""A lane: what the server must not answer, what cannot be said without a link, and what a doubted link's end undoes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.core.codes import Close
from aero.core.control import Unregister
from aero.core.joining import JoinedAgain
from aero.errors import LinkClosed, LocalProtocolError, RemoteProtocolError
from aero.worker.lane import Lane
from aero.worker.states import JOINING, RESTING


@pytest.fixture
def lane() -> Lane:
    return Lane(
        cast(Any, SimpleNamespace(config=SimpleNamespace(user=""))), cast(Any, None), cast(Any, None), 1
    )


def test_an_answer_to_another_join_than_ours_is_the_servers_error(lane: Lane) -> None:
    lane.state, lane.link = JOINING, cast(Any, object())
    with pytest.raises(RemoteProtocolError) as found:
        lane.joining(JoinedAgain("1", "s", 0))
    assert found.value.code == Close.STATE
    assert lane.state == JOINING


def test_a_lane_without_a_link_says_nothing(lane: Lane) -> None:
    with pytest.raises(LocalProtocolError, match="resting says nothing"):
        lane.say([Unregister((1,))])


def test_a_link_beside_one_that_brought_the_sessions_end_asks_for_nothing(lane: Lane) -> None:
    doubted = cast(Any, object())  # it has spoken while the other was dialled: the server has sent us away
    with pytest.raises(LinkClosed, match="no session"):
        lane._step_in(doubted)
    assert lane.state == RESTING
