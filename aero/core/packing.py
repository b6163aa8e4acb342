"""Packing: what of a stream's data is compressed, and how it stands in the session's sequence.

A piece is what one turn of the loop brings, up to PIECE_BYTES, and is a zstd frame of its own: nothing that was said
before helps to compress it. So there is no history in which the secrets of one visitor could meet the words of another,
nothing to keep for each stream, and a message never waits for the next one (docs/compression.md has the figures).

The sender alone decides piece by piece; the receiver takes DATA and PACKED in any order. Credit, rates and statistics
count plain bytes, positions packed ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from aero.core import frames, zstd
from aero.core.codes import Close
from aero.errors import RemoteProtocolError

if TYPE_CHECKING:
    from aero.core.blocks import BlockPool
    from aero.core.outbox import Outbox
    from aero.core.zstd import Codec

#: One block of zstd's, of which a larger piece would be made. Packing it takes 0.4 ms of a turn.
PIECE_BYTES = frames.MAX_PACKED_BYTES
#: The same while memory runs short: what fits into a short block (core/blocks.py), header included.
_SHORT_PIECE_BYTES = 16 * 1024 - frames.HEADER_BYTES
#: Below this a frame saves some 100 bytes at the best, for 10 us at each end.
LEAST_BYTES = 512
#: A piece that does not shrink by this part of itself is sent plain: unpacking it would not be worth it.
_SHRINKS = 16
#: With auto: after a piece that does not shrink so many bytes go plain before the next one is tried, after each
#: further one four times as many. So media and what is encrypted cost a try in 4 MiB, 5 us, at the end.
FIRST_PAUSE_BYTES = 64 * 1024
LONGEST_PAUSE_BYTES = 4 * 1024 * 1024
#: A piece is read as large as it may be once packed, by how well the one before it shrank, this many times at the most.
_MOST_TIMES = 16
#: And it may be so large packed in any case, 6.5 ms at 20 Mbit/s: on slow paths, where turns are short, JSON in pieces
#: of 16 KiB takes 15 % more than in pieces of 64.
_LEAST_TURN_BYTES = 16 * 1024

OFF, AUTO, ON = "off", "auto", "on"


class Packer:
    """Packs and unpacks for all streams of a process: one codec, whose contexts and buffers they share."""

    def __init__(self, codec: Codec, set_aside: Callable[[int], None]) -> None:
        """``set_aside``: told at the first use how many bytes this holds from then on (Incoming.set_aside)."""
        self.codec = codec
        self._sent, self._received = [0, 0], [0, 0]  # packed bytes, and what they were or became
        self._set_aside = set_aside
        self._plain = self._packed = self._unpacked = memoryview(b"")

    @property
    def summary(self) -> str:
        """What has come of it, for people; "" before its first use."""
        if not self._plain:
            return ""
        (sent, plain), (received, unpacked) = self._sent, self._received
        return f"sent {sent >> 10} for {plain >> 10} KiB, received {received >> 10} for {unpacked >> 10} KiB"

    def _begin(self) -> None:
        self._plain = memoryview(bytearray(PIECE_BYTES))
        self._packed = memoryview(bytearray(PIECE_BYTES))
        self._unpacked = memoryview(bytearray(PIECE_BYTES))
        # Once through with the largest piece, so that contexts are as large as they will be.
        self.codec.unpack(self._packed[: self.codec.pack(self._plain, self._packed)], self._unpacked)
        self._set_aside(3 * PIECE_BYTES + self.codec.held_bytes)

    @property
    def room(self) -> memoryview:
        """Where a piece is received before it is packed; valid until the next one of any stream."""
        if not self._plain:
            self._begin()
        return self._plain

    def pack(self, count: int) -> memoryview | None:
        """The frame of the first ``count`` bytes of ``room``; None where they do not shrink."""
        size = self.codec.pack(self._plain[:count], self._packed[: count - count // _SHRINKS])
        if not size:
            return None
        self._sent[0] += size
        self._sent[1] += count
        return self._packed[:size]

    def unpack(self, packed: memoryview, count: int) -> memoryview:
        """The ``count`` bytes of a frame, valid until the next one. Raises RemoteProtocolError."""
        if not self._plain:
            self._begin()
        plain = self._unpacked[:count]
        if packed[: len(zstd.MAGIC)] != zstd.MAGIC or not self.codec.unpack(packed, plain):
            raise RemoteProtocolError(Close.FRAME, f"PACKED is not one zstd frame of {count} bytes")
        self._received[0] += len(packed)
        self._received[1] += count
        return plain


class Packing:
    """Which of a stream's pieces are packed on their way out."""

    __slots__ = ("_always", "_packer", "_pause", "_plain_until", "_times", "allowed", "lent")

    def __init__(self, packer: Packer, mode: str) -> None:
        """``mode``: AUTO leaves alone what does not shrink, ON tries every piece."""
        self._packer = packer
        self._always = mode == ON
        self._plain_until = 0  # position in the stream's data
        self._pause = FIRST_PAUSE_BYTES
        self._times = 1  # how many times smaller the last piece became
        self.allowed = (
            0  # how much the stream was last allowed to send plain: whoever sends that much has bulk
        )
        self.lent = False  # the stream's next piece comes into our room, not into the outbox

    def want(self, sent: int, allowed: int, credit: int, pool: BlockPool) -> int:
        """How many plain bytes a stream may send that has sent so many, where ``allowed`` may go plain; sets ``lent``.

        ``credit``: how many it may send at all; ``pool``: where they will be kept.
        """
        self.allowed = allowed
        self.lent = sent >= self._plain_until
        if not self.lent:
            return allowed
        most = PIECE_BYTES if pool.taken_bytes < pool.half_bytes else _SHORT_PIECE_BYTES
        turn = allowed if allowed > _LEAST_TURN_BYTES or self._times == 1 else _LEAST_TURN_BYTES
        return min(turn * self._times, most, credit)

    @property
    def room(self) -> memoryview:
        """Where the next piece comes into."""
        return self._packer.room

    def frame(self, outbox: Outbox, stream_id: int, sent: int, count: int) -> int:
        """Writes the frame for a piece, the first ``count`` bytes of ``room``, behind the end of the outbox's tail.

        Returns its length, header included: whoever calls counts it. ``sent``: bytes that went before.
        """
        self.lent = False
        packed = self._packer.pack(count) if count >= LEAST_BYTES else None
        if packed is not None:
            size = frames.PACKED_HEAD_BYTES + len(packed)
            block = outbox.room(size)
            frames.PACKED_HEAD.pack_into(
                block.data, block.end, frames.PACKED << 24 | (4 + len(packed)), stream_id, count
            )
            block.view[block.end + frames.PACKED_HEAD_BYTES : block.end + size] = packed
            self._times = min(count // len(packed), _MOST_TIMES)
            self._pause = FIRST_PAUSE_BYTES
            return size
        if count >= LEAST_BYTES:
            self._times = 1
            if not self._always:
                self._plain_until = sent + count + self._pause
                self._pause = min(4 * self._pause, LONGEST_PAUSE_BYTES)
        size = frames.HEADER_BYTES + count
        block = outbox.room(size)
        frames.HEADER.pack_into(block.data, block.end, frames.DATA << 24 | count, stream_id)
        block.view[block.end + frames.HEADER_BYTES : block.end + size] = self._packer.room[:count]
        return size


def make(set_aside: Callable[[int], None]) -> Packer:
    """A process's packer; ``set_aside`` as there. Raises HostError where this host has no zstd."""
    return Packer(zstd.choose(), set_aside)
