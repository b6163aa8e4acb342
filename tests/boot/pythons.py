"""Finds the interpreters of this machine: on PATH, under pyenv, and in AERO_TEST_PYTHONS (paths, with colons)."""

from __future__ import annotations

import functools
import glob
import os
import subprocess
import sys

ASK = "import sys; print('%d.%d %s' % (sys.version_info[0], sys.version_info[1], sys.executable))"


@functools.lru_cache(maxsize=1)
def found() -> dict[tuple[int, int], str]:
    """Return version → path of one interpreter for each version; those that were named come first."""
    named = [path for path in os.environ.get("AERO_TEST_PYTHONS", "").split(":") if path]
    guesses = [sys.executable]
    names = ["python3", "python2.7", *(f"python3.{minor}" for minor in range(6, 15))]
    for folder in os.environ.get("PATH", "").split(":"):
        guesses += [os.path.join(folder, name) for name in names]
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    guesses += sorted(glob.glob(os.path.join(pyenv, "versions", "*", "bin", "python")))
    pythons: dict[tuple[int, int], str] = {}
    for guess in dict.fromkeys([*named, *guesses]):
        if os.access(guess, os.X_OK):
            done = subprocess.run([guess, "-c", ASK], capture_output=True, text=True)
            if done.returncode == 0:
                version, _, path = done.stdout.strip().partition(" ")
                major, minor = version.split(".")
                # A named one may be a script that knows how to start it; others may be pyenv's, which need a HOME.
                pythons.setdefault(
                    (int(major), int(minor)), guess if guess in named else os.path.realpath(path)
                )
    return pythons


def modern() -> list[str]:
    """Return the interpreters that the archive is for, the running one's version first."""
    here = sys.version_info[:2]
    versions = sorted((v for v in found() if (3, 9) <= v <= (3, 14)), key=lambda version: version != here)
    return [found()[version] for version in versions]


def extremes() -> list[str]:
    """Return the oldest and the newest of them, besides the running one."""
    others = sorted(
        (v, path) for v, path in found().items() if (3, 9) <= v <= (3, 14) and path in modern()[1:]
    )
    return [path for _, path in dict.fromkeys([*others[:1], *others[-1:]])]


def outdated() -> list[str]:
    """Return the interpreters that are older than that."""
    return [path for version, path in found().items() if version < (3, 9)]
