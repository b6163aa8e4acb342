"""AES-128-GCM by whatever this host has: the same bytes from three backends, one of them chosen at start.

Here live the backends and the choice between them. This file knows keys, nonces and buffers; what a record
is, which nonce is due and when a key has served long enough is record.py's business. No backend is imported
before it is asked for, as each costs a worker time and memory.

| backend | what it is | a small record |
|---|---|---|
| cryptography | the package, where it imports | 1 µs |
| openssl | the OpenSSL that this interpreter's own hashlib is linked to, by ctypes | 4 µs |
| pycryptodome | always there, as the handshake needs it as well | 10 µs |

Sealing and opening, the same for every backend:

- ``nonce`` is 12 bytes and never comes twice with one key; ``aad`` may be empty;
- buffers are contiguous views of bytes, at most 2**31 - 1 of them; what is only read may be read-only;
- in place is allowed: ``out`` may begin exactly where the input begins; any other overlap is not;
- what fails raises before anything of ``out`` may be used: after an error its content is garbage.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Callable, Protocol, Union

from aero.errors import HostError, SecurityError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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

    name: str  #: one of `BACKENDS`
    description: str  #: with its version, for the first log line

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes; ValueError for another length."""

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes; ValueError for another length."""


def choose(name: str = "") -> Backend:
    """The backend of this name, or the first of `BACKENDS` that passes its self-test here.

    Raises HostError with the reason when the named one does not work, or with all reasons when none does.
    """
    if name and name not in _MAKERS:
        raise HostError(f"there is no AEAD backend {name!r}; there are {', '.join(BACKENDS)}")
    reasons = []
    for candidate in (name,) if name else BACKENDS:
        try:
            backend = _MAKERS[candidate]()
            _self_test(backend)
        except HostError as error:
            reasons.append(f"{candidate}: {error}")
        else:
            return backend
    if name:
        raise HostError(f"no AES-GCM by {reasons[0]}; without --aead the fastest that works here is taken")
    raise HostError(f"no AES-GCM here ({'; '.join(reasons)})")


def _self_test(backend: Backend) -> None:
    """HostError unless test case 4 of the GCM specification (McGrew and Viega) passes in place, both ways."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    expected = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        "5bc94fbc3221a5db94fae95ae7121a47"
    )
    buffer = memoryview(bytearray(plaintext + bytes(TAG_BYTES)))
    size = len(plaintext)
    if backend.sealer(key).seal(nonce, aad, buffer[:size], buffer) != len(buffer) or buffer != expected:
        raise HostError("seals a known message wrongly")
    opener = backend.opener(key)
    if opener.open(nonce, aad, buffer, buffer) != size or buffer[:size] != plaintext:
        raise HostError("opens a known message wrongly")
    forged = expected[:-1] + bytes((expected[-1] ^ 1,))
    try:
        opener.open(nonce, aad, memoryview(forged), buffer)
    except SecurityError:
        return
    raise HostError("opens a message with a wrong tag")


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"an AES-128 key has {KEY_BYTES} bytes")


def _check_nonce(nonce: BytesLike) -> None:
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")


def _plain_bytes(sealed: memoryview) -> int:
    size = len(sealed) - TAG_BYTES
    if size < 0:
        raise _wrong_tag()
    return size


def _wrong_tag() -> SecurityError:
    return SecurityError("the tag does not match")


# --- cryptography ---------------------------------------------------------------------------------


# The first version whose AESGCM is one call into Rust. Before, it took bytes only and cost 10 µs for a small record,
# and 80 ms and 5 MB at start: OpenSSL by ctypes does better, and many hosts carry such a version.
_CRYPTOGRAPHY = 43


class _Cryptography:
    name = "cryptography"

    def __init__(self) -> None:
        try:
            from cryptography import __version__

            if int(__version__.partition(".")[0]) < _CRYPTOGRAPHY:
                raise HostError(f"version {__version__} is here, {_CRYPTOGRAPHY} or newer is needed")
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
        self._key_class = _CryptographyKey if hasattr(AESGCM, "encrypt_into") else _OlderCryptographyKey

    def _key(self, key: bytes) -> _CryptographyKey:
        _check_key(key)
        return self._key_class(self._cipher(key), self._invalid_tag)

    def sealer(self, key: bytes) -> Sealer:
        return self._key(key)

    def opener(self, key: bytes) -> Opener:
        return self._key(key)


class _CryptographyKey:
    """Seals and opens with an AESGCM object that writes into our buffers."""

    __slots__ = ("_cipher", "_invalid_tag")

    def __init__(self, cipher: AESGCM, invalid_tag: type[Exception]) -> None:
        self._cipher = cipher
        self._invalid_tag = invalid_tag

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        _check_nonce(nonce)
        return self._cipher.encrypt_into(nonce, plaintext, aad, out[: len(plaintext) + TAG_BYTES])

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        _check_nonce(nonce)
        size = _plain_bytes(sealed)
        try:
            return self._cipher.decrypt_into(nonce, sealed, aad, out[:size])
        except self._invalid_tag:
            raise _wrong_tag() from None


class _OlderCryptographyKey(_CryptographyKey):
    """The same where AESGCM can only return new bytes: one copy more."""

    __slots__ = ()

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        _check_nonce(nonce)
        sealed = self._cipher.encrypt(nonce, plaintext, aad)
        out[: len(sealed)] = sealed
        return len(sealed)

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        _check_nonce(nonce)
        try:
            plaintext = self._cipher.decrypt(nonce, sealed, aad)
        except self._invalid_tag:
            raise _wrong_tag() from None
        out[: len(plaintext)] = plaintext
        return len(plaintext)


