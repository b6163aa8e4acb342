"""The package `cryptography`: which versions will do, and which of its calls are used."""

from __future__ import annotations

from typing import Any

import pytest

from aero.core.aead.cryptography import Cryptography, _Key, _OlderKey
from aero.errors import HostError

KEY = bytes(16)
cryptography: Any = pytest.importorskip("cryptography", "43", "this interpreter has no such package")


@pytest.mark.parametrize("version", ["43.0.0", "43.0.0.dev1", "100.1"])
def test_a_version_that_is_new_enough(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(cryptography, "__version__", version)
    assert Cryptography().description == f"cryptography {version}"


@pytest.mark.parametrize(
    ("version", "why"), [("42.0.8", "version 42.0.8 is here, 43 or newer"), ("unknown", "does not import")]
)
def test_one_that_is_older_or_nobody_knows_what(
    monkeypatch: pytest.MonkeyPatch, version: str, why: str
) -> None:
    monkeypatch.setattr(cryptography, "__version__", version)
    with pytest.raises(HostError, match=why):
        Cryptography()


@pytest.mark.parametrize(("writes", "kind"), [(True, _Key), (False, _OlderKey)])
def test_records_are_written_in_place_where_it_can(
    monkeypatch: pytest.MonkeyPatch, writes: bool, kind: type
) -> None:
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    cipher = type("AESGCM", (), {"__init__": lambda self, key: None})
    if writes:
        cipher.encrypt_into = cipher.decrypt_into = None  # type: ignore[attr-defined]
    monkeypatch.setattr(aead, "AESGCM", cipher)
    backend = Cryptography()
    assert type(backend.sealer(KEY)) is type(backend.opener(KEY)) is kind
