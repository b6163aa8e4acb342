"""What the server counts, for whoever asks: numbers that only grow. Knows neither HTTP nor how they are shown.

The roles count where things happen; every call here is a few additions, so that the data path may call it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import add
from time import monotonic, time
from typing import NamedTuple, Protocol

from aero.address import TCP
from aero.core.codes import CLOSE_NAMES, RESET_NAMES, Close
from aero.core.datagrams import Drops
from aero.limits import Limits

#: How a handshake may end. "no proof": answered, and then over in any way without a proof. The rest were never
#: answered: "rule broken", "gave up", and "no place" where a newer one took their place.
HANDSHAKE_RESULTS = ("ok", "wrong code", "no proof", "rule broken", "gave up", "no place")
#: What connections to the server's port begin with, and with what again within TLS; "websocket" is a link by it,
#: "tls failed" a beginning of TLS that led to nothing.
OPENINGS = ("link", "tls", "tls failed", "websocket", "http", "http/2", "unknown")
#: What can go wrong, beside what the mux answers (httpmux/pages.py). All are there from the start, at 0, so that a rate
#: shows the first one, too.
ERRORS = (
    "api token wrong",
    "link lost",
    *(f"rule broken: {name}" for code, name in CLOSE_NAMES.items() if Close.RECORD <= code <= Close.OVERLOAD),
    *(f"stream reset: {name}" for name in RESET_NAMES.values()),
    "target not mapped",
    "visitor turned away",
    "worker turned away",
)
#: Round trips in seconds, from one machine to a satellite's path.
PING_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Birth(NamedTuple):
    """When the server began: in Unix seconds, and on the monotonic clock."""

    at: float
    monotonic_s: float

    @classmethod
    def now(cls) -> Birth:
        """The present moment."""
        return cls(time(), monotonic())

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return monotonic() - self.monotonic_s


class TargetName(NamedTuple):
    """Whose bytes are counted together: those of all workers of a user with a tag that have the target, now and
    before. ``user``: "" for whoever has the plain code.
    """

    tag: str
    target: str
    user: str = ""
    proto: str = TCP


class Carrying(Protocol):
    """A stream or a flow: bytes of its data from visitors and from the target."""

    sent: int
    received: int


class Sums(NamedTuple):
    """What is counted of one target, since the server's start. In: from visitors to the target; out: back.

    ``streams`` are those that began; ``requests`` those of the mux that got an answer from the target.
    """

    bytes_in: int
    bytes_out: int
    streams: int
    requests: int
    datagrams_in: int
    datagrams_out: int


#: Once COUNTED_TARGETS names are counted apart, all further ones are counted together: peers choose names, and each
#: costs memory.
OTHERS = TargetName("", "(others)")


class Total:
    """Streams and bytes of all mappings that ever led to one target: these numbers never go back."""

    def __init__(self) -> None:
        """Begins with nothing counted."""
        self.stirred = False  # something may have changed since `settle`: the only ones that need a look
        self.refused: dict[str, int] = {}  # visitors and requests that were turned away, by reason
        self._parts: set[Tally] = set()  # of mappings that have streams, or may get some
        self._past = Sums(0, 0, 0, 0, 0, 0)  # of the others

    def part(self) -> Tally:
        """A tally for a new mapping; ``close`` ends it."""
        part = Tally(self)
        self._parts.add(part)
        return part

    def absorb(self, part: Tally) -> None:
        """A mapping is gone, and its streams are over."""
        if part in self._parts:
            self._parts.discard(part)
            self._past = Sums(*map(add, self._past, part.sums))

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away; ``reason`` is one of the program's own words, never a peer's."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self.stirred = True

    def settle(self) -> None:
        """All has been looked at; with open streams there will be more."""
        self.stirred = any(part.streams for part in self._parts)

    @property
    def sums(self) -> Sums:
        """All numbers, those of open streams included."""
        sums = self._past
        for part in self._parts:
            sums = Sums(*map(add, sums, part.sums))
        return sums

    @property
    def visitors(self) -> int:
        """Streams since the beginning."""
        return self.sums.streams

    @property
    def bytes_in(self) -> int:
        """Bytes from visitors to the target."""
        return self.sums.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes from the target to visitors."""
        return self.sums.bytes_out


