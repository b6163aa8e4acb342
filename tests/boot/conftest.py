"""Builds the archive once for all tests and workers, and gives each test a host of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.hosts import Host

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.append(str(CHECKOUT / "tools"))  # the modules of the build
BUILDS_S = (
    600  # a first build gets 40 MB of wheels and compilers, and whichever test comes first waits for it
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives the tests of this folder time for that."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILDS_S))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def pyz(shared: Path) -> Path:
    """The wide archive of this checkout as it is now; whichever worker comes first builds it."""
    made = shared / "archive" / "aero.pyz"
    with open(shared / "archive.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            snapshot = shared / "checkout"
            take_snapshot(CHECKOUT, snapshot)
            (snapshot / ".build").symlink_to(CHECKOUT / ".build")
            (CHECKOUT / ".build").mkdir(exist_ok=True)
            made.parent.mkdir()
            build(snapshot, made)
    return made


@pytest.fixture(scope="session")
def snapshot(shared: Path, pyz: Path) -> Path:
    """The copy of the checkout that the archive was built from: nobody edits it while the tests run."""
    assert pyz.exists()
    return shared / "checkout"


def take_snapshot(checkout: Path, copy: Path) -> None:
    """Copy what a build reads."""
    for name in ("aero", "tools"):
        shutil.copytree(checkout / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "requirements").mkdir()
    for name in ("build_pyz.sh", "requirements/pyz.lock"):
        shutil.copy(checkout / name, copy / name)


def build(checkout: Path, output: Path, *options: str, **env: str) -> bytes:
    """Build an archive by our own interpreter, unless ``PYTHON`` is another."""
    command = [str(checkout / "build_pyz.sh"), *options, "--output", str(output)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable, **env})
    return output.read_bytes()


@pytest.fixture
def host(pyz: Path, tmp_path: Path) -> Iterator[Host]:
    """A home folder, an archive beside nothing else, and a clean environment."""
    made = Host(pyz, tmp_path)
    yield made
    made.close()
