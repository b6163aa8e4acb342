"""How a visitor's stream gets to its target: the target's address looked up, a place among the connects, the connect.

    LOOKING UP  ->  IN LINE  ->  CONNECTING  ->  done: a socket, or a reset code and the reason
         ^                            |
         +----- every address has failed, and what is known of the name is old

An approach may leave at any step, when its visitor does, and has one deadline for all of them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Callable

from aero import logs
from aero.address import is_loopback
from aero.core.codes import Reset
from aero.limits import Limits
from aero.net.dial import Race, begin
from aero.net.lookup import Found, Names, SockAddr, at_port, fixed
from aero.net.loop import Loop, Watcher, stopped

if TYPE_CHECKING:
    from aero.allow import Allow

log = logs.get("target")

Done = Callable[["socket.socket | None", int, str], None]

_ADMITTED_A_TURN = 16  # of those in line: some 50 µs each
_CODES = {
    errno.ECONNREFUSED: Reset.REFUSED,
    errno.ENOENT: Reset.REFUSED,  # a socket in the file system
    errno.ETIMEDOUT: Reset.TIMEOUT,
}


class Places:
    """So many connects at once, of all targets together and of each one; whoever comes later waits in line.

    Lines take turns where the places of all are taken.
    """

    def __init__(self, loop: Loop, total: int, each: int) -> None:
        """``total`` of all targets together, ``each`` of one."""
        self._loop = loop
        self._admitting = False
        self._total, self._each = total, each
        self._taken: dict[Way, int] = {}
        self._all = 0
        self._lines: OrderedDict[Way, OrderedDict[Approach, None]] = OrderedDict()  # none of them empty

    def enter(self, approach: Approach) -> bool:
        """True when the approach may connect now, and owes ``leave``; else it stands in line: ``connect`` comes."""
        way = approach.way
        if way not in self._lines and self._has_room(way):
            self._take(way)
            return True
        self._lines.setdefault(way, OrderedDict())[approach] = None
        return False

    def idle(self, way: Way) -> bool:
        """True while nobody connects to a target, or waits for that."""
        return way not in self._taken and way not in self._lines

    def _has_room(self, way: Way) -> bool:
        return self._all < self._total and self._taken.get(way, 0) < self._each

    def _take(self, way: Way) -> None:
        self._all += 1
        self._taken[way] = self._taken.get(way, 0) + 1

    def quit(self, approach: Approach) -> None:
        """The approach leaves the line."""
        line = self._lines[approach.way]
        del line[approach]
        if not line:
            del self._lines[approach.way]

    def leave(self, way: Way) -> None:
        """An approach has done with its connect, well or not: the next in line may begin."""
        self._all -= 1
        self._taken[way] -= 1
        if not self._taken[way]:
            del self._taken[way]
        if self._lines and not self._admitting:
            self._admitting = True
            self._loop.run_callback(self._admit)

    def faulted(self, error: Exception) -> None:
        """An error of this program as one was admitted, whose own time will end it: the others in line go on."""
        if self._lines and not self._admitting:
            self._admitting = True
            self._loop.run_callback(self._admit)

    def _admit(self) -> None:
        """Some of those in line begin to connect; the loop has its turn before the others do."""
        self._admitting = False
        for _ in range(_ADMITTED_A_TURN):
            way = next((each for each in self._lines if self._has_room(each)), None)
            if way is None:
                return
            self._lines.move_to_end(way)
            approach = next(iter(self._lines[way]))
            self.quit(approach)
            self._take(way)
            approach.connect()
        if self._lines and not self._admitting:
            self._admitting = True
            self._loop.run_callback(self._admit)


class Way:
    """The way to one target: where it is, and what may be used to get there."""

    def __init__(
        self,
        loop: Loop,
        names: Names,
        places: Places,
        host: str,
        port: int,
        allow: Allow | None = None,
        path: str = "",
    ) -> None:
        """``places``: shared by all targets of the worker; ``allow``: where a target may be, None: anywhere;
        ``path``: of a socket, in place of host and port.
        """
        self.loop = loop
        self.names = names
        self.places = places
        self.host = host
        self.port = port
        self._allowed = allow
        # A name that is allowed as it is written may resolve to anything.
        self._allow = None if allow is None or allow.names(host, port) else allow
        if path:
            self.barred = self._allow is not None and not self._allow.socket(path)
            self.fixed: tuple[SockAddr, ...] = ((socket.AF_UNIX, path),)
        else:
            self.fixed = self.at(fixed(host))  # () for a name
            self.barred = bool(fixed(host)) and not self.fixed
        near = bool(path) or (bool(self.fixed) and is_loopback(self.fixed[0][1][0]))
        self._near = near and not self.barred

    def beside(self, offset: int) -> Way:
        """The way to another port of the same target."""
        return Way(self.loop, self.names, self.places, self.host, self.port + offset, self._allowed)

    def at_once(self) -> socket.socket | None:
        """A connection to a target on this machine, which is there or refused without a wait; else None, and also where
        others wait for it: an Approach finds out.
        """
        if not self._near or not self.places.idle(self):
            return None
        sock, code = begin(self.fixed[0])
        if code and sock is not None:
            sock.close()
            return None
        return sock

    def at(self, addresses: tuple[SockAddr, ...]) -> tuple[SockAddr, ...]:
        """Where to connect, of a host's addresses: those that are allowed."""
        where = at_port(addresses, self.port)
        if self._allow is None:
            return where
        return tuple(each for each in where if self._allow.permits(each[1][0], self.port))

    def nowhere(self, found: Found) -> str:
        """Why there is no address to connect to."""
        if found.addresses:
            return f"no address of {self.host} is allowed here: --allow {self._allow}"
        return f"the name {self.host} does not resolve: {found.error}"


