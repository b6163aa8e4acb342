"""SHA-256 and what is made of it: HMAC, HKDF, and comparing in constant time.

Not by hashlib and hmac: their import loads OpenSSL's libcrypto, which is 4 MB for as long as the process lives. An idle
link needs a few dozen hashes, and the interpreter has SHA-256 in C of its own.
"""

from __future__ import annotations

from _operator import _compare_digest as same  # what hmac takes where there is no OpenSSL
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:  # an interpreter that was built to have OpenSSL's only
            from hashlib import sha256

__all__ = ["hkdf_expand", "hmac_sha256", "same", "sha256"]

_BLOCK_BYTES = 64  # SHA-256's
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC with SHA-256 (RFC 2104), 32 bytes."""
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + message).digest()).digest()


def hkdf_expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3), for up to 255 * 32 bytes."""
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac_sha256(secret, block + info + bytes((counter,)))
        out += block
        counter += 1
    return out[:length]
