"""What an archive holds for an interpreter, read from one made here, and what is said where that will not do."""

from __future__ import annotations

import hashlib
import lzma
import os
import random
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from aero.boot import parts
from aero.boot.parts import NoParts, Part, Unusable

ALL = {"aero/a b.py": b"print()\n", "aero/c.py": b"", "gevent/d.so": b"\x7fELF" * 100}


def listed(names: list[str]) -> str:
    return "".join(f"{len(ALL[name])} {hashlib.sha256(ALL[name]).hexdigest()} {name}\n" for name in names)


def archive(folder: Path, **changed: bytes | None) -> str:
    """An archive for this interpreter, whose list needs another one; ``changed``: members with other contents."""
    own, native = ["aero/a b.py", "aero/c.py"], ["gevent/d.so"]
    mine = "-".join(parts.tag())
    members: dict[str, bytes | None] = {
        "ID": b"abc123",
        "MANIFEST": f"{'0' * 64} parts/{mine}.txt\n{'0' * 64} parts/both.txt\n".encode(),
        "mine": f"both.xz {len(ALL['gevent/d.so'])} native\n{listed(own)}".encode(),
        "native": f"both.xz 0\n{listed(native)}".encode(),
        "both": lzma.compress(b"".join(ALL[name] for name in native + own)),
        "source": f"both.xz {len(ALL['gevent/d.so'])}\n{listed(own)}".encode(),
        **changed,
    }
    paths = {
        "mine": f"parts/{mine}.txt", "native": "parts/native.txt", "both": "both.xz", "source": "parts/source.txt",
    }  # fmt: skip
    path = folder / "aero.pyz"
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            if content is not None:
                bundle.writestr(paths.get(name, name), content)
    return str(path)


def test_every_file_comes_from_its_place_in_the_stream(tmp_path: Path) -> None:
    found = parts.read(archive(tmp_path))
    assert found.name == f"abc123-{'-'.join(parts.tag())}"
    assert [part.path for part in found.files()] == ["gevent/d.so", "aero/a b.py", "aero/c.py"], (
        "needed first"
    )
    assert {part.path: content for part, content in found.contents()} == ALL
    for part in found.files():
        assert part == Part(len(ALL[part.path]), hashlib.sha256(ALL[part.path]).hexdigest(), part.path)


def test_the_source_alone(tmp_path: Path) -> None:
    found = parts.read_source(archive(tmp_path))
    assert found.name == "abc123-source"
    assert [part.path for part, _ in found.contents()] == ["aero/a b.py", "aero/c.py"]


def test_an_archive_for_others_says_for_whom_it_is(tmp_path: Path) -> None:
    names = [
        "parts/cp39-x86_64-gnu.txt",
        "parts/cp313t-aarch64-musl.txt",
        "parts/source.txt",
        "parts/any-gnu.txt",
    ]
    manifest = "".join(f"{'0' * 64} {name}\n" for name in [*names, "both.xz"]).encode()
    with pytest.raises(NoParts) as raised:
        parts.read(archive(tmp_path, mine=None, MANIFEST=manifest))
    mine = "-".join(parts.tag())
    assert str(raised.value).startswith(
        f"this archive is for cp39-x86_64-gnu, cp313t-aarch64-musl, not for {mine} (Python 3."
    )


@pytest.mark.parametrize("stream", [None, b"", b"no stream", lzma.compress(b"whole")[:-30]])
def test_a_stream_that_is_damaged_is_never_taken_for_the_files(tmp_path: Path, stream: bytes | None) -> None:
    path = archive(tmp_path, both=stream)
    try:
        found = [(part, hashlib.sha256(content).hexdigest()) for part, content in parts.read(path).contents()]
    except Unusable as error:
        assert f"{path} is damaged: both.xz" in str(error)
    else:
        assert any(sha256 != part.sha256 for part, sha256 in found), (
            "whoever keeps them sees it by their sums"
        )


def test_a_stream_that_ends_early_is_damaged(tmp_path: Path) -> None:
    """A decompressor that gets a part of a stream gives what is in it, and complains of nothing."""
    chance = random.Random(20261126)
    whole = {f"aero/{number}.py": chance.randbytes(5000) for number in range(20)}
    ALL.update(whole)
    try:
        lines = listed(list(whole))
        packed = lzma.compress(b"".join(whole.values()))
        for end in (len(packed) // 2, len(packed) - 2000):
            path = archive(tmp_path, mine=f"both.xz 0\n{lines}".encode(), both=packed[:end])
            with pytest.raises(Unusable, match=r"both\.xz ends early"):
                list(parts.read(path).contents())
    finally:
        for name in whole:
            del ALL[name]


def test_a_python_without_lzma_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(Unusable, match="built without its lzma module"):
        next(parts.read(archive(tmp_path)).contents())


@pytest.mark.parametrize(
    ("suffix", "abi"),
    [
        (".cpython-311-x86_64-linux-gnu.so", "cp311"),
        (".cpython-313t-x86_64-linux-gnu.so", "cp313t"),
        (".cpython-311d-aarch64-linux-gnu.so", "cp311d"),
        (".pypy39-pp73-x86_64-linux-gnu.so", "pypy39-pp73"),
    ],
)
def test_the_abi_is_that_of_the_interpreters_own_modules(
    monkeypatch: pytest.MonkeyPatch, suffix: str, abi: str
) -> None:
    monkeypatch.setattr(parts, "EXTENSION_SUFFIXES", [suffix, ".abi3.so", ".so"])
    assert parts.tag()[0] == abi


def test_the_platform_is_that_of_the_interpreter_and_not_of_its_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(_: str) -> str:
        raise ValueError("unrecognized configuration name")

    machine = os.uname().machine
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36")
    assert parts.tag()[1] == f"{machine}-gnu"
    for answer in (unknown, lambda _: None):
        monkeypatch.setattr(os, "confstr", answer)
        assert parts.tag()[1] == f"{machine}-musl"
    monkeypatch.setattr(parts, "sys", SimpleNamespace(maxsize=2**31 - 1))
    assert parts.tag()[1] == "32bit-musl", "a 32-bit Python on a 64-bit kernel"
