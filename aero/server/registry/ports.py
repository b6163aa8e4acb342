"""Which port a mapping gets. Knows leases and ranges, not visitors.

In turn: the port that was asked for; the owner's own lease; the port that the owner's name hashes to, and those
behind it. The hash makes ports come back even where nothing can be kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator

from aero.errors import Rejected
from aero.net.listen import listen_all
from aero.server.store.leases import Leases, Owner

OUT_OF_RANGE, TAKEN = 1, 2  # Rejected.code here
# How many ports are tried before we say that there is none: with half of the range used by others, 40 tries in a
# row fail once in 10^12.
TRIES = 40


class Ports:
    """The range that mappings come from."""

    def __init__(self, ips: tuple[str, ...], low: int, high: int, leases: Leases) -> None:
        """``low`` to ``high``, both included; 0 and 0 leave the choice to the system."""
        self._ips = ips
        self._low, self._high = low, high
        self._leases = leases
        self._held: set[int] = set()

    def claim(self, owner: Owner, identity: str, wanted: int) -> list[socket.socket]:
        """Listening sockets for an owner's mapping, on ``wanted`` unless that is 0.

        Raises Rejected: out of range, or taken.
        """
        if wanted:
            return self._claim_wanted(owner, identity, wanted)
        for port in self._candidates(owner, identity) if self._low else (0,):
            try:
                return self._bind(owner, identity, port)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise Rejected(TAKEN, f"cannot listen: {error.strerror or error}", final=False) from error
        where = f" in {self._low}-{self._high}" if self._low else ""
        raise Rejected(TAKEN, f"no port is free{where}", final=False)

    def _claim_wanted(self, owner: Owner, identity: str, wanted: int) -> list[socket.socket]:
        if self._low and not self._low <= wanted <= self._high:
            text = f"port {wanted} is out of the server's range {self._low}-{self._high}"
            raise Rejected(OUT_OF_RANGE, text, final=True)
        try:
            if wanted in self._held:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            return self._bind(owner, identity, wanted)
        except OSError as error:
            what = (
                "is taken"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used: {error.strerror or error}"
            )
            raise Rejected(TAKEN, f"port {wanted} {what}", final=False) from error

    def _candidates(self, owner: Owner, identity: str) -> Iterator[int]:
        """Ports to try, best first; none that another owner has a claim to, unless all are leased."""
        own = [lease for lease in self._leases.of(owner) if self._is_free(lease.port)]
        for lease in sorted(own, key=lambda lease: (lease.identity != identity, lease.slot)):
            yield lease.port
        count = self._high - self._low + 1
        digest = hashlib.sha256("\0".join(owner[:4]).encode("utf-8", "surrogatepass")).digest()
        first = int.from_bytes(digest[:8], "big") % count
        tries = 0
        for step in range(count):
            port = self._low + (first + step) % count
            if port not in self._held and self._leases.at(port) is None:
                yield port
                tries += 1
                if tries == TRIES:
                    return
        for lease in self._leases.absent(count):
            if self._is_free(lease.port):
                yield lease.port

    def _is_free(self, port: int) -> bool:
        return self._low <= port <= self._high and port not in self._held

    def _bind(self, owner: Owner, identity: str, port: int) -> list[socket.socket]:
        socks = listen_all(self._ips, port)
        port = socks[0].getsockname()[1]
        self._held.add(port)
        if self._low:
            self._leases.keep(owner, port, identity)
        return socks

    def release(self, port: int) -> None:
        """A mapping is gone; its lease stays."""
        self._held.discard(port)
        self._leases.release(port)
