"""What all visitors of a mux share: the mux as each of them sees it, and the good end of a connection."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Protocol

from aero.net.loop import Loop
from aero.server.httpmux.doorman import Doorman
from aero.server.httpmux.kept import KeptConnections
from aero.server.httpmux.pages import Page
from aero.server.httpmux.routing import Router
from aero.server.watch.access import AccessLog

if TYPE_CHECKING:
    from collections.abc import Sequence

NEVER = float("inf")
_LINGER_OFF = struct.pack("ii", 0, 0)


def end_well(sock: socket.socket) -> None:
    """Closes a socket that would otherwise end in a reset (net/pipe.py, ``make_abrupt``)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    sock.close()


class Known(Protocol):
    """A connection, as it is known. ``connected``: who is at its other end, ip:port as text; ``address``: who asks;
    ``counted``: the address among whose it counts, "" for nobody's.
    """

    connected: str
    address: str
    counted: str


class Shared(Protocol):
    """What all visitors of a mux share."""

    loop: Loop
    router: Router
    doorman: Doorman
    kept: KeptConnections
    head_bytes: int  # the longest head that a visitor may send
    idle_s: float  # silence that ends a response, or an upgraded connection
    access: AccessLog | None  # where requests are written down, None for nowhere
    draining: bool  # every response is its connection's last

    def count(self, page: Page) -> None:
        """Counts what a visitor gets in place of a target's answer."""

    def grew(self, count: int) -> None:
        """A visitor has ``count`` bytes more held; somebody may have to make room for them, in a later turn."""

    def introduce(self, visitor: Known, said: Sequence[bytes]) -> bool:
        """A trusted proxy says, in X-Forwarded-For, for whom its next request is; False: he has too many under way."""

    def rested(self, visitor: Known) -> None:
        """That request is answered."""

    def gone(self, visitor: object) -> None:
        """A visitor's connection is over."""

    def broken(self, error: Exception) -> None:
        """A fault of this program's was caught."""
