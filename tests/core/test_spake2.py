"""SPAKE2 against the RFC's own vectors, against itself, and against shares that no honest peer sends."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.core import spake2
from aero.core.spake2 import Keys, Password, Spake2, stretch
from aero.errors import SecurityError

RFC = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9382_spake2_p256.json").read_text())
FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PASSWORD = Password(0xC0DE)


def scalar_bytes(scalar: int) -> bytes:
    """The random bytes that lead to this private scalar."""
    return (scalar - 1).to_bytes(48, "big")


def run(role: str, password: Password = PASSWORD) -> Spake2:
    return Spake2(role, password, b"worker", b"server", os.urandom(48))


def point_bytes(x: int, y: int) -> bytes:
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


@pytest.mark.parametrize("vector", RFC["vectors"], ids=lambda v: f"A={v['A']!r},B={v['B']!r}")
def test_rfc9382_vectors(vector: dict[str, str]) -> None:
    password = Password(int(vector["w"], 16))
    identities = vector["A"].encode(), vector["B"].encode()
    ours = Spake2("A", password, *identities, scalar_bytes(int(vector["x"], 16)))
    theirs = Spake2("B", password, *identities, scalar_bytes(int(vector["y"], 16)))
    assert ours.share.hex() == vector["pA"]
    assert theirs.share.hex() == vector["pB"]
    secret, by_a, by_b = (bytes.fromhex(vector[name]) for name in ("Ke", "cA", "cB"))
    assert ours.finish(theirs.share, b"") == Keys(secret, by_a, by_b)
    assert theirs.finish(ours.share, b"") == Keys(secret, by_b, by_a)


@pytest.mark.parametrize(("name", "point"), [("M", spake2._M), ("N", spake2._N)])
def test_the_fixed_points_are_the_rfcs(name: str, point: spake2.EccPoint) -> None:
    compressed = bytes.fromhex(RFC[name])
    encoded = spake2._encode(point)
    assert encoded[1:33] == compressed[1:]
    assert encoded[64] % 2 == compressed[0] - 2


def test_one_code_gives_both_ends_the_same_keys() -> None:
    ours, theirs = run("A"), run("B")
    a, b = ours.finish(theirs.share, b"link"), theirs.finish(ours.share, b"link")
    assert a == Keys(b.secret, b.their_confirmation, b.our_confirmation)
    assert (len(a.secret), len(a.our_confirmation), len(a.their_confirmation)) == (16, 32, 32)


def test_every_run_has_fresh_keys() -> None:
    theirs = run("B")
    assert run("A").finish(theirs.share, b"").secret != run("A").finish(theirs.share, b"").secret


def test_wrong_code_shows_in_the_confirmation() -> None:
    ours, theirs = run("A"), run("B", Password(0xC0DF))
    a, b = ours.finish(theirs.share, b""), theirs.finish(ours.share, b"")
    assert a.secret != b.secret
    assert a.their_confirmation != b.our_confirmation
    assert b.their_confirmation != a.our_confirmation


def test_downgrade_shows_in_the_confirmation() -> None:
    ours, theirs = run("A"), run("B")
    a, b = ours.finish(theirs.share, b"v2"), theirs.finish(ours.share, b"v1")
    assert a.their_confirmation != b.our_confirmation


def test_changed_identity_shows_in_the_confirmation() -> None:
    ours = run("A")
    theirs = Spake2("B", PASSWORD, b"worker", b"another server", os.urandom(48))
    a, b = ours.finish(theirs.share, b""), theirs.finish(ours.share, b"")
    assert a.their_confirmation != b.our_confirmation


def test_our_own_share_sent_back_proves_nothing() -> None:
    ours = run("A")
    keys = ours.finish(ours.share, b"")
    assert keys.our_confirmation != keys.their_confirmation


GENERATOR = spake2._encode(spake2._G)


@pytest.mark.parametrize(
    "share",
    [
        b"",
        b"\x00",
        b"\x04",
        GENERATOR[:-1],
        GENERATOR + b"\x00",
        GENERATOR[1:],
        bytes(65),
        b"\x02" + GENERATOR[1:33],
        b"\x02" + GENERATOR[1:],
        b"\x06" + GENERATOR[1:],
        point_bytes(0, 0),
        point_bytes(0, 1),
        point_bytes(FIELD, FIELD),
        point_bytes(FIELD, 0),
        point_bytes(2**256 - 1, 2**256 - 1),
    ],
    ids=lambda share: share.hex() or "empty",
)
@pytest.mark.parametrize("role", ["A", "B"])
def test_share_that_is_no_point_is_refused(role: str, share: bytes) -> None:
    with pytest.raises(SecurityError):
        run(role).finish(share, b"")


def test_coordinate_beyond_the_field_is_refused_though_it_means_a_point() -> None:
    """The curve's point with x = 5 has an x that can also be written as 5 + p within 32 bytes."""
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    y = pow(5**3 - 3 * 5 + b, (FIELD + 1) // 4, FIELD)
    run("A").finish(point_bytes(5, y), b"")
    with pytest.raises(SecurityError):
        run("A").finish(point_bytes(5 + FIELD, y), b"")


@pytest.mark.parametrize(("role", "peer"), [("A", "B"), ("B", "A")])
def test_share_that_makes_the_secret_the_identity_is_refused(role: str, peer: str) -> None:
    """The bare mask: whoever sends it knows the code, and then the secret would be the point at infinity."""
    with pytest.raises(SecurityError):
        run(role).finish(spake2._encode(PASSWORD.masks[peer]), b"")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(min_size=64, max_size=64).map(lambda xy: b"\x04" + xy)))
