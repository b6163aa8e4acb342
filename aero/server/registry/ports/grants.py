"""What claims of ports are made of: who asks for which, who has them now, and what comes of it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple, Protocol, Union

from aero.server.registry.life import Mortal
from aero.server.registry.ports.claims import Holder
from aero.server.store.leases import Owner

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange


class Claim(NamedTuple):
    """What is asked for, by a worker from ``address``, which is "" where its leases are not bounded by address.

    ``remote``: a port by number; ``had``: the one it had; ``like``: its namesake's by another protocol; 0: none.
    ``ranges``: the ports that are the user's own; none: he gets those that are everybody's.
    ``row``: so many ports in a row, of which all those numbers are the first. ``wait_s``: for so long visitors wait
    while the worker is away.
    """

    owner: Owner
    identity: str
    address: str
    remote: int = 0
    had: int = 0
    like: int = 0
    ranges: tuple[PortRange, ...] = ()
    row: int = 1
    wait_s: int = 0


class Holding(Protocol):
    """A mapping that has a port now."""

    @property
    def owner(self) -> Owner:
        """Whose it is."""

    @property
    def identity(self) -> str:
        """Its worker's identity."""

    @property
    def worker(self) -> Mortal:
        """Its worker."""

    def holder(self) -> Holder | None:
        """How its worker is; None where it is away."""

    def give_way(self) -> None:
        """Stops listening at once: the port is another's."""


class StandIn(Holding, Protocol):
    """What listens on a port while the worker that has the lease is away."""

    def hand_over(self) -> list[socket.socket]:
        """As ``give_way``, but what listens goes on listening for the new mapping; [] where nothing does."""


class Beginning:
    """Has the ports of a claim while they are being bound: they are nobody else's."""

    def __init__(self, claim: Claim) -> None:
        """``claim``: under way."""
        self.owner = claim.owner
        self.identity = claim.identity

    @property
    def worker(self) -> Mortal:
        """Who is alive is not asked."""
        raise AssertionError("a claim under way is asked for a sign of life")

    def holder(self) -> Holder:
        """Alive: it has just asked."""
        return Holder(linked=True, alive=True)

    def give_way(self) -> None:
        """Nobody makes it: nobody gets the port of one who is alive."""
        raise AssertionError("a claim under way has to give way")


class Grant(NamedTuple):
    """Listening sockets on one port, or on each of some in a row, from ``port`` on.

    What people should hear of: ``before``, whose port it was, and ``busy``, leased ports that other programs use.
    """

    port: int
    socks: list[socket.socket]
    before: Owner | None = None
    busy: tuple[int, ...] = ()


class Wait(NamedTuple):
    """Ask again: when those who have a port were asked for a sign of life, or in a moment, as other programs use it."""

    holders: tuple[Holding, ...] = ()
    busy: tuple[int, ...] = ()


Outcome = Union[Grant, Wait]
