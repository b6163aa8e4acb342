"""The longest turn of the server's loop while workers or callers ask for all that they may, with full tables.

Everybody shares one loop: while it works for one peer, no byte moves for the others. So for each message that a worker
can send, the server's tables are filled (ports leased, hundreds of workers with targets), and a worker sends it as
often as its budget allows; likewise for what the API is asked, and for SIGUSR1. A watcher in the server measures the
processor time of its thread from when the loop has looked at its sockets to when it looks again, so that other programs
on the machine do not count. Prints a table as Markdown; the aim is at most 20 ms.

    python bench/turns.py [--rounds 3] [--leases 12768] [--workers 400] [--only list_64,events_32]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import thread_time, time
from typing import Any, Callable

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

import gevent  # noqa: E402
from gevent import socket  # noqa: E402

from aero import logs  # noqa: E402
from aero.address import Address  # noqa: E402
from aero.config.roles import ServerConfig  # noqa: E402
from aero.core import frames  # noqa: E402
from aero.errors import AeroError  # noqa: E402
from aero.server.app import Server  # noqa: E402
from aero.server.store.database import Database  # noqa: E402
from aero.server.store.leases import Leases, Owner  # noqa: E402
from tests.faults.hostile import CODE, LOOPBACK, Hostile  # noqa: E402

LOW = 20_000
BURST = 32  # control messages at once; then one a second
TARGETS = 128
SESSIONS = 16  # of one worker
DAY = 24 * 3600


# ----------------------------------------------------------------------------
# The server's process
# ----------------------------------------------------------------------------


class Turns:
    """The most processor time between two looks of the loop at its sockets."""

    def __init__(self, loop: Any) -> None:
        self._began: float | None = None
        self.longest = 0.0
        self._watchers = [loop.check(), loop.prepare()]
        self._watchers[0].start(self._begin)
        self._watchers[1].start(self._end)

    def _begin(self) -> None:
        self._began = thread_time()

    def _end(self) -> None:
        if self._began is not None:
            self.longest = max(self.longest, thread_time() - self._began)


def fill(state: str, count: int) -> None:
    """A file with so many leases of workers that are away for a day, and were here for days before."""
    database = Database(state)
    now = time() - 4 * DAY
    leases = Leases(database, lambda: now)
    for number in range(count):
        leases.keep(
            Owner("", f"t{number // 64}", "away", f"n{number % 64}"), LOW + number, f"i{number // 64}", ""
        )
    now = time() - DAY
    for number in range(count):
        leases.release(LOW + number)
    database.close()


def serve(state: str, ports: int) -> None:
    """Serves until stdin ends; each line of it is answered by the longest turn since the last, in seconds."""
    logs.setup(os.devnull, "text", 0, False)
    config = ServerConfig(
        ips=(LOOPBACK,),
        port=0,
        auth=CODE,
        api=Address(LOOPBACK, 0),
        mux=(),
        ports=(LOW, LOW + ports - 1),
        state=state,
    )
    server = Server(config)
    gevent.signal_handler(signal.SIGUSR1, lambda: gevent.spawn(server.dump))
    gc.freeze()  # as a role does once it is set up
    turns = Turns(gevent.get_hub().loop)
    assert isinstance(server.api_address, Address)
    print(json.dumps([server.port, server.api_address.port]), flush=True)
    while True:
        gevent.os.tp_read(0, 1)  # type: ignore[attr-defined]
        print(json.dumps(turns.longest), flush=True)
        turns.longest = 0.0


# ----------------------------------------------------------------------------
# The worker's side
# ----------------------------------------------------------------------------


class Bench:
    """The server in a process of its own, and how it is asked."""

    def __init__(self, folder: str, leases: int, ports: int) -> None:
        fill(folder, leases)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", folder, "--ports", str(ports)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.port, self.api_port = self._answer()
        self.pid = self._process.pid

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def longest_s(self) -> float:
        """The longest turn since this was called last."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        found: float = self._answer()
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def worker(self, number: int = 0, host: str = "h", **more: Any) -> Hostile:
        """A worker that has joined."""
        join = {"v": "0", "identity": f"w{number}", "tag": f"w{number}", "host": host, "ping": 60, **more}
        worker = Hostile(self.port, join)
        worker.answers_pings = True
        worker.join()
        return worker


