"""The names under which codes are proved, and whose each is. Pure.

"" is the plain code, `NEXT_USER` the one that the server changes to; a user's own code is proved under his name, and
one of his credentials under ``USER+ID``.
"""

from __future__ import annotations

from aero.core.handshake import NEXT_USER

#: What stands between a user's name and the name of one of its credentials.
MARK = "+"


def user_of(login: str) -> str:
    """The user who has proved something under a name; "" for those who have the plain code."""
    return "" if login == NEXT_USER else login.partition(MARK)[0]
