"""Invitations: good once, for a time and for three tries; what becomes of each is told to who has its code alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from aero.core.codes import Close
from aero.core.handshake import INVITED, NEXT_USER
from aero.core.joining import JoinInvited, Welcome
from aero.core.spake2plus import Verifier
from aero.errors import ConfigError, Rejected
from aero.server.links import invitations as module
from aero.server.links.codes import Basis
from aero.server.links.invitations import OPEN, REMEMBERED, REMEMBERED_S, Invitations
from aero.server.links.naming import invited_by, is_credential, user_of
from aero.server.links.words import WORDS, phrase
from aero.server.store import credentials as store
from aero.server.store.credentials import CredentialTable
from aero.server.store.database import Database
from aero.server.watch.events import Events

VERIFIER = Verifier.of(5, 7).text
OTHER = Verifier.of(8, 9).text


class House:
    """Invitations with a database of their own, a clock that the test moves, and no handshakes."""

    def __init__(self, state: str) -> None:
        self.now = 1000.0
        self.database = Database(state)
        self.credentials = CredentialTable(self.database)
        self.logins: dict[str, Basis] = {}
        self.dismissed: list[str] = []
        self.forbidden = ""
        self.events = Events()
        self.invitations = Invitations(self, self.events, lambda: self.now)

    def admit(self, login: str, secret: Basis, verifier: Verifier) -> None:
        assert verifier.text == secret.verifier, "no code is kept"
        self.logins[login] = secret

    def dismiss(self, login: str, why: str) -> None:
        self.logins.pop(login, None)
        self.dismissed.append(login)

    def why_not(self, user: str, tag: str) -> str:
        return self.forbidden

    def invite(self, **other: Any) -> str:
        """An invitation; the name under which its code is proved."""
        asked: dict[str, Any] = {"user": "ci", "tag": "nas", "may": "", "lasts_s": 600, "words": 2, **other}
        made, code = self.invitations.invite(**asked)
        assert code.split("-")[0] == str(made.number)
        return made.login

    def accept(self, login: str, name: str = "k3j2x9ab", verifier: str = VERIFIER) -> Welcome:
        return self.invitations.accept(login, JoinInvited("1", "box", name, verifier), "192.0.2.1:5", "1")

    def states(self) -> list[str]:
        return [each.over for each in self.invitations]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(
        module, "made", lambda secrets: tuple(Verifier.of(2, 3 + number) for number, _ in enumerate(secrets))
    )
    made = House(str(tmp_path))
    yield made
    made.database.close()


def test_names_of_what_is_proved() -> None:
    assert (user_of("ci+k3j2"), user_of("ci"), user_of(""), user_of(NEXT_USER)) == ("ci", "ci", "", "")
    assert user_of(INVITED + "4") == ""
    assert (invited_by(INVITED + "4"), invited_by("ci+4"), invited_by(INVITED), invited_by(INVITED + "²")) == (
        4, 0, 0, 0,
    )  # fmt: skip
    assert invited_by(INVITED + "9" * 30) == 0
    assert is_credential("ci+k3j2") and not any(map(is_credential, ("", "ci", NEXT_USER, INVITED + "4")))


def test_words_are_told_apart_and_chosen_by_lot() -> None:
    assert len(set(WORDS)) == len({word[:4] for word in WORDS}) == 512
    assert all(word.isascii() and word.islower() and 4 <= len(word) <= 8 for word in WORDS)
    assert len({phrase(2) for _ in range(100)}) > 90
    assert len(phrase(4).split("-")) == 4


def test_an_invitation_becomes_a_credential_once(house: House) -> None:
    login = house.invite(may="127.0.0.1:22")
    welcome = house.accept(login)
    assert (welcome.login, welcome.tag, welcome.allow) == ("ci+k3j2x9ab", "nas", "127.0.0.1:22")
    assert house.logins["ci+k3j2x9ab"] == Basis(verifier=VERIFIER)
    assert house.accept(login) == welcome, "its answer was lost: the same one asks again"
    for name, verifier in (("k3j2x9ab", OTHER), ("other", OTHER)):
        with pytest.raises(Rejected, match="was used already") as refused:
            house.accept(login, name, verifier)
        assert refused.value.code == Close.DENIED
    assert len(list(house.credentials)) == 1
    again = CredentialTable(Database(house.database._directory))
    assert [each.login for each in again] == ["ci+k3j2x9ab"], "it was on disk before it was answered"


def test_two_at_once_are_two(house: House) -> None:
    first, second = house.invite(), house.invite(tag="lab")
    assert first != second
    both = [gevent.spawn(house.accept, login, name) for login, name in ((second, "bbbb"), (first, "aaaa"))]
    gevent.joinall(both, raise_error=True)
    assert [(each.value.login, each.value.tag) for each in both] == [("ci+bbbb", "lab"), ("ci+aaaa", "nas")]
    with pytest.raises(Rejected, match="there is a credential of this name"):
        house.accept(house.invite(), "aaaa")


def test_of_two_who_have_one_code_one_gets_in(house: House) -> None:
    login = house.invite()
    both = [gevent.spawn(house.accept, login, name, OTHER) for name in ("aaaa", "bbbb")]
    gevent.joinall(both)
    assert [each.successful() for each in both] == [True, False]
    assert "used already" in str(both[1].exception)


def test_three_wrong_codes_end_one_and_no_other(house: House) -> None:
    login, other = house.invite(), house.invite()
    house.invitations.guessed("ci", "192.0.2.9:1")
    house.invitations.guessed(INVITED + "77", "192.0.2.9:1")
    for _ in range(5):
        house.invitations.guessed(login, "192.0.2.9:1")
    assert [event.what for event in house.events.past if event.fault] == ["invitation ended"]
    with pytest.raises(Rejected, match="ended after three wrong codes"):
        house.accept(login)
    assert house.accept(other)


def test_one_expires_and_is_forgotten_a_day_later(house: House) -> None:
    login = house.invite(lasts_s=60)
    house.now += 60
    with pytest.raises(Rejected, match="has expired"):
        house.accept(login)
    assert house.states() == ["expired"]
    house.now += REMEMBERED_S
    assert house.states() == []
    assert house.dismissed == [login]
    with pytest.raises(Rejected, match="is over"):
        house.accept(login)


def test_withdrawn_before_and_after(house: House) -> None:
    login = house.invite()
    number = login[len(INVITED) :]
    assert house.invitations.withdraw(number)
    assert not house.invitations.withdraw(number), "once is enough"
    with pytest.raises(Rejected, match="was withdrawn"):
        house.accept(login)
    used = house.invite()
    house.accept(used)
    assert not house.invitations.withdraw(used[len(INVITED) :]), "it is used: the credential is what is left"
    assert house.invitations.withdraw("ci+k3j2x9ab")
    assert house.dismissed == ["ci+k3j2x9ab"] and not list(house.credentials)
    with pytest.raises(Rejected, match="was used already"):
        house.accept(used)
    for nothing in ("ci+k3j2x9ab", "999", "x", "", "+invited.1"):
        assert not house.invitations.withdraw(nothing)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"tag": "a b"}, "not a name"),
        ({"may": "nowhere"}, "not HOST:PORT"),
        ({"lasts_s": 59}, "for is 59, write 60 to"),
        ({"lasts_s": 604801}, "for is 604801"),
        ({"words": 1}, "words is 1, write 2 to 6"),
        ({"words": 7}, "words is 7"),
    ],
)
def test_what_cannot_be_asked_for(house: House, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        house.invite(**asked)
    assert not house.logins


def test_what_the_rules_forbid_now_or_by_then(house: House) -> None:
    login = house.invite()
    house.forbidden = "the rules of user ci allow no tag nas"
    for attempt in (house.invite, lambda: house.accept(login)):
        with pytest.raises(Rejected, match="allow no tag nas"):
            attempt()
    house.forbidden = ""
    assert house.accept(login)


def test_a_verifier_that_is_none_leaves_the_invitation_good(house: House) -> None:
    login = house.invite()
    for wrong in ("", "spake2plus$", VERIFIER[:-4] + "AAAA", "x" * 200):
        with pytest.raises(Rejected, match="verifier is none"):
            house.accept(login, verifier=wrong)
    assert house.accept(login)


def test_bounds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(OPEN):
        house.invite()
    with pytest.raises(Rejected, match=f"{OPEN} invitations are open"):
        house.invite()
    monkeypatch.setattr(module, "OPEN", 10_000)
    monkeypatch.setattr(store, "PER_USER", 1)
    logins = [house.invite() for _ in range(REMEMBERED + 8 - OPEN)]
    house.accept(logins[0])
    with pytest.raises(Rejected, match="user ci has 1 credentials, the most"):
        house.accept(logins[1], "other")
    house.now += 600
    assert len(house.states()) == REMEMBERED
    assert len(house.logins) == REMEMBERED + 1


def test_without_a_state_nobody_is_invited() -> None:
    house = House("")
    with pytest.raises(Rejected, match="keeps no state"):
        house.invite()
