"""zstd's codecs: they read each other, fit buffers exactly, and take nothing but one whole frame."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from aero.core import zstd
from aero.core.zstd import CODECS, Codec, choose
from aero.errors import HostError

TEXT = b"".join(b'{"id": %d, "name": "visitor %d"},\n' % (each, each % 77) for each in range(4000))[:131_072]


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return choose(request.param)


def view(data: bytes | int) -> memoryview:
    return memoryview(bytearray(data))


def packed_by(codec: Codec, data: bytes) -> bytes:
    out = view(len(data) + 512)
    return bytes(out[: codec.pack(view(data), out)])


@pytest.mark.parametrize("size", [1, 2, 511, 4096, 65_537, 131_072])
def test_each_reads_what_each_has_written(size: int) -> None:
    for data in (TEXT[:size].ljust(size, b"."), random.Random(size).randbytes(size)):
        for writer in map(choose, CODECS):
            packed = packed_by(writer, data)
            assert packed[:4] == zstd.MAGIC
            for reader in map(choose, CODECS):
                out = view(size)
                assert reader.unpack(memoryview(packed), out)  # read-only, as whoever got it may hold it
                assert reader.unpack(view(packed), out)
                assert out == data


def test_what_does_not_fit_is_no_frame(codec: Codec) -> None:
    whole = packed_by(codec, TEXT)
    out = view(len(whole) + 8)
    assert codec.pack(view(TEXT), out[: len(whole) - 1]) == 0
    assert codec.pack(view(TEXT), out) == len(whole)  # and the next one is as good as before
    noise = random.Random(1).randbytes(1000)
    assert codec.pack(view(noise), view(1000)) == 0


def test_a_frame_knows_nothing_of_those_before_it(codec: Codec) -> None:
    first = packed_by(codec, TEXT[:2000])
    packed_by(codec, TEXT)
    assert packed_by(codec, TEXT[:2000]) == first


def test_bad_frames_are_refused_and_good_ones_still_read(codec: Codec) -> None:
    good, size = packed_by(codec, TEXT), len(TEXT)
    bomb = packed_by(codec, bytes(131_072))
    assert len(bomb) < 40
    # 4 GiB by its header: 0xe0 is one segment with a length of 8 bytes
    claims = zstd.MAGIC + b"\xe0" + (1 << 32).to_bytes(8, "little") + b"\x03\x00\x00\x00"
    wide = zstd.MAGIC + b"\x00\xa8" + b"\x0b\x00\x00a"  # a window of 2 GiB, one block of one byte repeated
    dictionary = zstd.MAGIC + b"\x21\x07\x01" + b"\x09\x00\x00a"
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    for bad, count in [
        (b"", 10),
        (b"\x28", 10),
        (good[:-1], size),
        (good[: len(good) // 2], size),
        (good + b"\x00", size),
        (good + good, 2 * size),
        (skipped + good, size),
        (good + skipped, size),
        (good, size - 1),
        (good, size + 1),
        (bomb, 1000),
        (bomb, 1),
        (claims, 131_072),
        (dictionary, 1),
        (random.Random(2).randbytes(500), 1000),
    ]:
        assert not codec.unpack(view(bad) if bad else memoryview(b""), view(count))
        out = view(size)
        assert codec.unpack(view(good), out)
        assert out == TEXT
    codec.unpack(view(wide), view(1))  # either answer will do, but not the memory


def test_damaged_frames_are_refused_or_read_within_their_buffer(codec: Codec) -> None:
    dice = random.Random(3)
    good = packed_by(codec, TEXT[:5000])
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        around = view(5000 + 64)
        codec.unpack(view(bytes(bad)), around[32:-32])
        assert not any(around[:32])
        assert not any(around[-32:])


def test_without_any_of_them_the_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    def gone(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "PyDLL", gone)
    assert type(choose()).__name__ == "Module"
    for name in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HostError, match=r"libzstd.so.1 does not load: .*neither compression.zstd nor"):
        choose()


def test_a_library_that_gives_back_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd.Library, "unpack", lambda self, packed, out: True)
    assert type(choose()).__name__ == "Module"
    with pytest.raises(HostError, match="self-test"):
        choose("library")
