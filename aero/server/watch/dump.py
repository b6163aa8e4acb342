"""The server's state as lines of its log, when SIGUSR1 asks for it. Changes nothing; knows no part of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import gevent

from aero import logs
from aero.host.facts import facts

log = logs.get("state")

_PAUSE_S = 0.001  # after each line: streams come first
_MAX_LINES = 200  # of workers: some screens; the API tells the rest


def dump(server: Mapping[str, object], workers: Iterable[Mapping[str, object]]) -> None:
    """One line for the process, with the host's facts about it, and one for each of the first workers."""
    log.info("server", **server, **facts())
    for worker in islice(workers, _MAX_LINES):
        log.info("worker", **worker)
        gevent.sleep(_PAUSE_S)
