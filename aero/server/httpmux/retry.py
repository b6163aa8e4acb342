"""The tries of one request: at which mapping the next one is made, and whether there may be a next one at all.

Pure but for the streams that it opens. A request is made again only where that cannot be its second time, or where a
second time does no harm.
"""

from __future__ import annotations

from time import monotonic
from typing import Callable

from aero.core.codes import Reset
from aero.core.stream import OPEN
from aero.errors import StreamError
from aero.limits import Limits
from aero.net.proxyheader import Arrived, nowhere
from aero.server.httpmux.body import Bytes
from aero.server.httpmux.head import IDEMPOTENT
from aero.server.httpmux.kept import KeptConnections
from aero.server.httpmux.upstream import Upstream
from aero.server.registry.mapping import Mapping


class Tries:
    """What is known of one request's tries. ``sent``: the part of its body that every new try begins with."""

    __slots__ = ("_count", "_failed", "_grew", "_idempotent", "_left", "_new_only", "_reached", "sent")

    def __init__(
        self, mappings: list[Mapping], method: bytes, sent: bytes, grew: Callable[[int], None]
    ) -> None:
        """``mappings``: where the request may go, in order; ``sent``: what has come of its body already; ``grew``:
        is told how much is kept.
        """
        self._grew = grew
        self._left = mappings
        self._idempotent = method in IDEMPOTENT
        self._count = 0
        self._reached = False  # some try may have reached its target
        self._new_only = False  # a kept connection of the first mapping was dead
        self._failed = ("no worker", "")  # the last failure: a page's kind, and why
        self.sent: bytes | None = sent  # None: so much was sent that it is not kept

    def may_use(self, own: Upstream) -> bool:
        """Whether the request may go over a connection that was kept for this visitor alone."""
        return (
            own.mapping in self._left
            and own.stream.state == OPEN
            and own.route.alive
            and (self._idempotent or monotonic() - own.idle_since <= Limits.MUX_POOLED_S)
        )

    def next(self, kept: KeptConnections, visitor: str, arrived: Arrived = nowhere) -> Upstream | None:
        """A connection to the first mapping that gives one: a kept one at first, after that failed a new one.

        ``arrived``: where the visitor's connection did, for targets with a PROXY header.
        """
        if self.sent is None or self._count >= Limits.MUX_TRIES:
            return None
        longest_s = Limits.MUX_POOLED_S if self._idempotent else Limits.MUX_POOLED_FRESH_S
        self._count += 1
        while self._left:
            mapping = self._left[0]
            if not self._new_only:
                upstream = kept.take(mapping, longest_s)
                if upstream is not None:
                    return upstream
            self._new_only = False
            del self._left[0]
            try:
                return Upstream(kept, mapping, visitor, arrived)
            except StreamError as error:
                if not self._reached:
                    self._failed = ("busy" if error.code == Reset.LIMIT else "no worker", "")
        return None

    @property
    def failure(self) -> tuple[str, str]:
        """Why the last try failed: a page's kind, and words."""
        return self._failed

    def remember(self, data: Bytes) -> None:
        """Keeps a small body until the response begins, to send it again elsewhere."""
        if self.sent is not None:
            kept = len(self.sent) + len(data) <= Limits.MUX_REPLAY_BYTES
            self.sent = self.sent + data if kept else None
            if kept:
                self._grew(len(data))

    def begun(self) -> None:
        """The response has begun, or so much was sent that there is no going back: there will be no other try."""
        self.sent = None

    def may_move(self, upstream: Upstream) -> bool:
        """Whether the request may be made elsewhere although it is under way at ``upstream``."""
        if self.sent is None or self._count >= Limits.MUX_TRIES:
            return False
        return self._idempotent or upstream.nothing_left

    def move(self, upstream: Upstream, mappings: list[Mapping]) -> None:
        """The request leaves ``upstream``, whose link is down, for one of ``mappings``."""
        if not upstream.nothing_left:
            self._reached, self._failed = True, ("link lost", "")
        self._left = mappings
        self._new_only = False

    def failed(self, upstream: Upstream, kind: str, reached: bool, why: str) -> bool:
        """A try has failed; whether another one may follow.

        ``kind`` and ``why``: what a page says of it; ``reached``: the target may have got something of the request.
        """
        if reached or not self._reached:
            self._failed = (kind, why)
        self._reached = self._reached or reached
        if self.sent is None or kind == "target talks nonsense":
            return False
        self._new_only = upstream.used and reached
        return self._idempotent or not reached
