#!/usr/bin/env python3
"""Measures UDP through tunnels: datagrams a second and loss, round trips idle and beside saturating TCP bulk of the
same tunnel, processor time, memory of many visitors. aero, frp and chisel take turns; who is not on PATH is left out.

One Python process asks and one answers, the same for all: the absolute figures are theirs as much as the tunnels'.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from typing import Callable, NamedTuple

import host
import path
from rounds import say

SIZES = (64, 512, 1200)
IN_FLIGHT = 32  # what is under way at once while the rate is measured
OFFERED_A_SECOND = 5000  # for the loss: what all of them are offered
FLOWS = 5000
PROJECT = File(__file__).resolve().parent.parent


class Tunnel:
    """One tunnel with a UDP and a TCP target; both lead to the services of `serve`."""

    name = ""
    tools: tuple[str, ...] = ()

    def __init__(self, lab: host.Lab, udp_target: int, tcp_target: int) -> None:
        self.lab = lab
        self.targets = udp_target, tcp_target
        self.link_port, self.udp, self.tcp = host.free_ports(3)
        self.ends: list[host.Process] = []
        self.folder = lab.folder(self.name)

    def spawn(self, *argv: object, far: bool = False) -> None:
        words = [str(word) for word in argv]
        self.ends.append(self.lab.spawn(self.name, words, cwd=PROJECT, far=far))
        if not far:
            host.wait_for(f"{self.name} to listen", lambda: host.listening([self.link_port]), self.ends)

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        for process in self.ends:
            self.lab.stop(process)
        self.ends.clear()

    def pids(self) -> list[list[int]]:
        """The processes of each end, server first."""
        return [[each.popen.pid, *host.descendants(each.popen.pid)] for each in self.ends]


class Aero(Tunnel):
    name = "aero"

    def start(self) -> None:
        python, site = sys.executable, self.lab.site
        state = self.folder / "state"
        udp, tcp = self.targets
        low = min(self.udp, self.tcp)
        ports = f"{low}-{max(self.udp, self.tcp)}"
        self.spawn(
            python, "aero.py", "server", "--ip", site.listen, "--port", self.link_port, "--ports", ports,
            "--auth", "code", "--api", "off", "--mux", "off", "--state", state,
        )  # fmt: skip
        targets = f"u@{host.LOOPBACK}:{udp}/udp?remote={self.udp},t@{host.LOOPBACK}:{tcp}?remote={self.tcp}"
        self.spawn(
            python, "aero.py", "client", "--server", f"{site.address}:{self.link_port}", "--auth", "code",
            "--tag", "b", "--target", targets, "--state", self.folder / "worker", far=True,
        )  # fmt: skip


class Frp(Tunnel):
    name = "frp"
    tools = ("frps", "frpc")

    def start(self) -> None:
        site = self.lab.site
        common = 'auth.token = "code"\nlog.level = "error"\n'
        server, worker = self.folder / "frps.toml", self.folder / "frpc.toml"
        server.write_text(f'bindAddr = "{site.listen}"\nbindPort = {self.link_port}\n{common}')
        text = f'serverAddr = "{site.address}"\nserverPort = {self.link_port}\n{common}'
        for kind, target, port in zip(("udp", "tcp"), self.targets, (self.udp, self.tcp)):
            text += f'[[proxies]]\nname = "{kind}"\ntype = "{kind}"\nlocalIP = "{host.LOOPBACK}"\n'
            text += f"localPort = {target}\nremotePort = {port}\n"
        worker.write_text(text)
        self.spawn(host.tool("frps"), "-c", server)
        self.spawn(host.tool("frpc"), "-c", worker, far=True)


class Chisel(Tunnel):
    name = "chisel"
    tools = ("chisel",)

    def start(self) -> None:
        site = self.lab.site
        where = ("--host", site.listen, "--port", self.link_port)
        self.spawn(host.tool("chisel"), "server", *where, "--reverse", "--auth", "u:code")
        udp, tcp = self.targets
        remotes = [
            f"R:{host.LOOPBACK}:{self.udp}:{host.LOOPBACK}:{udp}/udp",
            f"R:{host.LOOPBACK}:{self.tcp}:{host.LOOPBACK}:{tcp}",
        ]
        server = f"http://{site.address}:{self.link_port}"
        self.spawn(host.tool("chisel"), "client", "--auth", "u:code", server, *remotes, far=True)


TUNNELS = (Aero, Frp, Chisel)


def serve(udp_port: int, tcp_port: int) -> None:
    """The services: UDP echo; TCP without an end. Runs until killed."""
    source = socket.create_server((host.LOOPBACK, tcp_port))

    def pour() -> None:
        block = bytes(1 << 18)
        while True:
            connection, _ = source.accept()
            threading.Thread(target=_pour, args=(connection, block), daemon=True).start()

    threading.Thread(target=pour, daemon=True).start()
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    echo.bind((host.LOOPBACK, udp_port))
    buffer = bytearray(65_536)
    while True:
        count, visitor = echo.recvfrom_into(buffer)
        with contextlib.suppress(OSError):
            echo.sendto(memoryview(buffer)[:count], visitor)


def _pour(connection: socket.socket, block: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(block)


@contextlib.contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    """A visitor's socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect((host.LOOPBACK, port))
        yield sock


