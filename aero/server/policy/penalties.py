"""Penalties: addresses whose handshakes or tokens were wrong, and how long the next try from there has to wait.

Knows numbers and times (passed in), no sockets. An address is never locked out: others may stand behind it.
"""

from __future__ import annotations

from collections import OrderedDict

# Failures that cost nothing: a code mistyped, a link cut in the middle of its handshake. Every guest that was answered
# and brought no proof counts, however it ended: nobody but the guest knows whether it has learned something.
FREE = 3.0
# The first failure beyond makes the next one wait this long, each one more twice as long, at most MAX_S: half of
# what a handshake may last, so that whoever does know the code gets in at the first try, however many others behind
# the same address do not.
FIRST_S = 0.25
MAX_S = 5.0
# Half of an address' failures are forgotten in this time: a minute or two after the last it is as good as new, and a
# worker with a wrong code, which tries twice a minute, never gets as far as a delay for its neighbours.
HALF_LIFE_S = 30.0
# Failures beyond this change nothing but how long they are remembered.
MAX = 10.0
# Each entry is some 200 bytes. Somebody with more addresses than this has as many guesses as addresses anyway.
ADDRESSES = 4096


class Penalties:
    """Failures by address, forgotten with time."""

    def __init__(self) -> None:
        """Begins with a clean slate."""
        self._failures: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # (how many, at), latest last

    def __len__(self) -> int:
        return len(self._failures)

    def failures(self, key: bytes, now: float) -> float:
        """What is remembered of an address; each failure counts 1 and fades."""
        count, at = self._failures.get(key, (0.0, now))
        faded: float = count * 0.5 ** ((now - at) / HALF_LIFE_S)
        return faded

    def failed(self, key: bytes, now: float) -> None:
        """A handshake from there failed."""
        self._failures[key] = min(self.failures(key, now) + 1.0, MAX), now
        self._failures.move_to_end(key)
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)

    def forget(self) -> None:
        """Everybody is as good as new: an operator has changed the code, say."""
        self._failures.clear()

    def delay_s(self, key: bytes, now: float) -> float:
        """How long the next handshake from there waits for its answer."""
        beyond = self.failures(key, now) - FREE
        return min(FIRST_S * 2.0**beyond, MAX_S) if beyond > 0 else 0.0
