"""Connections to targets between two requests, and those that wait for their target's end.

Bounded in number and time. What is learned of each target is how many connections it serves at once: a device that
serves one leaves the second waiting while the first is kept for later.
"""

from __future__ import annotations

from time import monotonic

from aero.limits import Limits
from aero.server.httpmux.upstream import Upstream
from aero.server.registry.mapping import Mapping


class Width:
    """One target's connections. ``open``: all there are, in the order in which they were opened; ``waiting``: on how
    many of them it has not answered yet; ``known``: how many it is known to serve at once.
    """

    __slots__ = ("known", "open", "waiting")

    def __init__(self) -> None:
        """Begins with no connection, and nothing learnt."""
        self.open: dict[Upstream, None] = {}
        self.waiting = self.known = 0


class KeptConnections:
    """All of them: the keeper of upstream.py."""

    def __init__(self, head_bytes: int) -> None:
        """``head_bytes``: the longest head that a target may send."""
        self.head_bytes = head_bytes
        self._retiring: dict[Upstream, float] = {}  # and until when
        self._idle: dict[Mapping, list[Upstream]] = {}
        self._widths: dict[Mapping, Width] = {}  # of targets with a connection
        self._count = 0

    # What is learned of a target

    def opened(self, upstream: Upstream) -> None:
        """A new connection is on its way to the target."""
        width = self._widths.setdefault(upstream.mapping, Width())
        width.open[upstream] = None
        width.waiting += 1

    def answered(self, upstream: Upstream) -> None:
        """The target has answered on this connection for the first time.

        One that serves a few at once takes the next when an earlier one is over. So those that were opened before and
        are open still are served beside it.
        """
        upstream.mapping.outcome(served=True)
        width = self._widths[upstream.mapping]
        width.waiting -= 1
        if width.known < len(width.open):
            width.known = max(width.known, 1 + list(width.open).index(upstream))

    def over(self, upstream: Upstream) -> None:
        """The connection has ended at both ends."""
        self._retiring.pop(upstream, None)
        width = self._widths[upstream.mapping]
        del width.open[upstream]
        width.waiting -= not upstream.answered
        if not width.open:
            del self._widths[upstream.mapping]

    # Between two requests

    def take(self, mapping: Mapping, longest_s: float) -> Upstream | None:
        """The connection last used, at most ``longest_s`` ago and over a link that is up; None when there is none.

        Then a new one will be opened: where the target is not known to serve one more, the oldest makes room.
        """
        idle = self._idle.get(mapping)
        if not idle:
            return None
        now = monotonic()
        since = now - longest_s
        if longest_s < Limits.MUX_POOLED_S and not mapping.keeps:
            # What may not be sent twice is not sent to meet an end that is on its way.
            mapping.keeps = now - idle[0].idle_since >= Limits.MUX_REST_S
            if not mapping.keeps:
                since = now + 1.0
        upstream = idle[-1]
        if len(idle) > 1 and upstream.idle_since >= since and upstream.route.alive:
            idle.pop()  # as below, for most
            self._count -= 1
            mapping.idle -= 1
            return upstream
        for upstream in reversed(idle):
            if upstream.idle_since < since:
                break
            if upstream.route.alive:
                self._remove(upstream, idle)
                return upstream
        width = self._widths[mapping]
        if len(width.open) >= width.known:
            oldest = idle[0]
            self.drop(oldest)
            oldest.retire()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keeps a connection, or retires it when there are enough, or when another may be waiting for its place."""
        mapping = upstream.mapping
        width = self._widths[mapping]
        idle = self._idle.get(mapping)
        if idle is None:
            idle = []
        if (
            (width.waiting and len(width.open) > width.known)
            or self._count >= Limits.MUX_POOLED
            or len(idle) >= Limits.MUX_POOLED_PER_TARGET
            or mapping.closed
        ):
            upstream.retire()
            return
        upstream.idle_since = monotonic()
        if not idle:
            self._idle[mapping] = idle
        idle.append(upstream)
        self._count += 1
        mapping.idle += 1

    def ended(self, upstream: Upstream) -> None:
        """The target has ended a connection while nobody used it: one that does so at once keeps none."""
        if monotonic() - upstream.idle_since < Limits.MUX_REST_S:
            upstream.mapping.keeps = False
        self.drop(upstream)

    def drop(self, upstream: Upstream) -> None:
        """A connection does not wait here any more; harmless when it did not."""
        idle = self._idle.get(upstream.mapping)
        if idle and upstream in idle:
            self._remove(upstream, idle)

    def _remove(self, upstream: Upstream, idle: list[Upstream]) -> None:
        if upstream is idle[-1]:
            idle.pop()
        else:
            idle.remove(upstream)
        self._count -= 1
        upstream.mapping.idle -= 1
        if not idle:
            del self._idle[upstream.mapping]

    def retired(self, upstream: Upstream) -> None:
        """Our end of it is over: gives the target MUX_RETIRE_S to end its own."""
        self._retiring[upstream] = monotonic() + Limits.MUX_RETIRE_S

    def sweep(self, now: float) -> None:
        """Retires what was idle for too long, what nobody may use, and what would keep a worker from leaving; ends
        what does not end itself.
        """
        for mapping, idle in list(self._idle.items()):
            for upstream in list(idle):
                old = now - upstream.idle_since > Limits.MUX_POOLED_S
                if old or mapping.closed or upstream.stream.session.leaving:
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