def answers(port: int) -> bool:
    with asking(port) as sock:
        sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            sock.send(b"there?")
            return sock.recv(100) == b"there?"
    return False


class Rate(NamedTuple):
    per_s: float
    cpu_s: float  # of both ends, for 100,000 datagrams there and back


def rate(tunnel: Tunnel, size: int, seconds: float) -> Rate:
    """IN_FLIGHT datagrams are kept under way; counted is what came back."""
    pids = [pid for each in tunnel.pids() for pid in each]
    with asking(tunnel.udp) as sock:
        sock.setblocking(False)
        data = bytes(size)
        back, out = 0, 0
        before, start = host.cpu_seconds(pids), time.perf_counter()
        end = start + seconds
        while True:
            now = time.perf_counter()
            if now >= end:
                break
            while out < IN_FLIGHT:
                sock.send(data)
                out += 1
            if not select.select([sock], [], [], 0.2)[0]:
                out = 0  # lost: begin anew
                continue
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(65_536)
                    back, out = back + 1, max(out - 1, 0)
        used = host.cpu_seconds(pids) - before
    return Rate(back / seconds, used * 100_000 / back if back else float("inf"))


def loss(tunnel: Tunnel, size: int, seconds: float) -> float:
    """What of OFFERED_A_SECOND evenly spread datagrams does not come back, in percent."""
    with asking(tunnel.udp) as sock:
        sock.setblocking(False)
        sent = back = 0
        start = time.perf_counter()
        while True:
            now = time.perf_counter() - start
            if now >= seconds:
                break
            due = int(now * OFFERED_A_SECOND)
            while sent < due:
                sock.send(bytes(size))
                sent += 1
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(65_536)
                    back += 1
            time.sleep(0.0005)
        sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            while back < sent:
                sock.recv(65_536)
                back += 1
    return 100 * (sent - back) / sent


def trips(tunnel: Tunnel, seconds: float, pause_s: float) -> tuple[list[float], int]:
    """Round trips in ms, one after the other, and how many never came back within a second."""
    times, lost = [], 0
    with asking(tunnel.udp) as sock:
        sock.settimeout(1.0)
        end = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < end:
            number += 1
            data = number.to_bytes(8, "big") + bytes(56)
            start = time.perf_counter()
            try:
                sock.send(data)
                while sock.recv(100) != data:
                    pass
                times.append(1e3 * (time.perf_counter() - start))
            except OSError:
                lost += 1
                times.append(1e3)
            time.sleep(pause_s)
    return times, lost


@contextlib.contextmanager
def bulk(tunnel: Tunnel) -> Iterator[Callable[[], int]]:
    """TCP from the target to a visitor, as fast as it goes, into a process of its own: who asks must not share its
    interpreter. Gives what tells the bytes so far."""
    count = tunnel.folder / "bulk"
    count.write_bytes(bytes(8))
    argv = [sys.executable, str(File(__file__).resolve()), "--drain", str(tunnel.tcp), str(count)]
    process = tunnel.lab.spawn("drain", argv)
    try:
        yield lambda: int.from_bytes(count.read_bytes(), "little")
    finally:
        tunnel.lab.stop(process)


def drain(port: int, path: str) -> None:
    """Reads without an end, and keeps the number of bytes in a file."""
    buffer, moved = bytearray(1 << 18), 0
    with open(path, "r+b", buffering=0) as file, mmap.mmap(file.fileno(), 8) as shared:
        sock = socket.create_connection((host.LOOPBACK, port))
        while True:
            moved += sock.recv_into(buffer)
            shared[:8] = moved.to_bytes(8, "little")


