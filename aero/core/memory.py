"""What one process may hold for all its sessions: one budget, half of it for each direction.

Outgoing: what is kept until the other end has acknowledged it, in blocks (core/blocks.py). Incoming: what has come
and no receiver has taken yet, and whatever else is held because of what peers and visitors have said (here). Neither
half can be promised to anybody beforehand, as nobody knows how many sessions there will be; so both are given to
whoever comes, and when one is used up, those who hold the most give way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from aero.core.blocks import BLOCK_BYTES, LITTLE_BYTES, BlockPool

if TYPE_CHECKING:
    from aero.core.packing import Packer

# With less than this, bulk transfers would wait for memory rather than for the path.
MIN_BYTES = 48 * 1024 * 1024
# Free blocks for reuse: what a fast transfer has under way, 8 MiB, but no more than a sixteenth of all.
_FREE_BYTES = 8 * 1024 * 1024
# Of all memory, what datagrams may wait in: 1.5 MiB at the least, 60 ms at 200 Mbit/s.
_DATAGRAMS = 32


class Account(Protocol):
    """Somebody who holds bytes, as the incoming half knows him: a session, or all visitors of the mux."""

    @property
    def held_bytes(self) -> int:
        """How much that is now. Looks at every stream or visitor: it is asked for seldom."""

    def give_way(self, count: int) -> int:
        """Lets go of ``count`` bytes or more, of those who hold the most; returns how many bytes that were."""


class Incoming:
    """Bounds what all holders of a process hold.

    Nobody pays for each byte: what they hold can grow only by what comes, or by what they say (``grew``). So after a
    count the next one is due when the rest of the limit has come, or an eighth of it.
    """

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes`` for all of them together."""
        self._limit = limit_bytes
        self.left = limit_bytes  # so much may come before the next count; sessions count it down themselves
        self.holders: WeakSet[Account] = WeakSet()

    def set_aside(self, count: int) -> None:
        """``count`` bytes are held for good, by this program itself: nobody can give way for them."""
        self._limit -= count
        self.left -= count

    def grew(self, count: int) -> None:
        """A holder holds ``count`` bytes more. May have it give way at once, so it has to be ready for that."""
        self.left -= count
        if self.left < 0:
            self.bound()

    def bound(self) -> None:
        """Counts what is held; over the limit, holders give way until a quarter of it is free again.

        The one that holds the most comes first, and gives half of what it holds at the most before it is compared
        with the others again: so a crowd in one session is no reason for a reader in another to go.
        """
        held = {each: each.held_bytes for each in self.holders}
        total = sum(held.values())
        if total > self._limit:
            excess = total - (self._limit - (self._limit >> 2))
            while excess > 0:
                largest = max(held, key=lambda each: held[each])
                freed = largest.give_way(min(excess, (held[largest] + 1) // 2))
                if not freed:
                    break
                held[largest] -= freed
                excess -= freed
            total = sum(held.values())
        self.left = max(self._limit - total, self._limit >> 3)


class Windows:
    """Bounds how much more than their first window all streams of a process may be sent before anybody has read it.

    Every stream gets a first window, or thousands that are idle would leave nothing for the few that move; what comes
    over those is bounded as it comes. A window that has grown is a promise of megabytes, and is counted whole. The last
    quarter is for windows that have grown little: while the other three are given, larger ones shrink as they move.
    """

    __slots__ = ("_limit", "_much", "grown_bytes")

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes`` for all streams together."""
        self._limit = limit_bytes
        self._much = limit_bytes - limit_bytes // 4
        self.grown_bytes = 0  # of all windows, what is beyond the first; sessions count it

    def room(self, grown_bytes: int) -> int:
        """By how many bytes a window may grow that has grown by so much."""
        bound = self._limit if grown_bytes <= LITTLE_BYTES else self._much
        return max(bound - self.grown_bytes, 0)

    def excess(self, grown_bytes: int) -> bool:
        """Whether a window that has grown by so much has to shrink."""
        return grown_bytes > LITTLE_BYTES and self.grown_bytes > self._much


class Room:
    """What datagrams may wait in all sessions together, in bytes: over it the oldest are dropped (core/flows.py)."""

    __slots__ = ("limit_bytes", "taken_bytes")

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes`` for all of them together."""
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0


class Memory:
    """The budget of one process."""

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes``: MIN_BYTES or more, for both directions together."""
        half = limit_bytes // 2
        free = min(_FREE_BYTES, limit_bytes // 16)
        self.datagrams = Room(limit_bytes // _DATAGRAMS)
        kept = half - free - self.datagrams.limit_bytes
        self.blocks = BlockPool(kept // BLOCK_BYTES, free // BLOCK_BYTES)
        self.incoming = Incoming(half)
        self.windows = Windows(half)
        self.packer: Packer | None = None  # compresses, where somebody wants that and this host can
