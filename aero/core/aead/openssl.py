"""AES-128-GCM by the OpenSSL that this interpreter's own hashlib is linked to, by ctypes: 4 µs for a small record."""

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
from aero.errors import HostError, SecurityError

_GET_TAG = 0x10  # EVP_CTRL_AEAD_GET_TAG and _SET_TAG of openssl/evp.h, the same since OpenSSL 1.0.1
_SET_TAG = 0x11
_MAX_INT = 2**31 - 1  # lengths are C's int, which ctypes would cut to size without a word


class OpenSsl:
    """The backend. Raises HostError where the interpreter does not share its OpenSSL."""

    name = "openssl"

    def __init__(self) -> None:
        """Finds the library's functions. Raises HostError."""
        try:
            import _hashlib
            import ctypes
            from ctypes import c_int, c_void_p

            # PyDLL keeps the interpreter lock: letting go of it costs more than a small record, and gevent
            # has no other thread to run meanwhile.
            library = ctypes.PyDLL(_hashlib.__file__)
            functions = {
                name: library[name]
                for name in (
                    "OpenSSL_version",
                    "EVP_aes_128_gcm",
                    "EVP_CIPHER_CTX_new",
                    "EVP_CIPHER_CTX_free",
                    "EVP_CipherInit_ex",
                    "EVP_CipherUpdate",
                    "EVP_CipherFinal_ex",
                    "EVP_CIPHER_CTX_ctrl",
                )
            }
        except (ImportError, OSError, AttributeError) as error:
            # no hashlib of OpenSSL's, one built into the interpreter, or OpenSSL hidden inside it
            raise HostError(f"this interpreter does not share its OpenSSL: {error}") from error

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = functions[name]
            found.restype = result
            found.argtypes = arguments
            return found

        version = function("OpenSSL_version", ctypes.c_char_p, c_int)(0)
        # "OpenSSL 3.0.15 3 Sep 2024": name and version are enough
        self.description = f"openssl ({' '.join(version.decode().split()[:2])}, by ctypes)"
        self.cipher = function("EVP_aes_128_gcm", c_void_p)()
        self.new = function("EVP_CIPHER_CTX_new", c_void_p)
        self.free = function("EVP_CIPHER_CTX_free", None, c_void_p)
        self.init = function(
            "EVP_CipherInit_ex", c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int
        )
        self.update = function("EVP_CipherUpdate", c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int)
        self.final = function("EVP_CipherFinal_ex", c_int, c_void_p, c_void_p, c_void_p)
        self.control = function("EVP_CIPHER_CTX_ctrl", c_int, c_void_p, c_int, c_int, c_void_p)
        self.written = c_int()  # how much a call wrote: OpenSSL insists on telling, and we know it before
        self.written_at = ctypes.addressof(self.written)
        self.from_buffer = ctypes.c_char.from_buffer
        self.addressof = ctypes.addressof

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes. Raises ValueError for another length."""
        check_key(key)
        return _Sealer(self, key)

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes. Raises ValueError for another length."""
        check_key(key)
        return _Opener(self, key)


class _Key:
    """One EVP_CIPHER_CTX: the key is expanded once, a record only brings its nonce.

    C believes every address and length it is given, so they are all checked here.
    """

    __slots__ = (
        "_addressof",
        "_context",
        "_control",
        "_final",
        "_free",
        "_from_buffer",
        "_init",
        "_library",
        "_update",
        "_written_at",
    )

    def __init__(self, library: OpenSsl, key: bytes, encrypt: int) -> None:
        self._library = library  # owns what _written_at points to
        self._written_at = library.written_at
        self._init, self._update, self._final = library.init, library.update, library.final
        self._control, self._free = library.control, library.free
        self._from_buffer, self._addressof = library.from_buffer, library.addressof
        self._context = library.new()
        if (
            not self._context
            or self._init(self._context, library.cipher, None, bytes(key), None, encrypt) != 1
        ):
            raise HostError("OpenSSL refuses AES-128-GCM")

    def __del__(self) -> None:
        self._free(self._context)  # also wipes the key; NULL is fine

    def _head(self, view: memoryview, size: int) -> int | bytes:
        """What C gets for the first ``size`` bytes of a view that it reads: their address, or a copy."""
        try:
            return self._addressof(self._from_buffer(view))
        except (TypeError, ValueError):  # ctypes gives no address of what is read-only or empty
            return bytes(view[:size])


class _Sealer(_Key):
    __slots__ = ()

    def __init__(self, library: OpenSsl, key: bytes) -> None:
        super().__init__(library, key, 1)

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        size = len(plaintext)
        if len(out) < size + TAG_BYTES:
            raise ValueError("out is too short")
        if size > _MAX_INT or len(aad) > _MAX_INT:
            raise ValueError("a record is too long")
        target = self._addressof(self._from_buffer(out))
        context, update, written_at = self._context, self._update, self._written_at
        if (
            self._init(context, None, None, None, bytes(nonce), -1)
            and update(context, None, written_at, bytes(aad), len(aad))
            and update(context, target, written_at, self._head(plaintext, size), size)
            and self._final(context, target + size, written_at)
            and self._control(context, _GET_TAG, TAG_BYTES, target + size)
        ):
            return size + TAG_BYTES
        raise SecurityError("OpenSSL could not seal a record")


class _Opener(_Key):
    __slots__ = ()

    def __init__(self, library: OpenSsl, key: bytes) -> None:
        super().__init__(library, key, 0)

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        check_nonce(nonce)
        size = plain_bytes(sealed)
        if len(out) < size:
            raise ValueError("out is too short")
        if size > _MAX_INT or len(aad) > _MAX_INT:
            raise ValueError("a record is too long")
        target = self._addressof(self._from_buffer(out)) if size else None
        context, update, written_at = self._context, self._update, self._written_at
        if (
            self._init(context, None, None, None, bytes(nonce), -1)
            and update(context, None, written_at, bytes(aad), len(aad))
            and self._control(context, _SET_TAG, TAG_BYTES, bytes(sealed[size:]))
            and (not size or update(context, target, written_at, self._head(sealed, size), size))
            and self._final(context, written_at, written_at) > 0
        ):
            return size
        raise wrong_tag()
