r"""Whether a target works: from what its worker saw when it looked, and from visitors who were refused. Pure.

    state \ event     failed × fails     passed × passes
    in order          sick               -
    sick              -                  in order

Three refusals of visitors within ``every`` seconds count like one look that failed. They alone never take the last
target of a pool that works out of it: then visitors would be refused by us in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: So many refusals within ``every`` seconds count like a look that failed.
REFUSALS = 3
#: What holds where an option is not given: seconds between two looks, failures and passes in a row, seconds for one.
EVERY_S, FAILS, PASSES, TIMEOUT_S = 10, 3, 2, 3


class Health:
    """What is known of one target."""

    def __init__(self, options: Mapping[str, object]) -> None:
        """``options``: the target's, as terms.py has read them. Begins in order, as visitors come at once."""
        self.in_order = True
        self.why = ""  # it is not, for people
        self._every_s = _number(options, "every", EVERY_S)
        self._fails = _number(options, "fails", FAILS)
        self._passes = _number(options, "passes", PASSES)
        self._row = 0  # failures in a row while in order, passes in a row while sick
        self._refused: deque[float] = deque(maxlen=REFUSALS)

    def looked(self, why: str, last: bool = False) -> bool:
        """The worker has looked: ``why`` it does not work, "" where it does. True when the state has changed.

        ``last``: it must not be taken out now.
        """
        if bool(why) != self.in_order:
            self._row = 0  # nothing new: a row in the other direction is broken
            self.why = why if not self.in_order else ""
            return False
        self._row += 1
        if self._row < (self._fails if self.in_order else self._passes) or (why and last):
            return False
        self.in_order, self.why, self._row = not self.in_order, why, 0
        return True

    def refused(self, now: float, last: bool) -> bool:
        """A visitor was refused by the target; ``last``: no other of its pool works. True when it is sick now."""
        if not self.in_order:
            return False
        self._refused.append(now)
        if len(self._refused) < REFUSALS or now - self._refused[0] > self._every_s:
            return False
        self._refused.clear()
        return self.looked("it refuses visitors", last)


def _number(options: Mapping[str, object], key: str, default: int) -> int:
    value = options.get(key, default)
    return value if isinstance(value, int) else default
