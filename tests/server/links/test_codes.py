"""The server's codes: one, two for a time, and what of what was proved still counts."""

from __future__ import annotations

from aero.core.codes import Close
from aero.core.handshake import NEXT_USER
from aero.server.links.codes import Codes


def fast(code: str) -> tuple[int, int]:
    """Scalars at no cost."""
    return 2 + sum(code.encode()), 3 + sum(code.encode())


def test_one_code() -> None:
    codes = Codes("old", "")
    assert codes.counts(codes.verifier(""))
    assert codes.verifier(NEXT_USER) is codes.verifier("anybody")
    assert not codes.counts(codes.verifier("anybody"))
    assert codes.refusal == Close.AUTH


def test_a_change_with_both_codes_for_a_time() -> None:
    codes = Codes("old", "")
    old = codes.verifier("")
    codes.change("old", "new", fast)
    new = codes.verifier(NEXT_USER)
    assert codes.refusal == Close.AUTH_NEXT
    assert codes.counts(old)
    assert codes.counts(new)
    codes.change("new", "", fast)
    assert codes.verifier("") is new, "links that have proved it stay"
    assert not codes.counts(old)
    assert codes.refusal == Close.AUTH


def test_a_change_at_once() -> None:
    codes = Codes("old", "")
    old = codes.verifier("")
    codes.change("new", "", fast)
    assert not codes.counts(old)
    assert codes.counts(codes.verifier(""))


def test_the_same_code_twice_is_one() -> None:
    codes = Codes("", "")
    codes.change("a", "a", fast)
    assert codes.verifier("") is codes.verifier(NEXT_USER)
