"""The server's codes: one, two for a time, users' own, and what of what was proved still counts."""

from __future__ import annotations

import pytest

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER, ServerHandshake, WorkerHandshake
from aero.core.spake2plus import Password, Verifier
from aero.core.stretch import stretch
from aero.errors import SecurityError
from aero.server.links.codes import Basis, Codes, plain


def fast(secrets: tuple[Basis, ...]) -> tuple[Verifier, ...]:
    """Verifiers at little cost."""
    return tuple(Verifier.of(2 + sum(each.code.encode()), 3 + sum(each.user.encode())) for each in secrets)


def test_one_code() -> None:
    codes = Codes(plain("old", ""))
    assert codes.counts(codes.verifier(""))
    assert codes.verifier(NEXT_USER) is codes.verifier("anybody")
    assert not codes.counts(codes.verifier("anybody"))
    assert codes.refusal == Close.AUTH


def test_a_change_with_both_codes_for_a_time() -> None:
    codes = Codes(plain("old", ""))
    old = codes.verifier("")
    codes.change(plain("old", "new"), fast)
    new = codes.verifier(NEXT_USER)
    assert codes.refusal == Close.AUTH_NEXT
    assert codes.counts(old)
    assert codes.counts(new)
    assert codes.change(plain("new", ""), fast) == {""}
    assert codes.verifier("") is new, "links that have proved it stay"
    assert not codes.counts(old)
    assert codes.refusal == Close.AUTH


def test_a_change_at_once() -> None:
    codes = Codes(plain("old", ""))
    old = codes.verifier("")
    codes.change(plain("new", ""), fast)
    assert not codes.counts(old)
    assert codes.counts(codes.verifier(""))


def test_the_same_code_twice_is_one() -> None:
    codes = Codes(plain("", ""))
    codes.change(plain("a", "a"), fast)
    assert codes.verifier("") is codes.verifier(NEXT_USER)


def test_a_user_whose_code_changes_or_who_is_removed_and_nobody_else() -> None:
    codes = Codes({})
    codes.change({"ci": Basis("a", "ci"), "nas": Basis("b", "nas"), "db": Basis("c", "db")}, fast)
    nas = codes.verifier("nas")
    assert codes.change({"ci": Basis("other", "ci"), "nas": Basis("b", "nas")}, fast) == {"ci", "db"}
    assert codes.verifier("nas") is nas
    assert codes.verifier("") is codes.verifier("db"), "nobody has the plain code"


def test_one_name_more_and_less() -> None:
    codes = Codes({"ci": Basis("a", "ci")})
    ci, more = codes.verifier("ci"), Verifier.of(5, 7)
    codes.add("ci+k3j2", Basis(verifier=more.text), more)
    assert codes.verifier("ci+k3j2") is more and codes.counts(more)
    codes.remove("ci+k3j2")
    codes.remove("ci+k3j2")
    assert not codes.counts(more) and codes.counts(ci)
    assert codes.verifier("ci+k3j2") is codes.verifier("nobody")


def test_what_comes_and_goes_while_verifiers_are_made() -> None:
    codes = Codes({"ci": Basis("a", "ci"), "ci+gone": Basis("b", "+gone")})
    more = Verifier.of(5, 7)

    def make(secrets: tuple[Basis, ...]) -> tuple[Verifier, ...]:
        codes.add("ci+more", Basis(verifier=more.text), more)
        codes.remove("ci+gone")
        return fast(secrets)

    wanted = {"ci": Basis("a", "ci"), "ci+gone": Basis("b", "+gone"), "nas": Basis("c", "nas")}
    gone = codes.change(wanted, make)
    assert codes.verifier("ci+more") is more and codes.counts(more)
    assert codes.verifier("ci+gone") is codes.verifier("nobody") and "ci+more" not in gone
    assert codes.counts(codes.verifier("nas"))


def test_a_verifier_as_text_is_the_verifier_and_a_changed_one_is_none() -> None:
    text = Verifier.of(5, 7).text
    codes = Codes({"ci": Basis(verifier=text)})
    assert codes.verifier("ci").text == text
    before = codes.verifier("ci")
    with pytest.raises(ValueError, match="not a verifier"):
        codes.change({"ci": Basis(verifier=text[:-9] + "AAAAAAAAA")})
    assert codes.verifier("ci") is before


def test_the_line_of_a_users_file_lets_its_thief_in_by_nothing_that_it_has() -> None:
    password = Password(*stretch("the code", "ci"))
    verifier = Verifier.read(Verifier.of(password.w0, 7).text)
    stolen = int.from_bytes(verifier.text.encode()[-30:], "big")
    for w1 in (verifier.w0, stolen, 1):  # what a thief can put in the place of the w1 that he lacks
        ours = WorkerHandshake(Password(verifier.w0, w1), "ci", bytes(range(48)))
        theirs = ServerHandshake(lambda _: verifier, bytes(range(1, 49)))
        proof = ours.receive(theirs.receive(ours.start()))
        with pytest.raises(SecurityError, match="wrong auth code"):
            theirs.receive(proof)
    assert "the code" not in verifier.text
