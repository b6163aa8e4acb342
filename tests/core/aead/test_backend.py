"""The three AEAD backends: against published vectors, against each other, and against changed bytes.

A backend that this interpreter lacks is skipped by name, so that the report says so.
"""

from __future__ import annotations

import gc
import random
import types
from functools import partial
from typing import Any, NamedTuple

import Crypto.Cipher
import pytest

from aero.core.aead.backend import NONCE_BYTES, TAG_BYTES, Backend
from aero.core.aead.choose import BACKENDS, choose
from aero.core.aead.cryptography import Cryptography, _OlderKey
from aero.core.aead.pycryptodome import Pycryptodome, _Parts, _Whole
from aero.errors import HostError, SecurityError

KEY, NONCE, AAD = bytes(range(16)), bytes(range(100, 112)), b"\x01\x00\x00\x40"


class Vector(NamedTuple):
    name: str
    key: str
    nonce: str
    aad: str
    plaintext: str
    sealed: str


SPECIFICATION_PLAINTEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
SPECIFICATION_CIPHERTEXT = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
)
VECTORS = [
    # McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B
    Vector("GCM 1", "00" * 16, "00" * 12, "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
    Vector(
        "GCM 2",
        "00" * 16,
        "00" * 12,
        "",
        "00" * 16,
        "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf",
    ),
    Vector(
        "GCM 3",
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        SPECIFICATION_PLAINTEXT,
        SPECIFICATION_CIPHERTEXT + "4d5c2af327cd64a62cf35abd2ba6fab4",
    ),
    Vector(
        "GCM 4",
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        SPECIFICATION_PLAINTEXT[:120],
        SPECIFICATION_CIPHERTEXT[:120] + "5bc94fbc3221a5db94fae95ae7121a47",
    ),
    # NIST's validation system, gcmEncryptExtIV128, the first of four of its groups
    Vector(
        "NIST 0/0",
        "11754cd72aec309bf52f7687212e8957",
        "3c819d9a9bed087615030b65",
        "",
        "",
        "250327c674aaf477aef2675748cf6971",
    ),
    Vector(
        "NIST 0/128",
        "77be63708971c4e240d1cb79e8d77feb",
        "e0e00f19fed7ba0136a797f3",
        "7a43ec1d9c0a5a78a0b16533a6213cab",
        "",
        "209fcc8d3675ed938e9c7166709dd946",
    ),
    Vector(
        "NIST 128/0",
        "7fddb57453c241d03efbed3ac44e371c",
        "ee283a3fc75575e33efd4887",
        "",
        "d5de42b461646c255c87bd2962d3b9a2",
        "2ccda4a5415cb91e135c2a0f78c9b2fd" + "b36d1df9b9d5e596f83e8b7f52971cb3",
    ),
    Vector(
        "NIST 128/128",
        "c939cc13397c1d37de6ae0e1cb7c423c",
        "b3d8cc017cbb89b39e0f67e2",
        "24825602bd12a984e0092d3e448eda5f",
        "c3b3c41f113a31b73d9a5cd432103069",
        "93fe7d9e9bfd10348a5606e5cafa7354" + "0032a1dc85f1c9786925a2e71d8272dd",
    ),
]

# Odd ones, both sides of a block, both sides of where pycryptodome changes its way, and a whole record.
SIZES = [0, 1, 15, 16, 17, 63, 64, 65, 1000, 4095, 4096, 4097, 4112, 65537, 256 * 1024]


class CopyingCryptography(Cryptography):
    """As with a `cryptography` that can only return new bytes."""

    name = "older cryptography"

    def __init__(self) -> None:
        super().__init__()
        self._key_class = _OlderKey


class WholePycryptodome(Pycryptodome):
    """As with a pycryptodome whose private parts are not what we know."""

    name = "whole pycryptodome"

    def __init__(self) -> None:
        super().__init__()
        self._parts = None


MAKERS: dict[str, Any] = {
    **{name: partial(choose, name) for name in BACKENDS},
    "older cryptography": CopyingCryptography,
    "whole pycryptodome": WholePycryptodome,
}


@pytest.fixture(params=MAKERS)
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        made: Backend = MAKERS[request.param]()
    except HostError as error:
        pytest.skip(f"{request.param} is not available to this interpreter: {error}")
    return made


def seal(
    backend: Backend, plaintext: bytes, aad: bytes = AAD, nonce: bytes = NONCE, key: bytes = KEY
) -> bytes:
    out = bytearray(len(plaintext) + TAG_BYTES)
    assert backend.sealer(key).seal(nonce, aad, memoryview(plaintext), memoryview(out)) == len(out)
    return bytes(out)


def unseal(
    backend: Backend, sealed: bytes, aad: bytes = AAD, nonce: bytes = NONCE, key: bytes = KEY
) -> bytes:
    out = bytearray(max(0, len(sealed) - TAG_BYTES))
    assert backend.opener(key).open(nonce, aad, memoryview(sealed), memoryview(out)) == len(out)
    return bytes(out)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_published_vectors(backend: Backend, vector: Vector) -> None:
    key, nonce, aad, plaintext, sealed = map(bytes.fromhex, vector[1:])
    assert seal(backend, plaintext, aad, nonce, key) == sealed
    assert unseal(backend, sealed, aad, nonce, key) == plaintext


@pytest.mark.parametrize("size", SIZES)
def test_every_backend_opens_what_every_other_seals(backend: Backend, size: int) -> None:
    dice = random.Random(size)
    key, nonce = dice.randbytes(16), dice.randbytes(NONCE_BYTES)
    for aad in (b"", dice.randbytes(4), dice.randbytes(16), dice.randbytes(37)):
        plaintext = dice.randbytes(size)
        sealed = seal(backend, plaintext, aad, nonce, key)
        assert sealed == seal(choose("pycryptodome"), plaintext, aad, nonce, key)
        assert unseal(backend, sealed, aad, nonce, key) == plaintext


def test_one_key_serves_many_records(backend: Backend) -> None:
    sealer, opener = backend.sealer(KEY), backend.opener(KEY)
    for number, size in enumerate([*SIZES, *reversed(SIZES)]):
        nonce, plaintext = number.to_bytes(NONCE_BYTES, "big"), bytes([number]) * size
        sealed, opened = memoryview(bytearray(size + TAG_BYTES)), memoryview(bytearray(size))
        sealer.seal(nonce, AAD, memoryview(plaintext), sealed)
        assert opener.open(nonce, AAD, sealed, opened) == size
        assert opened == plaintext


@pytest.mark.parametrize("size", [0, 1, 64, 5000])
def test_any_changed_bit_is_seen(backend: Backend, size: int) -> None:
    sealed = seal(backend, bytes(size))
    for position in {0, size // 2, size - 1, size, size + 7, size + TAG_BYTES - 1} - {-1}:
        changed = bytearray(sealed)
        changed[position] ^= 0x80
        with pytest.raises(SecurityError):
            unseal(backend, bytes(changed))


@pytest.mark.parametrize("size", [0, 64, 5000])
def test_truncated_and_lengthened_records_are_seen(backend: Backend, size: int) -> None:
    sealed = seal(backend, bytes(size))
    for wrong in (sealed[:-1], sealed[1:], sealed[: TAG_BYTES - 1], b"", sealed + b"\0", sealed[:-TAG_BYTES]):
        with pytest.raises(SecurityError):
            unseal(backend, wrong)


def test_other_nonce_aad_or_key_is_seen(backend: Backend) -> None:
    sealed = seal(backend, b"attack at dawn")
    for changed in ({"nonce": bytes(12)}, {"aad": b""}, {"aad": AAD + b"\0"}, {"key": bytes(16)}):
        with pytest.raises(SecurityError):
            unseal(backend, sealed, **changed)


@pytest.mark.parametrize("size", [64, 5000])
def test_an_opener_goes_on_after_a_forged_record(backend: Backend, size: int) -> None:
    sealed, opener = seal(backend, bytes(size)), backend.opener(KEY)
    out = memoryview(bytearray(size))
    for _ in range(3):
        with pytest.raises(SecurityError):
            opener.open(NONCE, AAD, memoryview(b"\xff" + sealed[1:]), out)
        assert opener.open(NONCE, AAD, memoryview(sealed), out) == size
        assert out == bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_in_place(backend: Backend, size: int) -> None:
    plaintext = random.Random(size).randbytes(size)
    expected = seal(backend, plaintext)
    buffer = memoryview(bytearray(plaintext + bytes(TAG_BYTES)))
    backend.sealer(KEY).seal(NONCE, AAD, buffer[:size], buffer)
    assert buffer == expected
    backend.opener(KEY).open(NONCE, AAD, buffer, buffer)
    assert buffer[:size] == plaintext


@pytest.mark.parametrize("size", [0, 1, 100, 3001])
@pytest.mark.parametrize("offset", [1, 3, 7, 13])
def test_unaligned_slices_of_a_larger_buffer(backend: Backend, size: int, offset: int) -> None:
    plaintext = random.Random(offset).randbytes(size)
    source = memoryview(bytearray(offset) + plaintext + bytes(9))[offset : offset + size]
    buffer = bytearray(b"\xaa" * (offset + size + TAG_BYTES + 9))
    assert backend.sealer(KEY).seal(NONCE, AAD, source, memoryview(buffer)[offset:]) == size + TAG_BYTES
    sealed = seal(backend, plaintext)
    assert buffer == b"\xaa" * offset + sealed + b"\xaa" * 9
    opened = bytearray(b"\xaa" * (offset + size + 9))
    length = backend.opener(KEY).open(
        NONCE, AAD, memoryview(buffer)[offset : offset + len(sealed)], memoryview(opened)[offset:]
    )
    assert length == size
    assert opened == b"\xaa" * offset + plaintext + b"\xaa" * 9


def test_nonce_and_aad_may_be_any_bytes_like(backend: Backend) -> None:
    expected, out = seal(backend, b"hello"), memoryview(bytearray(5 + TAG_BYTES))
    for kind in (bytearray, memoryview):
        backend.sealer(KEY).seal(kind(NONCE), kind(AAD), memoryview(b"hello"), out)
        assert out == expected
        backend.opener(KEY).open(kind(NONCE), kind(AAD), out, memoryview(bytearray(5)))


@pytest.mark.parametrize("nonce", [b"", bytes(11), bytes(13), bytes(28)])
def test_nonce_of_another_length_is_refused(backend: Backend, nonce: bytes) -> None:
    out = memoryview(bytearray(TAG_BYTES))
    with pytest.raises(ValueError, match="nonce"):
        backend.sealer(KEY).seal(nonce, b"", memoryview(b""), out)
    with pytest.raises(ValueError, match="nonce"):
        backend.opener(KEY).open(nonce, b"", out, memoryview(bytearray()))


@pytest.mark.parametrize("size", [0, 1, 64, 5000])
def test_out_that_is_too_short_is_refused_and_nothing_beyond_it_written(backend: Backend, size: int) -> None:
    room = bytearray(size + 2 * TAG_BYTES)
    with pytest.raises(ValueError):  # noqa: PT011 - each library has words of its own
        backend.sealer(KEY).seal(
            NONCE, AAD, memoryview(bytes(size)), memoryview(room)[: size + TAG_BYTES - 1]
        )
    assert room[size + TAG_BYTES - 1 :] == bytes(TAG_BYTES + 1)
    if size:
        sealed, room = seal(backend, b"\xff" * size), bytearray(size + 1)
        with pytest.raises(ValueError):  # noqa: PT011
            backend.opener(KEY).open(NONCE, AAD, memoryview(sealed), memoryview(room)[: size - 1])
        assert room[size - 1 :] == bytes(2)


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(24), bytes(32)])
def test_key_of_another_length_is_refused(backend: Backend, key: bytes) -> None:
    for make in (backend.sealer, backend.opener):
        with pytest.raises(ValueError, match="16 bytes"):
            make(key)


