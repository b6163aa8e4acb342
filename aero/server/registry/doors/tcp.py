"""The TCP door of a mapping: listens on one port, and joins each visitor's socket to a stream.

A visitor who comes while no link of the worker is up waits in the worker's lobby. One address may hold only a share of
the places, and the last descriptors are kept for links and the API: above either line a visitor is reset at once.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any, NamedTuple

from aero import logs
from aero.address import Address
from aero.core.codes import RESET_NAMES
from aero.errors import StreamError
from aero.host.facts import descriptor_line
from aero.limits import Limits
from aero.net.listen import Listener, listen_all
from aero.net.loop import Loop
from aero.net.pipe import Pipe, make_abrupt, refuse
from aero.server.policy.origin import is_near
from aero.server.policy.shares import Shares
from aero.server.registry.mapping import Mapping
from aero.server.watch.counters import Counters

log = logs.get("mapping")


class House(NamedTuple):
    """What all TCP doors share: the places of all visitors, and the descriptor from which on they are reset."""

    loop: Loop
    counters: Counters
    shares: Shares
    line: int

    @classmethod
    def build(cls, loop: Loop, counters: Counters) -> House:
        """As many places as visitors may have descriptors."""
        line = descriptor_line()
        return cls(loop, counters, Shares(line, Limits.VISITORS_PER_ADDRESS), line)


bind = listen_all  #: Sockets for a door: ``bind(ips, port)``, port 0 for any. Raises OSError.


class TcpDoor:
    """The listening sockets of one mapping, and its visitors' pipes."""

    def __init__(self, house: House, mapping: Mapping, socks: list[socket.socket]) -> None:
        """``socks``: listening, on one port."""
        self._house = house
        self._mapping = mapping
        for sock in socks:
            make_abrupt(sock)
        self._listeners = [Listener(house.loop, sock, self._on_visitor, self._busy) for sock in socks]

    def _busy(self) -> bool:
        return self._mapping.worker.rushed

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``."""
        return [str(Address(*each.address)) for each in self._listeners]

    def _on_visitor(self, sock: socket.socket, address: Any) -> None:
        ip, mapping = address[0], self._mapping
        visitor = f"[{ip}]:{address[1]}" if ":" in ip else f"{ip}:{address[1]}"
        # Loopback is this machine's own: a proxy, most likely, whose visitors are many.
        whose = "" if is_near(ip) else ip
        # The system gives the lowest number that is free: so many descriptors are in use at least.
        if sock.fileno() >= self._house.line:
            self._turn_away(sock, visitor, "descriptors", "descriptors are running out, see ulimit -n")
        elif whose and (self._house.shares.full(whose) or mapping.worker.shares.full(whose)):
            self._turn_away(sock, visitor, "address", "its address holds all that one may hold")
        else:
            self._house.shares.take(whose)
            mapping.worker.shares.take(whose)
            if mapping.worker.links:
                self._serve(visitor, whose, sock)
            else:
                serve = partial(self._serve, visitor, whose, sock)
                refused = partial(self._refuse, whose, sock)
                if not mapping.worker.lobby.wait(serve, refused):
                    refused()

    def _turn_away(self, sock: socket.socket, visitor: str, reason: str, why: object) -> None:
        """``reason``: the word that it is counted by (docs/api.md, "Reasons")."""
        mapping = self._mapping
        mapping.refuse(reason)
        self._house.counters.error("visitor turned away")
        log.warning(
            "visitor turned away", target=mapping.name, cid=mapping.worker.cid, visitor=visitor, why=why
        )
        refuse(sock)

    def _refuse(self, whose: str, sock: socket.socket) -> None:
        """No link came in time."""
        self._mapping.refuse("link")
        self._left(whose)
        refuse(sock)

    def _left(self, whose: str) -> None:
        self._house.shares.give(whose)
        self._mapping.worker.shares.give(whose)

    def _serve(self, visitor: str, whose: str, sock: socket.socket) -> None:
        mapping = self._mapping
        pipe = Pipe(self._house.loop, sock, partial(self._on_end, whose))
        try:
            stream = mapping.worker.open_stream(pipe, mapping.target_id, visitor)
        except StreamError as error:
            self._left(whose)
            self._turn_away(sock, visitor, "worker", error)
            return
        mapping.joined(stream)
        pipe.start(stream)
        if log.debugging:
            cid = mapping.worker.cid
            log.debug("< visitor", target=mapping.name, cid=cid, visitor=visitor, stream=stream.id)

    def _on_end(self, whose: str, pipe: Pipe, why: str) -> None:
        mapping, stream = self._mapping, pipe.stream
        self._left(whose)
        mapping.left(stream)
        if why:
            self._house.counters.error(f"stream reset: {RESET_NAMES.get(pipe.reset_code, 'other')}")
        if log.debugging:
            log.debug(
                "> visitor gone", target=mapping.name, cid=mapping.worker.cid, stream=stream.id, why=why
            )

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()  # they and the door hold each other, and with it the worker
