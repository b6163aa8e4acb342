"""What every AES-128-GCM backend is, and what all of them check.

This module knows keys, nonces and buffers; what a record is, which nonce is due and when a key has served long enough
is record.py's business. Sealing and opening, the same for every backend:

- ``nonce`` is 12 bytes and never comes twice with one key; ``aad`` may be empty;
- buffers are contiguous views of bytes, at most 2**31 - 1 of them; what is only read may be read-only;
- in place is allowed: ``out`` may begin exactly where the input begins; any other overlap is not;
- what fails raises before anything of ``out`` may be used: after an error its content is garbage.
"""

from __future__ import annotations

from typing import Protocol, Union

from aero.errors import SecurityError

KEY_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16

BytesLike = Union[bytes, bytearray, memoryview]


class Sealer(Protocol):
    """Encrypts with one key."""

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        """Writes ciphertext and tag to the head of ``out`` and returns their length, ``len(plaintext) + 16``.

        Raises ValueError for a nonce that is not 12 bytes long or an ``out`` that is too short.
        """


class Opener(Protocol):
    """Decrypts with one key."""

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        """Writes the plaintext to the head of ``out`` and returns its length, ``len(sealed) - 16``.

        Raises SecurityError when ``sealed`` is not what a Sealer with this key made of this nonce and aad;
        ValueError as `Sealer.seal` does.
        """


class Backend(Protocol):
    """One implementation of AES-128-GCM."""

    @property
    def name(self) -> str:
        """One of choose.BACKENDS."""

    @property
    def description(self) -> str:
        """The same with its version, for the first log line."""

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes; ValueError for another length."""

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes; ValueError for another length."""


def check_key(key: bytes) -> None:
    """Raises ValueError for a key of another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"an AES-128 key has {KEY_BYTES} bytes")


def check_nonce(nonce: BytesLike) -> None:
    """Raises ValueError for a nonce of another length."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")


def plain_bytes(sealed: memoryview) -> int:
    """The plaintext's length in bytes; raises SecurityError where not even a tag has room."""
    size = len(sealed) - TAG_BYTES
    if size < 0:
        raise wrong_tag()
    return size


def wrong_tag() -> SecurityError:
    """What `Opener.open` raises."""
    return SecurityError("the tag does not match")
