"""A login that holds for a connection: NTLM and Negotiate prove once, for all that follows on it, who asks.

The connection to the target is the visitor's alone, and only while his own connection speaks for the same person: one
of a proxy's may carry many.
"""

from __future__ import annotations

from aero.server.httpmux.head import Request
from aero.server.httpmux.retry import Tries
from aero.server.httpmux.upstream import Upstream


class Login:
    """One connection that was logged in on, between two requests of its visitor's."""

    __slots__ = ("_said", "_upstream")

    def __init__(self, upstream: Upstream, said: tuple[tuple[bytes, bytes], ...]) -> None:
        """``said``: what the request said of whom it was for (Request.forwarded)."""
        self._upstream: Upstream | None = upstream
        self._said = said

    def take(self, request: Request, tries: Tries) -> Upstream | None:
        """The connection, where it leads to the request's target and the request is for the same person."""
        upstream = self._upstream
        if upstream is None or not tries.may_use(upstream):
            return None
        if self._said != request.forwarded:
            self.end()
            return None
        self._upstream = None
        return upstream

    def end(self) -> None:
        """Nobody is logged in any more."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
