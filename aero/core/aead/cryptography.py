"""AES-128-GCM by the package `cryptography`, where it imports: about 1 µs for a small record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aero.core.aead.backend import (
    NONCE_BYTES,
    TAG_BYTES,
    BytesLike,
    Opener,
    Sealer,
    check_key,
    check_nonce,
    wrong_tag,
)
from aero.errors import HostError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# The first version whose AESGCM is one call into Rust. Before, it took bytes only and cost 10 µs for a small record,
# and 80 ms and 5 MB at start: OpenSSL by ctypes does better, and many hosts carry such a version.
_MIN_VERSION = 43


class Cryptography:
    """The backend. Raises HostError where the package is missing, broken or too old."""

    name = "cryptography"

    def __init__(self) -> None:
        """Imports the package. Raises HostError."""
        try:
            from cryptography import __version__

            if int(__version__.partition(".")[0]) < _MIN_VERSION:
                raise HostError(f"version {__version__} is here, {_MIN_VERSION} or newer is needed")
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except HostError:
            raise
        except BaseException as error:
            # its Rust half panics when a part of it is missing, and a panic is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise HostError(f"does not import: {error}") from error
        self.description = f"cryptography {__version__}"
        self._cipher = AESGCM
        self._invalid_tag = InvalidTag
        self._key_class = _Key if hasattr(AESGCM, "encrypt_into") else _OlderKey

    def _key(self, key: bytes) -> _Key | _OlderKey:
        check_key(key)
        return self._key_class(self._cipher(key), self._invalid_tag)

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes. Raises ValueError for another length."""
        return self._key(key)

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes. Raises ValueError for another length."""
        return self._key(key)


class _Key:
    """Seals and opens with an AESGCM object that writes into our buffers.

    The checks stand here without calls: they would cost a small record as much as half of its AES.
    """

    __slots__ = ("_decrypt_into", "_encrypt_into", "_invalid_tag")

    def __init__(self, cipher: AESGCM, invalid_tag: type[Exception]) -> None:
        self._encrypt_into, self._decrypt_into = cipher.encrypt_into, cipher.decrypt_into
        self._invalid_tag = invalid_tag

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        if len(nonce) != NONCE_BYTES:
            check_nonce(nonce)
        return self._encrypt_into(nonce, plaintext, aad, out[: len(plaintext) + TAG_BYTES])

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        if len(nonce) != NONCE_BYTES:
            check_nonce(nonce)
        size = len(sealed) - TAG_BYTES
        if size < 0:
            raise wrong_tag()
        try:
            return self._decrypt_into(nonce, sealed, aad, out[:size])
        except self._invalid_tag:
            raise wrong_tag() from None


class _OlderKey:
    """The same where AESGCM can only return new bytes: one copy more."""

    __slots__ = ("_cipher", "_invalid_tag")

    def __init__(self, cipher: AESGCM, invalid_tag: type[Exception]) -> None:
        self._cipher = cipher
        self._invalid_tag = invalid_tag

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        sealed = self._cipher.encrypt(nonce, plaintext, aad)
        out[: len(sealed)] = sealed
        return len(sealed)

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        try:
            plaintext = self._cipher.decrypt(nonce, sealed, aad)
        except self._invalid_tag:
            raise wrong_tag() from None
        out[: len(plaintext)] = plaintext
        return len(plaintext)
