"""The outbox: frames on their way out, built in blocks and kept until the other side has acknowledged them.

A session's outgoing frames form one sequence of bytes; every position is a count of bytes since the session began.
Three marks move along it: ``acked`` <= ``sent`` <= ``written``. What is not acknowledged is what may not be reused
yet, so the memory that frames are built in and the memory that a resumed session sends again are the same blocks:

    | acknowledged: free | sent, kept | written, not sent | room |
                       acked        sent               written

A record is cut from one block, whole frames only: a frame never spans two blocks, a block never exceeds a record.
Knows nothing of streams, keys or links.
"""

from __future__ import annotations

from aero.core.memory import pages
from aero.core.record import MAX_PLAIN_BYTES

BLOCK_BYTES = MAX_PLAIN_BYTES
FEW_BLOCKS = 4  # 1 MiB: what an idle process may keep
LITTLE_BYTES = 4 * BLOCK_BYTES  # who keeps no more is nobody's burden: 80 Mbit/s at 100 ms


class Block:
    """One piece of the sequence: ``data[:end]`` is written, of that ``data[:sent]`` has left in records."""

    __slots__ = ("data", "end", "next", "sent", "start", "view")

    def __init__(self) -> None:
        self.next: Block | None = None  # the block that follows in the sequence
        self.data = pages(BLOCK_BYTES)
        self.view = memoryview(self.data)
        self.start = 0  # position of data[0] in the sequence
        self.end = 0
        self.sent = 0


class BlockPool:
    """Blocks for all sessions of one process: keeps some that are free, counts those that are taken."""

    def __init__(self, max_blocks: int, max_free: int) -> None:
        """``max_blocks``: how many may be taken beside each outbox's first; ``max_free``: how many stay for reuse."""
        self._free: list[Block] = []
        self._max_free = max_free
        self._max_blocks = max_blocks
        # The last quarter is for those who keep little: a few who keep much and acknowledge nothing cannot take it.
        self._much_blocks = max_blocks - max_blocks // 4
        self.taken = 0
        self.outboxes = 0  # each has one block, kept or not: those are no reason for any of them to wait

    @property
    def exhausted(self) -> bool:
        """True when sessions that keep much should wait for acknowledgements rather than take more."""
        return self.taken - self.outboxes >= self._much_blocks

    def refuses(self, kept_bytes: int) -> bool:
        """True when an outbox that keeps so much should wait. Never for one that has only its first block."""
        if kept_bytes <= BLOCK_BYTES:
            return False
        most = self._much_blocks if kept_bytes > LITTLE_BYTES else self._max_blocks
        return self.taken - self.outboxes >= most

    def take(self) -> Block:
        """A block, empty; reused memory where there is some (its pages are already mapped)."""
        self.taken += 1
        return self._free.pop() if self._free else Block()

    def give(self, block: Block) -> None:
        """Takes a block back."""
        self.taken -= 1
        if len(self._free) < self._max_free:
            # A new block would be mapped and zeroed page by page: a tenth of a bulk transfer's cost.
            block.next = None
            block.start = block.end = block.sent = 0
            self._free.append(block)

    def trim(self) -> None:
        """Gives half of the free blocks back to the system, but a few: called now and then, it follows the need."""
        del self._free[max(FEW_BLOCKS, (len(self._free) + 1) // 2) :]


class Outbox:
    """One session's outgoing sequence."""

    __slots__ = ("_cursor", "_head", "_pool", "acked", "kept_bytes", "sent", "tail", "written")

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        pool.outboxes += 1
        # The oldest kept, the next to send from, the next to write at.
        self._head = self._cursor = self.tail = pool.take()
        self.acked = self.sent = self.written = 0
        self.kept_bytes = BLOCK_BYTES  # memory held: whole blocks

    def room(self, need: int) -> Block:
        """The block to write at, with ``need`` bytes or more free behind its ``end``."""
        tail = self.tail
        if BLOCK_BYTES - tail.end < need:
            block = self._pool.take()
            block.start = self.written
            tail.next = self.tail = tail = block
            self.kept_bytes += BLOCK_BYTES
        return tail

    def wrote(self, count: int) -> None:
        """``count`` bytes, whole frames, were put behind the tail's ``end``."""
        self.tail.end += count
        self.written += count

    def put(self, frame: bytes) -> None:
        """Appends one whole frame."""
        count = len(frame)
        block = self.room(count)
        block.data[block.end : block.end + count] = frame
        self.wrote(count)

    def next_piece(self) -> memoryview | None:
        """All that can go into the next record, marked as sent; None when nothing waits."""
        if self.sent == self.written:
            return None
        block = self._cursor
        while block.sent == block.end and block.next is not None:
            self._cursor = block = block.next
        piece = block.view[block.sent : block.end]
        block.sent = block.end
        self.sent += len(piece)
        return piece

    def acknowledge(self, position: int) -> bool:
        """The other side has everything below ``position``; False when that cannot be."""
        if not self.acked <= position <= self.sent:
            return False
        self.acked = position
        block = self._head
        while block.next is not None and block.start + block.end <= position:
            if self._cursor is block:
                self._cursor = block.next
            self._head = block.next
            self.kept_bytes -= BLOCK_BYTES
            self._pool.give(block)
            block = self._head
        if position == self.written:  # all is acknowledged: begin the last block again
            block.start, block.end, block.sent = position, 0, 0
        return True

    def rewind(self, position: int) -> bool:
        """A new link goes on at ``position``: what follows it will be sent again; False when it is not kept."""
        if not self.acknowledge(position):
            return False
        self.sent = position
        self._cursor = self._head
        block: Block | None = self._head
        while block is not None:
            block.sent = min(max(position - block.start, 0), block.end)
            block = block.next
        return True

    def release(self) -> None:
        """Gives every block back; the outbox can not be written to again, and has nothing to send any more."""
        self.acked = self.sent = self.written
        self.kept_bytes = 0
        self._pool.outboxes -= 1
        block: Block | None = self._head
        del self._head, self._cursor, self.tail  # what is written there from here on is another session's
        while block is not None:
            following = block.next
            self._pool.give(block)
            block = following
