"""A certificate that the server makes for itself, where it was given none: for TLS that is there to get through
networks, while SPAKE2+ inside is what both ends trust.

Written with pycryptodome, which is there anyway: X.509 (RFC 5280) with one EC key is a page of DER. Its validity never
ends, since nothing but its key says who the server is (`aero pin`).
"""

from __future__ import annotations

import os
from base64 import encodebytes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Crypto.PublicKey.ECC import EccKey

FILE = "tls.pem"
NAME = b"aero"
# DER's tags (X.690), and what does not depend on the key. Identifiers are written as they are encoded.
_INTEGER, _BITS, _BYTES, _IDENTIFIER, _UTF8, _SEQUENCE, _SET = 0x02, 0x03, 0x04, 0x06, 0x0C, 0x30, 0x31
_UTC_TIME, _GENERALIZED_TIME, _DNS_NAME, _VERSION, _EXTENSIONS = 0x17, 0x18, 0x82, 0xA0, 0xA3
_ECDSA_SHA256 = bytes.fromhex("2a8648ce3d040302")
_COMMON_NAME, _ALTERNATIVE_NAME = bytes.fromhex("550403"), bytes.fromhex("551d11")
# Machines without a battery begin in 1970; the end is "no well-defined expiration date" (section 4.1.2.5).
_FROM, _UNTIL = b"700101000000Z", b"99991231235959Z"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY


def make() -> str:
    """A new key and a certificate that it has signed itself, as PEM."""
    from Crypto.PublicKey import ECC

    key = ECC.generate(curve="P-256")
    return _pem("PRIVATE KEY", key.export_key(format="DER", use_pkcs8=True)) + _pem(
        "CERTIFICATE", certificate(key)
    )


def certificate(key: EccKey) -> bytes:
    """A self-signed certificate of ``key``, as DER."""
    from Crypto.Hash import SHA256
    from Crypto.Signature import DSS

    algorithm = _der(_SEQUENCE, _der(_IDENTIFIER, _ECDSA_SHA256))
    common_name = _der(_SEQUENCE, _der(_IDENTIFIER, _COMMON_NAME), _der(_UTF8, NAME))
    name = _der(_SEQUENCE, _der(_SET, common_name))
    names = _der(_BYTES, _der(_SEQUENCE, _der(_DNS_NAME, NAME)))
    body = _der(
        _SEQUENCE,
        _der(_VERSION, _der(_INTEGER, b"\x02")),  # the third
        _der(_INTEGER, b"\x01" + os.urandom(15)),
        algorithm,
        name,
        _der(_SEQUENCE, _der(_UTC_TIME, _FROM), _der(_GENERALIZED_TIME, _UNTIL)),
        name,
        key.public_key().export_key(format="DER"),
        _der(_EXTENSIONS, _der(_SEQUENCE, _der(_SEQUENCE, _der(_IDENTIFIER, _ALTERNATIVE_NAME), names))),
    )
    signature = DSS.new(key, "deterministic-rfc6979", encoding="der").sign(SHA256.new(body))
    return _der(_SEQUENCE, body, algorithm, _der(_BITS, b"\x00", signature))


def _der(tag: int, *parts: bytes) -> bytes:
    """One value of DER."""
    payload = b"".join(parts)
    size = len(payload)
    if size < 0x80:
        return bytes((tag, size)) + payload
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + payload


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{encodebytes(der).decode()}-----END {label}-----\n"


def kept_in(folder: str) -> str:
    """Where a folder's key and certificate are; makes them where there are none. Raises OSError."""
    path = os.path.join(folder, FILE)
    if os.path.lexists(path):
        return path
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fresh = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600), "w") as file:
            file.write(make())
            if os.geteuid() == 0:  # made by root, as by `aero pin`, it is still the server's to read
                owner = os.stat(folder)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        try:
            os.link(fresh, path)  # not a rename: of two that begin at once both use the first one's
        except FileExistsError:
            pass
    finally:
        os.unlink(fresh)
    return path
