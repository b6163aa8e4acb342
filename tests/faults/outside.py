"""Real processes in fault tests, seen from outside: what they tell of themselves, and what a fault has left."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from tests.e2e import services
from tests.e2e.harness import DEADLINE_S, Lab, Program, Server, connect, poll
from tests.faults.relay import Relay

# What there may not be more of than before. Less is well: something may still have been on its way out then.
_COUNTS = ("streams", "sessions", "mappings", "waiting", "handshakes", "descriptors", "greenlets")
MEMORY = 1.1  # of what it was; the project's promise
_LOOK_S = 0.2
_TIDIED_S = (
    7.0  # a server gives memory back five seconds after a session's end, and workers with their next ping
)
_pause = threading.Event().wait  # never set: the pause between two looks


def relay_to(lab: Lab, server: Server) -> Relay:
    relay = Relay(server.link_port)
    lab.closing.callback(relay.close)
    return relay


def state(program: Program, what: str = "server|worker") -> dict[str, int]:
    """What SIGUSR1 makes a program tell of itself."""
    pattern = rf"state: (?:{what}) .*\brss_kib=\d+.*$"
    before = len(re.findall(pattern, program.stderr, re.MULTILINE))
    program.send(signal.SIGUSR1)
    lines = poll(
        "the dump", lambda: (found := re.findall(pattern, program.stderr, re.MULTILINE))[before:] and found
    )
    return {key: int(value) for key, value in re.findall(r"(\w+)=(-?\d+)\b", lines[-1])}


def settled(program: Program) -> int:
    """Waits until a process has given back the memory that it does not need any more; the bytes that it has then."""
    least, since = program.memory(), monotonic()
    deadline = since + 2 * DEADLINE_S
    while monotonic() - since < _TIDIED_S:
        assert monotonic() < deadline, f"the memory of {program.name} never comes to rest"
        _pause(_LOOK_S)
        now = program.memory()
        if now < least:
            least, since = now, monotonic()
    return least


def vanish(port: int, count: int) -> None:
    """Visitors of a mapping that come and go: at once, after some words, with a reset."""
    for number in range(count):
        visitor = connect(port)
        if number % 3 == 1:
            visitor.sendall(b"x" * 1000)
        if number % 3 == 2:
            services.abort(visitor)
        visitor.close()


def _grown(then: dict[str, int], now: dict[str, int], memory: float) -> list[str]:
    worse = [what for what in _COUNTS if now.get(what, 0) > then.get(what, 0)]
    if now["rss_kib"] > memory * then["rss_kib"]:
        worse.append("rss_kib")
    return [f"{what}: {then.get(what)} -> {now.get(what)}" for what in worse]


@contextmanager
def nothing_left_in(
    *programs: Program, memory: float = MEMORY, timeout_s: float = 2 * DEADLINE_S
) -> Iterator[None]:
    """What happens inside leaves no stream, session, port, descriptor or greenlet behind, nor a tenth more memory.

    Free buffers go back to the system at pings and some seconds after a session's end, so the end is waited for.
    """
    before = [state(program) for program in programs]
    yield
    deadline = monotonic() + timeout_s
    for program, then in zip(programs, before):
        while True:
            worse = _grown(then, state(program), memory)
            if not worse:
                break
            assert monotonic() < deadline, f"{program.name} after {timeout_s:.0f} s: {', '.join(worse)}"
            _pause(_LOOK_S)
