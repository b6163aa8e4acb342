"""The event loop that everything here runs on: gevent's hub, made once per process, without what we never use."""

from __future__ import annotations

from typing import Any

import gevent


def event_loop() -> Any:
    """The loop of this thread's hub. The first call of a process sets it up, after any fork."""
    # How the hub shows an object beside a traceback. Its default imports pprint, and with it dataclasses, inspect
    # and ast: 6 ms and 1 MB of every start for one line that should never come. This one is bounded, too.
    gevent.config.format_context = "reprlib.repr"
    return gevent.get_hub().loop
