"""A worker's session, as the registry sees it: streams go over it, and it can be pinged and ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, Protocol

from aero.core.control import Answer
from aero.core.flows import Flows
from aero.core.session import Session
from aero.net.link import Figures


class WorkerSession(Protocol):
    """One session of a worker and the link that carries it now, if one does (links/uplink.py)."""

    session: Session
    lived_at: float  # when it last gave a sign of life that somebody had asked for, on the monotonic clock

    @property
    def received_bytes(self) -> int:
        """What the link that carries it now has read."""

    @property
    def alive(self) -> bool:
        """True while a link carries the session."""

    @property
    def transport(self) -> str:
        """What that link lies on: "tcp", "tls", "ws" or "wss"; "" while there is none."""

    @property
    def figures(self) -> Figures | None:
        """How that link fares; None while there is none."""

    @property
    def doubtful(self) -> bool:
        """True while something waits for an answer of that link, and nothing has come for a second."""

    @property
    def flows(self) -> Flows | None:
        """Its flows; None while no link carries it that has agreed on datagrams."""

    def ping(self, on_pong: Callable[[float], None], *, fresh: bool = False) -> bool:
        """Pings the worker, or shares a ping that is under way; ``fresh``: only where another cannot be sent.

        ``on_pong`` gets the round trip in seconds. False when there is no link.
        """

    def tell(self, answers: Iterable[Answer]) -> None:
        """Tells the worker what became of some of its targets."""

    def end(self, code: int, text: str) -> None:
        """Ends session and link."""
