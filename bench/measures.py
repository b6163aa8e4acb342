"""What is measured, and how one sample of it is taken. A measure sees a peer's ports and processes, not
its kind.

A step is one sample on one peer; the caller interleaves steps of different peers and takes medians. Sizes
are decimal (1 MB = 10^6 bytes, 1 GB = 10^9), GiB where the name says so; times are in the unit that the
row names.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import statistics
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import backends
import host
import peers

MESSAGE_BYTES = 64
# A host that idles between messages and one that is kept awake by others differ threefold in round trips, and change
# from second to second. So peers take turns after every block, which lasts a tenth of a second.
ROUND_TRIPS_PER_BLOCK = 500  # 5 lie beyond a block's p99
ROUND_TRIP_BLOCKS = 10  # per round: even one round has 5,000 samples
WEB_CONNECTIONS = 32
IDLE_CONNECTIONS = 1_000
SETTLE_S = 1.0  # before memory is read: the last buffers of what just happened are freed by then
BULK_HEAD_START_S = 1.0  # a bulk transfer is in full flow by then; windows have grown
SPARE_TIME_S = 30.0  # on top of the planned time, before a tool counts as hung
RECEIVE_TIMEOUT_S = 10  # a round trip longer than this is a stalled tunnel, not a sample
BEST, SSH, RATHOLE, RELAYS = (
    "best tunnel",
    "ssh -R, no delay",
    "rathole",
    "two bare relays",
)  # labels of peers
LARGE_CONNECTIONS = 256
# What a thing costs when there is more of it. A message above 256 KiB would need a second thread at both ends.
CURVE_CONNECTIONS = (1, 10, 100, 1000)
CURVE_SIZES = (16, 256, 4096, 65_536, 262_144)
CURVE_ROUND_TRIPS = 200
STEADY_RATE = "800M"  # iperf3's word for 100 MB/s: what every tunnel here can carry
PACKAGES = {**backends.PACKAGES, "wrk": "wrk"}

Values = Mapping[str, float]


@dataclass(frozen=True)
class Settings:
    seconds: int
    rounds: int


@dataclass(frozen=True)
class Target:
    """What aero must reach in a row: `limit` times the figure of the peer `of`, times the best figure of all tunnels
    (`BEST`), or `limit` in the row's own unit where `of` is empty.

    The pycryptodome backend, which every host can run, owes a third of what is asked of the others.
    """

    limit: float
    of: str = ""

    def limit_for(self, row: Row, aead: str | None) -> float:
        if aead != "pycryptodome" or not self.of:
            return self.limit
        return self.limit / 3 if row.more_is_better else self.limit * 3


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    more_is_better: bool = False
    target: Target | None = None


@dataclass(frozen=True)
class Step:
    """`sample` takes one sample, which may fill several rows. `repeats` is how often in each round, all peers
    taking turns; `rounds_limit` keeps slow, steady ones short."""

    name: str
    sample: Callable[[peers.Peer, Settings], Values]
    repeats: int = 1
    rounds_limit: int = 1_000


@dataclass(frozen=True)
class Group:
    """Steps and the rows that they fill. `mux`: on tunnels that have their HTTP port open."""

    name: str
    steps: Sequence[Step]
    rows: Sequence[Row]
    mux: bool = False


# Bulk


def iperf_command(peer: peers.Peer, direction: str, streams: int, seconds: int) -> list[str]:
    """`direction` as the visitor sees it: "down" is from the backend to the visitor. Waits until the
    backend is done with the test before, whose end may still be on its way through another tunnel."""
    backend = peer.targets[backends.BULK]
    host.wait_for("iperf3 to see the end of its last test", lambda: not peer.lab.connected(backend))
    reverse = ["-R"] if direction == "down" else []
    address = ["-c", peer.address, "-p", str(peer.ports[backends.BULK])]
    return ["iperf3", *address, "-t", str(seconds), "-P", str(streams), "-J", *reverse]


def iperf_received(output: str) -> tuple[float, float]:
    """Bytes that arrived at the far end, and the seconds this took. Raises `BenchError` with iperf3's
    reason."""
    try:
        report = json.loads(output)
    except ValueError:
        raise host.BenchError(f"iperf3 gave no report: {output[-300:]!r}") from None
    if report.get("error"):
        raise host.BenchError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    return received["bytes"], received["seconds"]


def bulk(direction: str, streams: int) -> Step:
    key = f"{direction}_{streams}"

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        command = iperf_command(peer, direction, streams, settings.seconds)
        pids = peer.all_pids()
        before = host.cpu_seconds(pids)
        done = host.run(command, settings.seconds + SPARE_TIME_S)
        used = host.cpu_seconds(pids) - before
        received, seconds = iperf_received(done.stdout)
        if not received:
            raise host.BenchError("iperf3: not one byte arrived")
        values = {f"bulk_{key}": received / seconds / 1e6}
        if pids:
            values[f"cpu_{key}"] = used / (received / 2**30)
        return values

    return Step(f"bulk {direction}, {streams} streams", sample)


# Requests


def requests(key: str, *headers: str, path: str = "/small", connections: int = WEB_CONNECTIONS) -> Step:
    """Requests for a file as fast as so many visitors can make them, and what 100,000 of them cost both ends."""

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        url = f"http://{peer.address}:{peer.ports[backends.WEB]}{path}"
        pids = peer.all_pids()
        before = host.cpu_seconds(pids)
        rate = wrk(url, settings.seconds, *headers, connections=connections)
        used = host.cpu_seconds(pids) - before
        values = {key: rate}
        if pids:
            values[f"cpu_{key}"] = used / (rate * settings.seconds) * 100_000
        return values

    return Step(key, sample)


def mux_requests() -> Step:
    """The same through the peer's HTTP port, which many targets share."""

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        url = peer.mux_url(backends.WEB, "/small")
        return {"mux": wrk(url, settings.seconds)} if url else {}

    return Step("mux", sample)


