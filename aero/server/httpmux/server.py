"""The mux as a part of the server: accepts visitors on pywsgi's server, counts them, and sees to their time.

Knows sockets and limits; what a visitor says is visitor.py's. docs/mux.md tells why pywsgi accepts the connections
but its handler does not serve them.
"""

from __future__ import annotations

import socket
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable

from aero import logs
from aero.address import Address
from aero.limits import Limits
from aero.net.listen import listen_at
from aero.net.pipe import make_abrupt, refuse
from aero.server.api.acceptor import Acceptor
from aero.server.httpmux.pages import TEXTS, Answer, render
from aero.server.httpmux.rewrite import Peer
from aero.server.httpmux.routing import Router
from aero.server.httpmux.upstream import Pool
from aero.server.httpmux.visitor import Visitor, end_well

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from aero.config.roles import ServerConfig
    from aero.server.registry.registry import Registry
    from aero.server.store.leases import Leases

log = logs.get("mux")

SWEEP_S = 1.0  # how exactly deadlines are kept; one look at every visitor costs less than a timer for each
Connected = Callable[[socket.socket, Any], None]


class _Acceptor(Acceptor):
    """pywsgi's server on one listening socket; connections go to ``connected`` at once, without a greenlet."""

    def __init__(self, listener: socket.socket, connected: Connected) -> None:
        super().__init__(listener, spawn=None, log=None, error_log=None)
        self._connected = connected

    def accept(self) -> tuple[socket.socket, Any]:
        """A plain socket: its bytes are moved by watchers."""
        accepted: tuple[socket.socket, Any] = self.socket.accept()
        return accepted

    def handle(self, sock: socket.socket, address: Any) -> None:
        """In place of pywsgi's handler."""
        self._connected(sock, address)

    def do_close(self, *_: Any) -> None:
        """The connection goes on after ``handle`` has returned."""


class Mux:
    """All visitors that come by HTTP."""

    def __init__(
        self, loop: Any, config: ServerConfig, where: Address, registry: Registry, leases: Leases
    ) -> None:
        """Listens at once. Raises ListenError."""
        self.loop = loop
        self.router = Router(registry, leases, config.domain, config.debug)
        self.pool = Pool()
        self.draining = False
        self._counters = registry.counters
        self._counters.expect(f"mux: {kind}" for kind, text in TEXTS.items() if text.status >= 400)
        self._trusted = config.trust_proxy
        self._visitors: set[Visitor] = set()
        self._addresses: Counter[bytes] = Counter()
        self._acceptors: list[_Acceptor] = []
        for sock in listen_at(where, "--mux"):
            make_abrupt(sock)  # a body that ends with the connection would look complete when we are killed
            acceptor = _Acceptor(sock, self._connected)
            acceptor.start()
            self._acceptors.append(acceptor)
        self._timer = loop.timer(SWEEP_S, SWEEP_S)
        self._timer.start(self._sweep)

    @property
    def address(self) -> Address:
        """Where it listens, the first of several."""
        return Address(*self._acceptors[0].address[:2])

    def _connected(self, sock: socket.socket, address: Any) -> None:
        """A visitor came."""
        from ipaddress import ip_address

        ip = ip_address(address[0].partition("%")[0])
        if ip.version == 6 and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        text = str(ip)
        trusted = any(ip in network for network in self._trusted)
        # Loopback is this machine's own: a reverse proxy, most likely, whose visitors are many, like a trusted one's.
        counted = b"" if trusted or ip.is_loopback else _origin(ip)
        try:
            sock.setblocking(False)
            if len(self._visitors) >= Limits.MUX_VISITORS or (
                counted and self._addresses[counted] >= Limits.MUX_VISITORS_PER_ADDRESS
            ):
                log.debug("! too many visitors", visitor=text)
                busy = Answer("busy", {})
                self.count(busy)
                sock.send(render(busy, None, False))
                end_well(sock)
                return
        except OSError:
            refuse(sock)  # it left before it was served
            return
        if counted:
            self._addresses[counted] += 1
        where = f"[{text}]:{address[1]}" if ip.version == 6 else f"{text}:{address[1]}"
        self._visitors.add(Visitor(self, sock, where, Peer(text.encode(), trusted, counted)))

    def gone(self, visitor: Visitor) -> None:
        """A visitor's connection is over."""
        self._visitors.discard(visitor)
        counted = visitor.peer.counted
        if counted:
            self._addresses[counted] -= 1
            if not self._addresses[counted]:
                del self._addresses[counted]

    def _sweep(self) -> None:
        now = monotonic()
        for visitor in [visitor for visitor in self._visitors if visitor.deadline <= now]:
            visitor.expired()
        self.pool.sweep(now)

    def count(self, answer: Answer) -> None:
        """Counts what a visitor gets in place of a target's answer."""
        if TEXTS[answer.kind].status >= 400:
            self._counters.error(f"mux: {answer.kind}")

    def drain(self) -> None:
        """Takes no new visitors, ends what is idle; responses that are under way are their connections' last."""
        self.draining = True
        for acceptor in self._acceptors:
            acceptor.close()
        for visitor in [visitor for visitor in self._visitors if visitor.idle]:
            visitor.close()
        self.pool.sweep(monotonic())

    def close(self) -> None:
        """Stops listening and ends every visitor's connection."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._timer.stop()
        self._timer.close()
        for visitor in list(self._visitors):
            visitor.close()
        self.pool.close()
        self.router.close()


def _origin(ip: IPv4Address | IPv6Address) -> bytes:
    """Whom an address belongs to: an IPv6 host has its /64 to itself."""
    return ip.packed[:8]
