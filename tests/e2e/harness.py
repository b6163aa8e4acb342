"""Processes, ports and waiting for the end-to-end tests, and how aero itself is started.

Nothing here knows a single test or a foreign program, and nothing imports aero, which is only ever seen from
outside. Linux only: who listens, and how much memory a process has, is read from /proc.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, TypeVar

PROJECT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
# Ten times what a loaded machine with two cores was seen to need; only a failure waits this long.
DEADLINE_S = 30.0
COMMAND = shlex.split(os.environ.get("AERO_TEST_COMMAND", "")) or [sys.executable, str(PROJECT / "aero.py")]

T = TypeVar("T")
_pause = threading.Event().wait  # never set: the pause between two looks at a condition


def poll(what: str, condition: Callable[[], T], timeout_s: float = DEADLINE_S) -> T:
    """Look until ``condition()`` is true, return what it gave. Fails with ``what`` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        _pause(0.01)


# ----------------------------------------------------------------------------
# Ports
# ----------------------------------------------------------------------------


class _PortBlock:
    """Ports that no other test process uses: whoever has bound the first port of a block owns the rest of it.

    The blocks lie below the range that Linux takes ports of outgoing connections from, so that nothing
    takes one by chance between its reservation and its use.
    """

    SIZE = 500
    LOW, HIGH = 10_000, 32_000

    def __init__(self) -> None:
        self._guards: list[socket.socket] = []  # of each block that is ours
        self._claim()

    def _claim(self) -> None:
        """Makes a block that is free ours; a former one stays ours, as its ports may still be in use."""
        starts = range(self.LOW, self.HIGH, self.SIZE)
        first = os.getpid() % len(starts)
        for start in [*starts[first:], *starts[:first]]:
            guard = socket.socket()
            try:
                guard.bind((LOOPBACK, start))
            except OSError:
                guard.close()
                continue
            guard.listen(1)
            self._guards.append(guard)
            self._next, self._end = start + 1, start + self.SIZE
            return
        raise AssertionError("every block of ports is taken")

    def take(self, count: int) -> range:
        """``count`` free ports in a row, none of which is ever given out again."""
        while True:
            while self._next + count <= self._end:
                ports = range(self._next, self._next + count)
                busy = [port for port in ports if not _is_free(port)]
                if not busy:
                    self._next = ports.stop
                    return ports
                self._next = busy[-1] + 1
            self._claim()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


_block: list[_PortBlock] = []


def free_ports(count: int) -> range:
    """Ports in a row that are free and stay ours for this process' life."""
    if not _block:
        _block.append(_PortBlock())
    return _block[0].take(count)


def free_port() -> int:
    """One port that is free and stays ours for this process' life."""
    return free_ports(1)[0]


def _sockets(port: int, state: str, column: int) -> int:
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                count += fields[3] == state and int(fields[column].rpartition(":")[2], 16) == port
    return count


def listening(port: int) -> bool:
    """Whether somebody listens on this TCP port, without bothering them with a connection."""
    return _sockets(port, "0A", 1) > 0


def connections_to(port: int) -> int:
    """How many established TCP connections of this machine lead to ``port`` of this machine."""
    return _sockets(port, "01", 2)


# ----------------------------------------------------------------------------
# Processes
# ----------------------------------------------------------------------------


