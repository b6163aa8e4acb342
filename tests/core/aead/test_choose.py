"""Which AEAD backend is chosen: the first that works and computes rightly, or the named one, or the reason why not."""

from __future__ import annotations

import builtins
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from aero.core.aead import choose as module
from aero.core.aead.backend import Backend
from aero.core.aead.choose import BACKENDS, choose
from aero.errors import HostError
from tests.core.aead.test_backend import VECTORS

ROOT = Path(__file__).parents[3]


def test_the_first_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Backend:
        raise HostError("not here")

    for name in BACKENDS[:-1]:
        monkeypatch.setitem(module._MAKERS, name, broken)
        chosen = choose()
        assert BACKENDS.index(chosen.name) > BACKENDS.index(name)
        assert chosen.name in chosen.description
    monkeypatch.setitem(module._MAKERS, BACKENDS[-1], broken)
    with pytest.raises(HostError, match=r"cryptography: not here; openssl: not here; pycryptodome: not here"):
        choose()


def test_a_named_backend_that_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_hashlib", None)
    with pytest.raises(HostError, match="openssl: this interpreter does not share its OpenSSL"):
        choose("openssl")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(HostError, match="cryptography: does not import"):
        choose("cryptography")
    monkeypatch.setitem(sys.modules, "Crypto.Cipher", None)
    with pytest.raises(HostError, match="pycryptodome: does not import"):
        choose("pycryptodome")
    with pytest.raises(
        HostError, match="no AEAD backend 'rot13'; there are cryptography, openssl, pycryptodome"
    ):
        choose("rot13")


def test_hashlib_built_into_the_interpreter_is_no_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_hashlib", types.ModuleType("_hashlib"))
    with pytest.raises(HostError, match="does not share its OpenSSL"):
        choose("openssl")


def test_a_panic_in_rust_only_rules_cryptography_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    genuine = builtins.__import__
    raised: list[type[BaseException]] = [PanicException]

    def panicking(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise raised[0]("Python API call failed")
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", panicking)
    assert choose().name != "cryptography"
    raised[0] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        choose()


class Lying:
    """A backend with a fault in one place."""

    name = description = "pycryptodome"

    def __init__(self, fault: str) -> None:
        self.fault, self.honest = fault, choose("pycryptodome")

    def sealer(self, key: bytes) -> Lying:
        return self

    opener = sealer

    def seal(self, nonce: bytes, aad: bytes, plaintext: memoryview, out: memoryview) -> int:
        length = self.honest.sealer(bytes.fromhex(VECTORS[3].key)).seal(nonce, aad, plaintext, out)
        out[0] ^= self.fault == "seal"
        return length

    def open(self, nonce: bytes, aad: bytes, sealed: memoryview, out: memoryview) -> int:
        plaintext = bytes.fromhex(VECTORS[3].plaintext)
        out[: len(plaintext)] = plaintext
        out[0] ^= self.fault == "open"
        return len(plaintext)


@pytest.mark.parametrize(
    ("fault", "reason"), [("seal", "seals a known"), ("open", "opens a known"), ("tag", "opens a message")]
)
def test_a_backend_that_computes_wrongly_fails_its_self_test(
    monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    lying = Lying(fault)
    monkeypatch.setitem(module._MAKERS, "pycryptodome", lambda: lying)
    with pytest.raises(HostError, match=reason):
        choose("pycryptodome")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, aero.core.aead.choose, aero.core.record\n"
        "print([name for name in ('Crypto', 'cryptography', 'ctypes') if name in sys.modules])\n"
    )
    command = [sys.executable, "-S", "-c", code]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert listed.stdout.strip() == "[]"


def test_an_old_cryptography_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 carries 38.0.4: slower than OpenSSL by ctypes, and it takes no memoryview."""
    package = types.ModuleType("cryptography")
    vars(package)["__version__"] = "38.0.4"
    monkeypatch.setitem(sys.modules, "cryptography", package)
    with pytest.raises(HostError, match=r"version 38\.0\.4 is here, 43 or newer"):
        choose("cryptography")
    assert not choose().description.startswith("cryptography")
