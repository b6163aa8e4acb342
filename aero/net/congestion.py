"""Which congestion control the kernel runs for a link: Linux lets each connection choose (TCP_CONGESTION of tcp(7)).

It decides what a loss means; how much of a link's bytes may be on their way at all is core/flight.py's.
"""

from __future__ import annotations

import socket

from aero.errors import HostError

_OPTION = getattr(socket, "TCP_CONGESTION", None)
_NAME_BYTES = 16  # TCP_CA_NAME_MAX of the kernel, the zero at its end included
_AVAILABLE = "/proc/sys/net/ipv4/tcp_available_congestion_control"


def use(sock: socket.socket, name: str) -> None:
    """Has the kernel run ``name`` for a TCP socket. Raises OSError where it has none of it, or does not allow it."""
    if _OPTION is None:
        raise OSError("this system lets nobody choose")
    sock.setsockopt(socket.IPPROTO_TCP, _OPTION, name.encode())


def in_use(sock: socket.socket) -> str:
    """What runs for a TCP socket; "" where the system does not say."""
    if _OPTION is None:
        return ""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _OPTION, _NAME_BYTES).split(b"\0")[0].decode()
    except OSError:
        return ""


def require(name: str) -> None:
    """Raises HostError where links cannot have ``name``; "" is what the system has chosen, and always possible."""
    if not name:
        return
    try:
        with socket.socket() as sock:
            use(sock, name)
    except OSError as error:
        raise HostError(
            f"no congestion control {name!r} for links: {error.strerror or error}{_others()}"
        ) from None


def _others() -> str:
    try:
        with open(_AVAILABLE, encoding="ascii") as file:
            return f"; there are {', '.join(file.read().split())}"
    except OSError:
        return ""
