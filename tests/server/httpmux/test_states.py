"""The table of a visitor's states: every state can be reached and left, and a connection that is over stays so."""

from __future__ import annotations

from aero.server.httpmux import states
from aero.server.httpmux.states import CLOSED, GONE, TRANSITIONS, WAITING

STATES = {
    states.WAITING,
    states.HELD,
    states.ASKING,
    states.ANSWERING,
    states.RAW,
    states.REFUSING,
    states.LINGERING,
}


def test_every_state_is_reached_and_can_end() -> None:
    reached, fresh = {WAITING}, {WAITING}
    while fresh:
        fresh = {to for (state, _), to in TRANSITIONS.items() if state in fresh} - reached
        reached |= fresh
    assert reached == STATES | {CLOSED}
    assert all(TRANSITIONS[state, GONE] == CLOSED for state in STATES), "a socket may break at any time"
    assert not any(state == CLOSED for state, _ in TRANSITIONS)


def test_the_picture_names_every_state() -> None:
    assert states.__doc__ is not None
    for state in STATES | {CLOSED}:
        assert f"    {state.upper()} " in states.__doc__
