"""SPAKE2+ against the RFC's own vector, against itself, and against shares that no honest peer sends."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.core import spake2plus
from aero.core.codes import Close
from aero.core.spake2plus import Keys, Password, ProverRun, Verifier, VerifierRun
from aero.core.stretch import SERVER_IDENTITY, stretch
from tests.core.joined import refused

RFC = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9383_spake2plus_p256.json").read_text())
FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PASSWORD, VERIFIER = Password(0xC0DE, 0xBEEF), Verifier.of(0xC0DE, 0xBEEF)
OTHER = Verifier.of(0xC0DF, 0xBEEF), Verifier.of(0xC0DE, 0xBEEE)


def scalar_bytes(scalar: int) -> bytes:
    """The random bytes that lead to this private scalar."""
    return (scalar - 1).to_bytes(48, "big")


def number(name: str) -> int:
    return int(RFC[name], 16)


def prover(password: Password = PASSWORD) -> ProverRun:
    return ProverRun(password, os.urandom(48))


def verifier(kept: Verifier = VERIFIER) -> VerifierRun:
    return VerifierRun(kept, os.urandom(48))


RUNS = [prover, verifier]


def point_bytes(x: int, y: int) -> bytes:
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def test_rfc9383_vector() -> None:
    assert RFC["idVerifier"].encode() == SERVER_IDENTITY
    kept = Verifier.of(number("w0"), number("w1"))
    assert spake2plus._encode(kept.public).hex() == RFC["L"]
    ours = ProverRun(Password(number("w0"), number("w1")), scalar_bytes(number("x")))
    theirs = VerifierRun(kept, scalar_bytes(number("y")))
    assert ours.share.hex() == RFC["shareP"]
    assert theirs.share.hex() == RFC["shareV"]
    shared, by_prover, by_verifier = (
        bytes.fromhex(RFC[name]) for name in ("K_shared", "confirmP", "confirmV")
    )
    context, identity = RFC["context"].encode(), RFC["idProver"].encode()
    assert ours.finish(theirs.share, context, identity) == Keys(shared, by_prover, by_verifier)
    assert theirs.finish(ours.share, context, identity) == Keys(shared, by_verifier, by_prover)


def test_the_vectors_z_and_v() -> None:
    ours = ProverRun(Password(number("w0"), number("w1")), scalar_bytes(number("x")))
    base = spake2plus._decode(bytes.fromhex(RFC["shareV"])) + -(spake2plus._N * number("w0"))
    assert ours._times(base, number("x"), b"Z").hex() == RFC["Z"]
    assert ours._times(base, number("w1"), b"V").hex() == RFC["V"]


@pytest.mark.parametrize(
    ("point", "compressed"),
    [
        (spake2plus._M, "02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f"),
        (spake2plus._N, "03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49"),
    ],
    ids=["M", "N"],
)
def test_the_fixed_points_are_the_rfcs(point: spake2plus.EccPoint, compressed: str) -> None:
    encoded = spake2plus._encode(point)
    assert encoded[1:33].hex() == compressed[2:]
    assert encoded[64] % 2 == int(compressed[:2]) - 2


def test_one_code_gives_both_ends_the_same_keys() -> None:
    ours, theirs = prover(), verifier()
    a, b = ours.finish(theirs.share, b"link", b"anna"), theirs.finish(ours.share, b"link", b"anna")
    assert a == Keys(b.shared, b.their_confirmation, b.our_confirmation)
    assert [len(each) for each in a] == [32, 32, 32]


def test_every_run_has_fresh_keys() -> None:
    theirs = verifier()
    assert prover().finish(theirs.share, b"", b"").shared != prover().finish(theirs.share, b"", b"").shared


@pytest.mark.parametrize("other", OTHER, ids=["w0", "w1"])
def test_a_wrong_code_shows_in_the_confirmation(other: Verifier) -> None:
    ours, theirs = prover(), verifier(other)
    a, b = ours.finish(theirs.share, b"", b""), theirs.finish(ours.share, b"", b"")
    assert a.shared != b.shared
    assert a.their_confirmation != b.our_confirmation
    assert b.their_confirmation != a.our_confirmation


@pytest.mark.parametrize("seen", [(b"version 1", b"anna"), (b"version 2", b"hans")], ids=["context", "user"])
def test_who_was_told_something_else_shows_in_the_confirmation(seen: tuple[bytes, bytes]) -> None:
    ours, theirs = prover(), verifier()
    a, b = ours.finish(theirs.share, b"version 2", b"anna"), theirs.finish(ours.share, *seen)
    assert a.their_confirmation != b.our_confirmation
    assert b.their_confirmation != a.our_confirmation


def test_our_own_share_sent_back_proves_nothing() -> None:
    ours = prover()
    keys = ours.finish(ours.share, b"", b"")
    assert keys.our_confirmation != keys.their_confirmation


def test_a_recorded_run_gives_the_verifier_nothing_to_be_the_worker_with() -> None:
    """The server's half is all that its memory has: it has no w1, in whatever form."""
    assert not {"w1", "_w1"} & set(vars(VERIFIER))
    assert 0xBEEF not in vars(VERIFIER).values()


