"""The codes that a worker can prove: the server's own, and the one that it is about to change to (``--auth-next``).

Knows verifiers and nothing of connections. A verifier is one object as long as its code counts, so a link that keeps
the verifier that it has proved can be asked whether that still counts.
"""

from __future__ import annotations

import os
from typing import Callable

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER
from aero.core.spake2plus import Verifier
from aero.core.stretch import stretch

#: Code → the two scalars of `stretch`; some 50 ms of work, which may be another thread's.
Stretch = Callable[[str], tuple[int, int]]


def stretched(code: str) -> tuple[int, int]:
    """The scalars of a code."""
    return stretch(code, "")


class Codes:
    """What handshakes are checked against, by the user's name."""

    def __init__(self, auth: str, auth_next: str) -> None:
        """``auth_next``: "" for none."""
        self._nobody = Verifier.of(*(int.from_bytes(os.urandom(31), "big") + 1 for _ in range(2)))
        self._verifiers: dict[str, tuple[str, Verifier]] = {}  # by user, with their codes
        self.change(auth, auth_next)

    def change(self, auth: str, auth_next: str, stretch: Stretch = stretched) -> None:
        """Other codes from now on. One that counted before, under whatever name, keeps its verifier."""
        known = dict(self._verifiers.values())
        wanted = {"": auth, **({NEXT_USER: auth_next} if auth_next else {})}
        found = {
            code: known[code] if code in known else Verifier.of(*stretch(code)) for code in wanted.values()
        }
        self._verifiers = {user: (code, found[code]) for user, code in wanted.items()}

    def verifier(self, user: str) -> Verifier:
        """The verifier of a user; one that nobody can prove for a user that there is not."""
        return self._verifiers[user][1] if user in self._verifiers else self._nobody

    def counts(self, verifier: Verifier) -> bool:
        """Whether who has proved this would be let in today."""
        return any(verifier is each for _, each in self._verifiers.values())

    @property
    def refusal(self) -> int:
        """The close code for a wrong proof: whether there is another code to try."""
        return Close.AUTH_NEXT if NEXT_USER in self._verifiers else Close.AUTH
