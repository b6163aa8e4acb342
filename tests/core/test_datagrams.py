"""The datagram record's own layout, and the words for drops."""

from __future__ import annotations

from aero.core import datagrams, frames
from aero.core.datagrams import Drops


def test_an_origin_is_what_it_was() -> None:
    for visitor in ("192.0.2.7:40312", "", "x" * 64):
        origin = datagrams.pack_origin(0xFFFF, visitor)
        assert len(origin) <= datagrams.MAX_ORIGIN_BYTES
        for data in (b"", b"data"):
            found, rest = datagrams.unpack_opening(memoryview(origin + data))
            assert (found, bytes(rest)) == (origin, data)
        assert datagrams.unpack_origin(origin) == (0xFFFF, visitor)
    assert len(datagrams.pack_origin(1, "y" * 100)) == datagrams.MAX_ORIGIN_BYTES


def test_the_largest_datagram_fits_a_record_with_all_that_may_stand_before_it() -> None:
    from aero.core import flows, record

    before = flows.RECORD_BYTES + flows.TURN_BYTES + flows.MAX_KNOWN * frames.HEADER_BYTES
    largest = frames.HEADER_BYTES + datagrams.MAX_ORIGIN_BYTES + datagrams.MAX_BYTES
    assert before + largest <= record.MAX_PLAIN_BYTES


def test_every_reason_is_there_from_the_start() -> None:
    drops = Drops()
    assert drops.total == 0 and len(set(drops.counts)) == len(datagrams.REASONS)
    drops.add(datagrams.FULL, 3)
    drops.add(datagrams.OLD)
    assert drops.total == 4
