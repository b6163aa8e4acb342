"""A route: one way to one target. Whoever serves visitors opens streams on it, and asks it whether they get anywhere.

A protocol, so that a target of another server can be reached like one of a worker here.
"""

from __future__ import annotations

from time import monotonic
from typing import Callable, Protocol

from aero.core.buckets import Rates
from aero.core.session import Session
from aero.core.stream import Receiver, Stream


class Route(Protocol):
    """One way to one target."""

    @property
    def alive(self) -> bool:
        """True while bytes get through and new requests are welcome: a link is up and nobody is leaving."""

    def open(self, receiver: Receiver, visitor: str) -> Stream:
        """A new stream to the target. ``visitor``: ip:port as text. Raises StreamError."""


class Carried(Protocol):
    """A session, and whether a link carries it now."""

    session: Session

    @property
    def alive(self) -> bool:
        """True while a link carries the session."""


class LocalRoute:
    """Over one session of a worker that is connected to this server."""

    __slots__ = ("_carried", "_rates", "_target_id")

    def __init__(
        self, carried: Carried, target_id: int, rates: Callable[[str], Rates | None] = lambda _: None
    ) -> None:
        """``carried``: the session that opens the streams; ``rates(visitor)``: how fast they may be."""
        self._rates = rates
        self._carried = carried
        self._target_id = target_id

    @property
    def alive(self) -> bool:
        """True while a link carries the session and neither end is leaving."""
        return self._carried.alive and not self._carried.session.leaving

    def open(self, receiver: Receiver, visitor: str) -> Stream:
        """A new stream of the session. Raises StreamError."""
        stream = self._carried.session.open(receiver, self._target_id, visitor, monotonic())
        rates = self._rates(visitor)
        if rates is not None:
            stream.rates = rates
        return stream
