"""What the archive says of itself, and to interpreters that it is not for."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import aero
from aero.boot import parts
from tests.boot.conftest import CHECKOUT
from tests.boot.hosts import Host, trees
from tests.boot.pythons import modern, outdated

AUDIT = """
import sys
def hook(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"):
        sys.stderr.write(f"started {event} {arguments}\\n")
sys.addaudithook(hook)
"""


def test_the_version_comes_before_anything_is_unpacked(host: Host) -> None:
    done = host.run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"AeRO-proxy {aero.__version__}\n", "")
    assert trees(host.cache) == []


def test_an_intact_archive_verifies(host: Host) -> None:
    done = host.run("--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("aero.pyz: intact\n")
    sums = subprocess.run(["sha256sum", str(host.pyz)], capture_output=True, text=True, check=True)
    assert sums.stdout.split()[0] == done.stdout.split()[0]


def test_the_checksum_file_fits(pyz: Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=pyz.parent, check=True, stdout=subprocess.DEVNULL
    )


@pytest.fixture
def damaged(host: Host) -> Host:
    """A host whose archive may be written to."""
    copy = host.program / "copy"
    shutil.copy(host.pyz, copy)
    copy.replace(host.pyz)
    return host


@pytest.mark.parametrize("member", ["parts/source.xz", "aero/boot/memory.py", "MANIFEST", "ID"])
def test_a_flipped_bit_is_found_and_named(damaged: Host, member: str) -> None:
    with zipfile.ZipFile(damaged.pyz) as archive:
        info = archive.getinfo(member)
    with open(damaged.pyz, "r+b") as file:
        file.seek(info.header_offset + 30 + len(member) + info.file_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    done = damaged.run("--verify")
    assert done.returncode == 1
    assert "second line" in done.stderr
    assert member in done.stderr


def test_a_member_that_was_added_is_found(damaged: Host) -> None:
    with zipfile.ZipFile(damaged.pyz, "a") as archive:
        archive.writestr("sitecustomize.py", "")
    done = damaged.run("--verify")
    assert done.returncode == 1
    assert "sitecustomize.py is not in the manifest" in done.stderr


def test_a_damaged_stream_says_so_in_one_line(damaged: Host) -> None:
    stream = parts.read(str(damaged.pyz)).groups[0].stream
    with zipfile.ZipFile(damaged.pyz) as archive:
        info = archive.getinfo(stream)
    with open(damaged.pyz, "r+b") as file:
        file.seek(info.header_offset + 30 + len(stream) + 1000)
        file.write(bytes(100))
    done = damaged.run("--help")
    assert done.returncode == 78
    assert f"is damaged: {stream}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_python_that_it_is_not_for_is_told_which_ones_are(damaged: Host) -> None:
    mine = "-".join(parts.tag())
    with zipfile.ZipFile(damaged.pyz) as archive:
        members = {info: archive.read(info) for info in archive.infolist() if mine not in info.filename}
    with zipfile.ZipFile(damaged.pyz, "w") as archive:
        for info, content in members.items():
            archive.writestr(info, content)
    done = damaged.run("--help", "-I", python=modern()[0])
    if done.returncode == 0:  # this Python has every library of its own
        assert "source" in trees(damaged.cache)[0]
    else:
        assert done.returncode == 78
        assert f"not for {mine}" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("python", modern())
def test_every_python_of_this_machine_runs_it(host: Host, python: str) -> None:
    host.works(python=python)


@pytest.mark.parametrize("python", outdated())
def test_an_outdated_python_is_told_so_in_one_line(host: Host, python: str) -> None:
    done = host.run("client", python=python)
    assert done.returncode == 78
    assert done.stderr.startswith("aero: needs Python 3.9 or newer, this is ")
    assert done.stderr.count("\n") == 1


def test_the_first_file_is_plain_enough_for_outdated_pythons() -> None:
    source = (CHECKOUT / "aero" / "boot" / "entry.py").read_text(encoding="ascii")
    tree = ast.parse(source, feature_version=(3, 4))
    modern_only = (ast.AnnAssign, ast.AsyncFunctionDef, ast.JoinedStr, ast.NamedExpr, ast.Nonlocal)
    assert not [node for node in ast.walk(tree) if isinstance(node, modern_only)]


def test_no_helper_program_is_started(host: Host) -> None:
    audit = host.folder / "audit"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(AUDIT)
    done = host.works(env={**host.env, "PYTHONPATH": str(audit)})
    assert "started" not in done.stderr
