"""Blocks of memory in which frames are built and kept, and the pool that bounds them for one process."""

from __future__ import annotations

import mmap

from aero.core.record import MAX_PLAIN_BYTES

BLOCK_BYTES = MAX_PLAIN_BYTES
#: A session that keeps no more is never asked to give way while there is memory: 80 Mbit/s at 100 ms.
LITTLE_BYTES = 4 * BLOCK_BYTES
#: While more than half of the memory is taken, a session's next block has only this size, where its frame fits.
SHORT_BLOCK_BYTES = 16 * 1024
FEW_BLOCKS = 4  # 1 MiB: what an idle process may keep


def pages(count: int) -> mmap.mmap:
    """``count`` zero bytes to write to, as an anonymous mapping: a page is resident once it was written.

    A bytearray is filled with zeroes by hand, so all of it is resident from its first moment: a worker that says
    nothing cost its server 1 MiB of buffers. And unmapping gives the pages back to the kernel, where malloc may keep
    freed memory between what is still in use.
    """
    return mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Block:
    """One piece of a sequence: ``data[:end]`` is written, of that ``data[:sent]`` has left in records."""

    __slots__ = ("data", "end", "next", "sent", "size", "start", "view")

    def __init__(self, size: int) -> None:
        """``size``: bytes that it holds; 0 for a block that stands for none."""
        self.next: Block | None = None  # the block that follows in the sequence
        self.size = size
        self.data = pages(size or 1)
        self.view = memoryview(self.data)
        self.start = 0  # position of data[0] in the sequence
        self.end = 0
        self.sent = 0


class BlockPool:
    """Blocks for all sessions of one process: counts the bytes that are taken, keeps some free blocks for reuse."""

    def __init__(self, max_blocks: int, max_free: int) -> None:
        """``max_blocks``: so many blocks' bytes may be taken; ``max_free``: so many blocks stay, beside them."""
        self._free: list[Block] = []
        self._max_free = max_free
        self._max_bytes = max_blocks * BLOCK_BYTES
        # The last quarter is for sessions that keep little: a few that keep much and of which nothing is acknowledged
        # cannot take it.
        self.much_bytes = self._max_bytes - self._max_bytes // 4
        self.half_bytes = self._max_bytes // 2
        self.taken_bytes = 0
        self.holders = 0  # outboxes that keep anything: they count themselves

    @property
    def little_bytes(self) -> int:
        """Who keeps no more than this does not give way: 1 MiB, or less where very many keep something."""
        return min(LITTLE_BYTES, self._max_bytes // (4 * (self.holders or 1)))

    @property
    def exhausted(self) -> bool:
        """True when sessions that keep much should wait for acknowledgements rather than take more."""
        return self.taken_bytes >= self.much_bytes

    def refuses(self, kept_bytes: int) -> bool:
        """True when an outbox that keeps so much should wait before it takes more for data.

        One that keeps nothing never waits for the others: a short block for each is what a session costs.
        """
        if self.taken_bytes < self.much_bytes or not kept_bytes:
            return False
        return kept_bytes > self.little_bytes or self.taken_bytes >= self._max_bytes

    def take(self, need: int) -> Block:
        """An empty block for ``need`` bytes or more; reused memory where there is some: its pages are mapped."""
        if need <= SHORT_BLOCK_BYTES and self.taken_bytes >= self.half_bytes:
            block = Block(SHORT_BLOCK_BYTES)
        else:
            block = self._free.pop() if self._free else Block(BLOCK_BYTES)
        self.taken_bytes += block.size
        return block

    def take_exactly(self, count: int) -> Block:
        """An empty block of ``count`` bytes, for what will be kept for some time."""
        self.taken_bytes += count
        return Block(count)

    def give(self, block: Block) -> None:
        """Takes a block back."""
        self.taken_bytes -= block.size
        if block.size == BLOCK_BYTES and len(self._free) < self._max_free:
            # A new block would be mapped and zeroed page by page: a tenth of a bulk transfer's cost.
            block.next = None
            block.start = block.end = block.sent = 0
            self._free.append(block)

    def trim(self) -> None:
        """Gives half of the free blocks back to the system, but a few: called now and then, it follows the need."""
        del self._free[max(FEW_BLOCKS, (len(self._free) + 1) // 2) :]
