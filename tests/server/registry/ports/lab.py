"""Ports whose sockets are played, with leases and a clock of their own."""

from __future__ import annotations

import errno
import os
from typing import Any, Callable, cast

from aero.server.registry.ports.claims import Holder
from aero.server.registry.ports.grants import Claim, Grant, Wait
from aero.server.registry.ports.ports import Ports
from aero.server.store.database import Database
from aero.server.store.leases import Leases, Owner

LOW, HIGH = 8000, 8009
DAY = 24 * 3600


class Bound:
    """Stands for the listening socket of one port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.closed = False

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def fileno(self) -> int:
        return 7 if self.port % 3 == 0 else 3

    def close(self) -> None:
        self.closed = True


class Held:
    """A mapping, of which only the port matters."""

    def __init__(self, lab: Lab, claim: Claim, port: int) -> None:
        self.owner, self.identity, self.port, self.row = claim.owner, claim.identity, port, claim.row
        self.worker = cast(Any, None)
        self.linked, self.alive = True, False
        self._lab = lab
        self.hand_over: Callable[[], list[Any]]

    def holder(self) -> Holder:
        return Holder(self.linked, self.alive)

    def give_way(self) -> None:
        del self._lab.held[self.port]
        self._lab.ports.release(self.port)


class Lab:
    """Ports of a system that binds what it is asked for, but for other programs' ports, or for want of something."""

    def __init__(self, low: int = LOW, high: int = HIGH, leases: Leases | None = None) -> None:
        self.now = 1_000_000.0
        self.others: set[int] = set()
        self.error = errno.EADDRINUSE
        self.asked: list[int] = []
        self.any = iter(range(40_000, 60_000))
        self.leases = leases if leases is not None else Leases(Database(""), lambda: self.now)
        self.low, self.high = low, high
        self.held: dict[int, Held] = {}
        self.start()

    def beside(self, proto: str = "udp") -> Lab:
        """The ports of another protocol, with the same leases."""
        other = Lab(self.low, self.high, self.leases)
        other.proto = proto
        other.start()
        return other

    proto = "tcp"

    def start(self) -> None:
        """The server starts, perhaps again."""
        self.held.clear()
        for lease in list(self.leases):
            self.leases.release(lease.port, lease.owner.proto)
        self.ports = Ports(
            self.proto,
            cast(Any, self.bind),
            ("127.0.0.1",),
            self.low,
            self.high,
            self.leases,
            30 * DAY,
            lambda: self.now,
        )

    def bind(self, ips: tuple[str, ...], port: int) -> list[Bound]:
        self.asked.append(port)
        if port in self.others:
            raise OSError(self.error, os.strerror(self.error))
        return [Bound(port or next(self.any))]

    def ask(
        self, name: str, identity: str = "i", host: str = "h", last: bool = False, user: str = "", **more: Any
    ) -> Grant | Wait:
        claim = Claim(Owner(user, "t", host, name, self.proto), identity, "192.0.2.1", **more)
        outcome = self.ports.claim(claim, last)
        if isinstance(outcome, Grant):
            held = self.held[outcome.port] = Held(self, claim, outcome.port)
            self.ports.hold(outcome.port, held, claim.row)
        return outcome

    def port(self, name: str, identity: str = "i", host: str = "h", **more: Any) -> int:
        outcome = self.ask(name, identity, host, **more)
        assert isinstance(outcome, Grant)
        return outcome.port

    def leave(self, *ports: int) -> None:
        """Workers go."""
        for port in ports:
            del self.held[port]
            self.ports.release(port)
