"""The HTTP mux on this machine: beside the plain TCP mapping of the same target, and beside nginx as a reverse proxy.

Prints a table as Markdown; progress goes to stderr. Nothing here is timed by the tests. See mux.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import backends
import host
import measures
import mux_services
import peers

EVENTS = "events"
CONNECTIONS = 32
WEBSOCKETS = 1000
EVENT_COUNT = 100
SPARE_S = 20

NGINX_PROXY = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream web {{ server {address}:{web}; keepalive 64; keepalive_requests 1000000000; }}
    upstream events {{ server {address}:{events}; }}
    server {{
        listen {address}:{port} backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
        location /bench/web/ {{ proxy_pass http://web/; }}
        location /bench/events/ {{ proxy_pass http://events/; proxy_buffering off; }}
    }}
}}
"""


def nginx_proxy(lab: host.Lab, web: int, events: int) -> int:
    """An nginx before the raw targets, with paths like the mux's; its port."""
    folder, port = lab.folder("nginx-proxy"), host.free_ports(1)[0]
    config = folder / "nginx.conf"
    user = f"user {pwd.getpwuid(0).pw_name} root;" if os.geteuid() == 0 else ""
    config.write_text(
        NGINX_PROXY.format(user=user, folder=folder, address=host.LOOPBACK, port=port, web=web, events=events)
    )
    process = lab.spawn("nginx-proxy", [host.tool("nginx"), "-e", "stderr", "-c", str(config)])
    host.wait_for("nginx as a proxy", lambda: host.listening([port]), [process])
    return port


# ----------------------------------------------------------------------------
# Measures
# ----------------------------------------------------------------------------