def wrk(url: str, seconds: int, *headers: str, connections: int = WEB_CONNECTIONS) -> float:
    """Requests per second for this URL. One wrk thread: it is never the bottleneck behind a tunnel, and a second
    one would only take a core from those who are measured."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s"]
    for header in headers:
        command += ["-H", header]
    done = host.run([*command, url], seconds + SPARE_TIME_S)
    return wrk_rate(done.stdout + done.stderr)


def wrk_rate(output: str) -> float:
    """Requests per second. Raises `BenchError` when any of them failed: a fast error is no success."""
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if not rate or not float(rate.group(1)):
        raise host.BenchError(f"wrk got no answer: {output[-300:].strip()}")
    faults = re.search(r"Socket errors:.*|Non-2xx.*", output)
    if faults:
        raise host.BenchError(f"wrk: {faults.group(0).strip()}")
    return float(rate.group(1))


# Round trips


class Echo:
    """A visitor with one blocking socket: as little of Python's own time in a sample as Python allows."""

    def __init__(self, peer: peers.Peer) -> None:
        where = (peer.address, peer.ports[backends.ECHO])
        try:
            self._socket = socket.create_connection(where, timeout=RECEIVE_TIMEOUT_S)
        except OSError as error:
            raise host.BenchError(f"echo: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A Python timeout would put a poll() before every call; the kernel's costs nothing.
        self._socket.settimeout(None)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", RECEIVE_TIMEOUT_S, 0)
        )

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def round_trip(self, message: bytes = bytes(range(MESSAGE_BYTES))) -> None:
        """Raises `BenchError` when the message does not come back whole."""
        try:
            self._socket.sendall(message)
            answer = self._socket.recv(len(message), socket.MSG_WAITALL)
        except OSError as error:
            raise host.BenchError(f"echo: {error}") from error
        if answer != message:
            raise host.BenchError(f"echo: {len(answer)} of {len(message)} bytes came back")


