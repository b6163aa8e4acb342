"""--detach: what the caller hears, what the background process keeps, and the limit of open files."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import pytest

ROOT = Path(__file__).resolve().parents[2]
PREFIX = """\
import os, sys
from aero.host import daemon
from aero.errors import HostError

def note(text):
    with open(sys.argv[2], "a") as file:
        file.write(text + "\\n")
"""
_pause = threading.Event().wait


class Background:
    """Runs code that detaches, and ends what it leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.notes = folder / "notes"

    def run(self, code: str, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run code to the caller's end. It finds the log in ``sys.argv[1]``, and `note` writes to ``notes``."""
        command = [sys.executable, "-c", PREFIX + code, str(self.log), str(self.notes)]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=30, pass_fds=pass_fds
        )

    def noted(self, count: int) -> list[str]:
        """Wait for so many notes."""
        deadline = time.monotonic() + 30
        while True:
            lines = self.notes.read_text().splitlines() if self.notes.exists() else []
            if len(lines) >= count:
                return lines
            assert time.monotonic() < deadline, f"{lines}, log: {self.log.read_text()}"
            _pause(0.01)


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    return Background(tmp_path)


def test_the_caller_ends_with_0_when_all_is_set_up(background: Background) -> None:
    done = background.run(
        "caller = daemon.detach(sys.argv[1])\n"
        "note('up')\n"
        "caller.release()\n"
        "note(f'{os.getppid()} {os.getpid() == os.getsid(0)} {os.getcwd()}')\n"
        "print('lost'); print('kept', file=sys.stderr)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    up, facts = background.noted(2)
    parent, leads_session, folder = facts.split()
    assert up == "up"
    assert parent != str(os.getpid())
    assert (leads_session, folder) == ("False", str(ROOT))
    assert "kept" in background.log.read_text()
    assert "lost" not in background.log.read_text()


def test_the_caller_waits_and_hears_what_goes_wrong_before(background: Background) -> None:
    done = background.run(
        "caller = daemon.detach(sys.argv[1])\n"
        "print('aero: port 1 is taken', file=sys.stderr, flush=True)\n"
        "caller.answer(4)\n"
    )
    assert (done.returncode, done.stderr) == (4, "aero: port 1 is taken\n")


def test_a_background_process_that_dies_early_is_no_success(background: Background) -> None:
    done = background.run(
        f"caller = daemon.detach(sys.argv[1])\nos.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    assert done.returncode == 1
    assert done.stderr == "aero: the background process ended before it was set up\n"


def test_a_caller_that_did_not_wait_stops_nothing(background: Background) -> None:
    done = background.run(
        "import signal\n"
        "caller_pid = os.getpid()\n"
        "caller = daemon.detach(sys.argv[1])\n"
        "os.kill(caller_pid, signal.SIGKILL)\n"
        "while os.path.exists(f'/proc/{caller_pid}/fd/0'): pass\n"
        "caller.release()\n"
        "note('on')\n"
    )
    assert done.returncode == -signal.SIGKILL
    assert background.noted(1) == ["on"]


def test_descriptors_of_the_caller_are_closed_and_our_own_are_not(background: Background) -> None:
    """A pipe of ssh or cron that stays open would make them wait for us forever."""
    theirs, other = os.pipe()
    done = background.run(
        "ours = os.open(os.devnull, os.O_RDONLY)\n"
        "caller = daemon.detach(sys.argv[1])\n"
        "caller.release()\n"
        "links = {name: os.path.realpath(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd')}\n"
        "note(' '.join(f'{name}={path}' for name, path in sorted(links.items())))\n"
        "note(str(os.fstat(ours).st_rdev != 0))\n",
        pass_fds=[other],
    )
    os.close(other)
    assert done.returncode == 0
    links, kept = background.noted(2)
    os.close(theirs)
    assert kept == "True"
    assert "pipe:" not in links
    assert "socket:" not in links
    assert f"0=/dev/null 1=/dev/null 2={background.log}" in links


def test_no_log_no_background(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "aero.py", "server", "--detach", "--log", str(tmp_path / "missing" / "log")],
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (f"aero: --log: cannot write {tmp_path}/missing/log: No such file or directory\n")


@pytest.mark.parametrize("failing", [1, 2])
def test_no_room_for_another_process(background: Background, failing: int) -> None:
    done = background.run(
        f"left = [{failing}]\n"
        "real = os.fork\n"
        "def fork():\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return real()\n"
        "os.fork = fork\n"
        "try:\n"
        "    daemon.detach(sys.argv[1])\n"
        "except HostError as error:\n"
        "    print(error, file=sys.stderr)\n"
        "    sys.exit(78)\n"
    )
    assert done.returncode == 78
    assert done.stderr == "cannot start a background process: Resource temporarily unavailable\n"


LIMITS = """\
import resource
from aero import logs
from aero.host import daemon
logs.setup(debug=True)
daemon.raise_file_limit()
"""


def limited(soft: int, hard: int) -> Callable[[], None]:
    def set_limits() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return set_limits


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    code = LIMITS + "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limited(64, 100),
    )  # fmt: skip
    assert done.stdout == "(100, 100)\n"
    assert "raised the limit of open files soft=64 limit=100" in done.stderr


def test_a_limit_that_is_as_high_as_it_can_be_is_not_worth_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITS],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limited(100, 100),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_that_only_the_start_needed_goes_back() -> None:
    code = (
        "from aero.host import daemon\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1])\n"
        "blocks = [b'x' * (100_000 + i) for i in range(400)]\n"  # below malloc's mmap threshold: 40 MB of heap
        "del blocks[:-1]\n"  # and the last one holds the heap's top in place
        "before = resident(); daemon.trim_memory(); print(before - resident())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert int(done.stdout) * resource.getpagesize() > 30_000_000, done.stderr


def test_large_buffers_that_were_freed_do_not_stay() -> None:
    """A visitor that took 16 MiB late, and then whatever: glibc by itself would keep all that comes after."""
    code = (
        "from aero.host import daemon\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1])\n"
        "daemon.bound_free_memory(); before = resident()\n"
        "for _ in range(3): del [bytearray(20_000_000)][:]\n"
        "blocks = [bytearray(700_000) for _ in range(40)]; del blocks\n"
        "print(resident() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert int(done.stdout) * resource.getpagesize() < 8_000_000, done.stderr


def test_standard_streams_that_were_closed(background: Background) -> None:
    """As the command line does first, the numbers are filled, lest our pipe becomes number 1."""
    code = PREFIX + "from aero.cli import main as cli; cli._open_standard_streams()\n"
    code += "daemon.detach(sys.argv[1]).release()\nnote('up')"
    line = 'exec "$@" <&- >&- 2>&-'
    argv = ["sh", "-c", line, "sh", sys.executable, "-c", code, str(background.log), str(background.notes)]
    assert subprocess.run(argv, cwd=ROOT, timeout=30).returncode == 0
    assert background.noted(1) == ["up"]