def test_garbage_shares_raise_nothing_but_security_errors(share: bytes) -> None:
    with pytest.raises(SecurityError):  # 64 random bytes are a point once in 2**256 times
        run("B").finish(share, b"")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 64 * 8 - 1))
def test_one_flipped_bit_takes_the_share_off_the_curve(bit: int) -> None:
    flipped = int.from_bytes(GENERATOR, "big") ^ (1 << bit)
    with pytest.raises(SecurityError):
        run("A").finish(flipped.to_bytes(65, "big"), b"")


@pytest.mark.parametrize(
    "uniform", [bytes(48), b"\xff" * 48, ORDER.to_bytes(48, "big"), (ORDER - 1).to_bytes(48, "big")]
)
def test_no_random_bytes_give_the_zero_scalar(uniform: bytes) -> None:
    ours, theirs = Spake2("A", PASSWORD, b"", b"", uniform), Spake2("B", PASSWORD, b"", b"", os.urandom(48))
    assert ours.share != spake2._encode(PASSWORD.masks["A"])
    assert ours.finish(theirs.share, b"").secret == theirs.finish(ours.share, b"").secret


@pytest.mark.parametrize("w", [-1, 0, ORDER, ORDER + 1])
def test_w_out_of_range_is_refused(w: int) -> None:
    with pytest.raises(ValueError, match="group order"):
        Password(w)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="role"):
        Spake2("C", PASSWORD, b"", b"", bytes(48))
    with pytest.raises(ValueError, match="48 random bytes"):
        Spake2("A", PASSWORD, b"", b"", bytes(32))


def test_stretching_is_fixed_for_ever() -> None:
    """Changing it locks every worker out of every server of another version."""
    assert stretch("", "") == 0xACB9E180914DD2EC4EC603F04D2B80A62643CEF33A01C3D897208F643477950E
    assert stretch("Köln 北京", "nas") == 0x6F602CE7DABCC748B4043021FFF41712263BB62065F8E99A54639BA75DB28576


def test_stretching_depends_on_code_and_user_apart() -> None:
    assert len({stretch("a", "b"), stretch("ab", ""), stretch("", "ab"), stretch("b", "a")}) == 4


def test_two_spellings_of_one_code_are_one_code() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert stretch(composed, "") == stretch(decomposed, "")


def test_code_from_bytes_that_are_no_utf8_is_taken_as_it_is() -> None:
    assert stretch(os.fsdecode(b"\xff"), "") != stretch("", "")