def percentile(samples: Sequence[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def round_trips() -> Step:
    def sample(peer: peers.Peer, settings: Settings) -> Values:
        times = []
        with Echo(peer) as echo:
            for _ in range(50):  # the first ones find cold caches at every hop
                echo.round_trip()
            for _ in range(ROUND_TRIPS_PER_BLOCK):
                start = time.perf_counter()
                echo.round_trip()
                times.append(time.perf_counter() - start)
        return {"rtt_p50": percentile(times, 50) * 1e6, "rtt_p99": percentile(times, 99) * 1e6}

    return Step("round trip", sample, repeats=ROUND_TRIP_BLOCKS)


def sized_round_trips(size: int) -> Step:
    """What a message of this size takes to the service and back. None is larger than what socket buffers hold."""

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        message = bytes(size)
        times = []
        with Echo(peer) as echo:
            echo.round_trip(message)
            for _ in range(CURVE_ROUND_TRIPS):
                start = time.perf_counter()
                echo.round_trip(message)
                times.append(time.perf_counter() - start)
        return {f"size_{size}": percentile(times, 50) * 1e6}

    return Step(f"round trip of {size} B", sample)


def loaded(
    direction: str, rate: str = "", head_start_s: float = BULK_HEAD_START_S, pause_s: float = 0
) -> Step:
    """Round trips on one connection while iperf3 fills the same tunnel through another, or sends at `rate` (as its
    `-b`: 800M is 100 MB/s). `pause_s` lies between two round trips, so that the slow ones do not thin out."""
    key = f"{'steady' if rate else 'loaded'}_{direction}"

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        seconds = settings.seconds + round(head_start_s) + 1
        command = iperf_command(peer, direction, 1, seconds)
        command += ["-O", str(round(head_start_s)), *(["-b", rate] if rate else [])]
        times = []
        with Echo(peer) as echo:
            transfer = peer.lab.spawn("iperf3-client", command)
            try:
                begin = time.monotonic() + head_start_s
                while time.monotonic() < begin:
                    echo.round_trip()
                while time.monotonic() < begin + settings.seconds and transfer.popen.poll() is None:
                    start = time.perf_counter()
                    echo.round_trip()
                    times.append(time.perf_counter() - start)
                    time.sleep(pause_s)
                host.wait_for(
                    "iperf3", lambda: transfer.popen.poll() is not None, timeout_s=2 * seconds + SPARE_TIME_S
                )
            finally:
                peer.lab.stop(transfer)
        received, lasted = iperf_received(transfer.output())
        if len(times) < 2:
            raise host.BenchError("no round trips beside the bulk transfer")
        return {
            f"{key}_p50": percentile(times, 50) * 1e3,
            f"{key}_p99": percentile(times, 99) * 1e3,
            f"{key}_bulk": received / lasted / 1e6,
        }

    return Step(f"round trip beside {rate or 'bulk'} {direction}", sample)


# Memory


def memory() -> Step:
    """A fresh pair that has served one visitor; then the same with IDLE_CONNECTIONS visitors who have
    each had an answer and now keep still."""

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        if not peer.roles:
            return {}
        peer.stop()
        peer.start()
        time.sleep(SETTLE_S)
        values: dict[str, float] = {}
        for role in peer.roles:
            idle = host.memory(peer.pids(role))
            values[f"idle_{role}_rss"] = idle.rss / 1e6
            if idle.pss is not None:
                values[f"idle_{role}_pss"] = idle.pss / 1e6
        with contextlib.ExitStack() as visitors:
            for _ in range(IDLE_CONNECTIONS):
                visitors.enter_context(Echo(peer)).round_trip()
            time.sleep(SETTLE_S)
            for role in peer.roles:
                values[f"many_{role}_rss"] = host.memory(peer.pids(role)).rss / 1e6
        return values

    return Step("memory", sample, rounds_limit=3)


# Start-up


def startup() -> Step:
    """The server runs already. The clock starts before the worker's fork and stops when a visitor's first
    byte is back from the backend; the visitor tries every couple of milliseconds from the beginning."""

    def sample(peer: peers.Peer, settings: Settings) -> Values:
        if not peer.roles:
            return {}
        values = {}
        peer.stop_worker()
        start = time.perf_counter()
        peer.start_worker()
        peer.wait_first_byte()
        values["startup"] = (time.perf_counter() - start) * 1e3
        peer.stop_worker()
        # Only a Python worker says anything to this; the table has a dash for everyone else.
        peer.start_worker({"PYTHONPROFILEIMPORTTIME": "1"})
        peer.wait_first_byte()
        own = re.findall(r"^import time:\s+(\d+) \|", peer.output(peers.WORKER), re.MULTILINE)
        if own:
            values["imports"] = sum(map(int, own)) / 1e3
        peer.stop()  # the next measure wants a worker without a profiler
        return values

    return Step("start-up", sample)


# The table's order

_BULK = [(direction, streams) for streams in (1, 16) for direction in ("down", "up")]


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"


def _beside(kind: str, what: str, of: str, limit: float) -> list[Row]:
    return [
        row
        for way in ("down", "up")
        for row in (
            Row(f"{kind}_{way}_p50", f"round trip beside {what} {way}, p50", "ms"),
            Row(f"{kind}_{way}_p99", f"round trip beside {what} {way}, p99", "ms", target=Target(limit, of)),
            Row(f"{kind}_{way}_bulk", f"that bulk {way}", "MB/s", True),
        )
    ]


GROUPS = (
    Group(
        "bulk",
        [bulk(direction, streams) for direction, streams in _BULK],
        [
            Row(f"bulk_{way}_{count}", f"bulk {way}, {_streams(count)}", "MB/s", True, Target(1.0, BEST))
            for way, count in _BULK
        ]
        + [
            Row(f"cpu_{way}_{count}", f"CPU of both ends, {way}, {_streams(count)}", "s/GiB")
            for way, count in _BULK
        ],
    ),
    Group(
        "rps",
        [
            requests("keepalive"),
            requests("connections", "Connection: close"),
            requests("large", path="/large", connections=LARGE_CONNECTIONS),
        ],
        [
            Row(
                "keepalive",
                f"keep-alive requests, {WEB_CONNECTIONS} connections",
                "1/s",
                True,
                Target(1.1, SSH),
            ),
            Row(
                "connections", f"new connections, {WEB_CONNECTIONS} at a time", "1/s", True, Target(1.3, SSH)
            ),
            Row("large", f"requests of 100 KiB, {LARGE_CONNECTIONS} connections", "1/s", True),
            Row("cpu_keepalive", "CPU of both ends, keep-alive", "s/100,000"),
            Row("cpu_connections", "CPU of both ends, new connections", "s/100,000"),
        ],
    ),
    Group(
        "rtt",
        [round_trips()],
        [
            Row("rtt_p50", f"round trip of {MESSAGE_BYTES} B, p50", "µs", target=Target(1.2, RELAYS)),
            Row("rtt_p99", f"round trip of {MESSAGE_BYTES} B, p99", "µs"),
        ],
    ),
    Group("loaded", [loaded("down"), loaded("up")], _beside("loaded", "bulk", RATHOLE, 1.5)),
    Group(
        "steady",
        [loaded("down", STEADY_RATE), loaded("up", STEADY_RATE)],
        _beside("steady", "100 MB/s", BEST, 1.0),
    ),
    Group(
        "curves",
        [
            *(requests(f"keepalive_{count}", connections=count) for count in CURVE_CONNECTIONS),
            *(sized_round_trips(size) for size in CURVE_SIZES),
        ],
        [
            *(
                Row(f"keepalive_{count}", f"keep-alive requests, {count:,} connections", "1/s", True)
                for count in CURVE_CONNECTIONS
            ),
            *(Row(f"size_{size}", f"round trip of {size:,} B, p50", "µs") for size in CURVE_SIZES),
        ],
    ),
    Group(
        "memory",
        [memory()],
        [
            Row("idle_server_rss", "idle server, resident", "MB", target=Target(24)),
            Row("idle_server_pss", "idle server, proportional", "MB"),
            Row("idle_worker_rss", "idle worker, resident", "MB", target=Target(22)),
            Row("idle_worker_pss", "idle worker, proportional", "MB"),
            Row("many_server_rss", f"server with {IDLE_CONNECTIONS:,} idle connections", "MB"),
            Row("many_worker_rss", f"worker with {IDLE_CONNECTIONS:,} idle connections", "MB"),
        ],
    ),
    Group(
        "startup",
        [startup()],
        [
            Row("startup", "worker's start until a visitor's first byte", "ms", target=Target(110)),
            Row("imports", "of which imports (profiled, so a little high)", "ms"),
        ],
    ),
    Group(
        "mux",
        [mux_requests()],
        [Row("mux", f"requests through the HTTP mux, {WEB_CONNECTIONS} connections", "1/s", True)],
        mux=True,
    ),
)