def memory(tunnel: Tunnel) -> list[float]:
    """What FLOWS visitors add to each end's resident memory, in MB."""
    before = [host.memory(pids).rss for pids in tunnel.pids()]
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(asking(tunnel.udp)) for _ in range(FLOWS)]
        for number, sock in enumerate(socks):
            sock.send(b"one of many")
            if number % 50 == 49:
                time.sleep(0.01)
        answered = 0
        for sock in socks:
            sock.settimeout(2)
            with contextlib.suppress(OSError):
                answered += sock.recv(100) == b"one of many"
        after = [host.memory(pids).rss for pids in tunnel.pids()]
    say(f"{tunnel.name}: {answered} of {FLOWS} visitors were answered")
    return [(late - early) / 1e6 for late, early in zip(after, before)]


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` percent of them lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part / 100), len(ordered) - 1)] if ordered else float("nan")


Figures = dict[str, float]


def once(tunnel: Tunnel, arguments: argparse.Namespace) -> Figures:
    """One round of one tunnel: started, measured, stopped."""
    found: Figures = {}
    tunnel.start()
    try:
        host.wait_for(f"{tunnel.name} to answer", lambda: answers(tunnel.udp), tunnel.ends)
        host.wait_for(f"{tunnel.name}'s TCP", lambda: _reachable(tunnel.tcp), tunnel.ends)
        if "rate" in arguments.only:
            for size in SIZES:
                measured = rate(tunnel, size, arguments.seconds)
                found[f"datagrams/s there and back, {size} B"] = measured.per_s
                found[f"processor s for 100,000, {size} B"] = measured.cpu_s
                found[f"lost of {OFFERED_A_SECOND}/s, {size} B, %"] = loss(tunnel, size, arguments.seconds)
        if "rtt" in arguments.only:
            times, _ = trips(tunnel, arguments.seconds, 0.002)
            found["round trip idle, p50, ms"] = percentile(times, 50)
            found["round trip idle, p99, ms"] = percentile(times, 99)
            with bulk(tunnel) as moved:
                time.sleep(arguments.head_start)
                begin, start = moved(), time.perf_counter()
                times, lost = trips(tunnel, arguments.seconds, 0.005)
                speed = (moved() - begin) / (time.perf_counter() - start)
            found["round trip beside bulk, p50, ms"] = percentile(times, 50)
            found["round trip beside bulk, p99, ms"] = percentile(times, 99)
            found["lost beside bulk, %"] = 100 * lost / max(len(times), 1)
            found["that bulk, MB/s"] = speed / 1e6
        if "memory" in arguments.only:
            for end, grown in zip(("server", "worker"), memory(tunnel)):
                found[f"memory of {FLOWS} visitors, {end}, MB"] = grown
    finally:
        tunnel.stop()
    return found


def _reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host.LOOPBACK, port), 1) as sock:
        sock.settimeout(1)
        return bool(sock.recv(1))
    return False


def measure(lab: host.Lab, arguments: argparse.Namespace) -> dict[str, list[Figures]]:
    """All rounds of all tunnels, in turn."""
    udp_port, tcp_port = host.free_ports(2)
    services = [sys.executable, str(File(__file__).resolve()), "--serve", str(udp_port), str(tcp_port)]
    lab.spawn("services", services, far=True)
    host.wait_for("the services", lambda: lab.listening([tcp_port]))
    found: dict[str, list[Figures]] = {}
    for number in range(arguments.rounds):
        for kind in TUNNELS:
            if kind.name in arguments.peers and not host.missing(kind.tools):
                say(f"round {number + 1}: {kind.name}")
                found.setdefault(kind.name, []).append(once(kind(lab, udp_port, tcp_port), arguments))
    return found


def table(title: str, found: dict[str, list[Figures]]) -> str:
    """Markdown: medians of the rounds."""
    names = list(found)
    lines = [[title, *names], ["---", *["--:"] * len(names)]]
    for key in found[names[0]][0]:
        values = [statistics.median(each.get(key, float("nan")) for each in found[name]) for name in names]
        lines.append([key, *(f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--drain", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peers", default="aero,frp,chisel")
    parser.add_argument("--only", default="rate,rtt,memory", help="rate, rtt, memory")
    parser.add_argument("--path", choices=path.PATHS, help="over a path of bench/path.py (root)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--head-start", type=float, default=1.0, help="s of bulk before round trips beside it"
    )
    parser.add_argument("--json", type=File)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
    if arguments.drain:
        drain(int(arguments.drain[0]), arguments.drain[1])
    host.raise_file_limit()
    with contextlib.ExitStack() as stack:
        site = host.Site()
        if arguments.path:
            network = stack.enter_context(path.Network(path.PATHS[arguments.path], "reno"))
            site = host.Site("0.0.0.0", path.NEAR_IP, path.FAR_IP, network.far)
        found = measure(stack.enter_context(host.Lab(site)), arguments)
    title = path.PATHS[arguments.path].title if arguments.path else "loopback"
    print(table(title, found))
    if arguments.json:
        arguments.json.write_text(json.dumps({"title": title, "samples": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    host.script(main, "udp")
