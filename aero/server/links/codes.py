"""The codes that a worker can prove: the server's own, the one that it is about to change to, and every user's.

Knows verifiers and nothing of connections or rules. A verifier is one object as long as its code counts, so a link that
keeps the verifier that it has proved can be asked whether that still counts. All verifiers are made before they are
asked for: one that is made at its first use would tell by its time that there is such a user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Callable, NamedTuple

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER
from aero.core.spake2plus import Verifier
from aero.core.stretch import stretch


class Basis(NamedTuple):
    """What a verifier is made of: a ``code`` and the name that it was chosen for, or a ``verifier`` as text."""

    code: str = ""
    user: str = ""
    verifier: str = ""


#: Secrets to their verifiers, in the same order; 37 ms of work for each code, which may be another thread's.
Make = Callable[[tuple[Basis, ...]], "tuple[Verifier, ...]"]


def made(secrets: tuple[Basis, ...]) -> tuple[Verifier, ...]:
    """The verifiers of some secrets. Raises ValueError for a text that is no verifier."""
    return tuple(
        Verifier.read(each.verifier) if each.verifier else Verifier.of(*stretch(each.code, each.user))
        for each in secrets
    )


def plain(auth: str, auth_next: str) -> dict[str, Basis]:
    """The codes that belong to no user; ``auth_next``: "" for none."""
    return {"": Basis(auth), **({NEXT_USER: Basis(auth_next)} if auth_next else {})}


class Codes:
    """What handshakes are checked against, by the name that the other end says."""

    def __init__(self, wanted: Mapping[str, Basis]) -> None:
        """``wanted``: secrets by the names under which they are proved. Raises ValueError."""
        self._nobody = Verifier.of(*(int.from_bytes(os.urandom(31), "big") + 1 for _ in range(2)))
        self._verifiers: dict[str, tuple[Basis, Verifier]] = {}
        self._counting: set[int] = set()
        self.change(wanted)

    def change(self, wanted: Mapping[str, Basis], make: Make = made) -> set[str]:
        """Other secrets from now on; the names under which something was proved that counts no more.

        A secret that counted before, under whatever name, keeps its verifier. Raises ValueError, and changes nothing.
        """
        before = dict(self._verifiers)
        found = dict(before.values())
        missing = tuple(dict.fromkeys(each for each in wanted.values() if each not in found))
        found.update(zip(missing, make(missing)))
        # ``make`` may have let others run: what they have added stays, and what they have removed is gone.
        since = {name: entry for name, entry in self._verifiers.items() if name not in before}
        removed = before.keys() - self._verifiers.keys()
        kept = {name: (secret, found[secret]) for name, secret in wanted.items() if name not in removed}
        self._verifiers = {**kept, **since}
        self._counting = {id(verifier) for _, verifier in self._verifiers.values()}
        return {name for name, (_, verifier) in before.items() if not self.counts(verifier)}

    def add(self, name: str, secret: Basis, verifier: Verifier) -> None:
        """One more name, whose verifier is made already."""
        self._verifiers[name] = (secret, verifier)
        self._counting.add(id(verifier))

    def remove(self, name: str) -> None:
        """A name less; what was proved under it counts no more. Harmless where there is none."""
        entry = self._verifiers.pop(name, None)
        if entry is not None:
            self._counting = {id(verifier) for _, verifier in self._verifiers.values()}

    def verifier(self, name: str) -> Verifier:
        """What is to be proved under a name; what nobody can prove where there is no such name."""
        return self._verifiers[name][1] if name in self._verifiers else self._nobody

    def counts(self, verifier: Verifier) -> bool:
        """Whether who has proved this would be let in today."""
        return id(verifier) in self._counting

    @property
    def refusal(self) -> int:
        """The close code for a wrong proof: whether there is another code to try."""
        return Close.AUTH_NEXT if NEXT_USER in self._verifiers else Close.AUTH
