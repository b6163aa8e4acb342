#!/usr/bin/env python3
"""Measures tunnels over a path: the visitor and the server at this end, the worker and its services at the far end, a
router between them. Needs root, for network namespaces of its own; nothing of the machine's network changes.

A router that limits the rate is the kernel's, with a queue behind the limit (`tbf`). One that delays or loses packets
is delay.py on two tun devices, which every kernel has and which leaves TCP's own ends to be the tunnel's.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any, NamedTuple

import backends
import host
import measures
import peers
import run
from rounds import Bench, fault_text, number_text

NEAR_IP, FAR_IP = "10.99.1.1", "10.99.2.1"
NEAR_ROUTER_IP, FAR_ROUTER_IP = "10.99.1.254", "10.99.2.254"
DELAY = str(File(__file__).resolve().with_name("delay.py"))
TUN_MTU = 9000  # a packet costs the delaying router the same whatever its size; 1 Gbit/s is 14,000 of these a second
CLONE_NEWNET = 0x40000000  # linux/sched.h
IDLE_TRIPS = 200


class Path(NamedTuple):
    """What lies between the ends; 0 is no limit, no delay, no loss. The delay is of one direction."""

    title: str
    rate_mbit: int = 0
    queue_ms: int = 0
    delay_ms: float = 0
    loss: float = 0


PATHS = {
    "20": Path("20 Mbit/s, a queue of 200 ms", rate_mbit=20, queue_ms=200),
    "100": Path("100 Mbit/s, a queue of 100 ms", rate_mbit=100, queue_ms=100),
    "1000": Path("1 Gbit/s, a queue of 20 ms", rate_mbit=1000, queue_ms=20),
    "20ms": Path("round trip of 20 ms", delay_ms=10),
    "50ms": Path("round trip of 50 ms", delay_ms=25),
    "200ms": Path("round trip of 200 ms", delay_ms=100),
    "lossy": Path("round trip of 20 ms, 1 % lost", delay_ms=10, loss=0.01),
}


def command(*words: object) -> None:
    """Run one that must succeed. Raises `BenchError` with what it says."""
    done = host.run([str(word) for word in words], 10)
    if done.returncode:
        raise host.BenchError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


class Network:
    """Three network namespaces in a row. Entering it puts this process, with all that it starts, into the near one."""

    def __init__(self, path: Path, congestion: str) -> None:
        self._path = path
        self._congestion = congestion
        self._names = [f"aero-{end}-{os.getpid()}" for end in ("near", "router", "far")]
        self.far = ["ip", "netns", "exec", self._names[2]]

    def __enter__(self) -> Network:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._stack = contextlib.ExitStack()
        try:
            for name in self._names:
                command("ip", "netns", "add", name)
                self._stack.callback(host.run, ["ip", "netns", "del", name], 10)
            (self._delaying if self._path.delay_ms else self._limiting)()
            with open(f"/run/netns/{self._names[0]}") as near:
                _enter(near.fileno())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        _enter(self._home)
        os.close(self._home)
        self._stack.close()

    def _limiting(self) -> None:
        """Two virtual cables, and a token bucket with its queue at each of the router's ends."""
        router = self._names[1]
        for end, device, ip, gateway in self._ends():
            peer = ("peer", "name", f"r-{device}", "netns", router)
            command("ip", "link", "add", device, "netns", end, "type", "veth", *peer)
            _in(router, "ip", "addr", "add", f"{gateway}/24", "dev", f"r-{device}")
            _in(router, "ip", "link", "set", f"r-{device}", "up")
            self._address(end, device, ip, gateway)
            for name, each in ((end, device), (router, f"r-{device}")):
                # As a network card sends them: no packets of 64 KiB.
                _in(name, "ethtool", "-K", each, "tso", "off", "gso", "off", "gro", "off")
            limit = (
                "rate",
                f"{self._path.rate_mbit}mbit",
                "burst",
                "32kb",
                "latency",
                f"{self._path.queue_ms}ms",
            )
            _in(router, "tc", "qdisc", "add", "dev", f"r-{device}", "root", "tbf", *limit)
        _in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _delaying(self) -> None:
        """One tun device at each end, and delay.py between them."""
        log = File(tempfile.gettempdir()) / f"{self._names[1]}.log"
        argv = [sys.executable, DELAY, "n0", "f0", str(self._path.delay_ms), str(self._path.loss)]
        process = host.Process("delay", argv, log, None, None)
        self._stack.callback(log.unlink)
        self._stack.callback(process.stop)
        host.wait_for("the delaying router", lambda: "ready" in process.output(), [process])
        for (end, device, ip, gateway), made in zip(self._ends(), ("n0", "f0")):
            command("ip", "link", "set", made, "netns", end)
            _in(end, "ip", "link", "set", made, "name", device, "mtu", TUN_MTU)
            self._address(end, device, ip, gateway)

    def _ends(self) -> list[tuple[str, str, str, str]]:
        """Namespace, device, address and gateway of both ends."""
        near, _, far = self._names
        return [(near, "near", NEAR_IP, NEAR_ROUTER_IP), (far, "far", FAR_IP, FAR_ROUTER_IP)]

    def _address(self, end: str, device: str, ip: str, gateway: str) -> None:
        _in(end, "ip", "addr", "add", f"{ip}/24", "dev", device)
        for each in (device, "lo"):
            _in(end, "ip", "link", "set", each, "up")
        _in(end, "ip", "route", "add", "default", "via", gateway, "dev", device)
        _in(end, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={self._congestion}")


def _in(namespace: str, *words: object) -> None:
    command("ip", "netns", "exec", namespace, *words)


def _enter(namespace: int) -> None:
    """Move this thread, and with it all that it starts from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise host.BenchError(f"setns: {os.strerror(ctypes.get_errno())}")


def idle() -> measures.Step:
    def sample(peer: peers.Peer, settings: measures.Settings) -> measures.Values:
        times: list[float] = []
        with measures.Echo(peer) as echo:
            end = time.monotonic() + settings.seconds
            while len(times) < IDLE_TRIPS and time.monotonic() < end:
                start = time.perf_counter()
                echo.round_trip()
                times.append(time.perf_counter() - start)
        return {"idle_p50": measures.percentile(times, 50) * 1e3}

    return measures.Step("idle", sample)


def group() -> measures.Group:
    steps = [idle()]
    rows = [measures.Row("idle_p50", "round trip, idle, p50", "ms")]
    for way in ("down", "up"):
        # The windows of a slow start over the longest path have grown after three seconds.
        steps.append(measures.loaded(way, head_start_s=3, pause_s=0.01))
        rows += [
            measures.Row(f"loaded_{way}_p50", f"beside bulk {way}, p50", "ms"),
            measures.Row(f"loaded_{way}_p99", f"beside bulk {way}, p99", "ms"),
            measures.Row(f"loaded_{way}_bulk", f"that bulk {way}", "MB/s", True),
        ]
    return measures.Group("path", steps, rows)


def measure(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All peers over one path, taking turns; their samples by row and peer, and what failed."""
    with Network(path, arguments.congestion) as network:
        site = host.Site("0.0.0.0", NEAR_IP, FAR_IP, network.far)
        with host.Lab(site) as lab:
            tunnels = run.make_tunnels(arguments, lab, backends.Backends(lab).ports, mux=False)
            bench = Bench(measures.Settings(arguments.seconds, arguments.rounds))
            measured = group()
            bench.run([measured], tunnels)
    samples = {
        row.key: {peer.label: bench.values(column, row.key) for column, peer in enumerate(tunnels)}
        for row in measured.rows
    }
    show(path, measured.rows, bench, tunnels)
    return {"path": path._asdict(), "samples": samples, "faults": bench.faults}


def show(path: Path, rows: Sequence[measures.Row], bench: Bench, tunnels: Sequence[peers.Peer]) -> None:
    lines = [[path.title, "unit", *(peer.label for peer in tunnels)], ["---", "---", *["--:"] * len(tunnels)]]
    for row in rows:
        figures = [number_text(bench.median(column, row.key)) for column in range(len(tunnels))]
        lines.append([row.title, row.unit, *figures])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n", flush=True)
    for fault in bench.faults:
        print(f"- failed: {fault_text(fault)}\n")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = [name for name in run.PEERS if name != "relays"]
    parser = argparse.ArgumentParser(
        description="Compare tunnels over slow, long and lossy paths; tables go to stdout, progress to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.add_aero_arguments(parser)
    parser.add_argument("--peers", type=run.list_of(names), default="aero,ssh,frp,chisel,rathole,direct")
    parser.add_argument("--only", type=run.list_of([*PATHS]), default=",".join(PATHS), help="paths")
    # Reno fills queues like cubic, and namespaces may have it whatever net.ipv4.tcp_allowed_congestion_control says.
    parser.add_argument("--congestion", default="reno", help="the kernel's algorithm at both ends")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="samples per figure")
    parser.add_argument("--seconds", type=int, default=8, metavar="S", help="length of one timed run")
    parser.add_argument("--json", type=File, metavar="FILE", help="write every sample there as well")
    return parser.parse_args(argv)


def main() -> int:
    """Measure what the command line asks for; 1 when a run failed."""
    arguments = parse()
    if os.geteuid():
        raise host.BenchError("network namespaces want root")
    host.require({**measures.PACKAGES, "ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool"})
    arguments.peers = run.installed(arguments.peers)
    facts = [*host.machine(), ("Python", peers.python_versions(arguments.python))]
    facts += [
        ("Runs", f"medians of {arguments.rounds} rounds, {arguments.seconds} s each, {arguments.congestion}")
    ]
    print("\n".join(f"- {label}: {value}" for label, value in facts), end="\n\n", flush=True)
    found = [measure(PATHS[name], arguments) for name in arguments.only]
    if arguments.json:
        arguments.json.write_text(json.dumps({"about": dict(facts), "paths": found}, indent=1) + "\n")
    return 1 if any(each["faults"] for each in found) else 0


if __name__ == "__main__":
    host.script(main, "path")
