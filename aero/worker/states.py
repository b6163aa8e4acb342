r"""The states of a lane. The table is the whole law; an event that is missing from it is an error of this program.

    state \ event    dial      keyed     joined    ended
    RESTING          DIALLING  -         -         -
    DIALLING         -         JOINING   -         RESTING
    JOINING          -         -         UP        RESTING
    UP               -         -         -         RESTING

``keyed``: both sides have proved themselves, and our JOIN has left; ``joined``: the server answered it. What the server
may say at which time is core/joining.py's.
"""

from __future__ import annotations

from aero.core.codes import Close
from aero.errors import LocalProtocolError

RESTING, DIALLING, JOINING, UP = range(4)
STATE_NAMES = ("resting", "dialling", "joining", "up")

DIAL, KEYED, JOINED, ENDED = "dial", "keyed", "joined", "ended"

TRANSITIONS = {
    (RESTING, DIAL): DIALLING,
    (DIALLING, KEYED): JOINING,
    (DIALLING, ENDED): RESTING,
    (JOINING, JOINED): UP,
    (JOINING, ENDED): RESTING,
    (UP, ENDED): RESTING,
}


def moved(state: int, event: str) -> int:
    """The state after ``event``. Raises LocalProtocolError for what the table does not have."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise LocalProtocolError(Close.STATE, f"{event} on a lane that is {STATE_NAMES[state]}")
    return after
