"""How long aero.pyz takes to start, and what an idle worker from it weighs. Nothing else is measured here.

    ./build_pyz.sh && python3 bench/startup.py [--pyz FILE] [--python PROGRAM] [--rounds 10]

Each row is the median of its rounds; the rounds of all rows are interleaved, so that a busy minute of the machine
hits all of them alike. Every start has an environment like cron's: a HOME, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from host import LOOPBACK, BenchError, Lab, listening, machine, memory, version_of, wait_for
from host import free_ports as ports

CHECKOUT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 20
SETTLE_S = 3.0  # the worker's first pings are over, and what the start allocated is given back


class Row(NamedTuple):
    """One line of the table: the figure in ms, what it is compared with, and what it should not exceed."""

    name: str
    once: Callable[[], float]
    minus: str
    target_ms: int | None


class Bench:
    """Starts of one archive by one interpreter, inside one lab."""

    def __init__(self, lab: Lab, python: str, pyz: Path) -> None:
        self.lab = lab
        self.python = python
        self.pyz = str(pyz)
        self.env = {"HOME": str(lab.folder("home"))}

    def bare(self) -> float:
        """The interpreter alone: what no program in Python can be faster than."""
        return self.finished([self.python, "-c", "pass"])

    def version(self) -> float:
        return self.finished([self.python, self.pyz, "--version"])

    def warm(self) -> float:
        """Until the worker's connection arrives, the cache being there."""
        return self.until_dialled(self.env)

    def cold(self) -> float:
        """The same with an empty home: unpacking included."""
        home = self.lab.folder("cold")
        try:
            return self.until_dialled({"HOME": str(home)})
        finally:
            shutil.rmtree(home)

    def second(self, lock: Path) -> float:
        """A start that finds the lock held, as every minute under cron."""
        return self.finished([self.python, self.pyz, *self.client(9), "--lock", str(lock)])

    def finished(self, command: list[str]) -> float:
        """ms from before the fork until the end of a program that must succeed."""
        begin = time.perf_counter()
        done = subprocess.run(
            command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
        )
        took = time.perf_counter() - begin
        if done.returncode:
            raise BenchError(f"{command} ended with code {done.returncode}: {done.stderr.decode()[-400:]}")
        return took * 1000

    def until_dialled(self, env: dict[str, str]) -> float:
        """ms from before the fork until a worker's connection arrives here."""
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(TIMEOUT_S)
            command = [self.python, self.pyz, *self.client(listener.getsockname()[1])]
            begin = time.perf_counter()
            worker = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                visitor, _ = listener.accept()
                took = time.perf_counter() - begin
                visitor.close()
            finally:
                worker.kill()
                worker.wait()
        return took * 1000

    def client(self, port: int) -> list[str]:
        return ["client", "--server", f"{LOOPBACK}:{port}", "--target", f"web@{LOOPBACK}:80"]

    @contextlib.contextmanager
    def lock_held(self) -> Iterator[Path]:
        """A worker that holds a lock, and whose server is not there."""
        lock = self.lab.folder("lock") / "lock"
        arguments = [self.python, self.pyz, *self.client(ports(1)[0]), "--lock", str(lock)]
        holder = self.lab.spawn("holder", arguments, env=self.env)
        wait_for("the first worker", lambda: "retry_s" in holder.output(), [holder])
        yield lock
        self.lab.stop(holder)

    def resident(self) -> tuple[int, int]:
        """Bytes of an idle server and of an idle worker with one link, both from the archive."""
        port, state = ports(1)[0], self.lab.folder("state")
        serve = [
            "server",
            "--ip",
            LOOPBACK,
            "--port",
            str(port),
            "--api",
            "off",
            "--mux",
            "off",
            "--state",
            str(state),
        ]
        server = self.lab.spawn("server", [self.python, self.pyz, *serve], env=self.env)
        wait_for("the server", lambda: listening([port]), [server])
        worker = self.lab.spawn("worker", [self.python, self.pyz, *self.client(port)], env=self.env)
        wait_for("the worker", lambda: "link up" in worker.output(), [server, worker])
        time.sleep(SETTLE_S)
        found = memory([server.pid]).rss, memory([worker.pid]).rss
        self.lab.stop(worker)
        self.lab.stop(server)
        return found


def measure(bench: Bench, rounds: int) -> list[str]:
    """Return the table's lines."""
    bench.warm()  # makes the cache
    with bench.lock_held() as lock:
        rows = [
            Row("bare interpreter, `-c pass`", bench.bare, "", None),
            Row("`--version`, over the bare interpreter", bench.version, "bare interpreter, `-c pass`", 60),
            Row("warm start until the worker dials", bench.warm, "", 250),
            Row("cold start until the worker dials", bench.cold, "", 600),
            Row("second start under `--lock`", lambda: bench.second(lock), "", 120),
        ]
        samples: dict[str, list[float]] = {row.name: [] for row in rows}
        for done in range(rounds):
            print(f"round {done + 1} of {rounds}", file=sys.stderr)
            for row in rows:
                samples[row.name].append(row.once())
    lines = ["| what | median | range | at most |", "|---|---|---|---|"]
    for row in rows:
        base = statistics.median(samples[row.minus]) if row.minus else 0.0
        taken = [sample - base for sample in samples[row.name]]
        target = f"{row.target_ms} ms" if row.target_ms else "–"
        spread = f"{min(taken):.0f}–{max(taken):.0f} ms"
        lines.append(f"| {row.name} | {statistics.median(taken):.0f} ms | {spread} | {target} |")
    server, worker = bench.resident()
    lines.append(f"| idle worker, resident | {worker / 1e6:.1f} MB | | 22 MB |")
    lines.append(f"| idle server, API and mux off, resident | {server / 1e6:.1f} MB | | 24 MB |")
    return lines


def main() -> int:
    """Measure what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pyz", type=Path, default=CHECKOUT / "aero.pyz", help="the archive")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs it")
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    python = os.path.abspath(shutil.which(asked.python) or asked.python)
    try:
        with Lab() as lab:
            facts = [*machine(), ("Python", f"{python}, {version_of(python, '--version')}")]
            lines = measure(Bench(lab, python, asked.pyz.resolve()), asked.rounds)
    except BenchError as error:
        print(f"startup: {error}", file=sys.stderr)
        return 1
    facts.append(("Archive", f"{asked.pyz.stat().st_size / 1e6:.2f} MB"))
    print("\n".join([*(f"{label}: {value}  " for label, value in facts), "", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
