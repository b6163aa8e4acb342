"""SHA-256, HMAC and HKDF beside the interpreter's, whichever module the hash is from."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys

import pytest

from aero.core.digest import hkdf_expand, hmac_sha256, same, sha256

# The same without the interpreter's own SHA-256, as where it was built to have OpenSSL's only.
_BY_HASHLIB = """
import sys
sys.modules["_sha2"] = sys.modules["_sha256"] = None
from aero.core.digest import hmac_sha256
print(hmac_sha256(b"key", b"message").hex(), "_hashlib" in sys.modules)
"""


@pytest.mark.parametrize("size", [0, 1, 32, 63, 64, 65, 200])
def test_hmac_is_the_interpreters(size: int) -> None:
    key, message = bytes(range(size)), b"message" * size
    assert hmac_sha256(key, message) == hmac.digest(key, message, "sha256")
    assert sha256(message).digest() == hashlib.sha256(message).digest()


def test_hkdf_is_that_of_the_rfc() -> None:
    # RFC 5869, appendix A.1
    secret = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    assert hkdf_expand(secret, info, 42) == bytes.fromhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_comparing_takes_bytes_of_any_length() -> None:
    assert same(b"proof", b"proof")
    assert not same(b"proof", b"prooF")
    assert not same(b"proof", b"")


def test_an_interpreter_without_its_own_sha256_takes_openssl() -> None:
    done = subprocess.run([sys.executable, "-c", _BY_HASHLIB], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [hmac.digest(b"key", b"message", "sha256").hex(), "True"], done.stderr