class Approach:
    """One visitor on his way."""

    __slots__ = ("_done", "_failed", "_leave", "_race", "_timer", "_tried", "_where", "way")

    def __init__(self, way: Way, done: Done) -> None:
        """``done(sock, code, why)`` is called once, later or before ``start`` returns: a connected, non-blocking
        socket, or None with a reset code and the reason.
        """
        self.way = way
        self._done: Done | None = done
        self._leave: Callable[[], object] = _nothing  # gives up the present step
        self._timer: Watcher | None = None
        self._where: tuple[SockAddr, ...] = ()
        self._tried: tuple[SockAddr, ...] = ()  # what has failed before the name was looked up anew
        self._failed: list[tuple[SockAddr, int]] = []  # each of those with its errno
        self._race: Race | None = None

    @property
    def over(self) -> bool:
        """True when ``done`` was called, or will never be."""
        return self._done is None

    def start(self) -> None:
        """Sets out."""
        if self.way.barred:
            self._finish(None, Reset.UNREACHABLE, "its address is not allowed here: --allow")
        elif self.way.fixed:
            self._line_up(self.way.fixed)
        else:
            self._ask(Limits.NAME_KEPT_S)
        if not self.over:
            self._timer = self.way.loop.timer(Limits.TARGET_CONNECT_S)
            self._timer.start(self._give_up)

    def cancel(self) -> None:
        """The visitor has left: ``done`` will not be called any more. Harmless when it was."""
        self._done = None
        self._stop()

    def faulted(self, error: Exception) -> None:
        """An error of this program (net/faults.py) on the way: the visitor hears that it failed."""
        self._finish(None, Reset.INTERNAL, "an error of the program")

    def _stop(self) -> None:
        leave, self._leave = self._leave, _nothing
        stopped(self._timer)
        self._timer = None
        leave()

    def _finish(self, sock: socket.socket | None, code: int, why: str) -> None:
        done, self._done = self._done, None
        self._stop()
        if done is not None:
            done(sock, code, why)

    def _give_up(self) -> None:
        if self._where:
            self._finish(None, Reset.TIMEOUT, os.strerror(errno.ETIMEDOUT))
        else:
            why = (
                f"the name {self.way.host} does not resolve: no answer within {Limits.TARGET_CONNECT_S:.0f} s"
            )
            self._finish(None, Reset.UNREACHABLE, why)

    # The steps

    def _ask(self, kept_s: float) -> None:
        question = self.way.names.ask(self.way.host, self._found, kept_s)
        if question is not None:
            self._leave = question.cancel

    def _found(self, found: Found) -> None:
        self._leave = _nothing
        where = self.way.at(found.addresses)
        if self._tried and (not where or set(where) <= set(self._tried)):
            self._refused()
        elif where:
            self._line_up(where)
        else:
            self._finish(None, Reset.UNREACHABLE, self.way.nowhere(found))

    def _line_up(self, where: tuple[SockAddr, ...]) -> None:
        self._where = where
        if self.way.places.enter(self):
            self.connect()
        else:
            self._leave = lambda: self.way.places.quit(self)

    def connect(self) -> None:
        """There is a place: called by Places, or when there was one at once."""
        self._leave = self._leave_place
        race = Race(self.way.loop, self._where, self._connected)
        if not race.over:
            self._race = race

    def _leave_place(self) -> None:
        self._leave = _nothing
        race, self._race = self._race, None
        if race is not None:
            race.cancel()
        self.way.places.leave(self.way)

    def _connected(self, sock: socket.socket | None, failed: list[tuple[SockAddr, int]]) -> None:
        if sock is not None:
            if self._tried:
                at = ", ".join(address[0] for _, address in self._where)
                log.info("the target has moved to another address", name=self.way.host, at=at)
            self._finish(sock, 0, "")
            return
        self._leave_place()
        self._failed = failed
        if self.way.fixed or self._tried:
            self._refused()
        else:  # its container may have moved
            self._tried = self._where
            self._ask(Limits.NAME_FRESH_S)

    def _refused(self) -> None:
        code = self._failed[-1][1]
        reasons = [f"{address[0]}: {os.strerror(code)}" for (_, address), code in self._failed]
        why = ", ".join(reasons) if len(reasons) > 1 else os.strerror(code)
        self._finish(None, _CODES.get(code, Reset.UNREACHABLE), why)


def _nothing() -> None:
    """What an approach has to give up between two steps."""
