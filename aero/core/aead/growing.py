"""A backend that begins small and takes a larger, faster one once there is traffic that deserves it.

`cryptography` seals a small record in 1 µs where pycryptodome takes 10, and brings newer code for large ones; it also
takes 10 ms to import, and 8 MB for as long as the process lives. OpenSSL by ctypes, where that is the fastest, takes
4 µs and 4 MB. A worker that waits for its first visitor needs neither, so it gets them with its first megabyte, or its
first 256 messages: the import pays for itself with the next 1,500.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Callable

from aero.core.aead.backend import Backend, BytesLike, Opener, Sealer
from aero.errors import HostError

#: Sealed and opened by this process, records that are hardly larger than a PING not counted.
GROW_BYTES = 1 << 20
_IDLE_BYTES = 64  # a link without streams sends nothing larger
_LEAST_BYTES = GROW_BYTES // 256  # what a record counts at least: small ones cost by the piece


class Growing:
    """The backend ``small``, until `GROW_BYTES` have passed through its keys: then what ``larger`` makes."""

    def __init__(self, small: Backend, larger: Callable[[], Backend]) -> None:
        """``larger`` raises HostError where there is no larger one: then the small one stays."""
        self._now = small
        self._small = small
        self._larger = larger
        self._left = GROW_BYTES

    @property
    def name(self) -> str:
        """The one that new keys get."""
        return self._now.name

    @property
    def description(self) -> str:
        """The same with its version."""
        return self._now.description

    def sealer(self, key: bytes) -> Sealer:
        """A Sealer for a key of 16 bytes. Raises ValueError for another length."""
        return self._now.sealer(key) if self._left <= 0 else _GrowingSealer(self, key)

    def opener(self, key: bytes) -> Opener:
        """An Opener for a key of 16 bytes. Raises ValueError for another length."""
        return self._now.opener(key) if self._left <= 0 else _GrowingOpener(self, key)

    @property
    def small(self) -> Backend:
        """Where every key begins."""
        return self._small

    def grown(self, size: int) -> Backend | None:
        """Counts a record of ``size`` plain bytes; the backend that every key is to take from now on, if any."""
        if self._left > 0:
            if size > _IDLE_BYTES:
                self._left -= max(size, _LEAST_BYTES)
            if self._left > 0:
                return None
            with suppress(HostError):
                self._now = self._larger()
        return self._now


class _GrowingSealer:
    """Its ``seal`` is the small one's with a count, then the larger one's itself: no detour where there is traffic."""

    __slots__ = ("_backend", "_key", "_small", "seal")

    def __init__(self, backend: Growing, key: bytes) -> None:
        self._backend, self._key = backend, key
        self._small = backend.small.sealer(key)
        self.seal = self._counted

    def _counted(self, nonce: BytesLike, aad: BytesLike, plaintext: memoryview, out: memoryview) -> int:
        grown = self._backend.grown(len(plaintext))
        if grown is None:
            return self._small.seal(nonce, aad, plaintext, out)
        if grown is not self._backend.small:
            self._small = grown.sealer(self._key)
        self._key = b""
        self.seal = self._small.seal
        return self.seal(nonce, aad, plaintext, out)


class _GrowingOpener:
    """The same for an Opener."""

    __slots__ = ("_backend", "_key", "_small", "open")

    def __init__(self, backend: Growing, key: bytes) -> None:
        self._backend, self._key = backend, key
        self._small = backend.small.opener(key)
        self.open = self._counted

    def _counted(self, nonce: BytesLike, aad: BytesLike, sealed: memoryview, out: memoryview) -> int:
        grown = self._backend.grown(len(sealed))
        if grown is None:
            return self._small.open(nonce, aad, sealed, out)
        if grown is not self._backend.small:
            self._small = grown.opener(self._key)
        self._key = b""
        self.open = self._small.open
        return self.open(nonce, aad, sealed, out)
