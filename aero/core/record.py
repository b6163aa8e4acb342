"""Records: what a link's bytes are cut into, sealed and numbered. Knows keys and lengths, not what is inside.

On the wire (PROTOCOL.md, section "Records"): u8 type, u24 plaintext length, ciphertext, 16-byte tag. The four header
bytes are the associated data; the nonce is the record's number XOR the direction's iv, so a record that is
lost, repeated, reordered or changed does not open. Every REKEY_RECORDS records the direction's secret is replaced by
its HKDF successor on both sides, without a message.
"""

from __future__ import annotations

import struct

from aero.core.aead.backend import KEY_BYTES, NONCE_BYTES, TAG_BYTES, Backend
from aero.core.codes import Close
from aero.core.digest import hkdf_expand
from aero.errors import RemoteProtocolError, SecurityError

# Record types
SESSION = 1
LINK = 2
DATAGRAMS = 3  # where both ends have agreed on it (core/features.py)

HEADER = struct.Struct("!I")
HEADER_BYTES = HEADER.size
_pack_header, _unpack_header = HEADER.pack, HEADER.unpack_from  # for what is looked up with every record
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES
MAX_PLAIN_BYTES = 256 * 1024
MAX_RECORD_BYTES = MAX_PLAIN_BYTES + OVERHEAD_BYTES

# 2^20 records of at most 2^14 blocks stay below 2^34.5 blocks a key, the bound that RFC 8446, section 5.5, takes for
# AES-GCM to keep an attacker's advantage under 2^-57.
REKEY_RECORDS = 1 << 20


class _Direction:
    """One direction's secret, iv and record number."""

    __slots__ = ("_iv", "_number", "_secret", "backend", "left")

    def __init__(self, backend: Backend, secret: bytes) -> None:
        self.backend = backend
        self._secret = secret

    def _next_key(self) -> bytes:
        """Moves on to the next 16-byte key; PROTOCOL.md, section "Keys"."""
        key = hkdf_expand(self._secret, b"aero key", KEY_BYTES)
        self._iv = int.from_bytes(hkdf_expand(self._secret, b"aero iv", NONCE_BYTES), "big")
        self._secret = hkdf_expand(self._secret, b"aero next", 32)
        self._number = 0
        self.left = REKEY_RECORDS
        return key


class RecordWriter(_Direction):
    """Seals one direction's records, in order."""

    __slots__ = ("_sealer",)

    def __init__(self, backend: Backend, secret: bytes) -> None:
        """``secret``: 32 bytes, this direction's first (PROTOCOL.md, section "Keys")."""
        super().__init__(backend, secret)
        self._sealer = backend.sealer(self._next_key())

    def seal(self, kind: int, plaintext: memoryview, out: memoryview) -> int:
        """Writes one whole record of type ``kind`` to ``out``; returns its length in bytes."""
        if not self.left:
            self._sealer = self.backend.sealer(self._next_key())
        self.left -= 1
        number = self._number
        self._number = number + 1
        nonce = (self._iv ^ number).to_bytes(NONCE_BYTES, "big")
        header = _pack_header(kind << 24 | len(plaintext))
        out[:HEADER_BYTES] = header
        return HEADER_BYTES + self._sealer.seal(nonce, header, plaintext, out[HEADER_BYTES:])


class RecordReader(_Direction):
    """Opens one direction's records, in order."""

    __slots__ = ("_opener",)

    def __init__(self, backend: Backend, secret: bytes) -> None:
        """``secret``: 32 bytes, the other side's first."""
        super().__init__(backend, secret)
        self._opener = backend.opener(self._next_key())

    def open(self, record: memoryview, out: memoryview) -> int:
        """Opens one whole record into ``out``; returns the plaintext's length in bytes.

        Raises RemoteProtocolError for a record that does not open: it ends the link.
        """
        if not self.left:
            self._opener = self.backend.opener(self._next_key())
        self.left -= 1
        number = self._number
        self._number = number + 1
        nonce = (self._iv ^ number).to_bytes(NONCE_BYTES, "big")
        try:
            return self._opener.open(nonce, record[:HEADER_BYTES], record[HEADER_BYTES:], out)
        except SecurityError as error:
            raise RemoteProtocolError(
                Close.RECORD, "a record that does not open: changed, repeated or lost"
            ) from error


def record_bytes(buffer: memoryview, start: int) -> tuple[int, int]:
    """(type, whole length in bytes) of the record whose four header bytes stand at ``start``.

    Raises RemoteProtocolError for an unknown type or a length that no record has.
    """
    word: int = _unpack_header(buffer, start)[0]
    kind, length = word >> 24, word & 0xFFFFFF
    if not SESSION <= kind <= DATAGRAMS:
        raise RemoteProtocolError(Close.RECORD, f"record type {kind} is unknown")
    if not 0 < length <= MAX_PLAIN_BYTES:
        raise RemoteProtocolError(
            Close.RECORD, f"a record of {length} bytes, allowed are 1 to {MAX_PLAIN_BYTES}"
        )
    return kind, length + OVERHEAD_BYTES
