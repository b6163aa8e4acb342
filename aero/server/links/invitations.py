"""Invitations: short codes, each good for one credential, for a time, and for a few guesses. In memory alone.

What an invitation is good for was checked when it was made, and is checked again when it is used. One that is over is
remembered for a while, so that whoever has its code hears what became of it; whoever guesses hears the same of all
that are not. SPAKE2+ makes a short code safe: each try at one takes a handshake, and the server counts those.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, time
from typing import Any, Callable, Protocol

from aero import logs
from aero.address import check_tag
from aero.config import values
from aero.core.codes import Close
from aero.core.handshake import INVITED
from aero.core.joining import JoinInvited, Welcome
from aero.core.spake2plus import Verifier
from aero.core.stretch import MARK
from aero.errors import ConfigError, Rejected
from aero.net.semaphore import Semaphore
from aero.net.threads import apart
from aero.server.links.codes import Basis, made
from aero.server.links.naming import invited_by, is_credential
from aero.server.store.credentials import Credential, CredentialTable

#: Wrong proofs that end an invitation: three guesses among 262,144 codes of two words.
TRIES = 3
WORDS = (2, 6)
LASTS_S = (60, 7 * 24 * 3600)
#: More at once are no invitations but a mistake in a script.
OPEN = 64
#: Of those that are over so many are remembered, for a day.
REMEMBERED = 128
REMEMBERED_S = 24 * 3600
#: How long a joiner waits for the disk.
WRITTEN_S = 5.0
#: Numbers have as few digits as leave a free one by lot hard to guess, and never more than four.
NUMBERS = (9, 99, 999)

USED, EXPIRED, WITHDRAWN, GUESSED = "used", "expired", "withdrawn", "three wrong codes"
#: What somebody hears who has the right code of an invitation that is over.
OVER = {
    USED: "this invitation was used already",
    EXPIRED: "this invitation has expired",
    WITHDRAWN: "this invitation was withdrawn",
    GUESSED: "this invitation ended after three wrong codes",
}


class Invitation:
    """One of them. ``over`` is "" while it is good."""

    def __init__(self, number: int, user: str, tag: str, may: str, lasts_s: float, now: float) -> None:
        """``now``: on the monotonic clock; ``expires_at``, in Unix seconds, is for people."""
        self.number = number
        self.user = user
        self.tag = tag
        self.may = may
        self.until = now + lasts_s
        self.expires_at = time() + lasts_s
        self.tries = TRIES
        self.over = ""
        self.over_at = 0.0
        self.given: Credential | None = None  # what it was used for

    @property
    def login(self) -> str:
        """The name under which its code is proved."""
        return f"{INVITED}{self.number}"


class LoginBook(Protocol):
    """Who may log in (links/roll.py)."""

    credentials: CredentialTable

    def admit(self, login: str, secret: Basis, verifier: Verifier) -> None:
        """One more name under which something can be proved."""

    def dismiss(self, login: str, why: str) -> None:
        """A name less; who has proved something under it is sent away."""

    def why_not(self, user: str, tag: str) -> str:
        """Why a user's workers may not have a tag; "" where they may."""


class Told(Protocol):
    """Where events go."""

    def emit(self, what: str, **fields: Any) -> None:
        """Something happened that is as it should be."""

    def fault(self, what: str, **fields: Any) -> None:
        """Something happened that people should look at."""


