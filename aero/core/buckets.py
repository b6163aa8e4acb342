"""Token buckets: how fast streams may send. A sending end has them; every byte is debited once, where a stream commits.

A stream has the buckets that hold for it (`Rates`): its user's, its target's, its visitor's. It may send what the
emptiest of them has. What is small may overdraw a bucket by SMALL_BYTES, so that a keystroke does not wait behind bulk;
the debt is paid before bulk goes on, so the rate holds all the same. Who finds a bucket empty stands in its line
(`Pace`), and goes on in turn when it has filled: one timer for all, no sleep and no greenlet for any. Knows no clock.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Callable, Protocol
from weakref import WeakSet

#: What small messages may overdraw: a screen full of text, a page's head, and less than 10 ms at 2 MB a second.
SMALL_BYTES = 16 * 1024
#: What a bucket holds at the most, in seconds of its rate: a burst after silence is 1 % of 10 s.
BURST_S = 0.1
#: A line is served when so much has come in, or half of what the bucket holds: pieces worth their frames.
STEP_BYTES = 16 * 1024
#: And not more often than this: at high rates the timer would cost more than the bytes.
TICK_S = 0.004
#: Pieces smaller than this are not worth a frame, where there is more to send.
_LEAST_BYTES = 512
_NO_LIMIT = 1 << 30


class Waker(Protocol):
    """Who sends on a stream."""

    def resume(self) -> None:
        """It may go on."""


class RatedStream(Protocol):
    """A stream, as far as its rates go (core/stream.py)."""

    heavy: bool
    held: bool
    starved: bool

    @property
    def receiver(self) -> Waker:
        """Who sends on it."""

    def abort(self, code: int, text: str = "") -> None:
        """Ends it."""

    def let_on(self, now: float) -> None:
        """Gives the peer credit that was held back."""


class Bucket:
    """So many bytes a second; rate 0 for as many as there are."""

    __slots__ = ("at", "burst", "due", "jumped", "level", "line", "rate", "serving", "step")

    def __init__(self, rate: int, now: float) -> None:
        """``rate`` in bytes a second; ``now`` in seconds. Begins full."""
        self.line: deque[RatedStream] = deque()  # streams that wait
        self.due = 0.0  # when the line will be served; 0: nobody waits
        self.serving = False
        self.jumped = 0  # bytes of those who went past the line since it was served
        self.rate = self.burst = self.step = 0
        self.level = 0.0
        self.at = now
        self.change(rate, now)
        self.level = float(self.burst)

    def change(self, rate: int, now: float) -> None:
        """Another rate from now on; what was overdrawn is forgotten only where the rate is 0."""
        self.fill(now)
        self.rate = rate
        self.burst = max(int(rate * BURST_S), 2 * _LEAST_BYTES)
        self.step = min(STEP_BYTES, self.burst // 2)
        self.level = min(self.level, float(self.burst)) if rate else 0.0

    def fill(self, now: float) -> None:
        """Takes in what time has brought."""
        if now > self.at and self.level < self.burst:
            self.level = min(self.level + (now - self.at) * self.rate, float(self.burst))
        self.at = now

    def allowed(self, heavy: bool, now: float) -> int:
        """How many bytes may be sent now; 0: stand in line. ``heavy``: by one that has much to send."""
        if not self.rate:
            return _NO_LIMIT
        self.fill(now)
        room = int(self.level)
        if heavy:
            if self.serving:
                return room if room >= _LEAST_BYTES else 0
            return room if not self.line and room >= self.step else 0
        room += SMALL_BYTES
        if self.line and not self.serving:
            room = min(room, SMALL_BYTES - self.jumped)
        return room if room >= _LEAST_BYTES else 0

    def spend(self, count: int) -> None:
        """``count`` bytes were sent."""
        self.level -= count
        if self.line and not self.serving:
            self.jumped += count


class Inlet:
    """The backstop at the receiving end: holds back credit from a peer that sends faster than it was told to.

    Whoever counts what really came says from time to time how much more may (``count``). Credit that falls due beyond
    that waits until there is room again; so a peer gets ahead by a window for each stream, and pays that back.
    """

    __slots__ = ("_held", "room")

    def __init__(self) -> None:
        """Gives credit to all until somebody has counted."""
        self.room = float("inf")
        self._held: WeakSet[RatedStream] = WeakSet()

    def holds(self, stream: RatedStream, count: int) -> bool:
        """Whether a stream's credit for ``count`` bytes has to wait; then it is given later by ``count``."""
        if stream in self._held:
            return True
        self.room -= count
        if self.room >= 0:
            return False
        self._held.add(stream)
        return True

    def count(self, room: float, now: float) -> None:
        """So many bytes more may come from now on; negative: as many came too fast."""
        self.room = room
        if room >= 0 and self._held:
            held, self._held = self._held, WeakSet()
            for stream in held:
                stream.let_on(now)