def requests(url: str, seconds: int) -> tuple[float, float]:
    """Requests per second and their p99 in milliseconds."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "5s", url]
    output = host.run(command, seconds + SPARE_S).stdout
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if found is None:
        raise host.BenchError(f"wrk said nothing of p99: {output[-300:]}")
    return measures.wrk_rate(output), float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def event_delays(port: int, path: str) -> list[float]:
    """Milliseconds from the target's sending to the visitor's having it, for EVENT_COUNT events."""
    delays: list[float] = []
    with contextlib.closing(_asked(port, path)) as visitor:
        buffer = b""
        while len(delays) < EVENT_COUNT:
            buffer += visitor.recv(65536)
            now = time.monotonic_ns()
            *events, buffer = buffer.split(b"\n\n")
            delays += [
                (now - int(sent)) / 1e6 for event in events for sent in re.findall(rb"data: (\d+)", event)
            ]
    return delays[1:]  # the first came with the head


def _asked(port: int, path: str, fields: str = "") -> socket.socket:
    visitor = socket.create_connection((host.LOOPBACK, port), timeout=30)
    visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    return visitor


@contextlib.contextmanager
def websockets(port: int, path: str) -> Iterator[None]:
    """WEBSOCKETS upgraded connections, each of which has had one echo."""
    visitors = []
    try:
        for _ in range(WEBSOCKETS):
            visitor = _asked(port, path, "Connection: Upgrade\r\nUpgrade: echo\r\n")
            visitors.append(visitor)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += visitor.recv(4096)
            if b" 101 " not in head:
                raise host.BenchError(f"no upgrade: {head[:200]!r}")
            visitor.sendall(b"?" * 64)
            if len(visitor.recv(64)) != 64:
                raise host.BenchError("an echo came in pieces")
        yield
    finally:
        for visitor in visitors:
            visitor.close()


def websocket_memory(port: int, path: str, pids: list[int]) -> float:
    """KiB of resident memory for each of WEBSOCKETS open connections."""
    before = host.memory(pids).rss
    with websockets(port, path):
        after = host.memory(pids).rss
    return (after - before) / 1024 / WEBSOCKETS


# ----------------------------------------------------------------------------
# The run
# ----------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> None:
    """Measures everything and prints the tables. Raises BenchError."""
    with host.Lab() as lab:
        stand = backends.Backends(lab)
        events, alone = host.free_ports(2)
        here = str(Path(mux_services.__file__).resolve())
        services = [
            lab.spawn(name, [arguments.python, here, name, str(port)])
            for name, port in (("events", events), ("pywsgi", alone))
        ]
        host.wait_for("the services", lambda: host.listening([events, alone]), services)
        web = stand.ports[backends.WEB]
        proxy = nginx_proxy(lab, web, events)
        targets = {backends.WEB: web, backends.ECHO: stand.ports[backends.ECHO], EVENTS: events}
        aero = peers.Aero(lab, targets, peers.aero_command(arguments.aero, arguments.python), mux=True)
        aero.start()
        assert aero.mux_port is not None

        ways = {
            "mux": (aero.mux_port, "/bench/web/small", f"/bench/{EVENTS}/"),
            "plain mapping": (aero.ports[backends.WEB], "/small", "/"),
            "nginx, raw target": (proxy, "/bench/web/small", f"/bench/{EVENTS}/"),
            "pywsgi, no proxy": (alone, "/", ""),
            "target itself": (web, "/small", ""),
        }
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name, (port, path, _) in ways.items():
                samples[name].append(requests(f"http://{host.LOOPBACK}:{port}{path}", arguments.seconds))
                print(f"round {number + 1} {name}: {samples[name][-1]}", file=sys.stderr, flush=True)
        delays = {
            "mux": event_delays(aero.mux_port, f"/bench/{EVENTS}/events"),
            "plain mapping": event_delays(aero.ports[EVENTS], "/events"),
            "nginx, raw target": event_delays(proxy, f"/bench/{EVENTS}/events"),
            "target itself": event_delays(events, "/events"),
        }
        memory = {}
        for name, path in (("mux", f"/bench/{EVENTS}/ws"), ("plain mapping", "/ws")):
            aero.stop()
            aero.start()
            port = aero.mux_port if name == "mux" else aero.ports[EVENTS]
            memory[name] = websocket_memory(port, path, aero.pids(peers.SERVER))
        report(arguments, aero, samples, delays, memory)


def report(
    arguments: argparse.Namespace,
    aero: peers.Aero,
    samples: dict[str, list[tuple[float, float]]],
    delays: dict[str, list[float]],
    memory: dict[str, float],
) -> None:
    """Prints the tables."""
    for name, value in [
        *host.machine(),
        ("aero", f"{aero.version()}, {aero.aead}"),
        ("Python", peers.python_versions(arguments.python)),
        ("Runs", f"medians of {arguments.rounds} rounds of {arguments.seconds} s, taking turns"),
    ]:
        print(f"- {name}: {value}")
    rate = {name: statistics.median(each[0] for each in found) for name, found in samples.items()}
    print(f"\n| {CONNECTIONS} connections, keep-alive, 1 KiB | requests/s | of the plain mapping | p99 ms |")
    print("|---|---:|---:|---:|")
    for name, found in samples.items():
        p99 = statistics.median(each[1] for each in found)
        print(f"| {name} | {rate[name]:,.0f} | {rate[name] / rate['plain mapping']:.0%} | {p99:.1f} |")
    print("\n| event, from sending to having it | p50 ms | p99 ms |\n|---|---:|---:|")
    for name, waits in delays.items():
        print(f"| {name} | {statistics.median(waits):.2f} | {measures.percentile(waits, 99):.2f} |")
    print(f"\n| {WEBSOCKETS:,} open WebSockets | KiB each, server |\n|---|---:|")
    for name, size in memory.items():
        print(f"| {name} | {size:.1f} |")


def main() -> int:
    """Runs it; 1 when something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--aero", default="python aero.py", metavar="CMD", help="how to start aero, from its folder"
    )
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter for aero")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    arguments = parser.parse_args()
    host.raise_file_limit()
    host.require({"nginx": "nginx-light", "iperf3": "iperf3", "wrk": "wrk"})
    try:
        run(arguments)
    except host.BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
