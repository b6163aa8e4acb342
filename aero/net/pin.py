"""What we need to know of an X.509 certificate (RFC 5280): the pin of its key, and the names that it is for.

A certificate comes from whoever is at the other end: its DER is read here as far as these two need it, by lengths that
are checked, and nothing in it is believed. Imports neither ssl nor a library of cryptography.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "sha256//"  # as curl writes it (--pinnedpubkey)
# Tags of DER (X.690, section 8).
_SEQUENCE, _IDENTIFIER, _BYTES = 0x30, 0x06, 0x04
_VERSION, _EXTENSIONS, _DNS_NAME = 0xA0, 0xA3, 0x82
_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_KEY_AT = 5  # behind serial number, algorithm, issuer, validity and subject


class _Item(NamedTuple):
    """One value: its tag, all of its bytes, and those without tag and length."""

    tag: int
    whole: bytes
    payload: bytes


def pin_of(certificate: bytes) -> str:
    """``sha256//`` and the hash of the public key, in base64. ``certificate``: DER. Raises ValueError."""
    from base64 import b64encode
    from hashlib import sha256

    key = _body(certificate)[_KEY_AT]
    return PREFIX + b64encode(sha256(key.whole).digest()).decode()


def first_in(text: str) -> bytes:
    """The first certificate of a PEM file (RFC 7468), as DER. Raises ValueError."""
    from binascii import a2b_base64

    _, begin, rest = text.partition("-----BEGIN CERTIFICATE-----")
    body, end, _ = rest.partition("-----END CERTIFICATE-----")
    if not begin or not end:
        raise ValueError("there is no certificate in it")
    return a2b_base64("".join(body.split()))


def names_of(certificate: bytes) -> list[str]:
    """The DNS names that a certificate is for, in lower case. ``certificate``: DER. Raises ValueError."""
    names: list[str] = []
    for field in _body(certificate)[_KEY_AT + 1 :]:
        if field.tag != _EXTENSIONS:
            continue
        for extension in _items(_inside(field.payload, _SEQUENCE)):
            parts = _items(extension.payload)
            if len(parts) >= 2 and parts[0].payload == _ALTERNATIVE_NAME and parts[-1].tag == _BYTES:
                found = _items(_inside(parts[-1].payload, _SEQUENCE))
                names += [each.payload.decode("ascii").lower() for each in found if each.tag == _DNS_NAME]
    return names


def _body(certificate: bytes) -> list[_Item]:
    """The fields of what is signed (section 4.1.2), without the version."""
    fields = _items(_inside(_inside(certificate, _SEQUENCE), _SEQUENCE))
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) <= _KEY_AT or fields[_KEY_AT].tag != _SEQUENCE:
        raise ValueError("a certificate has no key")
    return fields


def _inside(data: bytes, tag: int) -> bytes:
    """What is in the first value."""
    items = _items(data)
    if not items or items[0].tag != tag:
        raise ValueError("a certificate is malformed")
    return items[0].payload


def _items(data: bytes) -> list[_Item]:
    """All values in a row."""
    found: list[_Item] = []
    at = 0
    while at < len(data):
        begin = at
        if len(data) - at < 2:
            raise ValueError("a certificate is cut off")
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            length = size & 0x7F
            size = int.from_bytes(data[at : at + length], "big")
            at += length
            if not 1 <= length <= 4:
                raise ValueError("a certificate is malformed")
        if at + size > len(data):
            raise ValueError("a certificate is cut off")
        found.append(_Item(tag, data[begin : at + size], data[at : at + size]))
        at += size
    return found
