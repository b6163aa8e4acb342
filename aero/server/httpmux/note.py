"""What the access log is to say of a request under way. Made only where there is such a log."""

from __future__ import annotations

from time import monotonic, time

from aero.server.httpmux.head import Request
from aero.server.httpmux.routing import Destination
from aero.server.httpmux.upstream import Upstream
from aero.server.watch.access import AccessLog


class Note:
    """One request, from its head to its end."""

    __slots__ = ("_began_at", "_received", "_request", "_sent", "_upstream", "end", "status")

    def __init__(self, request: Request) -> None:
        """Its head is here."""
        self._request = request
        self._began_at = monotonic()
        self._upstream: Upstream | None = None  # with whom _sent and _received come
        self.status = 0
        self.end = ""  # what the mux answered itself

    def asked(self, upstream: Upstream) -> None:
        """It is about to be sent to a target; what counts is what goes there, and comes, from here on."""
        self._upstream = upstream
        self._sent, self._received = upstream.stream.sent, upstream.stream.received

    def write(self, access: AccessLog, wanted: Destination | None, visitor: str, end: str) -> None:
        """It is over."""
        request, upstream = self._request, self._upstream
        user = cid = who = name = ""
        into = out = 0
        if upstream is not None:
            mapping, stream = upstream.mapping, upstream.stream
            user, cid = mapping.owner.user, mapping.worker.cid
            into, out = stream.sent - self._sent, stream.received - self._received
        if wanted is not None:
            who, name = wanted.who, wanted.name
        lasted_s, how = monotonic() - self._began_at, self.end or end
        method = request.method.decode("latin-1")
        path, status = request.target, self.status
        access.keep((time(), user, who, name, cid, visitor, into, out, lasted_s, how, method, path, status))
