"""The table of a lane's states is whole, and drawn as it is."""

from __future__ import annotations

import pytest

from aero.errors import LocalProtocolError
from aero.worker import states
from aero.worker.states import DIAL, ENDED, JOINED, KEYED, RESTING, STATE_NAMES, TRANSITIONS, moved


def test_every_state_can_be_reached_and_left() -> None:
    every = set(range(len(STATE_NAMES)))
    assert {state for state, _ in TRANSITIONS} == every == set(TRANSITIONS.values())


def test_the_picture_is_the_table() -> None:
    """The module's docstring draws it: a row for each state, a column for each event."""
    assert states.__doc__ is not None
    names = [name.upper() for name in STATE_NAMES]
    rows = [
        line.split() for line in states.__doc__.splitlines() if line.split()[:1] and line.split()[0] in names
    ]
    drawn = {
        (names.index(row[0]), event): names.index(cell)
        for row in rows
        for event, cell in zip((DIAL, KEYED, JOINED, ENDED), row[1:])
        if cell != "-"
    }
    assert drawn == TRANSITIONS


def test_what_is_not_in_the_table_is_our_error() -> None:
    with pytest.raises(LocalProtocolError, match="keyed on a lane that is resting"):
        moved(RESTING, KEYED)
