"""The datagram record: its layout, and why datagrams are dropped. Pure; knows no flow, no queue and no socket.

A record of type 3 (PROTOCOL.md, section "Datagrams") holds many datagrams, each behind a frame's header of 8 bytes
whose stream id is a flow's. A flow is one visitor's conversation with one target. The server gives its id, 32 bits,
once in a session. The record is never acknowledged and never sent again, so it overtakes whatever the session has
announced: until the other end has said KNOWN, each datagram carries the flow's origin, the target's id and the
visitor's address.
"""

from __future__ import annotations

import struct

from aero.core import frames
from aero.core.codes import Close
from aero.errors import RemoteProtocolError

DATA = 0x81  # a datagram of a flow that both ends know
OPENING = 0x82  # the same with the flow's origin before it
KNOWN = 0x83  # the flow's origin has come: it need not be repeated

#: UDP over IPv4: 65,535 less 20 bytes of IP and 8 of UDP (RFC 768, RFC 791).
MAX_BYTES = 65_507
MAX_FLOW_ID = 0xFFFF_FFFF
_ORIGIN = struct.Struct("!HB")
MAX_ORIGIN_BYTES = _ORIGIN.size + frames.MAX_VISITOR_BYTES

#: Why a datagram got no further. The program's own words, all of them there from the start.
FULL, OLD, NO_LINK, OVER, LARGE, SOCKET, BUDGET, CROWD, MEMORY, RATE, UNREAD = (
    "queue full",
    "too old",
    "no link",
    "flow over",
    "too large",
    "socket full",
    "reply budget",
    "too many flows",
    "memory",
    "rate limit",
    "not read in time",
)
REASONS = (FULL, OLD, NO_LINK, OVER, LARGE, SOCKET, BUDGET, CROWD, MEMORY, RATE, UNREAD)


class Drops:
    """How many datagrams were dropped, by reason."""

    __slots__ = ("_all", "counts")

    def __init__(self, all_: Drops | None = None) -> None:
        """Begins with nothing dropped. ``all_`` counts what is counted here, too, and goes on after it."""
        self.counts = dict.fromkeys(REASONS, 0)
        self._all = all_

    def add(self, reason: str, count: int = 1) -> None:
        """Counts ``count`` datagrams."""
        self.counts[reason] += count
        if self._all is not None:
            self._all.add(reason, count)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def pack_origin(target_id: int, visitor: str) -> bytes:
    """A flow's origin: u16 target id, u8 length, the visitor's address in UTF-8."""
    text = visitor.encode("utf-8", "replace")[: frames.MAX_VISITOR_BYTES]
    return _ORIGIN.pack(target_id, len(text)) + text


def unpack_opening(payload: memoryview) -> tuple[bytes, memoryview]:
    """(origin, datagram) of an OPENING; raises RemoteProtocolError."""
    if len(payload) < _ORIGIN.size:
        raise RemoteProtocolError(Close.FRAME, f"a datagram's origin of {len(payload)} bytes")
    length = _ORIGIN.unpack_from(payload)[1]
    end = _ORIGIN.size + length
    if length > frames.MAX_VISITOR_BYTES or end > len(payload):
        raise RemoteProtocolError(Close.FRAME, f"a visitor's address of {length} bytes before a datagram")
    return bytes(payload[:end]), payload[end:]


def unpack_origin(origin: bytes) -> tuple[int, str]:
    """(target id, visitor's address) of an origin that ``unpack_opening`` or ``pack_origin`` has given."""
    return _ORIGIN.unpack_from(origin)[0], str(origin[_ORIGIN.size :], "utf-8", "replace")


def check_size(datagram: memoryview) -> None:
    """Raises RemoteProtocolError for more than a UDP datagram can hold."""
    if len(datagram) > MAX_BYTES:
        raise RemoteProtocolError(
            Close.FRAME, f"a datagram of {len(datagram)} bytes, possible are {MAX_BYTES}"
        )
