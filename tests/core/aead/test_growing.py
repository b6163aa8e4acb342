"""The backend that begins small: which library a key uses when, and that no record notices the change."""

from __future__ import annotations

import pytest

from aero.core.aead.backend import TAG_BYTES, Backend
from aero.core.aead.choose import choose, choose_lazily
from aero.core.aead.growing import GROW_BYTES, Growing
from aero.errors import HostError, SecurityError

KEY, AAD = bytes(range(16)), b"\x01\x00\x00\x40"
LARGE = 256 * 1024
RECORDS = GROW_BYTES // LARGE


def passed(sealer: object, opener: object, size: int, number: int) -> None:
    """One record of ``size`` bytes through both."""
    nonce, plain = number.to_bytes(12, "big"), bytearray((number & 0xFF,)) * size
    out = memoryview(bytearray(size + TAG_BYTES))
    assert sealer.seal(nonce, AAD, memoryview(plain), out) == size + TAG_BYTES  # type: ignore[attr-defined]
    assert opener.open(nonce, AAD, out, out) == size  # type: ignore[attr-defined]
    assert out[:size] == plain


def growing() -> tuple[Growing, list[str]]:
    asked: list[str] = []

    def larger() -> Backend:
        asked.append("")
        return choose("openssl")

    return Growing(choose("pycryptodome"), larger), asked


def test_the_larger_one_comes_with_traffic_and_serves_every_key() -> None:
    backend, asked = growing()
    sealer, opener = backend.sealer(KEY), backend.opener(KEY)
    waiting = backend.sealer(KEY)  # a key made before, and used after
    for number in range(3 * RECORDS):
        assert backend.name == ("pycryptodome" if number < RECORDS // 2 else "openssl")
        passed(sealer, opener, LARGE, number)
    assert len(asked) == 1
    assert type(backend.sealer(KEY)) is type(choose("openssl").sealer(KEY))
    passed(waiting, choose("pycryptodome").opener(KEY), 1000, 1)
    with pytest.raises(SecurityError):
        opener.open(bytes(12), AAD, memoryview(bytes(40)), memoryview(bytearray(40)))


def test_small_messages_bring_it_by_their_number() -> None:
    backend, asked = growing()
    sealer, opener = backend.sealer(KEY), backend.opener(KEY)
    for number in range(130):  # each of them is a record for the sealer and one for the opener
        passed(sealer, opener, 100, number)
    assert len(asked) == 1


def test_pings_alone_never_bring_it() -> None:
    backend, asked = growing()
    sealer, opener = backend.sealer(KEY), backend.opener(KEY)
    for number in range(GROW_BYTES // 16 + 10):
        passed(sealer, opener, 16, number)
    assert not asked


def test_where_there_is_no_larger_one_the_small_one_stays_and_nobody_asks_again() -> None:
    asked = []

    def none() -> Backend:
        asked.append("")
        raise HostError("not here")

    backend = Growing(choose("pycryptodome"), none)
    sealer, opener = backend.sealer(KEY), backend.opener(KEY)
    for number in range(3 * RECORDS):
        passed(sealer, opener, LARGE, number)
    assert asked == [""]
    assert backend.name == "pycryptodome"


def test_a_name_or_a_host_whose_pycryptodome_fails_is_served_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_lazily().name == "pycryptodome"
    assert choose_lazily("cryptography").name == "cryptography"
    monkeypatch.setitem(__import__("sys").modules, "Crypto.Cipher.AES", None)
    monkeypatch.delattr("Crypto.Cipher.AES")
    assert choose_lazily().name == "cryptography"
