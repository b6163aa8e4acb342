"""SPAKE2+ on P-256: turns an auth code into fresh keys and proofs; the server's half of it lets nobody in.

RFC 9383, ciphersuite P256-SHA256-HKDF-SHA256-HMAC-SHA256. The worker is the Prover and keeps a `Password` (w0, w1); the
server is the Verifier and keeps a `Verifier` (w0 and L = w1*G), from which w1 cannot be computed. Here live the
mathematics of one handshake; how a code becomes scalars is stretch.py's; what the messages look like, who proves
first, and what goes into the context is the handshake's business (PROTOCOL.md, section "Handshake"). This module draws
no randomness: the caller brings the bytes.

Points are added and multiplied by pycryptodome, in C and with blinded scalars.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

from aero.core.codes import Close
from aero.core.digest import hkdf_expand, hmac_sha256, sha256
from aero.core.p256 import EccPoint
from aero.core.stretch import ORDER, SCALAR_BYTES, SERVER_IDENTITY, reduce, with_length
from aero.errors import RemoteProtocolError

SHARE_BYTES = 65  # SEC 1, uncompressed point: 0x04, x, y
CONFIRMATION_BYTES = 32  # HMAC-SHA256
SHARED_BYTES = 32  # K_shared, from HKDF-SHA256
#: What a verifier as text begins with; another stretching of codes would have another one.
VERIFIER_MARK = "spake2plus"

_FIELD = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_COORDINATE_BYTES = 32

# The generator (SEC 2, section 2.4.2), and the two points of RFC 9383, section 4, decompressed.
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


class Keys(NamedTuple):
    """What a finished run gives.

    ``shared`` is K_shared (32 bytes). ``our_confirmation`` (32 bytes) goes to the peer, and what comes back must equal
    ``their_confirmation`` (32 bytes, compared in constant time) before ``shared`` is used.
    """

    shared: bytes
    our_confirmation: bytes
    their_confirmation: bytes


class Password:
    """What a worker keeps of an auth code: w0 and w1, with w0*M and w0*N, which every run needs."""

    def __init__(self, w0: int, w1: int) -> None:
        """The scalars of `stretch`; ValueError unless both are from 1 to order - 1."""
        self.w0, self.w1 = _in_range(w0), _in_range(w1)
        self.m, self.n = _M * w0, _N * w0


class Verifier:
    """What a server keeps of an auth code: w0 and L, with w0*M and w0*N, which every run needs.

    To get in takes w1, and L = w1*G does not tell it.
    """

    def __init__(self, w0: int, public: EccPoint) -> None:
        """``public``: L. ValueError for a w0 that is not from 1 to order - 1, or an L that is the point at infinity."""
        if public.is_point_at_infinity():
            raise ValueError("L must not be the point at infinity")
        self.w0, self.public = _in_range(w0), public
        self.m, self.n = _M * w0, _N * w0

    @classmethod
    def of(cls, w0: int, w1: int) -> Verifier:
        """The verifier of an auth code, from the scalars of `stretch`; w1 is not kept."""
        return cls(w0, _G * _in_range(w1))

    @classmethod
    def read(cls, text: str) -> Verifier:
        """The verifier in a text that `text` made. Raises ValueError for what is none."""
        mark, _, coded = text.partition("$")
        data = binascii.a2b_base64(coded.replace("-", "+").replace("_", "/") + "==")
        if mark != VERIFIER_MARK or len(data) != _COORDINATE_BYTES + SHARE_BYTES:
            raise ValueError("not a verifier")
        try:
            public = _decode(data[_COORDINATE_BYTES:])
        except RemoteProtocolError as error:
            raise ValueError(f"not a verifier: {error}") from None
        return cls(int.from_bytes(data[:_COORDINATE_BYTES], "big"), public)

    @property
    def text(self) -> str:
        """``spake2plus$`` and w0 and L in base64 of URLs: what a users' file has."""
        data = self.w0.to_bytes(_COORDINATE_BYTES, "big") + _encode(self.public)
        coded = binascii.b2a_base64(data, newline=False).decode().rstrip("=")
        return f"{VERIFIER_MARK}${coded.replace('+', '-').replace('/', '_')}"


class _Run:
    """What both ends of one run share. Use each object for one peer and one ``finish`` only."""

    share: bytes  #: what the peer must get: SEC 1 uncompressed point, 65 bytes

    def __init__(self, scalar_bytes: bytes) -> None:
        if len(scalar_bytes) != SCALAR_BYTES:
            raise ValueError(f"a private scalar takes {SCALAR_BYTES} random bytes")
        self._scalar = reduce(scalar_bytes)
        self._scalar_bytes = scalar_bytes

    def _times(self, point: EccPoint, scalar: int, what: bytes) -> bytes:
        """The encoded product; where ``point`` is the point at infinity, bytes that nobody can predict.

        Only a share that was made from the right w0 alone leads there. Whoever sent it must not be able to tell
        (RFC 9383, section 3.3, would have us abort, and that is an answer): the run goes on with bytes that depend on
        our private scalar, takes as long, and fails where a wrong code fails.
        """
        impossible = point.is_point_at_infinity()
        product = _encode((_M if impossible else point) * scalar)  # multiplying G would be quicker
        unknown = b"\x04" + hkdf_expand(self._scalar_bytes, what, SHARE_BYTES - 1)
        return unknown if impossible else product


