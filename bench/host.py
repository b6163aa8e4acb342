"""The machine that a benchmark runs on: processes, ports, /proc, tools. What is measured, and whom, is
not known here.

Everything lives inside one `Lab`: whatever it starts ends with it, whether the benchmark finishes, fails
or is interrupted, and its files go with it. Linux only, because CPU time and memory are read from /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Callable, NamedTuple, NoReturn, TypeVar

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 20.0  # far above any start seen (0.1-0.5 s); only a hung process reaches it
STOP_TIMEOUT_S = 5.0  # what a process gets between SIGTERM and SIGKILL
POLL_S = 0.002  # fine enough for starts of 100 ms; coarser than what would take the core from the watched
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
BUSY_LOAD = 0.5  # of the last minute: more than the remains of what started this benchmark
PR_SET_PDEATHSIG = 1  # linux/prctl.h

T = TypeVar("T")
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """A run could not be made; the text is for a person."""


def script(main: Callable[[], int], name: str) -> NoReturn:
    """Runs a script of this folder to its end: what it gives is the exit code, its errors are one line."""
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


class Site(NamedTuple):
    """Where the two ends of a tunnel are. By default both are here, on loopback; see path.py for another one."""

    listen: str = LOOPBACK  # what servers and services bind
    address: str = LOOPBACK  # where a worker finds its server
    far_address: str = LOOPBACK  # where this end finds the services without a tunnel
    far: Sequence[str] = ()  # begins the command line of a program that runs at the worker's end


class ProcessKey(NamedTuple):
    """One process for sure: a pid alone may be given out again."""

    pid: int
    started: int  # clock ticks after boot, field 22 of /proc/PID/stat


class Memory(NamedTuple):
    """Bytes; `pss` counts each shared page by its share, and is None where the kernel hides it."""

    rss: int
    pss: int | None


def _die_with_parent() -> None:
    """In the child, before exec: even a SIGKILL of the benchmark leaves nothing running."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A started program and its log (stdout and stderr together)."""

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, cwd: Path | None, env: Mapping[str, str] | None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which stops them in order
                preexec_fn=_die_with_parent,
            )
        self.pid = self.popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Raise `BenchError` with the end of the log if the process has ended."""
        code = self.popen.poll()
        if code is not None:
            tail = "\n".join(self.output().splitlines()[-15:])
            raise BenchError(f"{self.name} ended with code {code}:\n{tail}")

    def stop(self) -> None:
        """End the process and all that it started. Safe to call twice."""
        family = [ProcessKey(pid, _started(pid)) for pid in descendants(self.pid)]
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for key in family:
            if key.started and _started(key.pid) == key.started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.pid, signal.SIGTERM)


class Lab:
    """A temporary folder and the processes of one benchmark; leaving it ends and removes both."""

    def __init__(self, site: Site = Site()) -> None:  # noqa: B008  # a tuple
        self.site = site
        self._processes: list[Process] = []
        self._count = 0

    def __enter__(self) -> Lab:
        raise_file_limit()
        signal.signal(signal.SIGTERM, _stop_on_signal)
        signal.signal(signal.SIGHUP, _stop_on_signal)
        self.root = Path(tempfile.mkdtemp(prefix="aero-bench-"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not leave half of them running.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in reversed(self._processes):
                process.stop()
        finally:
            shutil.rmtree(self.root, ignore_errors=True)
            signal.signal(signal.SIGINT, before)

    def folder(self, name: str) -> Path:
        """A new private folder."""
        self._count += 1
        path = self.root / f"{self._count:03d}-{name}"
        path.mkdir(mode=0o700)
        return path

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        far: bool = False,
    ) -> Process:
        """Start a program that lives until `stop` or until the lab closes; `far`: at the worker's end. Call it from
        the main thread only: the kernel takes the end of the starting thread for the parent's death."""
        self._count += 1
        if far:
            argv = [*self.site.far, *argv]
        process = Process(name, argv, self.root / f"{self._count:03d}-{name}.log", cwd, env)
        self._processes.append(process)
        return process

    def stop(self, process: Process) -> None:
        process.stop()
        self._processes.remove(process)

    def connected(self, port: int) -> bool:
        """Whether anyone who came to this port of the worker's end is still connected: established, or not yet
        closed by that side."""
        return port in _ports_in(["01", "08"], self.site.far)

    def listening(self, ports: Sequence[int]) -> bool:
        """Whether every one of these ports is listened on at the worker's end."""
        return _ports_in(["0A"], self.site.far).issuperset(ports)


