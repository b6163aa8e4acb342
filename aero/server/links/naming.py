"""The names under which codes are proved, and whose each is. Pure.

"" is the plain code, `NEXT_USER` the one that the server changes to; a user's own code is proved under his name, one of
his credentials under ``USER+ID``, and the code of an invitation under ``+invited.NUMBER``.
"""

from __future__ import annotations

from aero.core.handshake import INVITED
from aero.core.stretch import MARK


def user_of(login: str) -> str:
    """The user who has proved something under a name; "" for those who have the plain code, or none yet."""
    return login.partition(MARK)[0]


def invited_by(login: str) -> int:
    """The number of the invitation whose code was proved under a name; 0: it was no invitation's."""
    number = login[len(INVITED) :] if login.startswith(INVITED) else ""
    return int(number) if number.isascii() and number.isdecimal() and len(number) <= 4 else 0


def is_credential(login: str) -> bool:
    """Whether what was proved under a name is one of a user's credentials."""
    return login.find(MARK) > 0