class Invitations:
    """All of them, and the credentials that came of some."""

    def __init__(self, roll: LoginBook, events: Told, clock: Callable[[], float] = monotonic) -> None:
        """``clock``: seconds, steady."""
        self._roll = roll
        self._events = events
        self._clock = clock
        self._by_number: dict[int, Invitation] = {}
        self._turn = Semaphore()  # one is made at a time: making one waits for its code to be stretched

    def __iter__(self) -> Iterator[Invitation]:
        """Those that are good, and those that are remembered."""
        self._look()
        return iter(list(self._by_number.values()))

    @property
    def credentials(self) -> CredentialTable:
        """What came of those that were used."""
        return self._roll.credentials

    # The operator's side

    def invite(self, user: str, tag: str, may: str, lasts_s: int, words: int) -> tuple[Invitation, str]:
        """A new invitation, and its code, which is kept nowhere. Blocks its greenlet for some 50 ms.

        Raises ConfigError for what cannot be, Rejected for what may not be now.
        """
        self._check(user, tag)
        tag = check_tag(tag)
        may = str(values.allowed(may)) if may else ""
        for what, value, (low, high) in (("for", lasts_s, LASTS_S), ("words", words, WORDS)):
            if not low <= value <= high:
                raise ConfigError(f"{what} is {value}, write {low} to {high}")
        with self._turn:
            self._check(user, tag)
            if not self.credentials.kept:
                raise Rejected(
                    Close.DENIED, "the server keeps no state, which credentials would be part of", final=True
                )
            if sum(not each.over for each in self) >= OPEN:
                raise Rejected(
                    Close.LIMIT,
                    f"{OPEN} invitations are open, the most there may be; aero invites",
                    final=True,
                )
            invitation = Invitation(self._number(), user, tag, may, lasts_s, self._clock())
            from aero.server.links.words import phrase

            chosen = phrase(words)
            secret = Basis(chosen, invitation.login)
            (verifier,) = apart(made, (secret,))
            # Of the code only what lets nobody in is kept, as of all others.
            self._roll.admit(invitation.login, Basis(verifier=verifier.text), verifier)
            self._by_number[invitation.number] = invitation
        self._events.emit(
            "invitation made", number=invitation.number, user=user, tag=tag, may=may or "anywhere"
        )
        return invitation, f"{invitation.number}-{chosen}"

    def withdraw(self, name: str) -> bool:
        """An invitation by its number, or a credential by its login, counts no more. False where there is none."""
        if is_credential(name):
            if self.credentials.remove(name) is None:
                return False
            self._roll.dismiss(name, "its credential was withdrawn")
            self._events.emit("credential withdrawn", login=name)
            return True
        invitation = self._by_number.get(invited_by(INVITED + name))
        self._look()
        if invitation is None or invitation.over:
            return False
        self._end(invitation, WITHDRAWN)
        self._events.emit("invitation withdrawn", number=invitation.number)
        return True

    def _check(self, user: str, tag: str) -> None:
        why = self._roll.why_not(user, tag) or self.credentials.full(user)
        if why:
            raise Rejected(Close.DENIED, why, final=True)

    def _number(self) -> int:
        from random import SystemRandom

        for most in NUMBERS:
            free = [number for number in range(1, most + 1) if number not in self._by_number]
            if len(free) > most // 2:
                break
        return SystemRandom().choice(free)

    def _end(self, invitation: Invitation, how: str) -> None:
        invitation.over, invitation.over_at = how, self._clock()
        over = [each for each in self._by_number.values() if each.over]
        if len(over) > REMEMBERED:
            self._forget(min(over, key=lambda each: each.over_at))

    def _forget(self, invitation: Invitation) -> None:
        del self._by_number[invitation.number]
        self._roll.dismiss(invitation.login, "the invitation is over")

    def _look(self) -> None:
        """Time has passed."""
        now = self._clock()
        for each in list(self._by_number.values()):
            if not each.over and now >= each.until:
                self._end(each, EXPIRED)
            elif each.over and now >= each.over_at + REMEMBERED_S:
                self._forget(each)

    # The joiner's side

    def guessed(self, login: str, address: str) -> None:
        """Somebody has proved something wrong under a name, which is perhaps an invitation's."""
        invitation = self._by_number.get(invited_by(login))
        self._look()
        if invitation is None or invitation.over:
            return
        invitation.tries -= 1
        if not invitation.tries:
            self._end(invitation, GUESSED)
            self._events.fault(
                "invitation ended", number=invitation.number, tag=invitation.tag, address=address, why=GUESSED
            )

    def accept(self, login: str, join: JoinInvited, address: str, version: str) -> Welcome:
        """Gives a credential to somebody who has proved an invitation's code. Blocks its greenlet until that is kept.

        Asked again with the same id and verifier, it answers the same. Raises Rejected.
        """
        self._look()
        invitation = self._by_number.get(invited_by(login))
        if invitation is None:
            raise Rejected(Close.DENIED, "this invitation is over", final=True)
        name = f"{invitation.user}{MARK}{join.id}"
        given = invitation.given
        again = given is not None and given.verifier == join.verifier and self.credentials.get(name) is given
        if invitation.over and not again:
            raise Rejected(Close.DENIED, OVER[invitation.over], final=True)
        if not again:
            self._check(invitation.user, invitation.tag)
            if self.credentials.get(name) is not None:
                raise Rejected(Close.DENIED, "there is a credential of this name", final=False)
            try:
                verifier = Verifier.read(join.verifier)
            except ValueError:
                raise Rejected(Close.FRAME, "JOIN: verifier is none", final=True) from None
            given = Credential(
                name, invitation.tag, invitation.may, verifier.text, join.host, address, int(time())
            )
            invitation.given = given
            self._end(invitation, USED)
            self.credentials.add(given)
            self._roll.admit(name, Basis(verifier=verifier.text), verifier)
            self._events.emit(
                "invitation used",
                number=invitation.number,
                login=name,
                tag=invitation.tag,
                host=logs.clean(join.host),
                address=address,
            )
        if not self.credentials.written(WRITTEN_S):
            raise Rejected(Close.INTERNAL, "the server cannot write its state; try again", final=False)
        return Welcome(version, name, invitation.tag, invitation.may)
