"""The TCP door of a mapping: listens on one port, and joins each visitor's socket to a stream.

A visitor who comes while no link of the worker is up waits in the worker's lobby. One address may hold only a share of
the places, and the last descriptors are kept for links and the API: above either line a visitor is reset at once.
"""

from __future__ import annotations

import socket
from functools import partial
from time import monotonic
from typing import Any, Callable, NamedTuple, Protocol

from aero import logs
from aero.address import Address, LocalPlace
from aero.core.codes import RESET_NAMES
from aero.errors import StreamError
from aero.host.facts import descriptor_line
from aero.limits import Limits
from aero.net import proxyheader
from aero.net.announced import Announcers, told
from aero.net.listen import Listener, listen_all
from aero.net.loop import Loop
from aero.net.pipe import Pipe, make_abrupt, refuse
from aero.server.policy.origin import is_near
from aero.server.policy.shares import Shares
from aero.server.registry.gradually import SLICE, Gradual, close_gradually
from aero.server.registry.mapping import Mapping
from aero.server.watch.access import AccessLog, Entry
from aero.server.watch.counters import Counters

log = logs.get("mapping")


class House(NamedTuple):
    """What all TCP doors share: the places of all visitors, and the descriptor from which on they are reset."""

    loop: Loop
    counters: Counters
    shares: Shares
    line: int
    announcers: Announcers
    access: AccessLog | None = None  # where streams are written down

    @classmethod
    def build(cls, loop: Loop, counters: Counters, announcers: Announcers) -> House:
        """As many places as visitors may have descriptors; ``announcers``: who comes with a PROXY header."""
        line = descriptor_line()
        return cls(loop, counters, Shares(line, Limits.VISITORS_PER_ADDRESS), line, announcers, None)


bind = listen_all  #: Sockets for a door: ``bind(ips, port)``, port 0 for any. Raises OSError.


class Behind(Protocol):
    """What a door leads to."""

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of the door."""

    def choose(self, visitor: str) -> Mapping | None:
        """The mapping that a visitor from an address gets; None where none works."""

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away before anything was chosen."""


