"""UDP sockets: those that visitors send to, and those that are connected to a target. Knows nothing of flows.

A socket bound to every address answers from the one that was asked, which the kernel tells with each datagram (ip(7),
IP_PKTINFO; RFC 3542, section 6): a visitor takes an answer from no other.
"""

from __future__ import annotations

import errno
import socket
import struct
from time import monotonic
from typing import Any, Callable, NamedTuple, Optional

from aero.address import EVERYWHERE
from aero.core import datagrams
from aero.core.blocks import pages
from aero.net.listen import close_all, needed
from aero.net.loop import READ, Loop, stopped

# What a socket may hold unread: a busy turn of the loop, 10 ms, at 200 Mbit/s in small datagrams, each of which the
# kernel counts with more than twice its bytes. Only what is there costs memory.
BUFFER_BYTES = 1024 * 1024
# What is read of one socket in a turn of the loop: 64 take some 300 us.
READS_A_TURN = 64
TURN_S = 0.002
# What comes out of a silence of this length comes alone: it is read without a look for a second datagram, and leaves
# at once. Those that come closer together share a turn and a record.
ALONE_S = 0.0005

_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32  # Linux, socket(7)
_SO_MEMINFO = (
    55  # Linux 4.12: nine numbers of 32 bits, the last is what the socket had no room for (sock_diag(7))
)
_MEMINFO = struct.Struct("=9I")
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_V4_INFO = struct.Struct("=I4s4s")  # interface, the address here, the address that was asked (ip(7))
_ASKED_BYTES = 128  # room for one control message
# The target is not there, or nobody can get there: what a connected socket says at its next call.
GONE = {
    errno.ECONNREFUSED: True,
    errno.EHOSTUNREACH: False,
    errno.ENETUNREACH: False,
    errno.EACCES: False,
    errno.EPERM: False,
}

_SCRATCH = memoryview(pages(65_536))  # a datagram is read here and copied at once: all sockets share it

#: A control message that says which of our addresses was asked.
Local = Optional["tuple[int, int, bytes]"]


class Whom(NamedTuple):
    """A visitor: its address as the socket has it, and which of ours it asked; None where there is only one.

    ``port``: of ours, that it asked.
    """

    address: Any
    local: Local
    port: int


def listen_all(ips: tuple[str, ...], port: int) -> list[socket.socket]:
    """One UDP socket for each address, all on one port (0: the system's choice). Raises OSError."""
    socks: list[socket.socket] = []
    try:
        for ip in needed(ips):
            socks.append(_bound(ip, port))
            port = socks[0].getsockname()[1]
    except OSError:
        close_all(socks)
        raise
    return socks


def _bound(ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        # Without SO_REUSEADDR, which for UDP would let two programs have one port.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if ip == "::" else 1)
        if ip == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif ip == "0.0.0.0":
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        _enlarge(sock)
        sock.setblocking(False)
        sock.bind((ip, port))
    except OSError:
        sock.close()
        raise
    return sock


def connected(family: int, address: Any) -> socket.socket:
    """A non-blocking socket that talks to one address alone. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        _enlarge(sock)
        sock.setblocking(False)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket) -> None:
    """Asks for BUFFER_BYTES both ways; who may not go beyond the system's limit gets that."""
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)


def unread(sock: socket.socket) -> int:
    """How many datagrams the kernel has dropped as nobody read the socket in time; 0 where it does not tell."""
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8])
    except (OSError, struct.error):
        return 0


class BoundSocket:
    """A socket that many visitors send to. Hands on every datagram with who sent it."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_datagram: Callable[[BoundSocket, bytes, Whom, float, bool], None],
    ) -> None:
        """``sock``: as ``listen_all`` gives it. ``on_datagram(self, data, whom, now, alone)`` must not block."""
        self.address = sock.getsockname()[:2]
        self._sock = sock
        self._on_datagram = on_datagram
        self._everywhere = self.address[0] in EVERYWHERE
        self._read_at = 0.0
        self._unread = 0
        self._loop = loop
        self._watcher = loop.io(sock.fileno(), READ)
        self._watcher.start(self._on_readable)

    def faulted(self, error: Exception) -> None:
        """Goes on after an error of this program: the loop is about to take the watcher away (net/faults.py)."""
        self._loop.run_callback(self._go_on)

    def _go_on(self) -> None:
        if self._sock.fileno() >= 0:
            self._watcher.start(self._on_readable)

    def _on_readable(self) -> None:
        sock, scratch, tell = self._sock, _SCRATCH, self._on_datagram
        now, port = monotonic(), self.address[1]
        alone = now - self._read_at > ALONE_S
        self._read_at = now
        local: Local = None
        for _ in range(READS_A_TURN):
            try:
                if self._everywhere:
                    count, controls, _, address = sock.recvmsg_into([scratch], _ASKED_BYTES)
                    local = _asked(controls)
                else:
                    count, address = sock.recvfrom_into(scratch)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error of some earlier datagram: those behind it can be read
            tell(self, bytes(scratch[:count]), Whom(address, local, port), now, alone)
            if alone or monotonic() - now > TURN_S:
                return  # the kernel keeps the others for the next turn

    def newly_unread(self) -> int:
        """Datagrams that the kernel has dropped since this was called last."""
        count = unread(self._sock)
        new, self._unread = (count - self._unread) & 0xFFFF_FFFF, count
        return new

    def send(self, view: memoryview, whom: Whom) -> str:
        """Sends a datagram to a visitor; returns why it was dropped, "" where it was not."""
        try:
            if whom.local is None:
                self._sock.sendto(view, whom.address)
            else:
                self._sock.sendmsg([view], [whom.local], 0, whom.address)
        except BlockingIOError:
            return datagrams.SOCKET
        except OSError as error:
            return datagrams.LARGE if error.errno == errno.EMSGSIZE else datagrams.SOCKET
        return ""

    def close(self) -> None:
        """Takes no more datagrams."""
        stopped(self._watcher)
        self._sock.close()


def _asked(controls: list[tuple[int, int, bytes]]) -> Local:
    """What makes an answer leave from the address that was asked."""
    for level, kind, data in controls:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            # The interface is left to the routes, and the answer's source is the address of ours.
            return level, kind, _V4_INFO.pack(0, data[4:8], bytes(4))
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            # Only a link-local address needs its interface.
            here = data[:16]
            return level, kind, data if here[:2] == b"\xfe\x80" else here + bytes(4)
    return None


def read(sock: socket.socket, tell: Callable[[bytes, float, bool], None], read_at: float) -> float:
    """Hands on what a connected socket has, within a turn. Raises OSError for what the network says of the target.

    ``tell(data, now, alone)`` may close the socket. ``read_at``: what this function returned the last time.
    """
    now = monotonic()
    alone = now - read_at > ALONE_S
    for _ in range(READS_A_TURN):
        try:
            count = sock.recv_into(_SCRATCH)
        except BlockingIOError:
            break
        tell(bytes(_SCRATCH[:count]), now, alone)
        if alone or sock.fileno() < 0 or monotonic() - now > TURN_S:
            break
    return now
