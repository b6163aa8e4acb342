"""The pool of blocks: what it counts, whom it refuses when memory is short, and what it keeps for reuse."""

from __future__ import annotations

import pytest

from aero.core.blocks import BLOCK_BYTES, SHORT_BLOCK_BYTES, Block, BlockPool

FULL = BLOCK_BYTES  # one frame that fills a block


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(max_blocks=8, max_free=4)


def test_the_pool_keeps_some_and_counts_all(pool: BlockPool) -> None:
    blocks = [pool.take(FULL) for _ in range(8)]
    assert pool.exhausted
    for block in blocks:
        pool.give(block)
    assert pool.taken_bytes == 0
    assert not pool.exhausted
    again = [pool.take(FULL) for _ in range(5)]
    assert len({id(block) for block in again} & {id(block) for block in blocks}) == 4


def test_the_last_quarter_is_for_those_who_keep_little() -> None:
    pool = BlockPool(max_blocks=8, max_free=0)
    taken: list[Block] = []
    pool.holders = 1

    def refused() -> list[bool]:
        return [pool.refuses(kept * BLOCK_BYTES) for kept in (0, 1, 2, 3, 100)]

    for _ in range(6):
        assert not pool.exhausted and refused() == [False] * 5
        taken.append(pool.take(FULL))
    for _ in range(2):
        assert pool.exhausted and refused() == [False, False, False, True, True]
        taken.append(pool.take(FULL))
    assert pool.exhausted and refused() == [False, True, True, True, True]
    pool.give(taken.pop())
    assert refused() == [False, False, False, True, True]


def test_trimming_halves_what_is_free_down_to_a_few(pool: BlockPool) -> None:
    large = BlockPool(max_blocks=100, max_free=32)
    for block in [large.take(FULL) for _ in range(32)]:
        large.give(block)
    kept = []
    for _ in range(5):
        large.trim()
        kept.append(len(large._free))
    assert kept == [16, 8, 4, 4, 4]
    pool.trim()
    assert pool._free == []


def test_a_block_that_is_used_again_is_empty(pool: BlockPool) -> None:
    block = pool.take(FULL)
    block.start, block.end, block.sent, block.next = 7, 5, 3, Block(0)
    pool.give(block)
    assert pool.take(1) is block
    assert (block.start, block.end, block.sent, block.next) == (0, 0, 0, None)


def test_over_half_of_the_memory_blocks_are_short_where_the_frame_allows(pool: BlockPool) -> None:
    assert [pool.take(1).size for _ in range(6)] == [BLOCK_BYTES] * 4 + [SHORT_BLOCK_BYTES] * 2
    assert pool.take(SHORT_BLOCK_BYTES + 1).size == BLOCK_BYTES
    short = pool.take_exactly(100)
    assert short.size == 100
    taken = pool.taken_bytes
    pool.give(short)
    assert pool.taken_bytes == taken - 100
    assert pool._free == [], "only whole blocks are kept"
