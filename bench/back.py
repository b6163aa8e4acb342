#!/usr/bin/env python3
"""How long until all workers are back after their server was restarted: `back.py [WORKERS …]`, 100 by default.

Each worker is a process of its own with one target, as on as many hosts; 1,000 of them want 20 GB of memory. The clock
starts before the server's end, which is by SIGKILL: nobody was told, so every worker has to find out and come back by
itself.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import host
import peers
from rounds import number_text

START_TIMEOUT_S = 600.0  # a thousand interpreters start one after the other on two cores
BACK_TIMEOUT_S = 120.0


class Crowd:
    """One server and its workers."""

    def __init__(self, lab: host.Lab, python: str, count: int) -> None:
        self._lab, self._python = lab, python
        self._code = secrets.token_hex(16)
        self._state = lab.folder("server")
        self._port, *self.mapped = host.free_ports(1 + count)
        self.server = self._start_server()
        for number, port in enumerate(self.mapped):
            self._start_worker(number, port)
            if number % 10 == 9:  # no more at once than start without running into each other's timeouts
                self.wait(self.mapped[: number + 1], START_TIMEOUT_S)
        self.wait(self.mapped, START_TIMEOUT_S)

    def wait(self, ports: Sequence[int], timeout_s: float) -> None:
        host.wait_for(f"{len(ports)} workers", lambda: host.listening(ports), [self.server], timeout_s)

    def restart(self) -> float:
        """Kills the server, starts it again; the seconds until every worker's mapping is there again."""
        begin = time.perf_counter()
        self.server.popen.kill()
        self._lab.stop(self.server)
        self.server = self._start_server()
        self.wait(self.mapped, BACK_TIMEOUT_S)
        return time.perf_counter() - begin

    def _start_server(self) -> host.Process:
        ports = f"{min(self.mapped)}-{max(self.mapped)}"
        options = ["--ip", host.LOOPBACK, "--ports", ports, "--api", "off", "--mux", "off"]
        return self._spawn("server", "--port", str(self._port), "--state", str(self._state), *options)

    def _start_worker(self, number: int, port: int) -> None:
        where = ["--server", f"{host.LOOPBACK}:{self._port}", "--tag", f"w{number}"]
        target = f"t@{host.LOOPBACK}:9?remote={port}"
        self._spawn("client", *where, "--target", target, "--state", str(self._lab.folder("worker")))

    def _spawn(self, role: str, *arguments: str) -> host.Process:
        command = [self._python, "aero.py", role, "--auth", self._code, *arguments]
        return self._lab.spawn(f"aero-{role}", command, cwd=peers.PROJECT)


def main() -> int:
    """Prints one line for each number of workers; 1 when they did not come back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workers", type=int, nargs="*", default=[100])
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter for aero")
    parser.add_argument("--rounds", type=int, default=3, help="restarts for each number")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found: dict[int, list[float]] = {}
    print(*(f"- {label}: {value}" for label, value in host.machine()), sep="\n", end="\n\n")
    print("| workers | back after, s | of so many restarts |\n| --: | --- | --: |")
    for count in arguments.workers:
        with host.Lab() as lab:
            crowd = Crowd(lab, arguments.python, count)
            found[count] = sorted(crowd.restart() for _ in range(arguments.rounds))
        figures = ", ".join(number_text(value) for value in found[count])
        print(f"| {count:,} | {figures} | {arguments.rounds} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    host.script(main, "back")