class TcpDoor:
    """The listening sockets of one port, or of some in a row, and its visitors' pipes."""

    def __init__(self, house: House, behind: Behind, first: int = 0, row: int = 1) -> None:
        """``behind``: a mapping, or a group of them; ``first``: the first port, of ``row``. It does not listen yet."""
        self._house = house
        self._behind = behind
        self._first = first if row > 1 else 0
        self._row = row
        self._porch = house.announcers.porch(self._on_visitor)
        self._listeners: list[Listener] = []
        self._ips: list[str] = []
        self._shut = row > 1  # while it opens or closes

    def listen(self, socks: list[socket.socket]) -> Gradual[None]:
        """Opens: ``socks`` listen, and become this door's. Those that are left in it are not yet."""
        while socks:
            for sock in socks[:SLICE]:
                make_abrupt(sock)
                self._listeners.append(Listener(self._house.loop, sock, self._porch.entrance, self._busy))
            del socks[:SLICE]
            if socks:
                yield
        self._ips = list(dict.fromkeys(each.address[0] for each in self._listeners))
        self._shut = False

    def _busy(self) -> bool:
        return self._shut or self._behind.rushed

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``, ``ip:LO-HI``."""
        if self._first:
            return [str(LocalPlace(Address(ip, self._first), self._row)) for ip in self._ips]
        return [str(Address(*each.address)) for each in self._listeners]

    def receive(self, sock: socket.socket, address: Any) -> None:
        """A visitor who has waited elsewhere."""
        if self._listeners:
            self._on_visitor(sock, address)
        else:
            refuse(sock)

    def _on_visitor(self, sock: socket.socket, address: Any) -> None:
        ip = address[0]
        visitor = f"[{ip}]:{address[1]}" if ":" in ip else f"{ip}:{address[1]}"
        mapping = self._behind.choose(ip)
        if mapping is None:
            self._behind.refuse("health")
            self._house.counters.error("visitor turned away")
            refuse(sock)  # nobody is there who works: that was said, as an event
            return
        # Loopback is this machine's own: a proxy, most likely, whose visitors are many.
        whose = "" if is_near(ip) else ip
        # The system gives the lowest number that is free: so many descriptors are in use at least.
        if sock.fileno() >= self._house.line:
            self._turn_away(
                mapping, sock, visitor, "descriptors", "descriptors are running out, see ulimit -n"
            )
        elif whose and (self._house.shares.full(whose) or mapping.worker.shares.full(whose)):
            self._turn_away(mapping, sock, visitor, "address", "its address holds all that one may hold")
        elif (refused := mapping.why_not(ip)) is not None:
            self._turn_away(mapping, sock, visitor, refused.reason, refused.text)
        else:
            self._house.shares.take(whose)
            mapping.worker.shares.take(whose)
            if mapping.worker.linked:
                self._serve(mapping, visitor, whose, sock)
            else:
                serve = partial(self._serve, mapping, visitor, whose, sock)
                turned = partial(self._try_others, mapping, visitor, whose, sock)
                wait_s = mapping.options.get("wait", Limits.VISITOR_WAIT_S)
                if not mapping.worker.lobby.wait(serve, turned, wait_s):  # type: ignore[arg-type]  # terms.py has read it
                    turned()

    def _try_others(self, mapping: Mapping, visitor: str, whose: str, sock: socket.socket) -> None:
        """No link of the mapping's worker came in time: another of the group may have one by now."""
        self._left(mapping, whose)
        if mapping.later is not None:  # its worker is gone, and has gone for a while only
            mapping.later(sock, tuple(proxyheader.peer(visitor)))
            return
        other = self._behind.choose(whose)
        if other is None or not other.worker.linked or (whose and other.worker.shares.full(whose)):
            mapping.refuse("link")
            refuse(sock)
            return
        self._house.shares.take(whose)
        other.worker.shares.take(whose)
        self._serve(other, visitor, whose, sock)

    def _turn_away(
        self, mapping: Mapping, sock: socket.socket, visitor: str, reason: str, why: object
    ) -> None:
        """``reason``: the word that it is counted by (docs/api.md, "Reasons")."""
        mapping.refuse(reason)
        if self._house.access is not None:
            self._house.access.add(_entry(mapping, visitor, f"refused: {reason}"))
        self._house.counters.error("visitor turned away")
        log.warning(
            "visitor turned away", target=mapping.name, cid=mapping.worker.cid, visitor=visitor, why=why
        )
        refuse(sock)

    def _left(self, mapping: Mapping, whose: str) -> None:
        self._house.shares.give(whose)
        mapping.worker.shares.give(whose)

    def _serve(self, mapping: Mapping, visitor: str, whose: str, sock: socket.socket) -> None:
        on_end = partial(self._on_end, mapping, whose)
        if self._house.access is not None:
            on_end = partial(self._write_down, self._house.access, on_end, mapping, visitor, monotonic())
        pipe = Pipe(self._house.loop, sock, on_end)
        try:
            offset = sock.getsockname()[1] - self._first if self._first else 0
            stream = mapping.worker.open_stream(pipe, mapping.target_id, visitor, offset)
        except StreamError as error:
            self._left(mapping, whose)
            self._turn_away(mapping, sock, visitor, "worker", error)
            return
        version = mapping.announces
        if version is not None:
            stream.send(
                memoryview(
                    proxyheader.write(1 if version == "v1" else 2, proxyheader.peer(visitor), told(sock))
                )
            )
        mapping.joined(stream)
        if whose and mapping.fence is not None:
            mapping.fence.take(whose, monotonic())
        pipe.start(stream)
        if log.debugging:
            cid = mapping.worker.cid
            log.debug("< visitor", target=mapping.name, cid=cid, visitor=visitor, stream=stream.id)

    def _write_down(
        self,
        access: AccessLog,
        on_end: Callable[[Pipe, str], None],
        mapping: Mapping,
        visitor: str,
        began_at: float,
        pipe: Pipe,
        why: str,
    ) -> None:
        stream = pipe.stream
        lasted_s = monotonic() - began_at
        access.add(_entry(mapping, visitor, why or "ok", stream.sent, stream.received, lasted_s))
        on_end(pipe, why)

    def _on_end(self, mapping: Mapping, whose: str, pipe: Pipe, why: str) -> None:
        stream = pipe.stream
        self._left(mapping, whose)
        if whose and mapping.fence is not None:
            mapping.fence.give(whose)
        mapping.left(stream)
        if stream.refused:
            mapping.outcome(served=False)
        if why:
            self._house.counters.error(f"stream reset: {RESET_NAMES.get(pipe.reset_code, 'other')}")
        if log.debugging:
            log.debug(
                "> visitor gone", target=mapping.name, cid=mapping.worker.cid, stream=stream.id, why=why
            )

    def release(self) -> list[socket.socket]:
        """Gives its sockets back, which go on listening, and takes no new visitors."""
        listeners, self._listeners = self._listeners, []
        return [each.release() for each in listeners]

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""
        self._porch.close()
        self._shut = True
        listeners, self._listeners = (
            self._listeners,
            [],
        )  # they and the door hold each other, and with it the worker
        close_gradually(listeners)


def _entry(
    mapping: Mapping, visitor: str, end: str, into: int = 0, out: int = 0, lasted_s: float = 0.0
) -> Entry:
    worker = mapping.worker
    return Entry(mapping.owner.user, worker.tag, mapping.name, worker.cid, visitor, into, out, lasted_s, end)
