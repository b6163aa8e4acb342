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

from aero.core.blocks import Block, BlockPool

# Where an outbox keeps nothing: a block without room, so that nobody on the way of the bytes has to ask.
_NO_BLOCK = Block(0)


class Outbox:
    """One session's outgoing sequence."""

    __slots__ = ("_cursor", "_farthest", "_head", "_pool", "acked", "kept_bytes", "sent", "tail", "written")

    def __init__(self, pool: BlockPool) -> None:
        """``pool`` lends the blocks."""
        self._pool = pool
        # The oldest kept, the next to send from, the next to write at.
        self._head = self._cursor = self.tail = _NO_BLOCK
        self.acked = self.sent = self.written = 0
        self._farthest = 0  # of all positions that ``sent`` was rewound from
        self.kept_bytes = 0  # memory held: whole blocks

    def room(self, need: int) -> Block:
        """The block to write at, with ``need`` bytes or more free behind its ``end``."""
        tail = self.tail
        if tail.size - tail.end < need:
            tail = self._append(self._pool.take(need))
        return tail

    def _append(self, block: Block) -> Block:
        block.start = self.written
        if self.kept_bytes:
            self.tail.next = block
        else:
            self._head = self._cursor = block
            self._pool.holders += 1
        self.tail = block
        self.kept_bytes += block.size
        return block

    def wrote(self, count: int) -> None:
        """``count`` bytes, whole frames, were put behind the tail's ``end``."""
        self.tail.end += count
        self.written += count

    def put(self, frame: bytes) -> None:
        """Appends one whole frame."""
        count, block = len(frame), self.tail
        end = block.end + count
        if end > block.size:
            block = self._append(self._pool.take(count))
            end = block.end + count
        block.data[end - count : end] = frame
        block.end = end
        self.written += count

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
            self.kept_bytes -= block.size
            self._pool.give(block)
            block = self._head
        if position == self.written:
            self.settle()
        return True

    def settle(self) -> None:
        """Where all is acknowledged, gives the last block back: an idle session keeps nothing."""
        if self.kept_bytes and self.acked == self.written:
            self._pool.give(self._head)
            self._pool.holders -= 1
            self._head = self._cursor = self.tail = _NO_BLOCK
            self.kept_bytes = 0

    def shrink(self) -> None:
        """Moves what is kept into blocks of its size, where that saves a quarter: nobody takes it for some time."""
        self.settle()
        block = self._head if self.kept_bytes else None
        if block is None:
            return
        blocks = []
        while block is not None:
            following = block.next
            first = max(self.acked - block.start, 0)
            count = block.end - first
            if count < block.size - block.size // 4:
                small = self._pool.take_exactly(count)
                small.data[:] = block.data[first : block.end]
                small.start, small.end = block.start + first, count
                small.sent = max(block.sent - first, 0)
                self.kept_bytes -= block.size - count
                self._pool.give(block)
                block = small
            blocks.append(block)
            block = following
        for each, following in zip(blocks, [*blocks[1:], None]):
            each.next = following
        self._head, self.tail = blocks[0], blocks[-1]
        self._cursor = next((each for each in blocks if each.sent < each.end), self.tail)

    def rewind(self, position: int) -> bool:
        """A new link goes on at ``position``: what follows it will be sent again; False when it is not kept."""
        if not self.acknowledge(position):
            return False
        self._farthest = max(self._farthest, self.sent)
        self.sent = position
        self._cursor = self._head
        block: Block | None = self._head
        while block is not None:
            block.sent = min(max(position - block.start, 0), block.end)
            block = block.next
        return True

    @property
    def ever_sent(self) -> int:
        """The position below which everything was given to some link at some time."""
        return max(self.sent, self._farthest)

    def release(self) -> None:
        """Gives every block back; the outbox can not be written to again, and has nothing to send any more."""
        self.acked = self.sent = self.written
        block: Block | None = self._head if self.kept_bytes else None
        self._pool.holders -= bool(self.kept_bytes)
        self.kept_bytes = 0
        del self._head, self._cursor, self.tail  # these blocks may be another session's from here on
        while block is not None:
            following = block.next
            self._pool.give(block)
            block = following
