r"""Doubt: whether a link that says nothing still leads anywhere. Time is passed in, and what the kernel knows.

A path can die without a word: then nothing comes, and what is sent is taken by the kernel and never arrives. Pings find
that out, but their interval is chosen for idle links. So while something of ours waits for an answer, silence counts:

    state \\ event   sign of life   SUSPECT_S of it   DOUBT_S of it
    TRUSTED         TRUSTED        SUSPECTED         DOUBTED
    SUSPECTED       TRUSTED        -                 DOUBTED
    DOUBTED         TRUSTED        -                 -

A sign of life is a byte from the peer, or one of ours that its kernel has acknowledged: a slow path that drains is no
dead one, however long its records take. Suspicion costs nothing, new streams prefer another link; doubt lets
a worker dial a new link beside this one (worker/lane.py). Nothing here ends a link: whoever doubts may be wrong.
"""

from __future__ import annotations

TRUSTED, SUSPECTED, DOUBTED = range(3)
STATE_NAMES = ("trusted", "suspected", "doubted")

LOOK_S = 1.0  # between two looks at a link of which something waits
# Ten times what a peer may take to acknowledge (link.py, ACK_DELAY_S).
SUSPECT_S = 1.0
# TCP sends again what was lost after 0.2, 0.4 … 3.2 s, so a path that was away for 3 s speaks before that.
DOUBT_S = 5.0


class Doubt:
    """What one link's looks have come to."""

    __slots__ = ("_alive_at", "_delivered", "_looked_at", "_waits_since", "silent_s")

    def __init__(self, now: float) -> None:
        """``now`` in seconds, by the clock that all calls use: the link is alive."""
        self.silent_s = 0.0  # how long something of ours has waited without a sign of life, at the last look
        self._alive_at = self._looked_at = now
        self._delivered = 0
        self._waits_since = 0.0  # 0: nothing waits

    def look(self, now: float, heard_at: float, waits: bool, delivered: int, late: bool) -> None:
        """A look at the link. ``heard_at``: when a byte came last; ``waits``: something of ours waits for an answer;
        ``delivered``: how many bytes of ours the peer's kernel has acknowledged since the beginning; ``late``: we were
        away until now, so what the peer has said meanwhile may be unread.
        """
        if delivered > self._delivered or late:
            self._alive_at = now
        self._delivered = delivered
        self._alive_at = max(self._alive_at, heard_at)
        if not waits:
            self._waits_since = 0.0
        elif not self._waits_since:
            # Between two looks in a row, nobody knows when; after a quiet time, the first byte has asked for this look.
            self._waits_since = now if now - self._looked_at < 2 * LOOK_S else now - LOOK_S
        self._looked_at = now
        self.silent_s = now - max(self._alive_at, self._waits_since) if waits else 0.0

    def state(self, heard_at: float) -> int:
        """TRUSTED, SUSPECTED or DOUBTED; what was heard since the last look counts."""
        if self.silent_s < SUSPECT_S or heard_at > self._looked_at:
            return TRUSTED
        return DOUBTED if self.silent_s >= DOUBT_S else SUSPECTED
