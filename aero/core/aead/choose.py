"""Which AES-128-GCM backend this process uses: chosen at start, by name or as the first that passes its self-test.

No backend is imported before it is asked for, as each costs a worker time and memory.

| backend | what it is | a small record |
|---|---|---|
| cryptography | the package, where it imports | 1 µs |
| openssl | the OpenSSL that this interpreter's own hashlib is linked to, by ctypes | 4 µs |
| pycryptodome | always there, as the handshake needs it as well: the small one | 10 µs |
"""

from __future__ import annotations

from contextlib import suppress
from typing import Callable

from aero.core.aead.backend import TAG_BYTES, Backend
from aero.core.aead.growing import Growing
from aero.errors import HostError, SecurityError


def _cryptography() -> Backend:
    from aero.core.aead.cryptography import Cryptography

    return Cryptography()


def _openssl() -> Backend:
    from aero.core.aead.openssl import OpenSsl

    return OpenSsl()


def _pycryptodome() -> Backend:
    from aero.core.aead.pycryptodome import Pycryptodome

    return Pycryptodome()


_MAKERS: dict[str, Callable[[], Backend]] = {
    "cryptography": _cryptography,
    "openssl": _openssl,
    "pycryptodome": _pycryptodome,
}
#: fastest first: the order in which `choose` looks
BACKENDS: tuple[str, ...] = tuple(_MAKERS)


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


def choose_lazily(name: str = "") -> Backend:
    """As `choose`; without a name the small backend until there is traffic: see growing.py.

    For a process that can still import then what it can import now.
    """
    if not name:
        with suppress(HostError):
            return Growing(choose("pycryptodome"), choose)
    return choose(name)


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
