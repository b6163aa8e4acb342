"""pycryptodome's parts: nothing of a forged record is written, and the two ways for short and long records are one."""

from __future__ import annotations

import pytest

from aero.core.aead import pycryptodome as module
from aero.core.aead.pycryptodome import Pycryptodome, _Parts
from aero.errors import SecurityError

KEY, NONCE, AAD = bytes(range(16)), bytes(12), b"associated"


@pytest.mark.parametrize("size", [1, 4096, 5000])
def test_nothing_of_a_forged_record_is_written(size: int) -> None:
    backend = Pycryptodome()
    opener = backend.opener(KEY)
    assert isinstance(opener, _Parts)
    sealed = memoryview(bytearray(size + 16))
    backend.sealer(KEY).seal(NONCE, AAD, memoryview(bytes(size)), sealed)
    sealed[size] ^= 1
    out = bytearray(b"\xaa" * size)
    with pytest.raises(SecurityError):
        opener.open(NONCE, AAD, sealed, memoryview(out))
    assert out == b"\xaa" * size


@pytest.mark.parametrize("size", [1, 16, 33, 4095, 4096])
def test_a_record_is_the_same_by_either_way(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    plaintext = memoryview((bytes(range(256)) * 16)[:size])
    sealer, found = Pycryptodome().sealer(KEY), set()
    assert isinstance(sealer, _Parts)
    for short in (4096, 0):
        monkeypatch.setattr(module, "_SHORT_BYTES", short)
        sealed = bytearray(size + 16)
        sealer.seal(NONCE, AAD, plaintext, memoryview(sealed))
        found.add(bytes(sealed))
    assert len(found) == 1


def test_the_counters_reach_the_end_of_the_longest_short_record() -> None:
    assert len(module._COUNTERS) >= 1 + 1 + module._SHORT_BYTES // 16
    assert module._COUNTERS[-1] == (len(module._COUNTERS) - 1).to_bytes(4, "big")
