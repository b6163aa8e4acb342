"""Which port a mapping gets, and the listening sockets themselves. Knows leases and ranges, not visitors.

In turn: the port that was asked for; the owner's own lease; the port that the owner's name hashes to, and those
behind it. The hash makes ports come back even where nothing can be kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator

from aero.address import Address
from aero.errors import ListenError, Rejected
from aero.net.pipe import prepare
from aero.server.store import Owner, Store

BACKLOG = 1024  # visitors that wait for one turn of the loop; the kernel cuts it to its own maximum
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
OUT_OF_RANGE, TAKEN = 1, 2  # Rejected.code here
# How many ports are tried before we say that there is none: with half of the range used by others, 40 tries in a
# row fail once in 10^12.
TRIES = 40


def listen(ip: str, port: int) -> socket.socket:
    """A listening, non-blocking socket; ``::`` takes IPv4 too. Raises OSError."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if ip == "::" else 1)
        sock.setblocking(False)
        prepare(sock)
        sock.bind((ip, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def listen_all(ips: tuple[str, ...], port: int) -> list[socket.socket]:
    """One listening socket for each address, all on one port (0: the system's choice). Raises OSError."""
    socks: list[socket.socket] = []
    try:
        for ip in ips:
            if ip == "0.0.0.0" and "::" in ips:
                continue
            socks.append(listen(ip, port))
            port = socks[0].getsockname()[1]
    except OSError:
        close_all(socks)
        raise
    return socks


def listen_or_explain(ips: tuple[str, ...], port: int, option: str) -> list[socket.socket]:
    """As ``listen_all``; raises ListenError that names the option which changes it."""
    try:
        return listen_all(ips, port)
    except OSError as error:
        where = ", ".join(ips)
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {where} is taken by another program; choose another one with {option}"
        elif error.errno == errno.EACCES:
            text = f"port {port} on {where} is for root only, as all below 1024; choose another one with {option}"
        elif error.errno == errno.EADDRNOTAVAIL and option == "--port":
            text = f"{where} is no address of this machine; choose another one with --ip"
        else:
            text = f"cannot listen on {where} port {port}: {error.strerror or error}; see {option}"
        raise ListenError(text) from error


def listen_at(address: Address, option: str) -> list[socket.socket]:
    """Listens on every address that a host name has here, all on one port. Raises ListenError, naming ``option``."""
    try:
        found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"cannot find the address of {address.host}: {error}; see {option}") from None
    # IPv4 first: where port 0 asks for any, it is the one that people type.
    ips = list(dict.fromkeys(str(each[4][0]) for each in sorted(found, key=lambda each: each[0])))
    socks: list[socket.socket] = []
    failed: OSError | None = None
    port = address.port
    for ip in ips:
        try:
            socks.append(listen(ip, port))
            port = socks[0].getsockname()[1]
        except OSError as error:
            if error.errno not in _NOT_HERE:
                close_all(socks)
                raise _explained(error, address, option) from None
            failed = error  # a name for IPv6, say, and no IPv6 on this host
    if not socks and failed is not None:
        raise _explained(failed, address, option)
    return socks


def _explained(error: OSError, address: Address, option: str) -> ListenError:
    taken = error.errno == errno.EADDRINUSE
    why = "it is taken by another program" if taken else error.strerror or str(error)
    return ListenError(f"cannot listen on {address}: {why}; choose another address with {option}")


def close_all(socks: list[socket.socket]) -> None:
    """Closes sockets."""
    for sock in socks:
        sock.close()


class Ports:
    """The range that mappings come from."""

    def __init__(self, ips: tuple[str, ...], low: int, high: int, store: Store) -> None:
        """``low`` to ``high``, both included; 0 and 0 leave the choice to the system."""
        self._ips = ips
        self._low, self._high = low, high
        self._store = store
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
        own = [lease for lease in self._store.of(owner) if self._is_free(lease.port)]
        for lease in sorted(own, key=lambda lease: (lease.identity != identity, lease.slot)):
            yield lease.port
        count = self._high - self._low + 1
        digest = hashlib.sha256("\0".join(owner).encode("utf-8", "surrogatepass")).digest()
        first = int.from_bytes(digest[:8], "big") % count
        tries = 0
        for step in range(count):
            port = self._low + (first + step) % count
            if port not in self._held and self._store.at(port) is None:
                yield port
                tries += 1
                if tries == TRIES:
                    return
        for lease in self._store.oldest(count):
            if self._is_free(lease.port):
                yield lease.port

    def _is_free(self, port: int) -> bool:
        return self._low <= port <= self._high and port not in self._held

    def _bind(self, owner: Owner, identity: str, port: int) -> list[socket.socket]:
        socks = listen_all(self._ips, port)
        port = socks[0].getsockname()[1]
        self._held.add(port)
        if self._low:
            self._store.keep(owner, port, identity)
        return socks

    def release(self, port: int) -> None:
        """A mapping is gone; its lease stays."""
        self._held.discard(port)
