"""The name under which a worker proves its code. Knows no link and no clock.

A server that changes its code (``--auth-next``) takes two for a time: its own under the name "", the next one under
`NEXT_USER`. A worker has one code and does not know which of the two it is. It begins with "", and tries the other name
at once where the server says that there is one, or where the name that was good before is good no more. A user has one
name.
"""

from __future__ import annotations

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER
from aero.errors import AeroError, Rejected


class Naming:
    """The name of one lane's next try."""

    def __init__(self, user: str = "") -> None:
        """``user``: whose code it is; "": the code is for all."""
        self.user = user
        self._ours = user != ""
        self.proved = False  # whether the code was good under this name

    def other(self, error: AeroError) -> bool:
        """A try ended with an error: whether the other name is to be tried at once, which is ``user`` by then."""
        if self._ours or not isinstance(error, Rejected) or error.code not in (Close.AUTH, Close.AUTH_NEXT):
            return False
        was_good, self.proved = self.proved, False
        if self.user == NEXT_USER:
            self.user = ""
            return was_good
        if error.code == Close.AUTH_NEXT:
            self.user = NEXT_USER
            return True
        return False
