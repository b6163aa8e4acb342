"""Listening sockets on one port or on ports in a row, all or none."""

from __future__ import annotations

import socket
from typing import Callable

from aero.errors import BindError, PortError
from aero.host.facts import descriptor_line
from aero.net.listen import close_all
from aero.server.registry.gradually import SLICE, Gradual


class Binding:
    """How the ports of one protocol are bound."""

    def __init__(
        self, bind: Callable[[tuple[str, ...], int], list[socket.socket]], ips: tuple[str, ...]
    ) -> None:
        """``bind(ips, port)`` makes sockets on one port, 0: any, or raises OSError."""
        self._bind = bind
        self._ips = ips
        # A descriptor from here on is not for ports in a row: the last quarter is for visitors.
        self._line = descriptor_line() * 3 // 4

    def one(self, port: int) -> list[socket.socket]:
        """Sockets on one port, or with 0 on one that the system chooses. Raises BindError."""
        try:
            return self._bind(self._ips, port)
        except OSError as error:
            raise BindError(port, error) from error

    def row(self, first: int, row: int) -> Gradual[list[socket.socket]]:
        """Sockets on ports in a row, a slice a turn; all or none. Raises BindError, PortError."""
        socks: list[socket.socket] = []
        try:
            for port in range(first, first + row):
                socks += self.one(port)
                if socks[-1].fileno() >= self._line:
                    text = "too few descriptors for so many ports, raise the limit of open files (ulimit -n)"
                    raise PortError(text, final=False)
                if (port - first) % SLICE == SLICE - 1:
                    yield
        except (BindError, PortError):
            while socks:
                close_all(socks[-SLICE:])
                del socks[-SLICE:]
                yield
            raise
        except BaseException:
            close_all(socks)
            raise
        return socks


def unusable(called: str, failed: BindError) -> str:
    """That a port cannot be bound, and why, for people."""
    return f"{called} cannot be used: {failed.error.strerror or failed.error}"
