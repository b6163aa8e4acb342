"""The event loop that everything here runs on: gevent's hub, made once per process, without what we never use.

The protocols say which part of gevent's (libev's) interface is used, so that a watcher has a type in this code.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Protocol

import gevent

from aero.net.faults import uncaught

READ, WRITE = 1, 2  # libev's EV_READ and EV_WRITE
AFTER_EVENTS = -1  # a priority: called after all other watchers of the same turn


class Watcher(Protocol):
    """Calls back from the loop until it is stopped. The callback must not block and must not raise: where it does, its
    owner's ``faulted`` is called (net/faults.py).
    """

    @property
    def active(self) -> bool:
        """True between ``start`` and ``stop``, for a timer that does not repeat also until it has fired."""

    def start(self, callback: Callable[..., Any], *args: Any) -> None:
        """Calls ``callback(*args)`` at each event from now on. Keeps both referenced until ``stop``."""

    def stop(self) -> None:
        """Calls back no more; ``start`` may follow. Harmless when stopped."""

    def close(self) -> None:
        """Gives back what it has of the loop; the last call. Stop first."""


class Bell(Watcher, Protocol):
    """A watcher that another thread makes fire."""

    def send(self) -> None:
        """Has the callback called in the loop's thread, soon; several calls may be one. Any thread may call this."""


class Loop(Protocol):
    """The loop of one thread. Times are seconds."""

    @property
    def pendingcnt(self) -> int:
        """How many events of this turn have come whose watchers were not called yet."""

    def io(self, fd: int, events: int) -> Watcher:
        """A watcher for a descriptor that can be read (READ) or written (WRITE), as long as it can."""

    def timer(self, after: float, repeat: float = 0.0, *, priority: int = 0) -> Watcher:
        """A watcher that fires once ``after`` s from its start, and then every ``repeat`` s unless that is 0."""

    def async_(self) -> Bell:
        """A watcher for what other threads have done."""

    def now(self) -> float:
        """The time at which the present turn began; stands still until the next one."""

    def run_callback(self, callback: Callable[..., Any], *args: Any) -> object:
        """Calls ``callback(*args)`` once, before the loop waits for events again."""


def event_loop() -> Loop:
    """The loop of this thread's hub. The first call of a process sets it up, after any fork."""
    # How the hub shows an object beside a traceback. Its default imports pprint, and with it dataclasses, inspect
    # and ast: 6 ms and 1 MB of every start for one line that should never come. This one is bounded, too.
    gevent.config.format_context = "reprlib.repr"
    hub = gevent.get_hub()
    if "print_exception" not in vars(hub):
        hub.print_exception = partial(uncaught, hub.print_exception)
    loop: Loop = hub.loop
    return loop


def stopped(watcher: Watcher | None) -> None:
    """Stops a watcher for good and gives back what it has of the loop. Nothing for None."""
    if watcher is not None:
        watcher.stop()
        watcher.close()