class Rates:
    """The buckets that hold for one stream, or for one flow of datagrams."""

    __slots__ = ("_pace", "buckets", "inlet")

    def __init__(self, pace: Pace, buckets: tuple[Bucket, ...], inlet: Inlet | None = None) -> None:
        """``pace``: where those wait who find one of ``buckets`` empty; ``inlet``: what holds the peer to its rates."""
        self._pace = pace
        self.buckets = buckets
        self.inlet = inlet

    def allowed(self, stream: RatedStream) -> int:
        """How many bytes a stream may send now. 0: its receiver's ``resume`` will be called."""
        now = self._pace.clock()
        least = _NO_LIMIT
        for bucket in self.buckets:
            room = bucket.allowed(stream.heavy, now)
            if not room:
                self._pace.wait(bucket, stream, now)
                return 0
            if room < least:
                least = room
        return least

    def spend(self, count: int) -> None:
        """``count`` bytes were sent."""
        for bucket in self.buckets:
            bucket.spend(count)

    def admit(self, count: int) -> bool:
        """For datagrams, which do not wait: debits ``count`` bytes, or says that they are to be dropped."""
        now = self._pace.clock()
        if any(bucket.allowed(False, now) < count for bucket in self.buckets):
            return False
        self.spend(count)
        return True


class Pace:
    """The lines of all buckets of a process, served in time."""

    def __init__(
        self,
        clock: Callable[[], float],
        wake: Callable[[float], None],
        broken: Callable[[RatedStream, Exception], None],
    ) -> None:
        """``wake(at)``: owes a call of ``serve`` at that time, instead of any time that was asked for before;
        ``broken``: a stream's receiver has failed.
        """
        self.clock = clock
        self._wake = wake
        self._broken = broken
        self._due: list[tuple[float, int, Bucket]] = []  # a heap
        self._count = 0  # tells those apart that are due at the same time

    def wait(self, bucket: Bucket, stream: RatedStream, now: float) -> None:
        """Puts a stream at the end of a bucket's line. Until it is its turn it counts as starved."""
        stream.starved = True
        if not stream.held:
            stream.held = True
            bucket.line.append(stream)
            self._plan(bucket, now)

    def _plan(self, bucket: Bucket, now: float) -> None:
        if bucket.due:
            return
        missing = bucket.step - bucket.level
        at = now + max(missing / bucket.rate if bucket.rate else 0.0, TICK_S)
        bucket.due = at
        self._count += 1
        entry = (at, self._count, bucket)
        heappush(self._due, entry)
        if self._due[0] is entry:
            self._wake(at)

    def changed(self, bucket: Bucket, rate: int) -> None:
        """A bucket has another rate; whoever waits for it is looked at anew."""
        now = self.clock()
        bucket.change(rate, now)
        if bucket.line:
            bucket.due = 0.0  # what was planned before is passed over
            self._plan(bucket, now)

    def serve(self) -> None:
        """Lets those go on whose buckets have filled."""
        now = self.clock()
        while self._due and self._due[0][0] <= now:
            at, _, bucket = heappop(self._due)
            if at != bucket.due:
                continue
            bucket.due = 0.0
            self._serve(bucket, now)
            if bucket.line:
                self._plan(bucket, now)
        if self._due:
            self._wake(self._due[0][0])

    def _serve(self, bucket: Bucket, now: float) -> None:
        bucket.fill(now)
        bucket.serving, bucket.jumped = True, 0
        try:
            for _ in range(len(bucket.line)):
                if bucket.rate and bucket.level < _LEAST_BYTES:
                    break
                stream = bucket.line.popleft()
                stream.held = stream.starved = False
                try:
                    stream.receiver.resume()
                except Exception as error:
                    self._broken(stream, error)
        finally:
            bucket.serving = False