def targets(first: int, count: int = TARGETS, **more: Any) -> list[dict[str, Any]]:
    return [{"id": first + each, "name": f"x{first + each}", "local": "h:1", **more} for each in range(count)]


def read_for(seconds: float, *workers: Hostile) -> None:
    """Takes what the server says for a while."""
    readers = [gevent.spawn(_read_all, worker) for worker in workers]
    gevent.sleep(seconds)
    gevent.killall(readers)


def _read_all(worker: Hostile) -> None:
    while not worker.ended and worker.read():
        pass


def _many(bench: Bench, count: int) -> list[Hostile]:
    """Workers with eight targets each."""
    workers = []
    for number in range(1000, 1000 + count):
        worker = bench.worker(number)
        worker.say({"do": "register", "targets": targets(1, 8)})
        workers.append(worker)
    read_for(3.0, *workers)
    return workers


def _sessions(bench: Bench) -> list[Hostile]:
    first = bench.worker(1)
    joined = first.joined
    beside = {"v": "0", "ping": 60, "beside": joined["session"], "secret": joined["secret"]}
    return [first, *(Hostile(bench.port, beside) for _ in range(SESSIONS - 1))]


def register(bench: Bench) -> list[Hostile]:
    """Four messages with 128 targets at once, as many as may wait, over 16 sessions."""
    sessions = _sessions(bench)
    for number, session in enumerate(sessions[:4]):
        session.say({"do": "register", "targets": targets(1 + number * TARGETS)})
    return sessions


def register_small(bench: Bench) -> list[Hostile]:
    """All control messages that 16 sessions may send at once, one target each."""
    sessions = _sessions(bench)
    for number, session in enumerate(sessions):
        for each in range(BURST):
            session.say({"do": "register", "targets": targets(1 + number * BURST + each, 1)})
    return sessions


def register_by_number(bench: Bench) -> list[Hostile]:
    """128 targets that ask for leased ports by number."""
    worker = bench.worker(1)
    worker.say({"do": "register", "targets": targets(1, remote=LOW + 5)})
    return [worker]


def unregister(bench: Bench) -> list[Hostile]:
    """All targets, again and again, and thousands that there are not."""
    worker = bench.worker(1)
    worker.say({"do": "register", "targets": targets(1)})
    read_for(1.0, worker)
    for _ in range(3):
        worker.say({"do": "unregister", "ids": list(range(1, 9000))})
    return [worker]


def come_and_go(bench: Bench) -> list[Hostile]:
    """A worker with 128 targets leaves, and comes again."""
    for _ in range(4):
        worker = bench.worker(1)
        worker.say({"do": "register", "targets": targets(1)})
        read_for(0.5, worker)
        worker.sock.close()
    return []


def same_identity(bench: Bench) -> list[Hostile]:
    """Forty workers with one identity, each with the same targets."""
    workers = []
    for _ in range(40):
        worker = bench.worker(1)
        gevent.spawn(_read_all, worker)
        worker.say({"do": "register", "targets": targets(1, 8)})
        workers.append(worker)
    return workers


def pings(bench: Bench) -> list[Hostile]:
    """All pings that 16 links may send at once."""
    sessions = _sessions(bench)
    for session in sessions:
        session.link(frames.pack(frames.PING, 0, bytes(8)) * 16)
    return sessions


def opens(bench: Bench) -> list[Hostile]:
    """All streams that 16 sessions may open at the server at once."""
    sessions = _sessions(bench)
    for session in sessions:
        some = (
            frames.pack(frames.OPEN, 2 + 2 * each, frames.pack_open(1 << 16, 1, "x")) for each in range(16)
        )
        session.session(*some)
    return sessions


