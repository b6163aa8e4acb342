"""From an auth code to the two scalars of SPAKE2+: slow on purpose, and therefore begun early.

Imports nothing native but pycryptodome, so that a start can have a thread of its own stretch the code while the
interpreter reads the rest of the program: scrypt runs without the interpreter lock. pycryptodome's takes two thirds of
the time that hashlib's does, and spares the process OpenSSL's libcrypto.
"""

from __future__ import annotations

import struct
import threading
from typing import Callable

from aero.core.pycryptodome import scrypt

#: The Verifier's identity. The Prover's is the user's name, empty for the plain code.
SERVER_IDENTITY = b"server"
#: The order of P-256 (SEC 2, section 2.4.2).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# 128 bits more than the group order has: reduced modulo it, the bias is below 2**-128. RFC 9383, section 3.2, asks
# for 64 bits more.
SCALAR_BYTES = 48

# scrypt's customary interactive cost: 16 MiB and some 30 ms for us, once per process, and as much for every
# guess at a code that an attacker makes who has stolen a verifier.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SALT = b"AeRO-proxy SPAKE2+ auth code"

#: What stands between a user's name and that of one of his credentials; names that begin with it are nobody's.
MARK = "+"

#: Code and user → the scalars w0 and w1; some 50 ms of work, which may be another thread's.
Stretch = Callable[[str, str], tuple[int, int]]


def stretch(code: str, user: str) -> tuple[int, int]:
    """The scalars w0 and w1, 1 to order - 1, of a user's auth code: scrypt, then reduction (RFC 9383, section 3.2).

    Unicode's different spellings of one text give the same scalars; bytes that were no UTF-8 where the code came from
    (Python's surrogate escapes) count as themselves. An empty code is a code like any other.
    Takes tens of milliseconds and 16 MiB: keep the result.
    """
    password = b"".join(map(with_length, (_text(code), identity_of(stretched_as(user)), SERVER_IDENTITY)))
    derived = scrypt(password, _SALT, 2 * SCALAR_BYTES, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    return reduce(derived[:SCALAR_BYTES]), reduce(derived[SCALAR_BYTES:])


class Stretching:
    """One code being stretched by a thread, from the moment that this is made."""

    def __init__(self, code: str, user: str) -> None:
        """No process may be forked before `result` has returned: the thread would stay behind."""
        self._asked = code, user
        self._scalars: tuple[int, int] | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be had here: `result` does it
            self._thread = None

    def _run(self) -> None:
        self._scalars = stretch(*self._asked)

    def result(self, code: str, user: str) -> tuple[int, int]:
        """What `stretch` returns for this code and user, waited for where it is the one being stretched."""
        if (code, user) != self._asked:
            return stretch(code, user)
        if self._thread is not None:
            self._thread.join()
        return self._scalars or stretch(code, user)


def stretched_as(user: str) -> str:
    """The name that a code is stretched with: of a credential's USER+ID it is +ID, since whoever makes the code does
    not know yet whose it will be.
    """
    return user[user.index(MARK) :] if MARK in user else user


def identity_of(user: str) -> bytes:
    """The Prover's identity."""
    return _text(user)


def reduce(uniform: bytes) -> int:
    """A scalar from 1 to order - 1 out of 48 uniform bytes; never 0, as 0 would hide nothing."""
    return int.from_bytes(uniform, "big") % (ORDER - 1) + 1


def with_length(part: bytes) -> bytes:
    """``part`` with its length in front, as RFC 9383 writes the parts of a hash's input: u64, little-endian."""
    return struct.pack("<Q", len(part)) + part


def _text(text: str) -> bytes:
    if not text.isascii():
        from unicodedata import normalize  # a megabyte that plain codes do without

        text = normalize("NFC", text)
    return text.encode("utf-8", "surrogateescape")
