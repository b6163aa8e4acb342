"""The memory of one process: pages, and who gives way when what nobody reads is too much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aero.core.blocks import BLOCK_BYTES, LITTLE_BYTES, pages
from aero.core.memory import Incoming, Memory, Windows

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_not_written_is_not_there() -> None:
    code = (
        "from aero.core.blocks import pages\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1])\n"
        "before = resident(); held = [pages(1 << 20) for _ in range(64)]; asked = resident() - before\n"
        "for each in held: each[:] = b'x' * (1 << 20)\n"
        "written = resident() - before; del each, held; print(asked, written, resident() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    asked, written, freed = (int(each) * os.sysconf("SC_PAGE_SIZE") >> 20 for each in done.stdout.split())
    assert asked < 8 and written >= 64 and freed < 8, done.stderr


def test_it_is_zero_and_writable() -> None:
    view = memoryview(pages(1000))
    assert len(view) == 1000 and not any(view) and not view.readonly
    view[10:13] = b"abc"
    assert bytes(view[9:14]) == b"\0abc\0"


MIB = 1 << 20


class Reader:
    """A session as the incoming half knows it: streams that hold so many bytes, the longest stuck first."""

    def __init__(self, incoming: Incoming, *streams: int) -> None:
        self.streams = list(streams)
        self.lost = 0
        incoming.holders.add(self)

    @property
    def held_bytes(self) -> int:
        return sum(self.streams)

    def give_way(self, count: int) -> int:
        freed = 0
        while self.streams and freed < count:
            freed += self.streams.pop(0)
            self.lost += 1
        return freed


def test_each_direction_has_half() -> None:
    memory = Memory(64 * MIB)
    taken = 0
    while not memory.blocks.refuses(1):
        taken += memory.blocks.take(BLOCK_BYTES).size
    assert (
        25 * MIB < taken <= 32 * MIB - 4 * MIB - 2 * MIB
    )  # free blocks and datagrams have their share of it
    assert memory.incoming.left == 32 * MIB


def test_the_next_count_is_due_when_the_rest_has_come() -> None:
    incoming = Incoming(64 * MIB)
    reader = Reader(incoming, 10 * MIB)
    incoming.bound()
    assert (incoming.left, reader.lost) == (54 * MIB, 0)
    reader.streams = [60 * MIB]
    incoming.bound()
    assert (incoming.left, reader.lost) == (8 * MIB, 0)


def test_the_session_that_holds_the_most_gives_way() -> None:
    incoming = Incoming(64 * MIB)
    modest = [Reader(incoming, MIB, MIB) for _ in range(5)]
    greedy = Reader(incoming, *[MIB] * 60)
    incoming.bound()
    assert [each.lost for each in modest] == [0] * 5
    assert greedy.lost == 22  # until a quarter of the limit is free
    assert sum(each.held_bytes for each in incoming.holders) == 48 * MIB


def test_of_many_that_hold_the_same_all_give_a_little() -> None:
    incoming = Incoming(64 * MIB)
    readers = [Reader(incoming, *[MIB // 4] * 20) for _ in range(16)]
    incoming.bound()
    lost = [each.lost for each in readers]
    assert max(lost) <= 10  # none gives more than half of what it holds while others hold more
    assert sum(each.held_bytes for each in readers) <= 48 * MIB


def test_who_cannot_give_anything_does_not_stop_the_count() -> None:
    class Stubborn(Reader):
        def give_way(self, count: int) -> int:
            return 0

    incoming = Incoming(MIB)
    stubborn = Stubborn(incoming, 3 * MIB)
    incoming.bound()
    assert incoming.left == MIB // 8
    assert stubborn.held_bytes == 3 * MIB


def test_sessions_that_are_gone_are_not_asked() -> None:
    incoming = Incoming(MIB)
    reader = Reader(incoming, 3 * MIB)
    del reader
    incoming.bound()
    assert incoming.left == MIB


def test_what_a_holder_says_is_counted_before_the_limit_is_passed() -> None:
    incoming = Incoming(8 * MIB)
    reader = Reader(incoming)
    for _ in range(64):
        reader.streams.append(MIB)
        incoming.grew(MIB)
        assert reader.held_bytes <= 9 * MIB
    assert reader.lost


def test_the_last_quarter_of_the_windows_is_for_those_that_have_grown_little() -> None:
    windows = Windows(64 * MIB)
    windows.grown_bytes = 47 * MIB
    assert windows.room(20 * MIB) == MIB and windows.room(LITTLE_BYTES) == 17 * MIB
    assert not windows.excess(20 * MIB)
    windows.grown_bytes = 60 * MIB
    assert windows.room(20 * MIB) == 0 and windows.room(0) == 4 * MIB
    assert windows.excess(20 * MIB) and not windows.excess(LITTLE_BYTES)