def _call(bench: Bench, path: str, times: int = 1) -> None:
    """A caller of the API on one connection, who reads all that comes, up to a second after the last request."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, bench.api_port), 5) as caller:
        caller.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * times)
        caller.settimeout(1.0)
        while caller.recv(1 << 18):
            pass


def _callers(bench: Bench, path: str, count: int, times: int = 1) -> None:
    gevent.joinall([gevent.spawn(_call, bench, path, times) for _ in range(count)], timeout=10)


def list_32(bench: Bench) -> list[Hostile]:
    """32 callers of /list at once, as many as one address may have, each four times."""
    _callers(bench, "/list", 32, 4)
    return []


def metrics_32(bench: Bench) -> list[Hostile]:
    """The same for /metrics."""
    _callers(bench, "/metrics", 32, 4)
    return []


def traffic_32(bench: Bench) -> list[Hostile]:
    """The same for /traffic."""
    _callers(bench, "/traffic", 32, 4)
    return []


def events_32(bench: Bench) -> list[Hostile]:
    """32 listeners of /events while 40 workers with 8 targets come and go, twice."""
    listeners = [gevent.spawn(_call, bench, "/events") for _ in range(32)]
    gevent.sleep(0.3)
    for _ in range(2):
        workers = []
        for number in range(5000, 5040):
            worker = bench.worker(number)
            worker.say({"do": "register", "targets": targets(1, 8)})
            workers.append(worker)
        read_for(1.0, *workers)
        for worker in workers:
            worker.sock.close()
    gevent.joinall(listeners, timeout=5)
    return []


def sigusr1(bench: Bench) -> list[Hostile]:
    """The state is dumped, line by line."""
    for _ in range(3):
        os.kill(bench.pid, signal.SIGUSR1)
        gevent.sleep(0.3)
    return []


Message = Callable[[Bench], list[Hostile]]
MESSAGES: tuple[Message, ...] = (
    register, register_small, register_by_number, unregister, come_and_go, same_identity, pings, opens,
    list_32, metrics_32, traffic_32, events_32, sigusr1,
)  # fmt: skip


@contextlib.contextmanager
def running(leases: int, ports: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder, leases, ports)
        try:
            yield bench
        finally:
            bench.close()


def measure(leases: int, workers: int, rounds: int, messages: Sequence[Message]) -> dict[str, list[float]]:
    """The longest turn in seconds while each message is answered, round by round."""
    ports = 12_768
    longest: dict[str, list[float]] = {message.__name__: [] for message in messages}
    with running(leases, ports) as bench:
        crowd = _many(bench, workers)
        for _ in range(rounds):
            for message in messages:
                bench.longest_s()
                asking: list[Hostile] = []
                with contextlib.suppress(AeroError, OSError):
                    asking = message(bench)
                    read_for(1.5, *asking)
                longest[message.__name__].append(bench.longest_s())
                for each in asking:
                    each.sock.close()
                gevent.sleep(0.5)
        for each in crowd:
            each.sock.close()
    return longest


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leases", type=int, default=12_768)
    parser.add_argument("--workers", type=int, default=400)
    parser.add_argument("--only", help="these alone, by commas")
    parser.add_argument("--serve", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, default=12_768, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.ports)
        return
    only = asked.only.split(",") if asked.only else [message.__name__ for message in MESSAGES]
    messages = [message for message in MESSAGES if message.__name__ in only]
    free, full = (
        measure(leases, asked.workers, asked.rounds, messages)
        for leases in (asked.leases - 4000, asked.leases)
    )
    print(f"| message | {asked.leases - 4000} ports leased, ms | {asked.leases} leased, ms | what |")
    print("|---|--:|--:|---|")
    for message in messages:
        cells = [
            f"{min(each[message.__name__]) * 1000:.1f} to {max(each[message.__name__]) * 1000:.1f}"
            for each in (free, full)
        ]
        print(f"| {message.__name__} | {' | '.join(cells)} | {message.__doc__} |")


if __name__ == "__main__":
    main()
