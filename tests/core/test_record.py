"""Records: what an attacker on the path can do to them, and what every key change keeps."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core import record
from aero.core.aead.choose import choose
from aero.core.codes import Close
from aero.core.record import (
    HEADER_BYTES,
    LINK,
    MAX_PLAIN_BYTES,
    MAX_RECORD_BYTES,
    OVERHEAD_BYTES,
    SESSION,
    RecordReader,
    RecordWriter,
    hkdf_expand,
    record_bytes,
)
from aero.errors import RemoteProtocolError
from tests.core.joined import refused

SECRET = bytes(range(32))
BACKEND = choose()


def does_not_open() -> pytest.RaisesExc[RemoteProtocolError]:
    return refused(Close.RECORD, "changed, repeated or lost")


class Pair:
    def __init__(self) -> None:
        self.writer, self.reader = RecordWriter(BACKEND, SECRET), RecordReader(BACKEND, SECRET)

    def seal(self, plain: bytes, kind: int = SESSION) -> bytes:
        out = bytearray(len(plain) + OVERHEAD_BYTES)
        assert self.writer.seal(kind, memoryview(plain), memoryview(out)) == len(out)
        return bytes(out)

    def open(self, sealed: bytes) -> bytes:
        out = memoryview(bytearray(MAX_PLAIN_BYTES))
        return bytes(out[: self.reader.open(memoryview(sealed), out)])


@pytest.mark.parametrize(("length", "blocks"), [(16, 1), (32, 1), (42, 2), (82, 3)])
def test_hkdf_expand_is_rfc_5869s(length: int, blocks: int) -> None:
    """Appendix A.1: test case 1, whose output has 42 bytes; longer and shorter ones share its head."""
    secret = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    okm = bytes.fromhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    out = hkdf_expand(secret, info, length)
    assert len(out) == length
    assert out[:42] == okm[:length]


def test_a_record_is_type_length_ciphertext_and_tag() -> None:
    pair = Pair()
    sealed = pair.seal(b"hello", LINK)
    assert sealed[:4] == bytes.fromhex("02 000005")
    assert len(sealed) == 4 + 5 + 16
    key, iv = hkdf_expand(SECRET, b"aero key", 16), hkdf_expand(SECRET, b"aero iv", 12)
    plain = memoryview(bytearray(5))
    BACKEND.opener(key).open(iv, sealed[:4], memoryview(sealed)[4:], plain)
    assert bytes(plain) == b"hello"


def test_the_second_record_has_its_number_in_the_nonce() -> None:
    pair = Pair()
    first, second = pair.seal(b"same"), pair.seal(b"same")
    assert first != second
    iv = bytearray(hkdf_expand(SECRET, b"aero iv", 12))
    iv[-1] ^= 1
    plain = memoryview(bytearray(4))
    BACKEND.opener(hkdf_expand(SECRET, b"aero key", 16)).open(iv, second[:4], memoryview(second)[4:], plain)
    assert bytes(plain) == b"same"


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 1000, MAX_PLAIN_BYTES])
def test_records_of_all_sizes_come_back(size: int) -> None:
    pair = Pair()
    plain = bytes(size - 1) + b"x"
    sealed = pair.seal(plain)
    assert record_bytes(memoryview(sealed), 0) == (SESSION, len(sealed))
    assert pair.open(sealed) == plain


# What somebody on the path does


def test_a_replayed_record_does_not_open() -> None:
    pair = Pair()
    sealed = pair.seal(b"pay 1")
    pair.open(sealed)
    with does_not_open():
        pair.open(sealed)


def test_a_lost_record_does_not_go_unseen() -> None:
    pair = Pair()
    pair.seal(b"first")
    with does_not_open():
        pair.open(pair.seal(b"second"))


def test_reordered_records_do_not_open() -> None:
    pair = Pair()
    pair.seal(b"first")
    second = pair.seal(b"second")
    with does_not_open():
        pair.open(second)


def test_a_record_sent_back_to_its_sender_does_not_open() -> None:
    """Each direction has a secret of its own."""
    ours = RecordWriter(BACKEND, SECRET)
    reader = RecordReader(BACKEND, hkdf_expand(SECRET, b"other direction", 32))
    sealed = memoryview(bytearray(5 + OVERHEAD_BYTES))
    ours.seal(SESSION, memoryview(b"hello"), sealed)
    with does_not_open():
        reader.open(sealed, memoryview(bytearray(5)))


@given(st.integers(0, 8 * 25 - 1))
def test_one_flipped_bit_anywhere_is_seen(bit: int) -> None:
    pair = Pair()
    sealed = bytearray(pair.seal(b"hello"))
    sealed[bit >> 3] ^= 1 << (bit & 7)
    with refused(Close.RECORD):
        size = record_bytes(memoryview(sealed), 0)[1]
        # A changed length would have the reader wait for bytes that are not there, or take too few.
        pair.open(bytes(sealed[:size]).ljust(size, b"\0"))


def test_a_session_record_cannot_be_passed_off_as_a_link_record() -> None:
    pair = Pair()
    sealed = pair.seal(b"hello", SESSION)
    with does_not_open():
        pair.open(bytes((LINK,)) + sealed[1:])


# Headers


@pytest.mark.parametrize("kind", [0, 4, 0x16, 0x41, 0x80, 255])
def test_an_unknown_record_type_is_refused_before_its_body_is_waited_for(kind: int) -> None:
    with refused(Close.RECORD, f"record type {kind} is unknown"):
        record_bytes(memoryview(bytes((kind, 0, 0, 1))), 0)


@pytest.mark.parametrize("length", [0, MAX_PLAIN_BYTES + 1, 0xFFFFFF])
def test_an_impossible_length_is_refused_before_it_is_waited_for(length: int) -> None:
    with refused(Close.RECORD, f"a record of {length} bytes"):
        record_bytes(memoryview(bytes((SESSION,)) + length.to_bytes(3, "big")), 0)


@pytest.mark.parametrize("kind", [SESSION, LINK])
@pytest.mark.parametrize("length", [1, MAX_PLAIN_BYTES])
def test_the_least_and_the_largest_record_are_taken(kind: int, length: int) -> None:
    header = bytes((kind,)) + length.to_bytes(3, "big")
    assert record_bytes(memoryview(b"tail" + header + b"tail"), 4) == (kind, length + OVERHEAD_BYTES)
    assert length + OVERHEAD_BYTES <= MAX_RECORD_BYTES


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_header_gives_a_bounded_size_or_a_refusal(header: bytes) -> None:
    try:
        kind, size = record_bytes(memoryview(header), 0)
    except RemoteProtocolError as error:
        assert error.code == Close.RECORD
    else:
        assert kind in (SESSION, LINK)
        assert OVERHEAD_BYTES < size <= MAX_RECORD_BYTES


# Keys change


def test_keys_change_on_both_sides_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "REKEY_RECORDS", 3)
    pair = Pair()
    for number in range(20):
        assert pair.open(pair.seal(b"%d" % number)) == b"%d" % number


def test_the_next_key_comes_from_the_next_secret_and_counts_from_nought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "REKEY_RECORDS", 2)
    pair = Pair()
    for _ in range(2):
        pair.seal(b"old key")
    sealed = pair.seal(b"new key")
    following = hkdf_expand(SECRET, b"aero next", 32)
    assert following == hmac.digest(SECRET, b"aero next\x01", hashlib.sha256)
    fresh = Pair()
    fresh.reader = RecordReader(BACKEND, following)
    assert fresh.open(sealed) == b"new key"


def test_an_end_that_does_not_change_its_key_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "REKEY_RECORDS", 2)
    pair = Pair()
    monkeypatch.setattr(record, "REKEY_RECORDS", 1 << 20)
    lazy = RecordWriter(BACKEND, SECRET)
    sealed = [bytearray(1 + OVERHEAD_BYTES) for _ in range(3)]
    for each in sealed:
        lazy.seal(SESSION, memoryview(b"x"), memoryview(each))
    pair.open(bytes(sealed[0]))
    pair.open(bytes(sealed[1]))
    with does_not_open():
        pair.open(bytes(sealed[2]))


def test_keys_last_for_less_than_gcm_allows() -> None:
    """RFC 8446, section 5.5: 2^24.5 records of 2^14 bytes, that is 2^34.5 blocks of 16."""
    assert record.REKEY_RECORDS * (MAX_PLAIN_BYTES // 16) <= 2**34.5
