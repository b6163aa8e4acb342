"""Wheels: the lock file, the download through pip, and the choice of what goes into the archive.

The lock file is in the format of sha256sum, one wheel per line. What pip brings is believed only by its hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyz.targets import Target


class BuildError(Exception):
    """The archive cannot be built; the text is one line for whoever started the build."""


def project_of(wheel: str) -> tuple[str, str]:
    """Return the normalised project name and the version in a wheel's file name (PEP 427)."""
    name, version = wheel.split("-")[:2]
    return re.sub("[-_.]+", "-", name).lower(), version


def read_lock(path: Path) -> dict[str, str]:
    """Return file name → SHA-256 from a lock file."""
    lock = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            digest, name = line.split()
            lock[name] = digest
    return lock


def locked(lock: dict[str, str], target: Target, pins: dict[str, str]) -> list[str]:
    """Return the file names of the wheels of ``pins`` (project → version) for one target. Raises BuildError."""
    chosen = []
    for project, version in sorted(pins.items()):
        found = {}
        for wheel in lock:
            fitness = target.fitness(wheel) if project_of(wheel) == (project, version) else None
            if fitness is not None:
                found[wheel] = fitness
        if not found:
            raise BuildError(f"the lock file has no wheel of {project} {version} for {target.tag}")
        chosen.append(min(found, key=lambda wheel: (found[wheel], wheel)))
    return chosen


def is_intact(path: Path, digest: str) -> bool:
    """Tell whether the file is there with that SHA-256."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def pip_download(pip: list[str], target: Target, folder: Path, wanted: list[str]) -> None:
    """Let pip fetch wheels for one target into ``folder``; ``wanted`` ends its command line. Raises BuildError."""
    command = [
        *pip,
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    # Some wheels refuse the first patch releases, which "3.9" alone would stand for.
    command += ["--implementation", "cp", "--python-version", f"{target.python}.99", "--dest", str(folder)]
    for abi in (target.abi, "abi3", "none"):
        command += ["--abi", abi]
    for platform in [*target.platform_tags(), "any"]:
        command += ["--platform", platform]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise BuildError(f"pip could not bring the wheels of {target.tag}: {reason}")


def fetch(pip: list[str], target: Target, wanted: dict[str, str], folder: Path) -> None:
    """Bring wheels (file name → SHA-256) of one target into ``folder``. Raises BuildError."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        listing = Path(scratch) / "requirements.txt"
        lines = ["{}=={} --hash=sha256:{}\n".format(*project_of(w), digest) for w, digest in wanted.items()]
        listing.write_text("".join(lines))
        pip_download(pip, target, Path(scratch), ["--require-hashes", "--requirement", str(listing)])
        for wheel, digest in wanted.items():
            if not is_intact(Path(scratch) / wheel, digest):
                raise BuildError(f"pip did not bring {wheel}, which the lock file names")
            (Path(scratch) / wheel).replace(folder / wheel)


def collect(build: Path, lock: dict[str, str], needs: dict[Target, list[str]]) -> None:
    """Bring all these wheels (target → file names) into the folder ``build``/wheels. Raises BuildError."""
    folder = build / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[Target, dict[str, str]] = {}
    asked: set[str] = set()
    for target, wheels in needs.items():
        for wheel in wheels:
            if wheel not in asked and not is_intact(folder / wheel, lock[wheel]):
                missing.setdefault(target, {})[wheel] = lock[wheel]
                asked.add(wheel)
    if missing:
        pip = own_pip(build)
        with ThreadPoolExecutor(4) as pool:  # pip spends its time waiting; four at once is kind to any index
            jobs = [pool.submit(fetch, pip, target, wanted, folder) for target, wanted in missing.items()]
            for job in jobs:
                job.result()


def relock(build: Path, wishes: list[tuple[Target, dict[str, str]]], path: Path) -> None:
    """Write the lock file anew for these pins. Believes what the index serves today; review the difference."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pip = own_pip(build)
        for target, pins in wishes:
            pip_download(pip, target, folder, [f"{project}=={version}" for project, version in pins.items()])
        lines = ["# The wheels that aero.pyz is made of and with. Written by tools/build_pyz.py --relock.\n"]
        lines += [
            f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n"
            for wheel in sorted(folder.glob("*.whl"))
        ]
        path.write_text("".join(lines))


def read_wheel(path: Path) -> dict[str, bytes]:
    """Return the installed files of a wheel: path → content."""
    with zipfile.ZipFile(path) as wheel:
        return {
            name: wheel.read(name)
            for name in wheel.namelist()
            if not name.endswith("/") and ".data/" not in name and ".dist-info/" not in name
        }


def own_pip(build: Path) -> list[str]:
    """Return the command of a pip: this interpreter's, or one in a virtual environment under ``build``.

    Debian's Python comes with neither pip nor what makes environments; as root we fetch the latter ourselves.
    """
    here = [sys.executable, "-m", "pip"]
    if subprocess.run([*here, "--version"], capture_output=True).returncode == 0:
        return here
    inside = build / "venv"
    there = [str(inside / "bin" / "python"), "-m", "pip"]
    ready = (inside / "bin" / "pip").exists() or makes_environment(inside)
    if not ready and os.geteuid() == 0 and shutil.which("apt-get"):
        print("build_pyz: installing python3-venv, for its pip", file=sys.stderr)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "python3-venv"]):
            subprocess.run(["apt-get", "--quiet", "--quiet", *arguments], env=quiet, stdout=sys.stderr)
        ready = makes_environment(inside)
    if not ready:
        raise BuildError(
            "this Python has no pip: install it (Debian: apt-get install python3-venv), start again"
        )
    return there


def makes_environment(folder: Path) -> bool:
    """Make a virtual environment with pip; tell whether that worked."""
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0