# --- the interpreter's own OpenSSL ----------------------------------------------------------------

_GET_TAG = 0x10  # EVP_CTRL_AEAD_GET_TAG and _SET_TAG of openssl/evp.h, the same since OpenSSL 1.0.1
_SET_TAG = 0x11
_MAX_INT = 2**31 - 1  # lengths are C's int, which ctypes would cut to size without a word


class _OpenSsl:
    name = "openssl"

    def __init__(self) -> None:
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
        _check_key(key)
        return _OpenSslSealer(self, key)

    def opener(self, key: bytes) -> Opener:
        _check_key(key)
        return _OpenSslOpener(self, key)


class _OpenSslKey:
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

    def __init__(self, library: _OpenSsl, key: bytes, encrypt: int) -> None:
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


class _OpenSslSealer(_OpenSslKey):
    __slots__ = ()

    def __init__(self, library: _OpenSsl, key: bytes) -> None:
        super().__init__(library, key, 1)

    def seal(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
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


class _OpenSslOpener(_OpenSslKey):
    __slots__ = ()

    def __init__(self, library: _OpenSsl, key: bytes) -> None:
        super().__init__(library, key, 0)

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
        size = _plain_bytes(sealed)
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
        raise _wrong_tag()


# --- pycryptodome ---------------------------------------------------------------------------------

# Up to here the key stream comes from one call on ready-made counter blocks; above, a CTR object is cheaper.
_SHORT_BYTES = 4096
_COUNTERS = [b"", *(n.to_bytes(4, "big") for n in range(1, _SHORT_BYTES // 16 + 2))]


class _Pycryptodome:
    name = "pycryptodome"

    def __init__(self) -> None:
        try:
            from Crypto import __version__
            from Crypto.Cipher import AES
        except (ImportError, OSError) as error:
            raise HostError(f"does not import: {error}") from error
        self.description = f"pycryptodome {__version__}"
        self._aes = AES
        self._parts: Any = None
        try:
            from Crypto.Cipher import _mode_gcm

            self._parts = _mode_gcm._GHASH, _mode_gcm._ghash_clmul or _mode_gcm._ghash_portable
            self._compare_with_public()
        except (ImportError, AttributeError, TypeError, ValueError, HostError):
            # the parts are private and may change; what is public never fails, it is only slower
            self._parts = None
            self.description += ", the slow way"

    def _compare_with_public(self) -> None:
        """HostError unless the parts give what the whole gives, for a short and a long message."""
        key, nonce, aad = bytes(range(16)), bytes(range(12)), b"associated"
        ours, public = _PycryptodomeParts(self._aes, key, *self._parts), _PycryptodomeWhole(self._aes, key)
        for size in (0, 21, _SHORT_BYTES, _SHORT_BYTES + 21):
            plaintext = memoryview(bytes(range(256)) * (size // 256 + 1))[:size]
            sealed, expected = (memoryview(bytearray(size + TAG_BYTES)) for _ in range(2))
            ours.seal(nonce, aad, plaintext, sealed)
            public.seal(nonce, aad, plaintext, expected)
            if sealed != expected:
                raise HostError("its parts do not make up the whole")

    def _key(self, key: bytes) -> _PycryptodomeParts | _PycryptodomeWhole:
        _check_key(key)
        if self._parts:
            return _PycryptodomeParts(self._aes, key, *self._parts)
        return _PycryptodomeWhole(self._aes, key)

    def sealer(self, key: bytes) -> Sealer:
        return self._key(key)

    def opener(self, key: bytes) -> Opener:
        return self._key(key)


class _PycryptodomeWhole:
    """pycryptodome's public GCM: expands the key three times a record."""

    __slots__ = ("_aes", "_key")

    def __init__(self, aes: Any, key: bytes) -> None:
        self._aes = aes
        self._key = bytes(key)

    def _cipher(self, nonce: BytesLike, aad: BytesLike) -> Any:
        _check_nonce(nonce)
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
        size = _plain_bytes(sealed)
        cipher = self._cipher(nonce, aad)
        tag = bytes(sealed[size:])
        cipher.decrypt(sealed[:size], output=out[:size])
        try:
            cipher.verify(tag)
        except ValueError:
            raise _wrong_tag() from None
        return size


class _PycryptodomeParts:
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
        _check_nonce(nonce)
        size = len(plaintext)
        mask = self._crypt(nonce, plaintext, out)
        out[size : size + TAG_BYTES] = self._tag(mask, aad, out[:size])
        return size + TAG_BYTES

    def open(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        _check_nonce(nonce)
        size = _plain_bytes(sealed)
        ciphertext = sealed[:size]
        mask = self._stream(bytes(nonce) + b"\0\0\0\1")
        if not compare_digest(self._tag(mask, aad, ciphertext), sealed[size:]):
            raise _wrong_tag()
        self._crypt(nonce, ciphertext, out)
        return size


_MAKERS: dict[str, Callable[[], Backend]] = {
    "cryptography": _Cryptography,
    "openssl": _OpenSsl,
    "pycryptodome": _Pycryptodome,
}
#: fastest first: the order in which `choose` looks
BACKENDS: tuple[str, ...] = tuple(_MAKERS)
