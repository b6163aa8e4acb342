#!/usr/bin/env python3
"""Measures compression: `path` the transfer of several contents over 20 Mbit/s with zstd off, auto and on, taking turns
(root, for the network namespaces of path.py), `local` the same on one machine without a limit, and `codecs` what the
libraries and ways of compressing cost beside each other (what is installed of backports.zstd and zstandard).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any, Callable

import host
import path

AERO = File(__file__).resolve().parent.parent
MODES = ("off", "auto", "on")
PORT = 7411  # of the services, at the worker's end: a namespace of its own, or free on this machine


def contents(size: int) -> dict[str, bytes]:
    """What is sent, by name; all made here, the same each time."""
    dice = random.Random(5)
    words = [line.split()[0] for line in TEXT.splitlines() if line.split()]
    few = words[:400]
    rows: list[str] = []
    other: list[str] = []
    lines: list[str] = []
    made = 0
    while made < size:
        for into, names in ((rows, few), (other, words)):
            row = {
                "id": dice.randrange(10**9),
                "name": f"{dice.choice(names)} {dice.choice(names)}",
                "email": f"{dice.choice(names)}{dice.randrange(999)}@example.org",
                "active": dice.random() < 0.5,
                "balance": round(dice.random() * 10_000, 2),
                "tags": dice.sample(names, 3),
                "created": f"2026-0{dice.randrange(1, 9)}-{dice.randrange(10, 28)}T10:00:00Z",
            }
            into.append(json.dumps(row))
        lines.append(
            f"192.0.2.{dice.randrange(256)} - - [26/Nov/2026:10:{made % 60:02}:00 +0000] "
            f'"GET /{dice.choice(words)}/{dice.randrange(9999)} HTTP/1.1" 200 {dice.randrange(50_000)} "-" "curl"'
        )
        made += len(rows[-1])
    noise = dice.randbytes(size)
    made_of = {
        "JSON": ("[" + ",\n".join(rows) + "]").encode(),  # as an API has it: names come again
        "JSON of many words": ("[" + ",\n".join(other) + "]").encode(),
        "log": "\n".join(lines).encode() * 2,
        "sources": (TEXT.encode() * (1 + size // len(TEXT)))[:size],
        "gzip": gzip.compress(noise[: size // 2] + TEXT.encode() * 50, 1),
        "random": noise,
    }
    return {name: data[:size] for name, data in made_of.items()}


TEXT = "".join(each.read_text() for each in sorted((AERO / "aero").rglob("*.py")))


def tag(name: str) -> str:
    """A content's name as a target's."""
    return name.lower().replace(" ", "-")


def serve(size: int, ip: str) -> None:
    """The far end: a port for each content, which sends it to whoever comes."""
    for number, data in enumerate(contents(size).values()):
        listener = socket.create_server((ip, PORT + number))

        def answer(listener: socket.socket = listener, data: bytes = data) -> None:
            while True:
                visitor = listener.accept()[0]
                visitor.sendall(data)
                visitor.close()

        threading.Thread(target=answer, daemon=True).start()
    echo = socket.create_server((ip, PORT - 1))

    def answer_all() -> None:
        while True:
            visitor = echo.accept()[0]
            visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=send_back, args=(visitor,), daemon=True).start()

    threading.Thread(target=answer_all, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def fetch(where: tuple[str, int]) -> int:
    """How many bytes come."""
    with socket.create_connection(where, timeout=120) as visitor:
        count = 0
        while data := visitor.recv(262_144):
            count += len(data)
    return count


def send_back(visitor: socket.socket) -> None:
    while data := visitor.recv(4096):
        visitor.sendall(data)


def trips(where: tuple[str, int], over: threading.Event, found: list[float]) -> None:
    """Round trips of 64 bytes, one every 10 ms, in ms, until ``over``."""
    with socket.create_connection(where, timeout=60) as visitor:
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not over.wait(0.01):
            start = time.monotonic()
            visitor.sendall(bytes(64))
            left = 64
            while left:
                left -= len(visitor.recv(left))
            found.append(1e3 * (time.monotonic() - start))


def received(device: str) -> int:
    """What has come over a network device of this namespace, in bytes."""
    for line in File("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == device:
            return int(figures.split()[0])
    raise host.BenchError(f"there is no device {device}")


def transfers(arguments: argparse.Namespace, site: host.Site, device: str) -> None:
    size = arguments.size * 1_000_000
    with host.Lab(site) as lab:
        service = lab.spawn(
            "service",
            [sys.executable, __file__, "serve", "--size", str(arguments.size), "--ip", site.far_address],
            far=True,
        )
        host.wait_for("the services", lambda: "ready" in service.output(), [service])
        names = list(contents(1000))
        port, folder = host.free_ports(1)[0], lab.folder("state")
        common = [sys.executable, str(AERO / "aero.py")]
        server = lab.spawn(
            "server",
            [*common, "server", "--ip", site.listen, "--port", str(port), "--ports", "0", "--api", "off",
             "--mux", "off", "--auth", "x", "--state", str(folder / "s")],
        )  # fmt: skip
        targets = ",".join(
            f"{tag(name)}-{mode}@{site.far_address}:{PORT + number}?zstd={mode}"
            for number, name in enumerate(names)
            for mode in MODES
        )
        targets += f",trip@{site.far_address}:{PORT - 1}"
        worker = lab.spawn(
            "worker",
            [*common, "client", "--server", f"{site.address}:{port}", "--target", targets, "--auth", "x",
             "--state", str(folder / "w")],
            far=True,
        )  # fmt: skip
        ready = len(names) * len(MODES) + 1
        host.wait_for("the targets", lambda: worker.output().count(" -> ") >= ready, [server, worker])
        mapped = [line for line in worker.output().splitlines() if " -> " in line]
        ports = {line.split("@")[0]: int(line.rpartition(":")[2]) for line in mapped}
        pids = [*host.descendants(server.pid), server.pid, *host.descendants(worker.pid), worker.pid]
        columns = (
            "content",
            "zstd",
            "s",
            "against off",
            "bytes on the wire",
            "CPU of both ends, s",
            "trip beside, ms",
        )
        print(f"| {' | '.join(columns)} |\n| --- | ---{' | --:' * 5} |")
        for name in arguments.only.split(",") if arguments.only else names:
            found: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in MODES}
            for mode in MODES * arguments.rounds:
                where = site.address, ports[f"{tag(name)}-{mode}"]
                cpu, wire, start = host.cpu_seconds(pids), received(device), time.monotonic()
                got = sum(fetch(where) for _ in range(arguments.times))
                if not 0.4 * size * arguments.times < got <= size * arguments.times:
                    raise host.BenchError(f"{got} bytes of {name} came")
                took, on_wire = time.monotonic() - start, (received(device) - wire) / got
                cpu = host.cpu_seconds(pids) - cpu
                over, beside = threading.Event(), list[float]()
                other = threading.Thread(target=trips, args=((site.address, ports["trip"]), over, beside))
                other.start()
                fetch(where)
                over.set()
                other.join()
                found[mode].append((took, on_wire, cpu, statistics.median(beside or [0.0])))
            for mode in MODES:
                ratio = statistics.median(off[0] / this[0] for off, this in zip(found["off"], found[mode]))
                took, on_wire, cpu, trip = (statistics.median(column) for column in zip(*found[mode]))
                figures = f"{took:.2f} | {ratio:.2f} | {on_wire:.3f} | {cpu:.2f} | {trip:.1f}"
                print(f"| {name} | {mode} | {figures} |", flush=True)


def over_path(arguments: argparse.Namespace) -> None:
    with path.Network(path.PATHS["20"], "reno") as network:
        transfers(arguments, host.Site("0.0.0.0", path.NEAR_IP, path.FAR_IP, network.far), "near")


def local(arguments: argparse.Namespace) -> None:
    transfers(arguments, host.Site(), "lo")


# Codecs and ways


def ways() -> Iterator[tuple[str, Callable[[memoryview], int]]]:
    """What compresses a piece, and gives its length."""
    sys.path.insert(0, str(AERO))
    from aero.core import zstd

    out = memoryview(bytearray(1 << 20))
    for name in zstd.CODECS:
        try:
            codec = zstd.choose(name)
        except Exception as error:
            print(f"- {name} is left out: {error}")
            continue
        yield f"{name}, frame by frame", lambda piece, codec=codec: codec.pack(piece, out)  # type: ignore[misc]
    module: Any
    try:
        import zstandard as module

        one = module.ZstdCompressor(level=zstd.LEVEL)
        yield "zstandard, frame by frame", lambda piece: len(one.compress(piece))
        parameters = module.ZstdCompressionParameters.from_level(zstd.LEVEL, window_log=20)
        stream = module.ZstdCompressor(compression_params=parameters).compressobj()

        def flushed(piece: memoryview) -> int:
            return len(stream.compress(piece)) + len(stream.flush(module.COMPRESSOBJ_FLUSH_BLOCK))

        yield "zstandard, one context a stream, 1 MiB", flushed
    except ImportError:
        print("- zstandard is left out: it is not installed")


def codecs(arguments: argparse.Namespace) -> None:
    data = contents(arguments.size * 1_000_000)
    print("| content | piece | way | ratio | us a piece | MB/s |\n| --- | --: | --- | --: | --: | --: |")
    for name in ("JSON", "log", "sources", "random"):
        for size in (512, 2048, 16_384, 131_072):
            for title, way in ways():
                pieces = [
                    memoryview(bytearray(data[name][at : at + size]))
                    for at in range(0, min(len(data[name]), 1000 * size), size)
                ]
                start = time.process_time()
                packed = sum(min(way(piece) or len(piece), len(piece)) for piece in pieces)
                took = time.process_time() - start
                plain = sum(map(len, pieces))
                each_us, rate = 1e6 * took / len(pieces), plain / took / 1e6
                print(f"| {name} | {size} | {title} | {plain / packed:.2f} | {each_us:.0f} | {rate:.0f} |")


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["path", "local", "codecs", "serve"])
    parser.add_argument("--size", type=int, default=8, metavar="MB", help="of each content")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="transfers in each sample")
    parser.add_argument("--only", default="", help="contents, separated by commas")
    parser.add_argument("--ip", default="127.0.0.1", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "serve":
        serve(arguments.size * 1_000_000, arguments.ip)
    elif arguments.what == "path":
        if os.geteuid():
            raise host.BenchError("network namespaces want root")
        over_path(arguments)
    elif arguments.what == "local":
        local(arguments)
    else:
        codecs(arguments)
    return 0


if __name__ == "__main__":
    host.script(main, "packing")
