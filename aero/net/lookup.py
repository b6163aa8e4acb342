"""Names to addresses. One look-up a name at a time, in threads of its own; what was found is kept for some seconds.

The system's getaddrinfo blocks its thread, cannot be cancelled, and needs ten seconds and more where a name server says
nothing. So nobody waits for a thread here but the name that it looks up:

- whoever asks for a name that is being looked up waits for the same answer, and may leave at any time;
- failures are kept as addresses are, so that a crowd costs one look-up every NAME_KEPT_S;
- where a look-up fails, or is slow, whoever asks gets the addresses that the name had last, if it ever had any.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import gevent

from aero import logs
from aero.address import is_localhost
from aero.limits import Limits
from aero.net.loop import Loop, Watcher, stopped

if TYPE_CHECKING:
    from aero.net.threads import Threads

log = logs.get("names")

SockAddr = tuple[int, Any]  # address family, what connect() takes

_LOCALHOST = ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0)))


class Found(NamedTuple):
    """What a name has: addresses, the best first, or the reason why there are none."""

    addresses: tuple[SockAddr, ...]
    error: str = ""


def resolve(host: str) -> Found:
    """Asks the system; blocks this thread. Families take turns (RFC 8305, section 4); the ports are 0."""
    try:  # as bytes, since text would go through Python's IDNA tables: 1.5 MB of memory for ASCII
        answers = socket.getaddrinfo(host.encode(), 0, 0, socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return Found((), getattr(error, "strerror", None) or str(error))
    families: dict[int, list[SockAddr]] = {}
    for family, _, _, _, address in answers:
        families.setdefault(family, []).append((family, address))
    rows = list(families.values())
    found = [row[i] for i in range(max(map(len, rows))) for row in rows if i < len(row)]
    return Found(tuple(found[: Limits.ADDRESSES_A_NAME]))


def fixed(host: str) -> tuple[SockAddr, ...]:
    """The addresses of a host that nobody has to be asked for, with port 0; () for a name. Never blocks.

    Those are an IP address, and localhost with every name below it (RFC 6761, section 6.3), wherever it is dialled.
    """
    if is_localhost(host):
        return _LOCALHOST
    try:
        found = socket.getaddrinfo(host.encode(), 0, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except OSError:
        return ()
    return ((found[0][0], found[0][4]),)


def at_port(addresses: tuple[SockAddr, ...], port: int) -> tuple[SockAddr, ...]:
    """The same addresses with a port."""
    return tuple((family, (address[0], port, *address[2:])) for family, address in addresses)


class Question:
    """Somebody who waits for a name's addresses."""

    __slots__ = ("_done", "_name")

    def __init__(self, name: _Name, done: Callable[[Found], None]) -> None:
        """``done`` is called once with what was found, unless the question is withdrawn before."""
        self._name = name
        self._done = done
        name.waiting[self] = True

    def cancel(self) -> None:
        """Waits no longer. Harmless when it was answered."""
        self._name.waiting.pop(self, None)

    def answer(self, found: Found) -> None:
        """Tells what was found; called once, by the name that it waits for."""
        self._done(found)


class _Name:
    """One name: what it had, who waits for it, and whether it is being looked up."""

    __slots__ = ("asked_at", "good", "host", "last", "patience", "running", "troubled", "waiting")

    def __init__(self, host: str) -> None:
        self.host = host
        self.last = Found(())  # of the last look-up
        self.good: tuple[SockAddr, ...] = ()  # the last addresses that it had
        self.asked_at = float("-inf")  # when the last look-up ended
        self.running = False
        # The last look-up failed or was slow: until one succeeds, nobody waits for the next.
        self.troubled = False
        self.patience: Watcher | None = None  # fires when a look-up is slow
        self.waiting: dict[Question, bool] = {}

    @property
    def fallback(self) -> Found | None:
        """What serves while the resolver does not."""
        return Found(self.good) if self.good and self.troubled else None

    def tell(self, found: Found) -> None:
        """Answers everybody who waits."""
        for question in list(self.waiting):
            if self.waiting.pop(question, False):  # an answer may make others leave
                question.answer(found)


class Names:
    """Looks names up, in threads that serve nothing else."""

    def __init__(self, loop: Loop, threads: int) -> None:
        """``threads``: how many names may be looked up at once; made when the first name is asked for."""
        self._loop = loop
        self._threads = threads
        self._pool: Threads | None = None
        self._names: dict[str, _Name] = {}

    def ask(self, host: str, done: Callable[[Found], None], kept_s: float) -> Question | None:
        """Calls ``done`` with what a name has: at once, which returns None, or later.

        What was found up to ``kept_s`` ago is good enough. Ports in the addresses are 0 (see at_port).
        """
        addresses = fixed(host)
        if addresses:
            done(Found(addresses))
            return None
        name = self._names.get(host)
        if name is None:
            self._make_room()
            name = self._names[host] = _Name(host)
        if not name.running and monotonic() - name.asked_at > kept_s:
            name.running = True
            gevent.spawn(self._look_up, name)
        found = name.fallback if name.running or name.last.error else None
        if found is None and not name.running:
            found = name.last
        if found is None:
            return Question(name, done)
        done(found)
        return None

    def _make_room(self) -> None:
        if len(self._names) >= Limits.NAMES:
            idle = next((each for each in self._names.values() if not each.running), None)
            if idle is not None:
                del self._names[idle.host]

    def _look_up(self, name: _Name) -> None:
        name.patience = self._loop.timer(Limits.NAME_PATIENCE_S)
        name.patience.start(self._slow, name)
        try:
            if self._pool is None:
                from aero.net.threads import Threads

                self._pool = Threads(self._threads)
            found = self._pool.apply(resolve, name.host)
        finally:
            stopped(name.patience)
            name.patience = None
            name.running = False
            name.asked_at = monotonic()
        name.last = found
        if found.addresses:
            if name.troubled and name.good:
                log.info("the name resolves again", name=name.host)
            name.troubled, name.good = False, found.addresses
        else:
            self._trouble(name, found.error)
        name.tell(name.fallback or found)

    def _slow(self, name: _Name) -> None:
        """The look-up takes long: whoever waits gets what the name had."""
        if name.good:
            self._trouble(name, f"no answer within {Limits.NAME_PATIENCE_S:.0f} s")
            name.tell(Found(name.good))

    def _trouble(self, name: _Name, why: str) -> None:
        if not name.troubled and name.good:  # where it never had any, whoever asked says what that means
            log.warning("the name does not resolve, using its last known address", name=name.host, why=why)
        name.troubled = True