class Program:
    """A started program. It writes to files, which ``stdout`` and ``stderr`` read anew each time."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str],
        user: str | None = None,
        stdin: Path | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.stdout_path, self.stderr_path = folder / f"{name}.stdout", folder / f"{name}.stderr"
        with (
            open(stdin or os.devnull, "rb") as given,
            self.stdout_path.open("wb") as out,
            self.stderr_path.open("wb") as err,
        ):
            self.popen = subprocess.Popen(
                self.argv,
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=PROJECT if user is None else "/",
                env=env,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                start_new_session=True,
            )
        self.pid = self.popen.pid

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait until the program ends by itself; its exit code."""
        return self.popen.wait(timeout_s)

    def send(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.send(number)
        return self.wait()

    def end(self) -> None:
        """End it and all that it started, whatever state it is in."""
        for number, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.pid, number)
                os.killpg(self.pid, signal.SIGCONT)
                self.popen.wait(patience_s)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def says(self, pattern: str, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until a regular expression (case ignored) is found in what the program wrote on stderr."""
        return self._wait_for(pattern, lambda: self.stderr, timeout_s)

    def prints(self, pattern: str, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until a regular expression (case ignored) is found in what the program wrote on stdout."""
        return self._wait_for(pattern, lambda: self.stdout, timeout_s)

    def _wait_for(self, pattern: str, output: Callable[[], str], timeout_s: float) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            ended = not self.running
            match = re.search(pattern, output(), re.IGNORECASE | re.MULTILINE)
            assert match or not ended, (
                f"{self.name} ended with {self.popen.returncode} before {pattern!r} came"
            )
            return match

        match = poll(f"{pattern!r} from {self.name}", look, timeout_s)
        assert match is not None
        return match

    def memory(self) -> int:
        """Resident memory in bytes, of this process alone."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert found, f"{self.name} has no memory: {status}"
        return int(found[1]) * 1024


class Worker(Program):
    """A running `aero client`."""

    def address(self, target: str, timeout_s: float = DEADLINE_S) -> tuple[str, int]:
        """Where visitors of a target connect to: the address at the end of the latest line that names it."""
        self.prints(rf"^{target}\b.*:\d+\s*$", timeout_s)
        lines = [line for line in self.stdout.splitlines() if re.match(rf"{target}\b.*:\d+\s*$", line)]
        host, _, port = lines[-1].split()[-1].rpartition(":")
        return host.strip("[]"), int(port)

    def port(self, target: str, timeout_s: float = DEADLINE_S) -> int:
        return self.address(target, timeout_s)[1]


class Server(Program):
    """A running `aero server`; ``link_port`` is where workers dial."""

    link_port: int


def address(port: int) -> str:
    """A port of this machine as a target or URL names it."""
    return f"{LOOPBACK}:{port}"


P = TypeVar("P", bound=Program)


class Lab:
    """One test's folder and processes: whatever it starts ends with it.

    What must hold in every test is checked at its end: no traceback in any output, and never the code.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aero-e2e-"))
        self.folder.chmod(0o711)  # programs that refuse to run as root get subfolders of their own
        self.code = "code-" + secrets.token_hex(8)
        self.settings: dict[str, str] = {}  # more of what every program finds in its environment
        self.programs: list[Program] = []
        self.closing = contextlib.ExitStack()
        self._count = 0

    def path(self, name: str) -> Path:
        """A name in this test's folder that is not in use yet."""
        self._count += 1
        return self.folder / f"{self._count:02d}-{name}"

    def new_folder(self, name: str) -> Path:
        folder = self.path(name)
        folder.mkdir()
        return folder

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What every program sees: nothing of the developer's own settings."""
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return {
            "PATH": path,
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            **self.settings,
            **(extra or {}),
        }

    def start(
        self,
        argv: Sequence[str],
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: Path | None = None,
    ) -> Program:
        """Start a program that ends with the test."""
        return self._start(Program, name or Path(argv[0]).name, argv, env, user, stdin)

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, whatever its exit code."""
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=self.environment(env),
            timeout=timeout_s,
            check=False,
        )

    def check(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = DEADLINE_S
    ) -> str:
        """Run a program that must succeed; its stdout."""
        done = self.run(argv, env=env, timeout_s=timeout_s)
        assert done.returncode == 0, (
            f"{shlex.join(argv)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def aero(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run aero to its end."""
        return self.run([*COMMAND, *arguments], env=env)

    def server(
        self,
        *options: str,
        port: int = 0,
        state: Path | None = None,
        code: str | None = None,
        ip: str = LOOPBACK,
        ports: str = "0",
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (*COMMAND, "server"),
    ) -> Server:
        """Start a server and wait until it listens. ``code`` "" gives no ``--auth``."""
        port = port or free_port()
        argv = [*command, "--ip", ip, "--port", str(port), "--ports", ports]
        argv += [word for face in ("--api", "--mux") if face not in options for word in (face, "off")]
        argv += ["--state", str(state or self.path("server-state")), *self._auth(code), *options]
        server = self._start(Server, "server", argv, env)
        server.link_port = port
        poll("the server to listen", lambda: listening(port) or not server.running)
        assert server.running, f"the server ended with {server.popen.returncode}"
        return server

    def worker(
        self,
        server: Server | int,
        *options: str,
        targets: Mapping[str, int | str],
        tag: str = "t",
        state: Path | None = None,
        code: str | None = None,
        pool: int = 1,
        ping: int = 60,
        server_host: str = LOOPBACK,
        ways: str = "",
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (*COMMAND, "client"),
    ) -> Worker:
        """Start a worker. ``targets``: names, and the port of this machine or the address of each; ``ways``: other ways
        to the server than its address; ``tag`` "" gives no ``--tag``.
        """
        port = server if isinstance(server, int) else server.link_port
        wanted = [f"{name}@{to if isinstance(to, str) else address(to)}" for name, to in targets.items()]
        argv = [
            *command,
            *(["--tag", tag] if tag else []),
            "--host",
            "lab",
            "--server",
            ways or f"{server_host}:{port}",
        ]
        argv += ["--target", ",".join(wanted), "--ping", str(ping), "--pool", str(pool)]
        argv += ["--state", str(state or self.path("worker-state")), *self._auth(code), *options]
        return self._start(Worker, f"worker-{tag}", argv, env)

    def tunnel(self, targets: Mapping[str, int | str], **options: int) -> tuple[Server, Worker]:
        """A server and a worker with these targets."""
        server = self.server()
        return server, self.worker(server, targets=targets, **options)

    def _auth(self, code: str | None) -> list[str]:
        code = self.code if code is None else code
        return ["--auth", code] if code else []

    def _start(
        self,
        kind: type[P],
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        user: str | None = None,
        stdin: Path | None = None,
    ) -> P:
        self._count += 1
        name = f"{self._count:02d}-{name}"
        program = kind(name, argv, self.folder, env=self.environment(env), user=user, stdin=stdin)
        self.programs.append(program)
        return program

    def report(self) -> str:
        """Every program of this test, how it stands, and the end of what it wrote."""
        parts = []
        for program in self.programs:
            state = "running" if program.running else f"exit {program.popen.returncode}"
            parts.append(f"--- {program.name} ({state}): {shlex.join(program.argv)}")
            for stream, text in (("stdout", program.stdout), ("stderr", program.stderr)):
                parts += [f"{stream}: {line}" for line in text.splitlines()[-40:]]
        return "\n".join(parts)

    def close(self) -> None:
        """End everything, and check what holds for every test."""
        try:
            for program in reversed(self.programs):
                program.end()
            self.closing.close()
            for program in self.programs:
                for text in (program.stdout, program.stderr):
                    assert "Traceback" not in text, (
                        f"{program.name} wrote a traceback, its end: {text[-300:]}"
                    )
                    assert self.code not in text, f"{program.name} wrote the code"
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


# ----------------------------------------------------------------------------
# Visitors and targets of our own
# ----------------------------------------------------------------------------


def connect(port: int, host: str = LOOPBACK) -> socket.socket:
    """A visitor."""
    return socket.create_connection((host, port), timeout=DEADLINE_S)


def read_all(visitor: socket.socket) -> bytes:
    """Everything until the other side ends its direction."""
    return b"".join(iter(lambda: visitor.recv(65536), b""))


def echoes(port: int, text: bytes = b"hello", host: str = LOOPBACK) -> bool:
    """Whether a fresh connection to a mapping reaches an echo service behind it."""
    try:
        with connect(port, host) as visitor:
            return exchange(visitor, text)
    except OSError:
        return False


def exchange(visitor: socket.socket, text: bytes = b"hello") -> bool:
    """Send ``text`` through an open connection to an echo service; whether the same came back."""
    visitor.sendall(text)
    answer = b""
    while len(answer) < len(text):
        chunk = visitor.recv(65536)
        if not chunk:
            return False
        answer += chunk
    return answer == text


def is_reset(port: int) -> bool:
    """Whether a visitor of a mapping gets a reset, be it while he still connects, and not a clean end."""
    try:
        with connect(port) as visitor:
            read_all(visitor)
    except ConnectionResetError:
        return True
    return False