def _stop_on_signal(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def raise_file_limit() -> None:
    """Let this process, and so all that it starts, open as many files as the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(argv: Sequence[str], timeout_s: float, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a client program to its end. Raises `BenchError` when it takes too long."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=cwd,
            preexec_fn=_die_with_parent,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{argv[0]} did not finish within {timeout_s:.0f} s") from None


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    processes: Sequence[Process] = (),
    timeout_s: float = START_TIMEOUT_S,
) -> T:
    """Poll until `probe` gives something true. Raises `BenchError` at the deadline, or as soon as one of the
    `processes` that it depends on has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = probe()
        if result:
            return result
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\n{process.name}: {process.output()[-800:]}" for process in processes)
            raise BenchError(f"waited {timeout_s:.0f} s for {what}{logs}")
        time.sleep(POLL_S)


# Ports


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((LOOPBACK, 0))
        return [sock.getsockname()[1] for sock in sockets]


def _ports_in(states: Sequence[str], far: Sequence[str] = ()) -> set[int]:
    """Local ports of all TCP sockets in these states (hex, as in the kernel's tcp_states.h)."""
    tables = ["/proc/net/tcp", "/proc/net/tcp6"]
    lines: list[str] = []
    if far:
        lines = run([*far, "cat", *tables], timeout_s=10).stdout.splitlines()
    else:
        for table in map(Path, tables):
            lines += table.read_text().splitlines() if table.exists() else []
    found = set()
    for fields in (line.split(None, 4) for line in lines):
        if fields[3] in states:
            found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def listening(ports: Sequence[int]) -> bool:
    """Whether every port is listened on, asked without connecting: a connection would count as a visitor."""
    return _ports_in(["0A"]).issuperset(ports)


# Processes as /proc sees them


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the program's name, so field 3 of proc(5) is index 0; empty if
    gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def descendants(pid: int) -> list[int]:
    """Children, grandchildren and so on, without `pid` itself."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    front = [pid]
    while front:
        front = [child for parent in front for child in children.get(parent, [])]
        found += front
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that these processes have used so far, in seconds (resolution: one clock tick)."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def memory(pids: Sequence[int]) -> Memory:
    """Resident memory of these processes together."""
    rss = sum(_kib(Path(f"/proc/{pid}/status"), "VmRSS:") for pid in pids) * 1024
    try:
        return Memory(rss, sum(_kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids) * 1024)
    except PermissionError:
        return Memory(rss, None)


def _kib(path: Path, field: str) -> int:
    """0 for a process that has ended."""
    try:
        found = re.search(rf"^{field}\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found.group(1)) if found else 0


# Tools and the machine


def tool(name: str) -> str:
    """The absolute path of a program, also from the sbin folders that a user's PATH leaves out; else its
    name."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path) or name


def require(packages: Mapping[str, str]) -> None:
    """`packages`: program -> the Debian package that brings it. Raises `BenchError` that says what to
    install."""
    absent = missing(packages)
    if absent:
        wanted = " ".join(sorted({packages[name] for name in absent}))
        raise BenchError(f"missing: {', '.join(absent)}; run: apt-get install {wanted}")


def missing(programs: Iterable[str]) -> list[str]:
    """Those of these programs that are not installed."""
    return [name for name in programs if not os.path.isabs(tool(name))]


def version_of(*argv: str) -> str:
    """The first line that a program says about its version, on whichever stream."""
    done = run([tool(argv[0]), *argv[1:]], timeout_s=10)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def machine() -> list[tuple[str, str]]:
    """Label and value of what a reader must know about this host to judge a figure."""
    model = "unknown"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(("model name", "Model")):
                model = line.partition(":")[2].strip()
                break
    load = os.getloadavg()
    busy = "; a busy machine: read ratios only" if load[0] > BUSY_LOAD else ""
    return [
        ("CPU", f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"),
        ("Kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Load before", f"{load[0]:.2f} (1 min), {load[1]:.2f} (5 min){busy}"),
    ]
