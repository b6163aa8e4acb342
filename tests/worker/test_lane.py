"""A lane's states: the table is whole, and what the server says at the wrong time ends the link, not the worker."""

from __future__ import annotations

from typing import Any, cast

import pytest

from aero.core.codes import Close
from aero.core.messages import JoinedAgain
from aero.errors import LocalProtocolError, RemoteProtocolError
from aero.worker import lane as lanes
from aero.worker.lane import ENDED, JOINED, JOINING, TRANSITIONS, Lane

EVENTS = (lanes.DIAL, lanes.KEYED, JOINED, ENDED)


@pytest.fixture
def lane() -> Lane:
    return Lane(cast(Any, None), cast(Any, None), cast(Any, None), 1)


def test_every_state_can_be_reached_and_left() -> None:
    states = set(range(len(lanes.STATE_NAMES)))
    assert {state for state, _ in TRANSITIONS} == states == set(TRANSITIONS.values())


def test_the_picture_is_the_table() -> None:
    """The module's docstring draws the table: a row for each state, a column for each event."""
    assert lanes.__doc__ is not None
    names = [name.upper() for name in lanes.STATE_NAMES]
    rows = [line.split() for line in lanes.__doc__.splitlines() if line.strip().split(" ")[0] in names]
    drawn = {
        (names.index(row[0]), event): names.index(cell)
        for row in rows
        for event, cell in zip(EVENTS, row[1:])
        if cell != "-"
    }
    assert drawn == TRANSITIONS


def test_an_answer_to_another_join_than_ours_is_the_servers_error(lane: Lane) -> None:
    lane.state, lane.link = JOINING, cast(Any, object())
    with pytest.raises(RemoteProtocolError) as found:
        lane.joining(JoinedAgain("1", "s", 0))
    assert found.value.code == Close.STATE
    assert lane.state == JOINING


def test_what_is_not_in_the_table_is_our_error(lane: Lane) -> None:
    with pytest.raises(LocalProtocolError, match="keyed on a lane that is resting"):
        lane._move(lanes.KEYED)