def test_keys_are_freed(backend: Backend) -> None:
    made = [backend.sealer(KEY) for _ in range(100)] + [backend.opener(KEY) for _ in range(100)]
    del made
    gc.collect()
    assert unseal(backend, seal(backend, b"still here")) == b"still here"


def test_lengths_beyond_c_int_are_refused() -> None:
    try:
        backend = choose("openssl")
    except HostError as error:
        pytest.skip(str(error))

    class Endless(bytes):
        def __len__(self) -> int:
            return 2**31

    with pytest.raises(ValueError, match="too long"):
        backend.sealer(KEY).seal(NONCE, Endless(), memoryview(b""), memoryview(bytearray(16)))
    with pytest.raises(ValueError, match="too long"):
        backend.opener(KEY).open(NONCE, Endless(), memoryview(bytearray(16)), memoryview(b""))


@pytest.mark.parametrize("change", ["missing", "renamed", "wrong"])
def test_private_parts_that_changed_lead_to_the_public_way(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    import Crypto.Cipher._mode_gcm as genuine

    def renamed(key: bytes) -> Any:
        return genuine._GHASH(key, genuine._ghash_portable)

    def wrong(key: bytes, library: Any) -> Any:
        return genuine._GHASH(bytes(16), library)

    changed = types.SimpleNamespace(_ghash_clmul=None, _ghash_portable=genuine._ghash_portable)
    if change != "missing":
        changed._GHASH = renamed if change == "renamed" else wrong
    monkeypatch.setattr(Crypto.Cipher, "_mode_gcm", changed)
    backend = choose("pycryptodome")
    assert backend.description.endswith("the slow way")
    assert isinstance(backend.sealer(KEY), _Whole)


def test_parts_work_without_the_cpus_help(monkeypatch: pytest.MonkeyPatch) -> None:
    import Crypto.Cipher._mode_gcm as genuine

    monkeypatch.setattr(genuine, "_ghash_clmul", None)
    backend = choose("pycryptodome")
    assert isinstance(backend.sealer(KEY), _Parts)
