"""AES-128-GCM by pycryptodome, which the handshake needs as well, so it is always there: 10 µs for a small record."""

from __future__ import annotations

from typing import Any

from aero.core.aead.backend import (
    TAG_BYTES,
    BytesLike,
    Opener,
    Sealer,
    check_key,
    check_nonce,
    plain_bytes,
    wrong_tag,
)
from aero.core.digest import same
from aero.core.pycryptodome import alone
from aero.errors import HostError

# Up to here the key stream comes from one call on ready-made counter blocks; above, a CTR object is cheaper.
_SHORT_BYTES = 4096
_COUNTERS = [b"", *(n.to_bytes(4, "big") for n in range(1, _SHORT_BYTES // 16 + 2))]


class Pycryptodome:
    """The backend. Raises HostError where pycryptodome is missing."""

    name = "pycryptodome"

    def __init__(self) -> None:
        """Imports the package. Raises HostError."""
        try:
            from Crypto import __version__

            with alone():
                from Crypto.Cipher import AES, _mode_gcm
        except (ImportError, OSError) as error:
            raise HostError(f"does not import: {error}") from error
        self.description = f"pycryptodome {__version__}"
        self._aes = AES
        self._parts: Any = None
        try:
            self._parts = _mode_gcm._GHASH, _mode_gcm._ghash_clmul or _mode_gcm._ghash_portable
            self._compare_with_public()
        except (ImportError, AttributeError, TypeError, ValueError, HostError):
            # the parts are private and may change; what is public never fails, it is only slower
            self._parts = None
            self.description += ", the slow way"

    def _compare_with_public(self) -> None:
        """HostError unless the parts give what the whole gives, for a short and a long message."""
        key, nonce, aad = bytes(range(16)), bytes(range(12)), b"associated"
        ours, public = _Parts(self._aes, key, *self._parts), _Whole(self._aes, key)
        for size in (0, 21, _SHORT_BYTES, _SHORT_BYTES + 21):
            plaintext = memoryview(bytes(range(256)) * (size // 256 + 1))[:size]
            sealed, expected = (memoryview(bytearray(size + TAG_BYTES)) for _ in range(2))
            ours.seal(nonce, aad, plaintext, sealed)
            public.seal(nonce, aad, plaintext, expected)
            if sealed != expected:
                raise HostError("its parts do not make up the whole")

    def _key(self, key: bytes) -> _Parts | _Whole:
        check_key(key)
        if self._parts:
            return _Parts(self._aes, key, *self._parts)
        return _Whole(self._aes, key)

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes. Raises ValueError for another length."""
        return self._key(key)

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes. Raises ValueError for another length."""
        return self._key(key)


class _Whole:
    """pycryptodome's public GCM: expands the key three times a record."""

    __slots__ = ("_aes", "_key")

    def __init__(self, aes: Any, key: bytes) -> None:
        self._aes = aes
        self._key = bytes(key)

    def _cipher(self, nonce: BytesLike, aad: BytesLike) -> Any:
        check_nonce(nonce)
        cipher = self._aes.new(self._key, self._aes.MODE_GCM, nonce=nonce)
        cipher.update(aad)
        return cipher

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        size = len(plaintext)
        cipher = self._cipher(nonce, aad)
        cipher.encrypt(plaintext, output=out[:size])
        out[size : size + TAG_BYTES] = cipher.digest()
        return size + TAG_BYTES

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        size = plain_bytes(sealed)
        cipher = self._cipher(nonce, aad)
        tag = bytes(sealed[size:])
        cipher.decrypt(sealed[:size], output=out[:size])
        try:
            cipher.verify(tag)
        except ValueError:
            raise wrong_tag() from None
        return size


class _Parts:
    """GCM (NIST SP 800-38D, sections 7.1 and 7.2) put together from pycryptodome's AES and GHASH.

    What depends on the key alone, AES's round keys and GHASH's table, is made once.
    """

    __slots__ = ("_aes", "_ghash", "_key", "_stream")

    def __init__(self, aes: Any, key: bytes, ghash: Any, ghash_library: Any) -> None:
        self._aes = aes
        self._key = bytes(key)
        self._stream = aes.new(self._key, aes.MODE_ECB).encrypt
        self._ghash = ghash(self._stream(bytes(16)), ghash_library)

    def _crypt(self, nonce: BytesLike, source: memoryview, out: memoryview) -> bytes:
        """XORs the key stream for counters 2, 3, … onto source; returns that of counter 1, the tag's mask."""
        size = len(source)
        nonce = bytes(nonce)
        if size > _SHORT_BYTES:
            mode = self._aes.MODE_CTR
            self._aes.new(self._key, mode, nonce=nonce, initial_value=2).encrypt(source, output=out[:size])
            mask: bytes = self._stream(nonce + b"\0\0\0\1")
            return mask
        # the nonce joins the counters: b"" + nonce + 1 + nonce + 2 …
        stream: bytes = self._stream(nonce.join(_COUNTERS[: (size + 15) // 16 + 2]))
        number = int.from_bytes(source, "little") ^ int.from_bytes(stream[16 : 16 + size], "little")
        out[:size] = number.to_bytes(size, "little")
        return stream[:16]

    def _tag(self, mask: bytes, aad: BytesLike, ciphertext: memoryview) -> bytes:
        ghash = self._ghash
        ghash.update(ghash.digest())  # the state XOR itself is zero: a fresh start with the same table
        size = len(ciphertext)
        whole = size & ~15 if size > _SHORT_BYTES else 0  # what goes in without a copy
        ending = b"".join(
            (
                ciphertext[whole:],
                bytes(-size % 16),
                (len(aad) * 8).to_bytes(8, "big"),
                (size * 8).to_bytes(8, "big"),
            )
        )
        beginning = b"".join((aad, bytes(-len(aad) % 16)))
        if whole:
            ghash.update(beginning)
            ghash.update(ciphertext[:whole])
            ghash.update(ending)
        else:
            ghash.update(beginning + ending)
        number = int.from_bytes(ghash.digest(), "little") ^ int.from_bytes(mask, "little")
        return number.to_bytes(TAG_BYTES, "little")

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        size = len(plaintext)
        mask = self._crypt(nonce, plaintext, out)
        out[size : size + TAG_BYTES] = self._tag(mask, aad, out[:size])
        return size + TAG_BYTES

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        size = plain_bytes(sealed)
        ciphertext = sealed[:size]
        mask = self._stream(bytes(nonce) + b"\0\0\0\1")
        if not same(self._tag(mask, aad, ciphertext), sealed[size:]):
            raise wrong_tag()
        self._crypt(nonce, ciphertext, out)
        return size
