"""The outbox: what is kept, what is sent again, which memory is reused, against a plain string of bytes as model."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aero.core import blocks as blocks_module
from aero.core.blocks import BLOCK_BYTES, SHORT_BLOCK_BYTES, Block, BlockPool
from aero.core.outbox import Outbox
from tests.core.joined import bulk

FULL = BLOCK_BYTES  # one frame that fills a block
SMALL = 512


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(max_blocks=8, max_free=4)


@pytest.fixture
def outbox(pool: BlockPool) -> Outbox:
    return Outbox(pool)


def pieces(outbox: Outbox) -> Iterator[bytes]:
    while (piece := outbox.next_piece()) is not None:
        yield bytes(piece)


def chain(outbox: Outbox) -> list[Block]:
    blocks: list[Block] = []
    block = outbox._head if outbox.kept_bytes else None
    while block is not None:
        blocks.append(block)
        block = block.next
    return blocks


def test_what_waits_leaves_as_one_piece(outbox: Outbox) -> None:
    for frame in (b"one", b"two", b"three"):
        outbox.put(frame)
    assert list(pieces(outbox)) == [b"onetwothree"]
    assert outbox.next_piece() is None


def test_a_frame_never_spans_two_blocks(outbox: Outbox) -> None:
    outbox.put(b"a" * (FULL - 5))
    outbox.put(b"b" * 6)
    outbox.put(b"c" * 6)
    assert list(pieces(outbox)) == [b"a" * (FULL - 5), b"b" * 6 + b"c" * 6]


def test_a_piece_that_fills_its_block_to_the_last_byte(outbox: Outbox) -> None:
    outbox.put(b"a" * (FULL - 5))
    outbox.put(b"b" * 5)
    outbox.put(b"c")
    assert list(pieces(outbox)) == [b"a" * (FULL - 5) + b"b" * 5, b"c"]


def test_an_undisturbed_session_uses_one_block_for_ever_and_keeps_none(
    outbox: Outbox, pool: BlockPool
) -> None:
    memory = None
    for _ in range(100):
        outbox.put(bytes(1000))
        assert outbox._head is (memory or outbox._head)
        memory = outbox._head
        list(pieces(outbox))
        assert outbox.acknowledge(outbox.sent)
        assert outbox.kept_bytes == pool.taken_bytes == pool.holders == 0


def test_blocks_go_back_as_they_are_acknowledged(outbox: Outbox, pool: BlockPool) -> None:
    for _ in range(5):
        outbox.put(bytes(FULL))
    list(pieces(outbox))
    assert outbox.kept_bytes == 5 * BLOCK_BYTES
    assert outbox.acknowledge(2 * FULL + 1)
    assert outbox.kept_bytes == pool.taken_bytes == 3 * BLOCK_BYTES
    assert outbox.acknowledge(5 * FULL)
    assert outbox.kept_bytes == pool.taken_bytes == pool.holders == 0


def test_an_outboxs_first_block_counts_like_every_other() -> None:
    pool = BlockPool(max_blocks=8, max_free=4)
    outboxes = [Outbox(pool) for _ in range(8)]
    assert (pool.taken_bytes, pool.holders) == (0, 0)
    for outbox in outboxes[:6]:
        assert not pool.exhausted
        outbox.put(bytes(FULL))
    assert pool.exhausted and pool.holders == 6
    for outbox in outboxes:
        outbox.release()
    assert (pool.taken_bytes, pool.holders) == (0, 0)


def test_where_many_keep_something_little_is_less() -> None:
    pool = BlockPool(max_blocks=64, max_free=0)
    little = []
    for _ in range(8):
        little.append(pool.little_bytes // 1024)
        Outbox(pool).put(b"x")
    assert little == [1024, 1024, 1024, 1024, 1024, 819, 682, 585]


def test_what_cannot_wait_costs_little_while_memory_is_short() -> None:
    """A window or a reset is written in any case: thousands of sessions must not take a block each for that."""
    pool = BlockPool(max_blocks=2, max_free=0)
    Outbox(pool).put(bytes(FULL))
    small = Outbox(pool)
    small.put(b"x" * 100)
    assert small.kept_bytes == SHORT_BLOCK_BYTES
    small.put(bytes(FULL))  # a control message is longer
    assert small.kept_bytes == SHORT_BLOCK_BYTES + BLOCK_BYTES
    assert list(pieces(small)) == [b"x" * 100, bytes(FULL)]
    assert small.acknowledge(small.written)
    assert pool.taken_bytes == BLOCK_BYTES


def test_what_a_frozen_session_keeps_shrinks_to_its_size(outbox: Outbox, pool: BlockPool) -> None:
    outbox.shrink()
    assert outbox.kept_bytes == 0
    outbox.put(bytes(FULL))
    outbox.put(b"acknowledged")
    outbox.put(b"sent")
    list(pieces(outbox))
    outbox.put(b"waits")
    assert outbox.acknowledge(FULL + len(b"acknowledged"))
    outbox.shrink()
    assert outbox.kept_bytes == pool.taken_bytes == len(b"sentwaits")
    outbox.put(b"new")
    outbox.shrink()
    assert outbox.kept_bytes == pool.taken_bytes == len(b"sentwaitsnew")
    assert outbox.rewind(FULL + len(b"acknowledged"))
    assert b"".join(pieces(outbox)) == b"sentwaitsnew"
    outbox.put(b"more")
    assert list(pieces(outbox)) == [b"more"]
    assert outbox.acknowledge(outbox.written)
    assert (pool.taken_bytes, pool.holders) == (0, 0)


def test_shrinking_goes_on_where_sending_stopped(outbox: Outbox) -> None:
    outbox.put(b"sent")
    list(pieces(outbox))
    outbox.put(b"not sent")
    outbox.shrink()
    assert list(pieces(outbox)) == [b"not sent"]


def test_an_empty_block_that_was_asked_for_in_vain_goes_back(outbox: Outbox, pool: BlockPool) -> None:
    outbox.room(100)
    assert pool.taken_bytes == BLOCK_BYTES
    outbox.settle()
    assert pool.taken_bytes == 0
    outbox.put(b"x")
    outbox.settle()
    assert pool.taken_bytes == BLOCK_BYTES  # it is kept until acknowledged


def test_a_block_from_the_pool_is_empty(outbox: Outbox, pool: BlockPool) -> None:
    for _ in range(3):
        outbox.put(b"x" * FULL)
    list(pieces(outbox))
    outbox.acknowledge(3 * FULL)
    block = pool.take(1)
    assert (block.start, block.end, block.sent, block.next) == (0, 0, 0, None)


@pytest.mark.parametrize("position", [-1, 9, 21, 31, 1 << 64])
def test_an_acknowledgement_that_cannot_be_changes_nothing(outbox: Outbox, position: int) -> None:
    outbox.put(bytes(10))
    outbox.put(bytes(10))
    list(pieces(outbox))
    outbox.put(bytes(10))  # written and not sent: may not be acknowledged
    assert outbox.acknowledge(10)
    assert not outbox.acknowledge(position)
    assert not outbox.rewind(position)
    assert (outbox.acked, outbox.sent, outbox.written) == (10, 20, 30)


def test_a_takeover_inside_a_block_sends_the_rest_of_it_again(outbox: Outbox) -> None:
    sequence = bulk(3 * FULL - 300)
    for at in range(0, len(sequence), 100):
        outbox.put(sequence[at : at + 100])
    list(pieces(outbox))
    position = FULL + FULL // 2 // 100 * 100
    assert outbox.rewind(position)
    assert outbox.sent == position
    assert b"".join(pieces(outbox)) == sequence[position:]
    assert outbox.sent == outbox.written


@pytest.mark.parametrize("at", ["acked", "block", "sent"])
def test_a_takeover_at_the_edges(outbox: Outbox, at: str) -> None:
    sequence = bulk(2 * FULL)
    outbox.put(sequence[:FULL])
    outbox.put(sequence[FULL:])
    list(pieces(outbox))
    outbox.put(b"more")
    position = {"acked": 0, "block": FULL, "sent": 2 * FULL}[at]
    assert outbox.rewind(position)
    assert b"".join(pieces(outbox)) == sequence[position:] + b"more"


def test_a_takeover_when_all_is_acknowledged_sends_nothing(outbox: Outbox) -> None:
    outbox.put(b"all")
    list(pieces(outbox))
    assert outbox.rewind(3)
    assert outbox.next_piece() is None
    outbox.put(b"next")
    assert list(pieces(outbox)) == [b"next"]


def test_room_that_was_never_used_does_no_harm(outbox: Outbox) -> None:
    """A socket that had nothing to read after all."""
    outbox.put(bytes(FULL - 10))
    empty = outbox.room(100)
    assert outbox.room(200) is empty
    assert len(list(pieces(outbox))) == 1
    assert outbox.acknowledge(FULL - 10)
    assert outbox.kept_bytes == 0
    outbox.put(b"go on")
    assert list(pieces(outbox)) == [b"go on"]


def test_release_gives_everything_back(outbox: Outbox, pool: BlockPool) -> None:
    for _ in range(6):
        outbox.put(bytes(FULL))
    outbox.release()
    assert pool.taken_bytes == 0
    assert outbox.next_piece() is None  # another session may write in that memory by now
    assert outbox.kept_bytes == 0
    with pytest.raises(AttributeError):
        outbox.put(b"into what is another session's by now")


class Model(RuleBasedStateMachine):
    """Any order of writing, sending, acknowledging and taking over, against the sequence as one string."""

    def __init__(self) -> None:
        super().__init__()
        self.small = mock.patch.object(
            blocks_module, "BLOCK_BYTES", SMALL
        )  # so that blocks fill often, at little cost
        self.small.start()
        self.pool = BlockPool(max_blocks=1000, max_free=2)
        self.outbox = Outbox(self.pool)
        self.sequence = bytearray()
        self.seed = 0

    @rule(count=st.one_of(st.integers(1, 60), st.sampled_from([SMALL // 2, SMALL - 1, SMALL])))
    def write(self, count: int) -> None:
        self.seed += 1
        frame = Random(self.seed).randbytes(count)
        self.outbox.put(frame)
        self.sequence += frame

    @rule(need=st.sampled_from([8, SMALL // 4, SMALL]), part=st.integers(0, 8))
    def write_in_place(self, need: int, part: int) -> None:
        """As a pipe does: asks for room, uses all, some or none of it."""
        block = self.outbox.room(need)
        assert SMALL - block.end >= need
        count = need * part // 8
        self.seed += 1
        frame = Random(self.seed).randbytes(count)
        block.data[block.end : block.end + count] = frame
        if count:
            self.outbox.wrote(count)
            self.sequence += frame

    @rule()
    def send(self) -> None:
        before = self.outbox.sent
        piece = self.outbox.next_piece()
        assert (piece is None) == (before == len(self.sequence))
        if piece is not None:
            assert piece == self.sequence[before : before + len(piece)]
            assert 0 < len(piece) <= SMALL
            assert self.outbox.sent == before + len(piece)

    @precondition(lambda self: self.outbox.sent > self.outbox.acked)
    @rule(part=st.integers(0, 8))
    def acknowledge(self, part: int) -> None:
        outbox = self.outbox
        assert outbox.acknowledge(outbox.acked + (outbox.sent - outbox.acked) * part // 8)

    @rule(part=st.integers(0, 8))
    def take_over(self, part: int) -> None:
        outbox = self.outbox
        assert outbox.rewind(outbox.acked + (outbox.sent - outbox.acked) * part // 8)

    @invariant()
    def marks_are_in_order(self) -> None:
        outbox = self.outbox
        assert outbox.acked <= outbox.sent <= outbox.written == len(self.sequence)

    @invariant()
    def memory_is_accounted_for_and_no_more_than_needed(self) -> None:
        blocks = chain(self.outbox)
        assert self.outbox.kept_bytes == len(blocks) * SMALL
        assert self.pool.taken_bytes == len(blocks) * SMALL
        assert all(block.start + block.end > self.outbox.acked for block in blocks[:-1])
        assert not blocks or blocks[-1] is self.outbox.tail

    def teardown(self) -> None:
        try:
            assert self.outbox.rewind(self.outbox.acked)
            kept = self.sequence[self.outbox.acked :]
            assert b"".join(pieces(self.outbox)) == kept
            assert self.outbox.acknowledge(len(self.sequence))
            assert self.pool.taken_bytes == 0
            self.outbox.release()
            assert self.pool.taken_bytes == 0
        finally:
            self.small.stop()


TestModel = Model.TestCase


def test_what_was_ever_sent_outlives_a_takeover() -> None:
    outbox = Outbox(BlockPool(4, 1))
    outbox.put(b"first")
    assert outbox.ever_sent == 0
    outbox.next_piece()
    outbox.put(b"second")
    assert outbox.ever_sent == 5
    assert outbox.rewind(2)
    assert (outbox.sent, outbox.ever_sent) == (2, 5)
    while outbox.next_piece() is not None:
        pass
    assert outbox.ever_sent == 11
