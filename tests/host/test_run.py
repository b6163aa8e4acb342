"""What frames a role: signals from the first import on, and work that must not overlap itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import gevent
import pytest
from gevent.event import Event

from aero import logs
from aero.config.roles import ServerConfig
from aero.errors import ConfigError, SourceError
from aero.host.run import OneAtATime, reload_done, reload_failed

ROOT = Path(__file__).resolve().parents[2]
#: Runs aero as a module; from its first import after the signals were settled on, every import brings a signal.
STORM = """\
import os, signal, sys
from importlib import import_module

class Storm:
    begun = False

    def find_spec(self, name, path=None, target=None):
        Storm.begun |= name == "aero.cli"
        if Storm.begun:
            os.kill(os.getpid(), {number})

signal.signal(signal.SIGINT, signal.default_int_handler)  # also below a shell that has it ignored
sys.meta_path.insert(0, Storm())
sys.argv = ["aero", *{argv!r}]
main = import_module("aero.__main__").main
sys.exit(main())
"""


def storm(number: int, *argv: str) -> subprocess.CompletedProcess[str]:
    code = STORM.format(number=int(number), argv=argv)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("argv", [["--version"], ["server", "--ports", "nonsense"]])
def test_who_asks_too_early_does_not_end_the_start(number: int, argv: list[str]) -> None:
    calm = subprocess.run([sys.executable, "aero.py", *argv], cwd=ROOT, capture_output=True, text=True)
    done = storm(number, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (calm.returncode, calm.stdout, calm.stderr)


def test_ctrl_c_during_the_start_leaves_no_traceback() -> None:
    done = storm(signal.SIGINT, "server", "--port", "0", "--ports", "0", "--api", "off", "--mux", "off")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_work_that_is_asked_for_while_it_runs_runs_once_more_afterwards() -> None:
    began: list[Event] = []

    def work() -> None:
        began.append(Event())
        began[-1].wait()

    ask = OneAtATime(work)
    running = gevent.spawn(ask)
    gevent.sleep(0)
    for _ in range(5):
        ask()  # returns at once
    assert len(began) == 1
    began[0].set()
    gevent.sleep(0)
    gevent.sleep(0)
    assert len(began) == 2
    began[1].set()
    running.join(5)
    assert running.successful()
    assert len(began) == 2


def test_work_that_failed_can_be_done_again() -> None:
    done = []

    def work() -> None:
        done.append(1)
        raise ValueError("work")

    ask = OneAtATime(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="work"):
            ask()
    assert len(done) == 2


def reload_lines(tmp_path: Path, tell: Callable[[], None]) -> str:
    (tmp_path / "log").unlink(missing_ok=True)
    logs.setup(str(tmp_path / "log"))
    tell()
    logs.setup("/dev/null")
    return (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("changed", "fixed", "said", "not_said"),
    [
        (["auth", "drain"], [], 'configuration read again changed="auth, drain"', "restart"),
        (["auth"], ["port"], "these need a restart options=port", "unchanged"),
        ([], ["port"], "these need a restart options=port", "read again"),
        ([], [], "configuration read again, it is unchanged", "restart"),
    ],
)
def test_a_reload_says_what_it_did_and_no_more(
    tmp_path: Path, changed: list[str], fixed: list[str], said: str, not_said: str
) -> None:
    config = ServerConfig(log=str(tmp_path / "log"))
    text = reload_lines(tmp_path, lambda: reload_done(config, changed, fixed))
    assert said in text
    assert not_said not in text


def test_a_reload_that_failed_says_when_only_a_restart_helps(tmp_path: Path) -> None:
    unreadable = SourceError("cannot read the code from '/c': Permission denied")
    text = reload_lines(tmp_path, lambda: reload_failed(unreadable, "aero"))
    assert "reload failed, keeping the previous configuration" in text
    assert "needs a restart" in text
    assert "restart" not in reload_lines(tmp_path, lambda: reload_failed(unreadable))
    assert "restart" not in reload_lines(tmp_path, lambda: reload_failed(ConfigError("x"), "aero"))
