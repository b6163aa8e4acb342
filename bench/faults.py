"""What faults cost: recovery from a cut link, bulk while links are cut, keeping unacknowledged data, logins.

Server and worker are processes of their own; the link goes through the relay of tests/faults in this process, which
adds the round trip and makes the cuts. Prints the tables of faults.md.

    python bench/faults.py [recovery] [cuts] [keeping] [logins]
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.faults.relay import LOOPBACK, Relay  # noqa: E402

CODE = "a code for benchmarks"
MIB = 1024 * 1024
ROUND_TRIPS_S = (0.0, 0.05, 0.2)
LASTED_S = 3.1
TUNNELS, CUTS = 4, 120  # at once, and in all, for each round trip: 360 cuts in four minutes
PAIRS = 10


# ----------------------------------------------------------------------------
# Processes and services
# ----------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def serve(talk: object) -> int:
    """A service that does ``talk(connection)`` in a thread for each visitor; its port."""
    listener = socket.create_server((LOOPBACK, 0), backlog=128)

    def run(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection)  # type: ignore[operator]

    def accept() -> None:
        while True:
            threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


def pour(connection: socket.socket) -> None:
    block = os.urandom(MIB)
    while True:
        connection.sendall(block)


@contextlib.contextmanager
def tunnel(
    target: int, *server_options: str, through: bool = True
) -> Iterator[tuple[int, Relay | None, int]]:
    """(port for visitors, relay, server's process id)."""
    link_port, mapping = free_port(), free_port()
    aero = [sys.executable, str(PROJECT / "aero.py")]
    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
        logs = stack.enter_context(open(os.path.join(state, "log"), "wb"))

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*aero, *arguments, "--auth", CODE], stdout=subprocess.DEVNULL, stderr=logs
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        server = start(
            "server", "--ip", LOOPBACK, "--port", str(link_port), "--ports", f"{mapping}-{mapping}",
            "--api", "off", "--mux", "off", "--state", f"{state}/s", *server_options,
        )  # fmt: skip
        wait_for(link_port)
        relay = None
        if through:
            relay = Relay(link_port)
            stack.callback(relay.close)
        start(
            "client", "--server", f"{LOOPBACK}:{relay.port if relay else link_port}",
            "--target", f"t@{LOOPBACK}:{target}", "--state", f"{state}/w",
        )  # fmt: skip
        wait_for(mapping)
        yield mapping, relay, server.pid


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((LOOPBACK, port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# ----------------------------------------------------------------------------
# Measures
# ----------------------------------------------------------------------------


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def recovery() -> None:
    """From the cut until an answer has come back that was asked for after it.

    All round trips at once, each with tunnels of its own, so that they see the same machine: the waits, not the cuts,
    are what takes time. With 120 cuts each, the p99 is the worst but one.
    """
    target = serve(echo)
    took: dict[float, list[float]] = {each: [] for each in ROUND_TRIPS_S}
    with contextlib.ExitStack() as stack:
        visitors = []
        for round_trip_s in ROUND_TRIPS_S:
            for _ in range(TUNNELS):
                port, relay, _ = stack.enter_context(tunnel(target))
                assert relay is not None
                relay.delay_s = round_trip_s / 2
                relay.cut()
                visitor = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=60))
                visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                visitors.append((round_trip_s, visitor, relay))
        for _ in range(CUTS // TUNNELS):
            # As links that are cut in practice: they were up for a while, and something went over them.
            until = time.monotonic() + LASTED_S
            while time.monotonic() < until:
                for _, visitor, _ in visitors:
                    visitor.sendall(b"?")
                for _, visitor, _ in visitors:
                    visitor.recv(1)
            for round_trip_s, visitor, relay in visitors:  # one after the other: none disturbs another
                began = time.monotonic()
                relay.cut()
                visitor.sendall(b"!")
                visitor.recv(1)
                took[round_trip_s].append(time.monotonic() - began)
    print("| round trip | cuts | p50 | p99 | most | p50 in round trips |\n|---|---|---|---|---|---|")
    for round_trip_s, each in took.items():
        trips = f"{median(each) / round_trip_s:.1f}" if round_trip_s else "-"
        figures = " | ".join(
            f"{1000 * value:.0f} ms" for value in (median(each), percentile(each, 0.99), max(each))
        )
        print(f"| {round_trip_s * 1000:.0f} ms | {len(each)} | {figures} | {trips} |")


def rate(port: int, seconds: float) -> float:
    """MB/s of one visitor's download."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as visitor:
        buffer = bytearray(MIB)
        visitor.recv_into(buffer)
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            count += visitor.recv_into(buffer)
        return count / (time.monotonic() - began) / 1e6


def cuts() -> None:
    """Bulk with a cut every five seconds, beside the same without."""
    print("| round trip | undisturbed | cut every 5 s | lost |\n|---|---|---|---|")
    target = serve(pour)
    for round_trip_s in ROUND_TRIPS_S[:2]:
        with tunnel(target) as (port, relay, _):
            assert relay is not None
            relay.delay_s = round_trip_s / 2
            relay.cut()
            time.sleep(1)
            rates: dict[bool, list[float]] = {False: [], True: []}
            for disturbed in (False, True, True, False, False, True):
                stop = threading.Event()
                cutter = threading.Thread(target=_cut_every, args=(relay, 5.0, stop))
                if disturbed:
                    cutter.start()
                rates[disturbed].append(rate(port, 16))
                stop.set()
                if disturbed:
                    cutter.join()
        still, cut = median(rates[False]), median(rates[True])
        lost = 100 * (1 - cut / still)
        print(f"| {round_trip_s * 1000:.0f} ms | {still:.0f} MB/s | {cut:.0f} MB/s | {lost:.1f} % |")


def _cut_every(relay: Relay, seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        relay.cut()


def keeping() -> None:
    """An undisturbed link, resume on and off, in turn; no relay."""
    target = serve(pour)
    rates: dict[str, list[float]] = {"60": [], "0": []}
    with (
        tunnel(target, through=False) as (on, _, _),
        tunnel(target, "--resume", "0", through=False) as (off, _, _),
    ):
        for number in range(PAIRS):
            both = [("60", on), ("0", off)]
            for resume, port in reversed(both) if number % 2 else both:
                rates[resume].append(rate(port, 4))
    ratios = [kept / free for kept, free in zip(rates["60"], rates["0"])]
    print(f"| resume on | resume off | ratio, median of {PAIRS} |\n|---|---|---|")
    print(f"| {median(rates['60']):.0f} MB/s | {median(rates['0']):.0f} MB/s | {median(ratios):.2f} |")


def logins() -> None:
    """Handshakes and joins as fast as peers in other processes can ask, and what one costs the server."""
    target = serve(echo)
    with tunnel(target, through=False) as (_, _, pid):
        port = _link_port(pid)
        one = [sys.executable, str(PROJECT / "bench" / "faults.py"), "login", str(port), "400"]
        before = _cpu_s(pid)
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda number: subprocess.run([*one, str(number)], check=True), range(2)))
        took, cpu = time.monotonic() - began, _cpu_s(pid) - before
    count = 2 * 400
    print("| logins/s | of the server's processor, each |\n|---|---|")
    print(f"| {count / took:.0f} | {1000 * cpu / count:.2f} ms |")


def _link_port(pid: int) -> int:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--port") + 1])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def login(port: int, count: int, number: int) -> None:
    """One of the peers that ``logins`` starts."""
    from tests.faults.hostile import Hostile

    for each in range(count):
        join = {"v": "0", "tag": "x", "host": "h", "ping": 60, "identity": f"{number}-{each}"}
        with Hostile(port, join, code=CODE) as worker:
            worker.join()


def main() -> None:
    if sys.argv[1:2] == ["login"]:
        login(*map(int, sys.argv[2:]))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}\n")
    for measure in (recovery, cuts, keeping, logins):
        if len(sys.argv) == 1 or measure.__name__ in sys.argv[1:]:
            print(f"## {measure.__name__}\n\n{measure.__doc__}\n")
            measure()
            print(flush=True)


if __name__ == "__main__":
    main()
