"""A small host to start the archive on: its own home, an environment like cron's, namespaces with mounts at will."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aero.boot import parts

# The interpreter itself, not a link from an environment: its folder must be readable in every namespace.
PYTHON = os.path.realpath(sys.executable)

SHARED = ("/var/tmp", "/tmp", "/dev/shm")
DEADLINE_S = 60


class Host:
    """One host; ``home`` is its home folder, ``pyz`` the archive in a folder of its own."""

    def __init__(self, pyz: Path, folder: Path) -> None:
        """Make the host in this empty folder."""
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.program = folder / "program"
        self.program.mkdir(mode=0o755)
        self.pyz = self.program / "aero.pyz"
        os.link(pyz, self.pyz)
        self.env = {"HOME": str(self.home)}
        self._running: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """End what still runs."""
        for process in self._running:
            process.kill()
            process.communicate()

    @property
    def cache(self) -> Path:
        """The folder that is chosen when nothing is in the way."""
        return self.home / ".cache" / "aero"

    def start(self, *arguments: str, python: str = PYTHON, **more: Any) -> subprocess.Popen[str]:
        """Start the archive with arguments; the process ends with the test at the latest."""
        command = [python, str(self.pyz), *arguments]
        pipes = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }
        process = subprocess.Popen(command, **{"env": self.env, "cwd": "/", **pipes, **more})
        self._running.append(process)
        return process

    def run(self, *arguments: str, python: str = PYTHON, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the archive with arguments to its end."""
        process = self.start(*arguments, python=python, **more)
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def answers(self, *, python: str = PYTHON, **more: Any) -> subprocess.CompletedProcess[str]:
        """Ask for the help, which comes after the first native library was loaded; fail if it does not come."""
        done = self.run("--help", python=python, **more)
        assert (done.returncode, done.stderr) == (0, "")
        return done

    def works(self, *options: str, python: str = PYTHON, **more: Any) -> subprocess.CompletedProcess[str]:
        """Let server, worker and service talk to each other in one process; fail if they don't."""
        done = self.run("demo", "--check", *options, python=python, **more)
        assert done.returncode == 0, done.stderr
        return done

    def run_among(
        self,
        mounts: Sequence[str],
        *arguments: str,
        command: Sequence[str] = (),
        then: str = ":",
    ) -> subprocess.CompletedProcess[str]:
        """Run the archive in a mount namespace of its own, between shell commands that run there as root.

        ``command`` is what runs with the arguments, in place of our interpreter with the archive.
        """
        command = [*(command or (PYTHON, str(self.pyz))), *arguments]
        script = f'set -e; {"; ".join(mounts)}; code=0; "$@" || code=$?; {then}; exit $code'
        whole = [*NAMESPACE, "sh", "-c", script, "sh", *command]
        return subprocess.run(
            whole, env=self.env, cwd="/", capture_output=True, text=True, timeout=DEADLINE_S
        )


# A mount namespace of its own. A user namespace, which needs no root, would not do: in it all of root's folders
# seem to be nobody's, and so each candidate would be refused for that alone.
NAMESPACE = ("unshare", "--mount", "--propagation=private", "--")


def can_mount() -> bool:
    """Tell whether this machine lets us have mount namespaces."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return (
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True).returncode
        == 0
    )


def remount(folder: str | Path, options: str) -> str:
    """Return the shell command that mounts a folder over itself with other options, its content unchanged."""
    return f"mount --bind '{folder}' '{folder}' && mount -o 'remount,bind,nosuid,nodev,{options}' '{folder}'"


def everywhere(host: Host, options: str) -> list[str]:
    """Return the commands that remount every folder in which a cache could be."""
    folders = [host.home, host.program, *(shared for shared in SHARED if os.path.isdir(shared))]
    # Innermost last would undo what an outer mount hides: a bind mount does not carry the mounts below it.
    return [remount(folder, options) for folder in sorted(map(str, folders), key=len)]


def trees(cache: Path) -> list[str]:
    """Return the names of all trees, finished or not, in a cache folder."""
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


def is_good(cache: Path, pyz: Path) -> bool:
    """Tell whether the cache holds the tree for our own Python, every file as it should be."""
    from hashlib import sha256

    mine = parts.read(str(pyz))
    tree = cache / f"aero-{mine.name}"
    return tree.stat().st_mode & 0o777 == 0o700 and all(
        (tree / part.path).is_file()
        and not (tree / part.path).is_symlink()
        and not (tree / part.path).stat().st_mode & 0o022
        and sha256((tree / part.path).read_bytes()).hexdigest() == part.sha256
        for part in mine.files()
    )