GENERATOR = spake2plus._encode(spake2plus._G)


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
@pytest.mark.parametrize("run", RUNS)
def test_a_share_that_is_no_point_is_refused(
    run: Callable[[], ProverRun | VerifierRun], share: bytes
) -> None:
    with refused(Close.FRAME, "a share that is not"):
        run().finish(share, b"", b"")


def test_coordinate_beyond_the_field_is_refused_though_it_means_a_point() -> None:
    """The curve's point with x = 5 has an x that can also be written as 5 + p within 32 bytes."""
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    y = pow(5**3 - 3 * 5 + b, (FIELD + 1) // 4, FIELD)
    prover().finish(point_bytes(5, y), b"", b"")
    with refused(Close.FRAME):
        prover().finish(point_bytes(5 + FIELD, y), b"", b"")


@pytest.mark.parametrize(
    ("run", "mask"), [(prover, PASSWORD.n), (verifier, VERIFIER.m)], ids=["worker", "server"]
)
def test_a_share_that_makes_z_impossible_changes_nothing_that_shows(
    run: Callable[[], ProverRun | VerifierRun], mask: spake2plus.EccPoint
) -> None:
    """The bare mask: only who knows w0 can send it, and then Z would be the point at infinity."""
    machine = run()
    keys = machine.finish(spake2plus._encode(mask), b"", b"")
    assert [len(each) for each in keys] == [32, 32, 32] and len(set(keys)) == 3
    again = run().finish(spake2plus._encode(mask), b"", b"")
    assert not set(keys) & set(again), "what stands in for it is another each time"


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(min_size=64, max_size=64).map(lambda xy: b"\x04" + xy)))
def test_garbage_shares_raise_nothing_but_what_is_meant(share: bytes) -> None:
    with refused(Close.FRAME):  # 64 random bytes are a point once in 2**256 times
        verifier().finish(share, b"", b"")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 64 * 8 - 1))
def test_one_flipped_bit_takes_the_share_off_the_curve(bit: int) -> None:
    flipped = int.from_bytes(GENERATOR, "big") ^ (1 << bit)
    with refused(Close.FRAME):
        prover().finish(flipped.to_bytes(65, "big"), b"", b"")


@pytest.mark.parametrize(
    "uniform", [bytes(48), b"\xff" * 48, ORDER.to_bytes(48, "big"), (ORDER - 1).to_bytes(48, "big")]
)
def test_no_random_bytes_give_the_zero_scalar(uniform: bytes) -> None:
    ours, theirs = ProverRun(PASSWORD, uniform), verifier()
    assert ours.share != spake2plus._encode(PASSWORD.m)
    assert ours.finish(theirs.share, b"", b"").shared == theirs.finish(ours.share, b"", b"").shared


@pytest.mark.parametrize("scalar", [-1, 0, ORDER, ORDER + 1])
def test_scalars_out_of_range_are_refused(scalar: int) -> None:
    for w0, w1 in ((scalar, 1), (1, scalar)):
        with pytest.raises(ValueError, match="group order"):
            Password(w0, w1)
        with pytest.raises(ValueError, match="group order"):
            Verifier.of(w0, w1)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="infinity"):
        Verifier(1, spake2plus._G * ORDER)
    for run in (lambda: ProverRun(PASSWORD, bytes(32)), lambda: VerifierRun(VERIFIER, bytes(49))):
        with pytest.raises(ValueError, match="48 random bytes"):
            run()


def test_stretching_is_fixed_for_ever() -> None:
    """Changing it locks every worker out of every server of another version."""
    assert stretch("", "") == (
        0x702B8FFC33B00A446C17864E5614ECA47798BEF4501BB674DADA62ACD91F6E17,
        0x7A7840EE42DE00E0F1409D2B62D5AD55B87C2E1A2E01B25E44853DAF070ADAC6,
    )
    assert stretch("Köln 北京", "nas") == (
        0xF2F612698CED1B69AA6C19AEB5C87FF1522C8605BC638194ACE03DABCCD6C1C4,
        0xC93382293CD69041A68BB51C0DF3C3ED039F164A6A43C6819D2DA43C14729C1F,
    )


def test_stretching_depends_on_code_and_user_apart() -> None:
    found = [stretch("a", "b"), stretch("ab", ""), stretch("", "ab"), stretch("b", "a")]
    assert len({scalar for pair in found for scalar in pair}) == 8


def test_two_spellings_of_one_code_are_one_code() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert stretch(composed, composed) == stretch(decomposed, decomposed)


def test_code_from_bytes_that_are_no_utf8_is_taken_as_it_is() -> None:
    assert stretch(os.fsdecode(b"\xff"), "") != stretch("", "")
