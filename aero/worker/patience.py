"""How long a lane waits before its next try: a pure schedule. Time and chance are passed in.

    how the last try ended                     the next one comes
    ------------------------------------------------------------------------------------------
    FORGOTTEN  what we asked for is gone       at once: the next JOIN asks for something else
    REFUSED    the server does not want us     after 30 to 45 s
    LOST       a link that was good is gone    at once, the first time
    FAILED     anything else                   at once the first time, then after 0.5 s, 1 s, 2 s, ... up to

        4 s    while a session can be resumed that was lost less than five minutes ago
        a 20th of the time that the server keeps it, 4 s at least and 30 s at most, while it can be resumed later
        30 s   otherwise

Of every wait after a failure a random part of up to a half is left out, so that a thousand workers do not come back in
the same moment.
"""

from __future__ import annotations

import os
from typing import Callable

from aero.core.codes import Close
from aero.errors import AeroError, Rejected, SecurityError
from aero.limits import Limits

FORGOTTEN, REFUSED, LOST, FAILED = "forgotten", "refused", "lost", "failed"

_MAX_DOUBLINGS = 16  # far beyond every limit above


_REFUSED = (Close.AUTH, Close.AUTH_NEXT, Close.DENIED, Close.REPLACED, Close.KICKED)


def between(low: float, high: float) -> float:
    """A random number between the two. Not by the module random, which is 0.1 MB and a millisecond of each start."""
    return low + (high - low) * int.from_bytes(os.urandom(4), "big") / (1 << 32)


def ending(error: AeroError, asked: bool, up_s: float, carried: int) -> str:
    """How a try has ended.

    ``asked``: it asked for a session that there was; ``up_s``: how long its link was up, 0 where it never was, and
    ``carried`` how many bytes it carried.
    """
    code = error.code if isinstance(error, Rejected) else None
    if isinstance(error, SecurityError) or code in _REFUSED:
        return REFUSED
    if not up_s:
        return FORGOTTEN if code == Close.GONE and asked else FAILED
    return LOST if up_s >= Limits.RETRY_GOOD_S or carried >= Limits.RETRY_GOOD_BYTES else FAILED


class Patience:
    """The failures of one lane in a row, and how long it waits after each."""

    def __init__(self, uniform: Callable[[float, float], float] = between) -> None:
        """``uniform(low, high)`` gives a random number between the two."""
        self.failures = 0
        self._uniform = uniform

    def after(self, end: str, resume_s: float = 0.0, away_s: float = 0.0) -> float:
        """Seconds until the next try.

        ``resume_s``: how long the server keeps our session without a link, 0 where there is none to resume;
        ``away_s``: how long ago its last link was lost.
        """
        if end == FORGOTTEN:
            self.failures = (
                1  # the server is there: should the next try fail in a crowd, another follows soon
            )
            return 0.0
        if end == REFUSED:
            self.failures = 1
            return Limits.RETRY_REFUSED_S * self._uniform(1.0, 1.5)
        if end == LOST:
            self.failures = 0
        self.failures += 1
        if self.failures == 1:
            return 0.0
        doubled: float = Limits.RETRY_FIRST_S * 2.0 ** min(self.failures - 2, _MAX_DOUBLINGS)
        return min(doubled, _longest(resume_s, away_s)) * self._uniform(0.5, 1.0)


def _longest(resume_s: float, away_s: float) -> float:
    if not resume_s:
        return Limits.RETRY_MAX_S
    if away_s < Limits.RESUME_EAGER_S:
        return Limits.RETRY_RESUME_S
    return min(max(resume_s / Limits.RESUME_TRIES, Limits.RETRY_RESUME_S), Limits.RETRY_MAX_S)
