"""Looking after targets: connects to each that has ``check=``, every so often, and says what it saw.

A greenlet for each such target. What was seen within a second goes to the server in one message; the server decides
what follows (server/policy/health.py). Imported only where a target has a check.
"""

from __future__ import annotations

import re
import socket
from time import monotonic
from typing import Callable

import gevent
import gevent.socket
from gevent.event import AsyncResult

from aero.address import Target
from aero.core.control import MAX_WHY_CHARS, Look, Seen
from aero.net.faults import report
from aero.net.loop import Loop, Watcher, stopped
from aero.worker.reach import Approach, Way

#: Results of one second go together.
SAY_EVERY_S = 1.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_LINE_BYTES = 1024  # in which a status line has to end


class Checks:
    """All targets of this worker that are looked at."""

    def __init__(self, loop: Loop, say: Callable[[Seen], None]) -> None:
        """``say`` is called at most once a second."""
        self._loop = loop
        self._say = say
        self._looking: dict[int, gevent.Greenlet] = {}  # by target id
        self._seen: dict[int, Look] = {}  # and not yet said
        self._timer: Watcher | None = None

    def watch(self, number: int, target: Target, way: Way) -> None:
        """Begins to look at a target; harmless when it does already."""
        if number not in self._looking:
            self._looking[number] = gevent.spawn(self._look_after, number, target, way)

    def forget(self, number: int) -> None:
        """The target is gone."""
        self._seen.pop(number, None)
        looking = self._looking.pop(number, None)
        if looking is not None:
            looking.kill(block=False)

    def close(self) -> None:
        """All are gone."""
        for number in list(self._looking):
            self.forget(number)
        stopped(self._timer)
        self._timer = None

    def _look_after(self, number: int, target: Target, way: Way) -> None:
        every_s, timeout_s = _seconds(target, "every", 10), _seconds(target, "timeout", 3)
        while True:
            begun = monotonic()
            try:
                why = look(target, way, timeout_s)
            except Exception as error:
                report(error)
                why = "an error of the program"
            self._saw(Look(number, why[:MAX_WHY_CHARS]))
            gevent.sleep(max(every_s - (monotonic() - begun), 0.0))

    def _saw(self, what: Look) -> None:
        self._seen[what.id] = what
        if self._timer is None:
            self._timer = self._loop.timer(SAY_EVERY_S)
            self._timer.start(self._tell)

    def _tell(self) -> None:
        stopped(self._timer)
        self._timer = None
        looks, self._seen = tuple(self._seen.values()), {}
        if looks:
            self._say(Seen(looks))


def _seconds(target: Target, key: str, default: int) -> int:
    value = target.setting(key)
    return value if isinstance(value, int) else default


def look(target: Target, way: Way, timeout_s: int) -> str:
    """Why a target does not work, "" where it does; blocks the greenlet for so long at the most."""
    arrived: AsyncResult[tuple[socket.socket | None, str]] = AsyncResult()
    approach = Approach(way, lambda sock, _, why: arrived.set((sock, why)))
    try:
        with gevent.Timeout(timeout_s):
            approach.start()
            sock, why = arrived.get()
            if sock is None:
                return why or "it does not answer"
            with gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach()) as connected:
                check = str(target.setting("check"))
                return "" if check == "tcp" else _asked(connected, check.partition(":")[2], target)
    except gevent.Timeout:
        return f"no answer within {timeout_s} s"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        approach.cancel()


def _asked(sock: gevent.socket.socket, path: str, target: Target) -> str:
    """Why an HTTP server is not well: its status, or that it has none."""
    host = target.place.authority
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: aero-check\r\nConnection: close\r\n\r\n"
    sock.sendall(request.encode())
    data = b""
    while b"\n" not in data and len(data) < _LINE_BYTES:
        piece = sock.recv(_LINE_BYTES)
        if not piece:
            break
        data += piece
    match = _STATUS.match(data)
    if match is None:
        return "it answers something that is no HTTP" if data else "it closed the connection"
    return "" if match[1][:1] in (b"2", b"3") else f"it answers with status {match[1].decode()}"
