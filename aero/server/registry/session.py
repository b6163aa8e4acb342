"""A worker's session, as the registry sees it: streams go over it, and it can be pinged and ended."""

from __future__ import annotations

from typing import Callable, Protocol

from aero.core.session import Session


class WorkerSession(Protocol):
    """One session of a worker and the link that carries it now, if one does (links/uplink.py)."""

    session: Session

    @property
    def alive(self) -> bool:
        """True while a link carries the session."""

    def ping(self, on_pong: Callable[[float], None]) -> bool:
        """Pings the worker; False when there is no link or it takes no ping now."""

    def end(self, code: int, text: str) -> None:
        """Ends session and link."""