class ProverRun(_Run):
    """The worker's end of one run."""

    def __init__(self, password: Password, scalar_bytes: bytes) -> None:
        """``scalar_bytes``: 48 fresh random bytes."""
        super().__init__(scalar_bytes)
        self._password = password
        self.share = _encode(_G * self._scalar + password.m)

    def finish(self, peer_share: bytes, context: bytes, identity: bytes) -> Keys:
        """The keys of this run from the server's share (65 bytes), the context and the Prover's identity.

        Raises RemoteProtocolError when the share is not a point of the curve. A wrong code does not show here: it
        shows as a confirmation that differs.
        """
        password = self._password
        base = _decode(peer_share) + -password.n
        z, v = self._times(base, self._scalar, b"Z"), self._times(base, password.w1, b"V")
        shared, by_prover, by_verifier = _keys(
            context, identity, self.share, bytes(peer_share), z, v, password.w0
        )
        return Keys(shared, by_prover, by_verifier)


class VerifierRun(_Run):
    """The server's end of one run."""

    def __init__(self, verifier: Verifier, scalar_bytes: bytes) -> None:
        """``scalar_bytes``: 48 fresh random bytes."""
        super().__init__(scalar_bytes)
        self._verifier = verifier
        self.share = _encode(_G * self._scalar + verifier.n)

    def finish(self, peer_share: bytes, context: bytes, identity: bytes) -> Keys:
        """As `ProverRun.finish`, from the worker's share."""
        verifier = self._verifier
        base = _decode(peer_share) + -verifier.m
        z, v = self._times(base, self._scalar, b"Z"), self._times(verifier.public, self._scalar, b"V")
        shared, by_prover, by_verifier = _keys(
            context, identity, bytes(peer_share), self.share, z, v, verifier.w0
        )
        return Keys(shared, by_verifier, by_prover)


def _keys(
    context: bytes, identity: bytes, share_p: bytes, share_v: bytes, z: bytes, v: bytes, w0: int
) -> tuple[bytes, bytes, bytes]:
    """(K_shared, confirmP, confirmV); RFC 9383, sections 3.3 and 3.4."""
    parts = (
        context,
        identity,
        SERVER_IDENTITY,
        _M_BYTES,
        _N_BYTES,
        share_p,
        share_v,
        z,
        v,
        w0.to_bytes(_COORDINATE_BYTES, "big"),
    )
    main = sha256(b"".join(map(with_length, parts))).digest()
    extracted = hmac_sha256(bytes(32), main)  # HKDF (RFC 5869) without salt
    confirming = hkdf_expand(extracted, b"ConfirmationKeys", 64)
    shared = hkdf_expand(extracted, b"SharedKey", SHARED_BYTES)
    by_prover = hmac_sha256(confirming[:32], share_v)
    by_verifier = hmac_sha256(confirming[32:], share_p)
    return shared, by_prover, by_verifier


def _in_range(scalar: int) -> int:
    if not 0 < scalar < ORDER:
        raise ValueError("a scalar of a code must be from 1 to the group order less 1")
    return scalar


def _encode(point: EccPoint) -> bytes:
    x, y = point.xy
    return b"\x04" + int(x).to_bytes(_COORDINATE_BYTES, "big") + int(y).to_bytes(_COORDINATE_BYTES, "big")


def _decode(share: bytes) -> EccPoint:
    """The point of a share. It says nothing about the code whether this fails, so the peer is told."""
    if len(share) != SHARE_BYTES or share[0] != 4:
        raise RemoteProtocolError(
            Close.FRAME, f"a share that is not an uncompressed point of {SHARE_BYTES} bytes"
        )
    x = int.from_bytes(share[1 : 1 + _COORDINATE_BYTES], "big")
    y = int.from_bytes(share[1 + _COORDINATE_BYTES :], "big")
    # pycryptodome takes (0, 0) for the point at infinity, and newer versions reduce what is too large
    if x >= _FIELD or y >= _FIELD or x == y == 0:
        raise RemoteProtocolError(Close.FRAME, "a share that is not a point of the curve")
    try:
        return EccPoint(x, y, "p256")
    except ValueError:
        raise RemoteProtocolError(Close.FRAME, "a share that is not a point of the curve") from None


_M_BYTES, _N_BYTES = _encode(_M), _encode(_N)
