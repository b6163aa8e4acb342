"""What users cost a server: its start, its memory, a login, and a reload while many workers are there.

    bench/users.py [--users 1000] [--leases 10000] [--workers 1000] [--logins 200]

Two servers run at a time, one without users and leases and one with them, and logins take turns between them, so
that what else the machine does falls on both. A login is TCP, handshake, JOIN and JOINED, by a client that has its
code stretched already. During a reload the API is asked for /health over and over: the longest answer is what a
stream may have waited.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from aero import __version__  # noqa: E402
from aero.core.aead.choose import choose  # noqa: E402
from aero.core.joining import JoinNew  # noqa: E402
from aero.core.spake2plus import Password, Verifier  # noqa: E402
from aero.core.stretch import stretch  # noqa: E402
from aero.net.handshake import greet_server  # noqa: E402
from aero.net.transport import TcpTransport, receive  # noqa: E402
from aero.server.store.database import Database  # noqa: E402
from aero.server.store.leases import Leases, Owner  # noqa: E402


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A server process, with or without users."""

    def __init__(self, folder: Path, users: str, leases: int, code: str = "") -> None:
        self.port, self.api = free_port(), free_port()
        self.file = folder / "users.toml"
        state = folder / "state"
        if leases:
            database = Database(str(state))
            table = Leases(database)
            for number in range(leases):
                owner = Owner(f"u{number % 1000}", f"u{number % 1000}", "host", f"t{number}")
                table.keep(owner, 20_000 + number, f"{number:032x}")
            database.flush()
            database.close()
        argv = [
            sys.executable,
            str(ROOT / "aero.py"),
            "server",
            "--ip",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        argv += ["--api", f"127.0.0.1:{self.api}", "--mux", "off", "--state", str(state)]
        argv += ["--auth", code] if code else []
        if users:
            self.file.write_text(users)
            argv += ["--users", str(self.file)]
        began = time.perf_counter()
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit("a server has ended")
            time.sleep(0.005)
        self.start_s = time.perf_counter() - began

    def _answers(self) -> bool:
        try:
            return self.health() is not None
        except OSError:
            return False

    def health(self) -> float:
        """How long /health takes, in seconds."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.api, timeout=30)
        connection.request("GET", "/health")
        connection.getresponse().read()
        connection.close()
        return time.perf_counter() - began

    @property
    def resident_mib(self) -> float:
        """Its memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def login(server: Server, password: Password, user: str, tag: str) -> tuple[float, TcpTransport]:
    """A new worker; how long it took, in seconds, and its connection."""
    join = JoinNew(__version__, 3600.0, os.urandom(16).hex(), tag, "bench")
    began = time.perf_counter()
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.setblocking(False)
    transport = TcpTransport(sock)
    keyed = greet_server(transport, password, user, choose(""), join.pack)
    if not keyed.early:
        receive(transport, 4096)
    return time.perf_counter() - began, transport


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("users", 1000), ("leases", 10_000), ("workers", 1000), ("logins", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    lines = ["[default]\n"]
    for number in range(given.users):
        verifier = Verifier.of(2 * number + 2, 2 * number + 3).text
        lines.append(f'[user.u{number}]\nverifier = "{verifier}"\ntargets = "web,t*"\nmax-workers = 100000\n')
    last = given.users - 1
    code = "bench"
    plain = Password(*stretch(code, ""))
    user = Password(2 * last + 2, 2 * last + 3)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        (Path(folder) / "b").mkdir()
        bare = Server(Path(folder) / "a", "", 0, code)
        full = Server(Path(folder) / "b", "".join(lines), given.leases, code)
        try:
            print(f"{given.users} users, {given.leases} leases, beside a server without either")
            print(f"start: {bare.start_s:.2f} s without, {full.start_s:.2f} s with")
            print(f"memory: {bare.resident_mib:.1f} MiB without, {full.resident_mib:.1f} MiB with")
            took: dict[str, list[float]] = {"no users": [], "a user": [], "[default] beside users": []}
            for number in range(given.logins + 10):
                for name, server, password, who, tag in (
                    ("no users", bare, plain, "", "bench"),
                    ("a user", full, user, f"u{last}", f"u{last}"),
                    ("[default] beside users", full, plain, "", f"bench-{number}"),
                ):
                    seconds, transport = login(server, password, who, tag)
                    transport.close()
                    if number >= 10:
                        took[name].append(seconds)
            for name, each in took.items():
                low, middle, high = (1000 * value for value in statistics.quantiles(each, n=4))
                print(f"login, {name}: {middle:.2f} ms (middle half {low:.2f} to {high:.2f})")
            here = [login(full, user, f"u{last}", f"u{last}")[1] for _ in range(given.workers)]
            print(f"memory with {len(here)} workers more: {full.resident_mib:.1f} MiB")
            idle = max(full.health() for _ in range(100))
            full.file.write_text("".join(lines).replace('"web,t*"', '"web,s*"'))
            full.process.send_signal(signal.SIGHUP)
            until = time.perf_counter() + 5.0
            waited = []
            while time.perf_counter() < until:
                waited.append(full.health())
            print(
                f"reload: /health waited {1000 * max(waited):.0f} ms at the longest, {1000 * idle:.0f} ms before"
            )
            for each in here:
                each.close()
        finally:
            bare.stop()
            full.stop()


if __name__ == "__main__":
    main()
