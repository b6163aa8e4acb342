"""The frame around a role's life, the same for server and worker: logs, the process's limits, and signals.

SIGTERM, SIGINT   stop; what a second one means is the role's
SIGHUP            read the configuration again, one reading at a time
SIGUSR1           write to the log what there is
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Callable, Protocol

import gevent

from aero import logs
from aero.errors import AeroError, SourceError
from aero.host.daemon import bound_free_memory, raise_file_limit

log = logs.get("config")


class Settings(Protocol):
    """What this needs of a role's configuration."""

    @property
    def log(self) -> str:
        """Path of the log, "" for stderr."""

    @property
    def log_format(self) -> str:
        """``text`` or ``json``."""

    @property
    def log_size(self) -> int:
        """Bytes after which the log is rotated; 0: never."""

    @property
    def debug(self) -> bool:
        """Whether debug lines are written."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of the configuration noticed, and people should look at."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else it noticed, for whoever looks for a fault."""


def set_up(settings: Settings, log_later: bool = False) -> None:
    """Before a role is made: opens the log, says what the configuration's reader noticed, sets limits.

    ``log_later``: the role calls `open_log` itself, once it is another user; until then lines go to stderr.
    """
    # A role may also be run by a program that has not settled its signals as our command line does.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if log_later:
        logs.setup("", settings.log_format, settings.log_size, settings.debug)
    else:
        open_log(settings)
    logs.alarm = gevent.spawn_later
    raise_file_limit()
    bound_free_memory()


def open_log(settings: Settings) -> None:
    """Has lines go where the settings say, first of all what the configuration's reader noticed."""
    logs.setup(settings.log, settings.log_format, settings.log_size, settings.debug)
    for warning in settings.warnings:
        log.warning(warning)
    for note in settings.notes:
        log.debug(note)


def on_signals(stop: Callable[[], None], reload: Callable[[], None], dump: Callable[[], None]) -> None:
    """Has the loop call these from now on, each in a greenlet of its own, so that all of them may block."""
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop)
    gevent.signal_handler(signal.SIGHUP, OneAtATime(reload))
    gevent.signal_handler(signal.SIGUSR1, OneAtATime(dump))


def reload_failed(error: AeroError, run_as: str = "") -> None:
    """Says that nothing changed, and why. ``run_as``: the user that this process became, "" where it did not."""
    hint = {}
    if isinstance(error, SourceError) and run_as:
        hint["hint"] = (
            f"{run_as} may not be able to read it: that needs a restart, or a copy that {run_as} can read"
        )
    log.error("reload failed, keeping the previous configuration", why=error, **hint)


def reload_done(settings: Settings, changed: Sequence[str], fixed: Sequence[str]) -> None:
    """Opens the log that the new settings name, and says which options count from now on and which do not."""
    open_log(settings)
    if changed:
        log.info("configuration read again", changed=", ".join(changed))
    elif not fixed:
        log.info("configuration read again, it is unchanged")
    if fixed:
        log.warning("these need a restart", options=", ".join(fixed))


class OneAtATime:
    """Work that yields and must not overlap itself: of two readings of a configuration the older one might win.

    Whoever calls while it runs has it run once more afterwards, however many they are: so each caller gets a run
    that began after its call.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """``work`` may yield; it is never called while it runs."""
        self._work = work
        self._running = self._again = False

    def __call__(self) -> None:
        """Does the work now, or leaves it to the call that is doing it."""
        self._again = True
        if self._running:
            return
        self._running = True
        try:
            while self._again:
                self._again = False
                self._work()
        finally:
            self._running = False
