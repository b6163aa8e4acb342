"""Connections to targets between two requests, and those that wait for their target's end.

Bounded in number and time.
"""

from __future__ import annotations

from time import monotonic

from aero.limits import Limits
from aero.server.httpmux.upstream import Upstream
from aero.server.registry.mapping import Mapping


class KeptConnections:
    """All of them: the keeper of upstream.py."""

    def __init__(self, head_bytes: int) -> None:
        """``head_bytes``: the longest head that a target may send."""
        self.head_bytes = head_bytes
        self._retiring: dict[Upstream, float] = {}  # and until when
        self._idle: dict[Mapping, list[Upstream]] = {}
        self._count = 0

    def take(self, mapping: Mapping, longest_s: float) -> Upstream | None:
        """A connection last used at most ``longest_s`` ago, over a link that is up; None when there is none."""
        idle = self._idle.get(mapping)
        if not idle:
            return None
        upstream = idle[-1]
        if not upstream.route.alive or monotonic() - upstream.idle_since > longest_s:
            return None
        self._count -= 1
        idle.pop()
        if not idle:
            del self._idle[mapping]
        return upstream

    def put(self, upstream: Upstream) -> None:
        """Keeps a connection, or retires it when there are enough."""
        idle = self._idle.setdefault(upstream.mapping, [])
        if len(idle) >= Limits.MUX_POOLED_PER_TARGET or self._count >= Limits.MUX_POOLED:
            if not idle:
                del self._idle[upstream.mapping]
            upstream.retire()
            return
        upstream.idle_since = monotonic()
        idle.append(upstream)
        self._count += 1

    def drop(self, upstream: Upstream) -> None:
        """A connection is over; harmless when it does not wait here."""
        idle = self._idle.get(upstream.mapping)
        if idle and upstream in idle:
            idle.remove(upstream)
            self._count -= 1
            if not idle:
                del self._idle[upstream.mapping]

    def retired(self, upstream: Upstream) -> None:
        """Our end of it is over: gives the target MUX_RETIRE_S to end its own."""
        self._retiring[upstream] = monotonic() + Limits.MUX_RETIRE_S

    def over(self, upstream: Upstream) -> None:
        """The connection has ended at both ends."""
        self._retiring.pop(upstream, None)

    def sweep(self, now: float) -> None:
        """Retires what was idle for too long, or would keep a worker from leaving; ends what does not end itself."""
        for idle in list(self._idle.values()):
            for upstream in list(idle):
                if now - upstream.idle_since > Limits.MUX_POOLED_S or upstream.stream.session.leaving:
                    self.drop(upstream)
                    upstream.retire()
        for upstream, until in list(self._retiring.items()):
            if now > until:
                upstream.abort()

    def close(self) -> None:
        """Ends everything that waits here."""
        for upstream in [*self._retiring, *(each for idle in self._idle.values() for each in idle)]:
            self.drop(upstream)
            upstream.abort()
