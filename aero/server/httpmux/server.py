"""The mux as a part of the server: accepts visitors, counts them, and sees to their time.

Knows sockets and limits; what a visitor says is visitor.py's. docs/mux.md tells why pywsgi does not serve them.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from aero import logs
from aero.address import Address, is_loopback
from aero.core.codes import Close
from aero.core.memory import Memory
from aero.errors import LocalProtocolError
from aero.host.facts import descriptor_line
from aero.limits import Limits
from aero.net.faults import report
from aero.net.listen import Listener
from aero.net.loop import Loop
from aero.net.pipe import make_abrupt, refuse
from aero.net.transport import Layer, TcpTransport, Transport
from aero.server.httpmux.doorman import Doorman
from aero.server.httpmux.holdings import Holdings
from aero.server.httpmux.kept import KeptConnections
from aero.server.httpmux.pages import TEXTS, Page, render
from aero.server.httpmux.rewrite import Peer
from aero.server.httpmux.routing import Router, Rules
from aero.server.httpmux.shared import NEVER, Known, end_well
from aero.server.httpmux.visitor import Visitor
from aero.server.policy.origin import is_near
from aero.server.policy.proxies import Origin, Trust, origin_of
from aero.server.policy.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aero.net.announced import Announcers
    from aero.server.present import Present
    from aero.server.registry.registry import Registry
    from aero.server.store.leases import Leases
    from aero.server.watch.counters import Counters
    from aero.server.watch.events import Events

log = logs.get("mux")

SWEEP_S = 1.0  # how exactly deadlines are kept; one look at every visitor costs less than a timer for each


class MuxGround(Protocol):
    """What the mux needs of the server."""

    @property
    def loop(self) -> Loop:
        """The event loop."""

    @property
    def present(self) -> Present:
        """Holds the present configuration."""

    @property
    def announcers(self) -> Announcers:
        """Whose connections begin with a PROXY header."""

    @property
    def counters(self) -> Counters:
        """What the server counts."""

    @property
    def events(self) -> Events:
        """What happens on the server."""

    @property
    def leases(self) -> Leases:
        """What was leased before this start."""

    @property
    def registry(self) -> Registry:
        """Who is here."""

    @property
    def memory(self) -> Memory:
        """What the process may hold."""


class Mux:
    """All visitors that come by HTTP."""

    def __init__(
        self, ground: MuxGround, socks: list[socket.socket], others: Sequence[socket.socket] = ()
    ) -> None:
        """``socks`` listen where --mux says; ``others`` at ports whose visitors somebody else hands over."""
        self.loop = ground.loop
        config = ground.present.config
        rules = Rules(
            config.domain,
            _answered_names(config.mux_hosts, [*socks, *others]),
            config.mux_strict,
            config.debug,
        )
        self.router = Router(ground.registry, ground.events, ground.leases, rules)
        self.doorman = Doorman(ground.loop, self.broken)
        self.kept = KeptConnections(config.mux_head)
        self._incoming = ground.memory.incoming
        self._bounding = False
        self.head_bytes = config.mux_head
        self.idle_s = float(config.mux_idle_s) or NEVER
        self.access = ground.registry.access
        self.draining = False
        self._counters = ground.counters
        self._counters.expect(("mux: fault",))
        self._counters.expect(f"mux: {kind}" for kind, text in TEXTS.items() if text.status >= 400)
        self._trust = Trust(config.trust_proxy)
        self._visitors: set[Visitor] = set()
        self._holdings = Holdings(self._visitors)
        ground.memory.incoming.holders.add(self._holdings)
        self._shares = Shares(Limits.MUX_VISITORS, Limits.MUX_VISITORS_PER_ADDRESS, of_free=0)
        self._line = descriptor_line()
        self._porch = ground.announcers.porch(self._connected)
        self._listeners: list[Listener] = []
        for sock in socks:
            notice_absence(sock)
            make_abrupt(sock)  # a body that ends with the connection would look complete when we are killed
            self._listeners.append(Listener(ground.loop, sock, self._porch.entrance))
        self._address = Address(*[*socks, *others][0].getsockname()[:2])
        self._timer = ground.loop.timer(SWEEP_S, SWEEP_S)
        self._timer.start(self._sweep)

    @property
    def address(self) -> Address:
        """Where it listens, the first of several."""
        return self._address

    def _connected(self, sock: socket.socket, address: Any) -> None:
        """A connection came."""
        self.welcome(sock, origin_of(address))

    def welcome(self, sock: socket.socket, origin: Origin) -> None:
        """Serves a connection. ``origin``: at its other end, a visitor or a proxy that speaks HTTP for others."""
        sock.setblocking(False)
        self._admit(sock, origin, b"http")

    def take_over(self, transport: Transport, origin: Origin, said: bytes) -> None:
        """Serves a connection that came elsewhere, and has ``said`` the beginning of a request."""
        below = transport.under if isinstance(transport, Layer) else transport
        if not isinstance(below, TcpTransport):
            raise LocalProtocolError(Close.INTERNAL, f"no visitor comes by {transport.kind}")
        sock: Any = below.sock
        notice_absence(sock)
        make_abrupt(sock)
        protocol = b"http"
        if transport is not below:
            from aero.server.httpmux.secure import SecureSocket

            sock, protocol = SecureSocket(transport, sock, self.loop), b"https"
        visitor = self._admit(sock, origin, protocol)
        if visitor is not None:
            visitor.begin(said)

    def is_targets(self, host: bytes) -> bool:
        """Whether all paths of this host name are a target's."""
        return self.router.is_targets(host)

    def _admit(self, sock: socket.socket, origin: Origin, protocol: bytes) -> Visitor | None:
        """A new visitor; None where there is no place, which he has been told."""
        trusted = self._trust.covers(origin.ip)
        # A trusted proxy's visitors are counted by their own addresses, request by request. Loopback is this machine's
        # own: something that passes other people's connections on, most likely.
        counted = "" if trusted or is_near(origin.ip) else origin.ip
        try:
            full = self._shares.taken >= Limits.MUX_VISITORS or sock.fileno() >= self._line
            if full or (counted and self._shares.full(counted) is not None):
                log.debug("! too many visitors", visitor=origin.ip)
                busy = Page("busy", {})
                self.count(busy)
                sock.send(render(busy, None, False))
                end_well(sock)
                return None
        except OSError:
            refuse(sock)  # it left before it was served
            return None
        self._shares.take(counted)
        visitor = Visitor(self, sock, str(origin), Peer(origin.ip.encode(), trusted, protocol), counted)
        self._visitors.add(visitor)
        return visitor

    def grew(self, count: int) -> None:
        """A visitor has ``count`` bytes more held. Who has to make room does so once all that is under way is done."""
        self._incoming.left -= count
        if self._incoming.left < 0 and not self._bounding:
            self._bounding = True
            self.loop.run_callback(self._bound)

    def _bound(self) -> None:
        self._bounding = False
        try:
            self._incoming.bound()
        except Exception as error:
            self.broken(error)

    def introduce(self, visitor: Known, said: Sequence[bytes]) -> bool:
        """A trusted proxy says for whom its next request is, in X-Forwarded-For: he is counted until ``rested``, and is
        who the log and the target hear of. False where so many are under way from his address that this one may not.
        """
        origin = self._trust.visitor(said)
        if origin is None:
            return True
        counted = "" if is_near(origin.ip) else origin.ip
        if counted and self._shares.full(counted) is not None:
            return False
        self._count_as(visitor, counted)
        visitor.address = str(origin)
        return True

    def rested(self, visitor: Known) -> None:
        """The request is answered that a trusted proxy made for somebody."""
        self._count_as(visitor, "")
        visitor.address = visitor.connected

    def _count_as(self, visitor: Known, counted: str) -> None:
        if counted != visitor.counted:
            self._shares.give(visitor.counted)
            self._shares.take(counted)
            visitor.counted = counted

    def gone(self, visitor: object) -> None:
        """A visitor's connection is over."""
        if visitor in self._visitors:
            self._visitors.discard(visitor)
            self._shares.give(visitor.counted)

    def _sweep(self) -> None:
        now = monotonic()
        for visitor in [visitor for visitor in self._visitors if visitor.deadline <= now]:
            try:
                visitor.expired()
            except Exception as error:
                visitor.broken(error)
        self.kept.sweep(now)

    def broken(self, error: Exception) -> None:
        """A fault of this program's was caught, and cost a visitor his connection."""
        self._counters.error("mux: fault")
        report(error)

    def count(self, page: Page) -> None:
        """Counts what a visitor gets in place of a target's answer."""
        if TEXTS[page.kind].status >= 400:
            self._counters.error(f"mux: {page.kind}")

    def drain(self) -> None:
        """Takes no new visitors, ends what is idle; responses that are under way are their connections' last."""
        self.draining = True
        self._stop_listening()
        for visitor in [visitor for visitor in self._visitors if visitor.idle]:
            visitor.close()
        self.kept.sweep(monotonic())

    def _stop_listening(self) -> None:
        self._porch.close()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def close(self) -> None:
        """Stops listening and ends every visitor's connection."""
        self._stop_listening()
        self._timer.stop()
        self._timer.close()
        for visitor in list(self._visitors):
            visitor.close()
        self.doorman.close()
        self.kept.close()
        self.router.close()


def notice_absence(sock: socket.socket) -> None:
    """Lets the kernel ask a silent visitor after a minute whether he is there, and end the connection after two.

    On a listening socket: what those it accepts inherit. A pause is no reason to end a response, an absence is.
    """
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
    ):
        option = getattr(socket, name, None)  # Linux calls the first one so, macOS the second
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _answered_names(hosts: tuple[str, ...], socks: list[socket.socket]) -> frozenset[bytes] | None:
    """The names that the mux answers to by path, None for any. Where only this machine reaches it, and nobody has said
    otherwise, that is this machine: else a page from anywhere, once its name leads to loopback, could read targets.
    """
    only_here = all(is_loopback(sock.getsockname()[0]) for sock in socks)
    return None if "*" in hosts or not (hosts or only_here) else frozenset(each.encode() for each in hosts)
