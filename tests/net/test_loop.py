"""The event loop: set up once, its last resort for errors in place, and watchers given back in order."""

from __future__ import annotations

import subprocess
import sys

import gevent
import pytest

from aero.net import faults
from aero.net.loop import event_loop, stopped


def test_every_part_gets_the_same_loop_and_errors_one_last_resort() -> None:
    loop = event_loop()
    hub = gevent.get_hub()
    resort = hub.print_exception
    assert event_loop() is loop is hub.loop
    assert hub.print_exception is resort and resort.func is faults.uncaught
    assert resort.args[0].__func__ is type(hub).print_exception, "wrapped once"


def test_an_error_in_a_callback_reaches_whom_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(faults, "report", lambda error: told.append(repr(error)))
    event_loop().run_callback(lambda: 1 // 0)
    with gevent.Timeout(10):
        while not told:
            gevent.sleep(0)
    assert len(told) == 1 and told[0].startswith("ZeroDivisionError")


def test_setting_it_up_brings_nothing_that_a_worker_does_not_need() -> None:
    code = (
        "import sys\n"
        "from aero.net.loop import event_loop\n"
        "event_loop()\n"
        "print(*{'pprint', 'dataclasses', 'inspect', 'ast'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


class Watcher:
    """Notes what is asked of it."""

    active = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, *_: object) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


def test_a_watcher_is_stopped_before_it_is_given_back() -> None:
    watcher = Watcher()
    stopped(watcher)
    stopped(None)
    assert watcher.calls == ["stop", "close"]
    real = event_loop().timer(0.0)
    real.start(pytest.fail, "it was stopped")
    stopped(real)
    gevent.sleep(0)
    assert not real.active
