"""SPAKE2 on P-256: turns a shared auth code into fresh keys and a proof that both ends knew it.

RFC 9382, ciphersuite P256-SHA256-HKDF-HMAC. Here live the mathematics of one handshake and the stretching of
the auth code; what the messages look like and what goes into the identities and the associated data is the
link's business (PROTOCOL.md, "Handshake"). This file draws no randomness: the caller brings the bytes.

Points are added and multiplied by pycryptodome, in C and with blinded scalars.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import NamedTuple

from aero.core.pycryptodome import EccPoint, scrypt
from aero.errors import SecurityError

SCALAR_BYTES = (
    48  # 128 bits more than the group order: reduced modulo it, the bias is below 2**-128 (section 3.2)
)
SHARE_BYTES = 65  # SEC1 uncompressed point: 0x04, x, y
CONFIRMATION_BYTES = 32  # HMAC-SHA256
SECRET_BYTES = 16  # Ke, the first half of SHA-256(TT)

_FIELD = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_COORDINATE_BYTES = 32

# The generator (SEC 2, section 2.4.2), and the two points of RFC 9382, section 6, decompressed.
_G = EccPoint(
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    "p256",
)
_M = EccPoint(
    0x886E2F97ACE46E55BA9DD7242579F2993B64E16EF3DCAB95AFD497333D8FA12F,
    0x5FF355163E43CE224E0B0E65FF02AC8E5C7BE09419C785E0CA547D55A12E2D20,
    "p256",
)
_N = EccPoint(
    0xD8BBD6C639C62937B04D997F38C3770719C629D7014D49A24B4F98BAA1292B49,
    0x07D60AA6BFADE45008A636337F5168C64D9BD36034808CD564490B1E656EDBE7,
    "p256",
)

# scrypt's customary interactive cost: 16 MiB and some 30 ms for us, once per process, and as much for every
# guess at a code that an attacker makes.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SALT = b"AeRO-proxy SPAKE2 auth code\0"


class Keys(NamedTuple):
    """What a finished run gives.

    ``secret`` (16 bytes) is the shared Ke; ``our_confirmation`` (32 bytes) goes to the peer, and what comes
    back must equal ``their_confirmation`` (32 bytes, compared in constant time) before ``secret`` is used.
    """

    secret: bytes
    our_confirmation: bytes
    their_confirmation: bytes


def stretch(code: str, user: str) -> int:
    """The scalar w, 1 to order - 1, of an auth code: scrypt, then reduction (RFC 9382, section 3.2).

    The salt is a fixed text and the user name, as both ends must come to the same w before the first message.
    Unicode's different spellings of one text give one w; bytes that were no UTF-8 where the code came from
    (Python's surrogate escapes) count as themselves. An empty code is a code like any other.
    Takes tens of milliseconds and 16 MiB: keep the result.
    """
    derived = scrypt(_text(code), _SALT + _text(user), SCALAR_BYTES, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    return _reduce(derived)


class Password:
    """An auth code made ready for any number of runs: w with w*M and w*N, worth two multiplications a run.

    ``w`` comes from `stretch`; ValueError unless it is in 1 to order - 1.
    """

    def __init__(self, w: int) -> None:
        if not 0 < w < _ORDER:
            raise ValueError("w must be from 1 to the group order less 1")
        self.w_bytes = w.to_bytes(_COORDINATE_BYTES, "big")
        self.masks = {"A": _M * w, "B": _N * w}


class Spake2:
    """Our end of one run. Use each object for one peer and one `finish` only.

    ``role`` is "A" (the worker, which masks with M) or "B" (the server, which masks with N); ``identity_a``
    and ``identity_b`` are the same at both ends; ``scalar_bytes`` are 48 fresh random bytes.
    """

    def __init__(
        self, role: str, password: Password, identity_a: bytes, identity_b: bytes, scalar_bytes: bytes
    ) -> None:
        if role not in ("A", "B"):
            raise ValueError("role must be 'A' or 'B'")
        if len(scalar_bytes) != SCALAR_BYTES:
            raise ValueError(f"a private scalar takes {SCALAR_BYTES} random bytes")
        self._role = role
        self._password = password
        self._identities = identity_a, identity_b
        self._scalar = _reduce(scalar_bytes)
        #: what the peer must get: SEC1 uncompressed point, 65 bytes
        self.share = _encode(_G * self._scalar + password.masks[role])

    def finish(self, peer_share: bytes, aad: bytes) -> Keys:
        """The keys of this run from the peer's share (65 bytes) and the data bound into the confirmation.

        Raises SecurityError when the share is not a point of the curve, or makes the secret guessable.
        A wrong code does not show here: it shows as a confirmation that differs.
        """
        peer_mask = self._password.masks["B" if self._role == "A" else "A"]
        shared = (_decode(peer_share) + -peer_mask) * self._scalar
        if shared.is_point_at_infinity():
            raise SecurityError("the peer's SPAKE2 share gives away the shared secret")
        if self._role == "A":
            shares = self.share, bytes(peer_share)
        else:
            shares = bytes(peer_share), self.share
        transcript = b"".join(
            struct.pack("<Q", len(part)) + part  # RFC 9382, section 3.3: TT
            for part in (*self._identities, *shares, _encode(shared), self._password.w_bytes)
        )
        digest = hashlib.sha256(transcript).digest()
        secret, confirmation_secret = digest[:SECRET_BYTES], digest[SECRET_BYTES:]
        # HKDF (RFC 5869) without salt; 32 bytes are one block of its second step
        extracted = hmac.digest(bytes(32), confirmation_secret, "sha256")
        expanded = hmac.digest(extracted, b"ConfirmationKeys" + aad + b"\x01", "sha256")
        by_a = hmac.digest(expanded[:16], transcript, "sha256")
        by_b = hmac.digest(expanded[16:], transcript, "sha256")
        return Keys(secret, by_a, by_b) if self._role == "A" else Keys(secret, by_b, by_a)


def _text(text: str) -> bytes:
    if not text.isascii():
        from unicodedata import normalize  # a megabyte that plain codes do without

        text = normalize("NFC", text)
    return text.encode("utf-8", "surrogateescape")


def _reduce(uniform: bytes) -> int:
    """A scalar from 1 to order - 1 out of 48 uniform bytes; never 0, as 0 would hide nothing."""
    return int.from_bytes(uniform, "big") % (_ORDER - 1) + 1


def _encode(point: EccPoint) -> bytes:
    x, y = point.xy
    return b"\x04" + int(x).to_bytes(_COORDINATE_BYTES, "big") + int(y).to_bytes(_COORDINATE_BYTES, "big")


def _decode(share: bytes) -> EccPoint:
    if len(share) != SHARE_BYTES or share[0] != 4:
        raise SecurityError(f"the peer's SPAKE2 share is not an uncompressed point of {SHARE_BYTES} bytes")
    x = int.from_bytes(share[1 : 1 + _COORDINATE_BYTES], "big")
    y = int.from_bytes(share[1 + _COORDINATE_BYTES :], "big")
    # pycryptodome takes (0, 0) for the point at infinity, and newer versions reduce what is too large
    if x >= _FIELD or y >= _FIELD or x == y == 0:
        raise SecurityError("the peer's SPAKE2 share is not a point of the curve")
    try:
        return EccPoint(x, y, "p256")
    except ValueError:
        raise SecurityError("the peer's SPAKE2 share is not a point of the curve") from None