class Tally:
    """Streams and bytes of one mapping."""

    def __init__(self, total: Total) -> None:
        """``total``: of the target, which goes on after the mapping."""
        self.visitors = 0  # streams since the beginning
        # Whoever serves requests or carries datagrams adds to these; bytes are counted by the stream or the flow.
        self.requests = self.datagrams_in = self.datagrams_out = 0
        self.stirred = False  # see Total
        self.seen = (0, 0)  # bytes in and out when whoever samples looked last
        self._total = total
        self._closed = False
        self._open: set[Carrying] = set()
        self._bytes_in = self._bytes_out = 0  # of the streams that are over

    def joined(self, stream: Carrying) -> None:
        """A stream begins; ``left`` ends it."""
        self.visitors += 1
        self._open.add(stream)
        self.stirred = self._total.stirred = True

    def left(self, stream: Carrying) -> None:
        """A stream is over. Harmless when it was before."""
        if stream in self._open:
            self._open.discard(stream)
            self._bytes_in += stream.sent
            self._bytes_out += stream.received
            if self._closed and not self._open:
                self._total.absorb(self)

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away; ``reason`` is one of the program's own words."""
        self._total.refuse(reason)

    def settle(self) -> None:
        """All has been looked at; with open streams there will be more."""
        self.stirred = bool(self._open)

    def close(self) -> None:
        """No stream joins any more."""
        self._closed = True
        if not self._open:
            self._total.absorb(self)

    @property
    def open(self) -> frozenset[Carrying]:
        """Streams, or flows, that are open now."""
        return frozenset(self._open)

    @property
    def streams(self) -> int:
        """Open streams."""
        return len(self._open)

    @property
    def bytes_in(self) -> int:
        """Bytes from visitors to the target."""
        return self._bytes_in + sum(stream.sent for stream in self._open)

    @property
    def bytes_out(self) -> int:
        """Bytes from the target to visitors."""
        return self._bytes_out + sum(stream.received for stream in self._open)

    @property
    def sums(self) -> Sums:
        """All numbers."""
        return Sums(
            self.bytes_in,
            self.bytes_out,
            self.visitors,
            self.requests,
            self.datagrams_in,
            self.datagrams_out,
        )


class Histogram:
    """How often a value was at most each of some bounds; ``counts`` has one place more, for all above."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """``bounds``: ascending, in the unit of the values."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counters:
    """Everything that one server counts."""

    def __init__(self) -> None:
        """Begins with nothing counted."""
        self.handshakes = dict.fromkeys(HANDSHAKE_RESULTS, 0)
        self.openings = dict.fromkeys(OPENINGS, 0)
        self.errors = dict.fromkeys(ERRORS, 0)
        self.pings = Histogram(PING_BOUNDS_S)
        self.totals: dict[TargetName, Total] = {}
        self.drops = Drops()  # of all datagrams

    def expect(self, kinds: Iterable[str]) -> None:
        """More kinds of errors that can happen, at 0."""
        self.errors.update(dict.fromkeys(kinds, 0))

    def error(self, kind: str) -> None:
        """Counts an error; ``kind`` is one of the program's own words, never a peer's."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def tally(self, tag: str, target: str, user: str = "", proto: str = TCP) -> Tally:
        """Where a new mapping counts its streams."""
        name = TargetName(tag, target, user, proto)
        if name not in self.totals and len(self.totals) >= Limits.COUNTED_TARGETS:
            name = OTHERS
        return self.totals.setdefault(name, Total()).part()
