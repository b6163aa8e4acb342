"""What the access log is to say of a request under way. Made only where there is such a log."""

from __future__ import annotations

from time import monotonic

from aero.server.httpmux.head import Request
from aero.server.httpmux.routing import Destination
from aero.server.httpmux.upstream import Upstream
from aero.server.watch.access import AccessLog, Entry


class Note:
    """One request, from its head to its end."""

    __slots__ = ("_began_at", "_received", "_request", "_sent", "_upstream", "end", "status")

    def __init__(self, request: Request) -> None:
        """Its head is here."""
        self._request = request
        self._began_at = monotonic()
        self._upstream: Upstream | None = None
        self._sent = self._received = 0
        self.status = 0
        self.end = ""  # what the mux answered itself

    def asked(self, upstream: Upstream) -> None:
        """It is about to be sent to a target; what counts is what goes there, and comes, from here on."""
        self._upstream = upstream
        self._sent, self._received = upstream.stream.sent, upstream.stream.received

    def write(self, access: AccessLog, wanted: Destination | None, visitor: str, end: str) -> None:
        """It is over."""
        request, upstream = self._request, self._upstream
        user = cid = ""
        into = out = 0
        if upstream is not None:
            user, cid = upstream.mapping.owner.user, upstream.mapping.worker.cid
            into, out = upstream.stream.sent - self._sent, upstream.stream.received - self._received
        access.add(
            Entry(
                user,
                wanted.who if wanted is not None else "",
                wanted.name if wanted is not None else "",
                cid,
                visitor,
                into,
                out,
                monotonic() - self._began_at,
                self.end or end,
                request.method.decode("latin-1"),
                request.target,
                self.status,
            )
        )
