"""Installing from a checkout: what pip builds and installs is a whole `aero`, as a wheel and by way of an sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import aero

ROOT = Path(__file__).resolve().parents[2]
#: What `git clone` would bring; caches and the virtual environment stay behind.
SOURCES = ("aero", "aero.py", "pyproject.toml", "README.md", "LICENSE")
PINS = ROOT / "requirements" / "dev.txt"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(folder: Path, kind: str) -> Path:
    """What pip and every other front end asks of the back end, in a folder of its own as they do."""
    code = f"from setuptools import build_meta; print('\\n' + build_meta.build_{kind}('dist'))"
    return folder / "dist" / run(sys.executable, "-c", code, cwd=folder).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return build(checkout, "wheel")


def test_a_wheel_holds_the_whole_package_and_its_version(wheel: Path) -> None:
    package = ROOT / "aero"
    wanted = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert wheel.name == f"aero_proxy-{aero.__version__}-py3-none-any.whl"


def test_an_sdist_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    run("tar", "xf", build(checkout, "sdist"), cwd=tmp_path)
    (unpacked,) = tmp_path.iterdir()
    again = build(unpacked, "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {name: first.read(name) for name in first.namelist()} == {
            name: second.read(name) for name in second.namelist()
        }


def test_a_bare_environment_gets_a_working_aero(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    binaries = tmp_path / "bare" / "bin"
    run(binaries / "pip", "install", "-q", "--disable-pip-version-check", "-c", PINS, wheel, cwd=tmp_path)
    assert run(binaries / "aero", "--version", cwd=tmp_path).strip().endswith(aero.__version__)
    assert "OK: the page" in run(binaries / "aero", "demo", "--check", cwd=tmp_path)
