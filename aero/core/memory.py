"""What one process may hold for all its sessions: one budget, half of it for each direction.

Outgoing: what is kept until the other end has acknowledged it, in blocks (core/blocks.py). Incoming: what has come
and no receiver has taken yet (here). Neither half can be promised to anybody beforehand, as nobody knows how many
sessions there will be; so both are given to whoever comes, and when one is used up, those who hold the most give way.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet

from aero.core.blocks import BLOCK_BYTES, BlockPool

# With less than this, bulk transfers would wait for memory rather than for the path.
MIN_BYTES = 48 * 1024 * 1024
# Free blocks for reuse: what a fast transfer has under way, 8 MiB, but no more than a sixteenth of all.
_FREE_BYTES = 8 * 1024 * 1024
# Of all memory, what datagrams may wait in: 1.5 MiB at the least, 60 ms at 200 Mbit/s.
_DATAGRAMS = 32


class UnreadHolder(Protocol):
    """A session, as the incoming half knows it."""

    @property
    def unread_bytes(self) -> int:
        """What has come and no receiver has taken. Looks at every stream."""

    def give_way(self, count: int) -> int:
        """Resets streams until ``count`` bytes fewer are unread; returns how many bytes that were."""


class Unread:
    """Bounds what has come for all sessions and nobody has taken.

    No frame pays for it: that can grow only by what is received, so after a count the next one is due when the rest
    of the limit has come, or an eighth of it.
    """

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes`` for all sessions together."""
        self._limit = limit_bytes
        self.left = limit_bytes  # so much may be received before the next count; sessions count it down
        self.holders: WeakSet[UnreadHolder] = WeakSet()

    def bound(self) -> None:
        """Counts what is unread; over the limit, sessions give way until a quarter of it is free again.

        The session that holds the most comes first, and gives half of what it holds at the most before it is compared
        with the others again: so a crowd in one session is no reason for a reader in another to go.
        """
        held = {each: each.unread_bytes for each in self.holders}
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
        self.unread = Unread(half)
