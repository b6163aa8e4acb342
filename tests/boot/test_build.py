"""The build: the same bytes wherever it runs, small, and made of nothing but what the lock file names."""

from __future__ import annotations

import importlib.util
import lzma
import os
import sys
import zipfile
from pathlib import Path

import pytest
from pyz import contents, elf, targets, wheels

from aero.boot import parts
from tests.boot.conftest import CHECKOUT, build, take_snapshot
from tests.boot.hosts import Host
from tests.boot.pythons import extremes

MEGABYTE = 1_000_000


@pytest.fixture(scope="session")
def small(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The archive for this interpreter alone; after the wide one, whose wheels and compilers it shares."""
    return build(snapshot, tmp_path_factory.mktemp("small") / "aero.pyz", "--host")


def test_two_builds_in_two_places_are_the_same_to_the_byte(
    snapshot: Path, small: bytes, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    take_snapshot(snapshot, other)
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (other / ".build").mkdir()
    (other / ".build" / "wheels").symlink_to(CHECKOUT / ".build" / "wheels")
    differently = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    assert build(other, tmp_path / "b.pyz", "--host", **differently) == small


@pytest.mark.parametrize("python", extremes())
def test_the_interpreter_that_builds_does_not_matter(
    pyz: Path, snapshot: Path, tmp_path: Path, python: str
) -> None:
    assert build(snapshot, tmp_path / "aero.pyz", PYTHON=python) == pyz.read_bytes()


def test_sizes(pyz: Path, small: bytes) -> None:
    assert len(small) <= 2.5 * MEGABYTE
    assert pyz.stat().st_size <= 11 * MEGABYTE


def test_members_are_sorted_plain_and_dateless(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in infos} == {0o100644}
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(pyz, os.X_OK)


def unpacked(pyz: Path, tag: str) -> dict[str, bytes]:
    """Return path → content of everything for one target."""
    importer = parts.zipimporter(str(pyz))
    groups = parts.groups_of(importer, tag)
    return {part.path: content for part, content in parts.Parts(importer, tag, groups).contents()}


@pytest.mark.parametrize("target", targets.wide("gnu"), ids=lambda target: str(target.tag))
def test_every_target_has_byte_code_of_its_own(pyz: Path, snapshot: Path, target: targets.Target) -> None:
    tree = unpacked(pyz, target.tag)
    sources = contents.aero_sources(snapshot)
    magics = {content[:4] for path, content in tree.items() if path.endswith(".pyc")}
    assert len(magics) == 1
    code = tree["aero/core/session.pyc"]
    assert code[4:8] == b"\1\0\0\0", "PEP 552: with a hash, and unchecked"
    if target.python == "{}.{}".format(*sys.version_info):
        assert magics == {importlib.util.MAGIC_NUMBER}
        assert code[8:16] == importlib.util.source_hash(sources["aero/core/session.py"])
    suffix = f".cpython-{target.abi[2:]}-{target.machine}-linux-gnu.so"
    assert f"gevent/libev/corecext{suffix}" in tree
    assert f"greenlet/_greenlet{suffix}" in tree
    assert not [path for path in tree if path.endswith(".so") and not path.endswith((suffix, ".abi3.so"))]


def test_the_archive_carries_what_aero_imports(pyz: Path) -> None:
    tree = unpacked(pyz, "-".join(parts.tag()))
    for needed in (
        "bottle.pyc",
        "docopt/__init__.pyc",
        "gevent/pywsgi.pyc",
        "Crypto/PublicKey/_ec_nat.abi3.so",
    ):
        assert needed in tree
    for unused in ("cffi", "gevent/tests", "gevent/libuv", "aero/boot"):
        assert not [path for path in tree if path.startswith(unused)]


def test_the_lock_file_names_a_wheel_for_every_need_and_no_other() -> None:
    lock = wheels.read_lock(CHECKOUT / "requirements" / "pyz.lock")
    named: set[str] = set()
    for target in [*targets.wide("gnu"), *targets.wide("musl")]:
        named.update(wheels.locked(lock, target, target.pins(targets.EXTRAS)))
    for machine in targets.MACHINES:
        for target in targets.compiler_targets(targets.PYTHONS, machine):
            named.update(wheels.locked(lock, target, target.compiler_pins()))
    assert named == set(lock)


def test_a_wheel_with_another_hash_is_not_believed(tmp_path: Path) -> None:
    fake_pip = tmp_path / "pip.py"
    fake_pip.write_text(
        "import sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        "(folder / 'bottle-0.13.4-py2.py3-none-any.whl').write_text('not what was locked')\n"
    )
    wanted = {"bottle-0.13.4-py2.py3-none-any.whl": "0" * 64}
    with pytest.raises(wheels.BuildError, match="pip did not bring bottle"):
        wheels.fetch([sys.executable, str(fake_pip)], targets.host(), wanted, tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_a_stripped_library_keeps_what_is_loaded_and_nothing_else(pyz: Path) -> None:
    library = next(
        content for path, content in unpacked(pyz, "-".join(parts.tag())).items() if path.endswith(".so")
    )
    assert elf.strip(library) == library, "stripping again changes nothing"
    assert elf.strip(library + b"debug information") == library
    with pytest.raises(ValueError, match="not a 64-bit"):
        elf.strip(b"#!/bin/sh\n")


def test_older_liblzma_can_unpack_it(pyz: Path) -> None:
    """No filter that is younger than what a host of this age has: x86 (0x04) and LZMA2 (0x21) alone."""
    with zipfile.ZipFile(pyz) as archive:
        for name in archive.namelist():
            if name.endswith(".xz"):
                packed = archive.read(name)
                assert packed[14] in (0x04, 0x21), "the first filter, in the first block's header"
                assert lzma.LZMADecompressor().decompress(packed, 1)


def test_openssl_can_be_shipped_along(snapshot: Path, host: Host) -> None:
    host.pyz.unlink()
    build(snapshot, host.pyz, "--host", "--with-openssl")
    version = targets.EXTRAS["openssl"]["cryptography"]
    # OpenSSL by ctypes comes first where it works, until there is traffic; what is carried has to work all the same.
    assert f"AES-GCM by cryptography {version}" in host.works("--aead", "cryptography").stdout


def test_zstd_can_be_shipped_along(snapshot: Path, tmp_path: Path) -> None:
    build(snapshot, tmp_path / "aero.pyz", "--host", "--with-zstd")
    carried = [path for path in unpacked(tmp_path / "aero.pyz", "-".join(parts.tag())) if "zstd" in path]
    assert bool(carried) == (sys.version_info < (3, 14)), "newer Pythons have it in their standard library"
