"""Every minute under cron: an empty environment, tight limits, a start that finds another running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import COMMAND, LOOPBACK, Lab, Server, address, echoes, free_port, free_ports, poll

#: What cron's shell does not do for us, and what hosts do to jobs: a private umask, few files, 300 MB of addresses.
TIGHT = 'umask 077; ulimit -S -n 64; ulimit -v 300000; exec "$@"'
MESSAGE = re.compile(r"aero: [^\n]+\n")


class Crontab:
    """Runs command lines as cron does, and ends whatever they leave in the background."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.state = lab.path("state")
        self.log = lab.path("log")
        self.code = lab.path("code")
        self.code.write_text(lab.code)
        self.code.chmod(0o600)

    def client(self, server: Server, port: int, *options: str, target: str = "echo") -> list[str]:
        """A worker's command line."""
        where = ["--server", address(server.link_port), "--target", f"{target}@{address(port)}"]
        own = ["--state", str(self.state), "--auth", f"@{self.code}", "--host", "lab", "--tag", "cron"]
        return ["client", *where, *own, *options]

    def begin(self, argv: list[str], *variables: str) -> subprocess.Popen[str]:
        """Start a line that will end soon, or go into the background."""
        program = [shutil.which(COMMAND[0]) or COMMAND[0], *COMMAND[1:]]
        return subprocess.Popen(
            ["/bin/sh", "-c", TIGHT, "sh", "/usr/bin/env", "-i", *variables, *program, *argv],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, argv: list[str], *variables: str) -> tuple[int, str]:
        """Run a line to its end: exit code, and what cron would mail. A background process holds no pipe open."""
        with self.begin(argv, *variables) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def background(self, *options: str) -> list[str]:
        """The options of a crontab's line."""
        return ["--detach", "--log", str(self.log), *options]

    def pids(self) -> list[int]:
        """The processes that write into this test's folder."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile
            if str(self.log).encode() in words:
                found.append(int(folder.name))
        return found

    def pid(self) -> int:
        """The only one."""
        (pid,) = self.pids()
        return pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        for pid in self.pids():
            os.kill(pid, number)
        poll("the background to be empty", lambda: not self.pids())

    def port(self, target: str = "echo") -> int:
        """The port of a mapping, from the log."""

        def look() -> int:
            text = self.log.read_text() if self.log.exists() else ""
            found = re.findall(rf"target mapped target={target}@\S+ at=\S+:(\d+)$", text, re.M)
            return int(found[-1]) if found else 0

        return poll(f"the mapping of {target}", look)


@pytest.fixture
def cron(lab: Lab) -> Iterator[Crontab]:
    crontab = Crontab(lab)
    yield crontab
    crontab.kill()


@pytest.fixture
def echo(lab: Lab) -> int:
    return services.echo(lab)


def test_a_line_brings_up_a_worker_and_then_does_nothing_every_minute(
    lab: Lab, cron: Crontab, echo: int
) -> None:
    line = cron.client(lab.server(), echo, "--lock", *cron.background())
    assert cron.run(line) == (0, "")
    assert echoes(cron.port())
    first = cron.pid()
    for _ in range(3):
        assert cron.run(line) == (0, "")
    assert cron.pid() == first
    (lock,) = cron.state.glob("client-cron-*.lock")
    assert lock.read_text() == f"{first}\n"
    limits = Path(f"/proc/{first}/limits").read_text()
    soft, hard = re.findall(r"Max open files +(\d+) +(\d+)", limits)[0]
    assert soft == hard != "64"
    # Neither a terminal nor a session, process group or pipe of the caller's.
    fields = Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()
    assert fields[4] == "0"
    descriptors = {os.readlink(each) for each in Path(f"/proc/{first}/fd").iterdir()}
    assert not [name for name in descriptors if name.startswith("pipe:")]


def test_a_worker_without_anything_native_running_has_one_thread(lab: Lab, cron: Crontab, echo: int) -> None:
    """A numeric server needs no resolver; each native thread would reserve 64 MB of addresses and more."""
    cron.run(cron.client(lab.server(), echo, "--lock", *cron.background()))
    assert echoes(cron.port())
    assert "Threads:\t1\n" in Path(f"/proc/{cron.pid()}/status").read_text()


def test_a_killed_worker_is_back_with_the_next_line(lab: Lab, cron: Crontab, echo: int) -> None:
    reserved = free_ports(10)
    server = lab.server(ports=f"{reserved[0]}-{reserved[-1]}")
    line = cron.client(server, echo, "--lock", *cron.background())
    cron.run(line)
    port, first = cron.port(), cron.pid()
    cron.kill()
    cron.log.unlink()
    assert cron.run(line) == (0, "")
    assert cron.pid() != first
    assert cron.port() == port
    assert echoes(port)


def test_many_starts_in_one_moment_leave_one_worker(lab: Lab, cron: Crontab, echo: int) -> None:
    line = cron.client(lab.server(), echo, "--lock", *cron.background())
    starts = [cron.begin(line) for _ in range(6)]
    for start in starts:
        with start:
            out, err = start.communicate(timeout=60)
        assert (start.returncode, out, err) == (0, "", "")
    assert echoes(cron.port())
    assert cron.pid()


def test_workers_with_other_targets_do_not_exclude_each_other(lab: Lab, cron: Crontab, echo: int) -> None:
    server = lab.server()
    for target in ("one", "two"):
        line = cron.client(server, echo, "--lock", *cron.background(), target=target)
        assert cron.run(line) == (0, "")
    assert echoes(cron.port("one"))
    assert echoes(cron.port("two"))
    assert len(cron.pids()) == 2


def test_a_named_lock_excludes_whoever_names_it(lab: Lab, cron: Crontab, echo: int) -> None:
    server, lock = lab.server(), lab.path("lock")
    lock.write_text("4194304\n")  # of a process that is long gone
    for target in ("one", "two"):
        line = cron.client(server, echo, "--lock", str(lock), *cron.background(), target=target)
        assert cron.run(line) == (0, "")
    assert echoes(cron.port("one"))
    assert lock.read_text() == f"{cron.pid()}\n"


def test_the_one_in_the_foreground_counts_as_well(lab: Lab, cron: Crontab, echo: int) -> None:
    server = lab.server()
    options = cron.client(server, echo, "--lock")
    lab.start([*COMMAND, *options], name="foreground").prints(r"^echo\b.*:\d+$")
    assert cron.run([*options, *cron.background()]) == (0, "")
    assert cron.pids() == []
    code, said = cron.run([*options, "--debug"])
    assert code == 0
    assert re.fullmatch(r"aero: nothing to do: process \d+ holds \S+/client-cron-\S+\.lock\n", said)


def test_options_from_environment_and_file(lab: Lab, cron: Crontab, echo: int) -> None:
    file = lab.path("worker.toml")
    server = lab.server()
    file.write_text(
        f'[client]\nlock = true\ntag = "cron"\ntarget = "echo@{address(echo)}"\n'
        f'server = "{address(server.link_port)}"\nauth = "@{cron.code}"\nstate = "{cron.state}"\n'
    )
    file.chmod(0o600)
    line = ["client", "--config", str(file), "--log", str(cron.log)]
    for _ in range(2):
        assert cron.run(line, "AERO_DETACH=1") == (0, "")
    assert echoes(cron.port())
    assert cron.pid()


def test_a_state_folder_that_cannot_be_written(lab: Lab, cron: Crontab, echo: int) -> None:
    tag = "ro-" + os.urandom(4).hex()
    line = cron.client(lab.server(), echo, "--lock", *cron.background())
    line[line.index("--state") + 1] = "/dev/null/state"
    line[line.index("--tag") + 1] = tag
    try:
        for _ in range(2):
            assert cron.run(line) == (0, "")
        assert echoes(cron.port())
        assert cron.pid()
    finally:
        cron.kill()
        for folder in ("/run/lock", "/tmp", "/var/tmp", "/dev/shm"):
            for file in Path(folder).glob(f"aero-*-client-{tag}-*.lock"):
                file.unlink()


def test_without_a_home_nothing_is_lost_but_a_folder(lab: Lab, cron: Crontab, echo: int) -> None:
    line = cron.client(lab.server(), echo, "--lock", *cron.background())
    place = line.index("--state")
    del line[place : place + 2]
    assert cron.run(line, f"XDG_STATE_HOME={cron.state}") == (0, "")
    assert echoes(cron.port())
    assert list((cron.state / "aero").glob("client-cron-*.lock"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--lock", "/dev/null/lock"], 2, "--lock: cannot lock /dev/null/lock: Not a directory"),
        (["--lock", "/dev/null"], 2, "--lock: cannot lock /dev/null: it is not a regular file"),
        (["--detach"], 2, "--detach needs a log file, write --log FILE too"),
        (["--detach", "--log", "/dev/null/log"], 2, "--log: cannot write /dev/null/log: Not a directory"),
    ],
)
def test_what_cannot_be_is_mailed(
    lab: Lab, cron: Crontab, options: list[str], code: int, message: str
) -> None:
    line = ["client", "--server", address(1), "--target", f"web@{address(1)}", "--state", str(cron.state)]
    assert cron.run([*line, *options]) == (code, f"aero: {message}\n")


def test_a_server_that_cannot_listen_says_so_before_it_leaves(lab: Lab, cron: Crontab) -> None:
    first = lab.server()
    line = ["server", "--ip", LOOPBACK, "--port", str(first.link_port), "--api", "off", "--mux", "off"]
    code, said = cron.run([*line, "--state", str(cron.state), *cron.background()])
    assert code == 4
    assert MESSAGE.fullmatch(said)
    assert str(first.link_port) in said
    assert cron.pids() == []


def test_a_server_in_the_background(lab: Lab, cron: Crontab, echo: int) -> None:
    port = free_port()
    line = ["server", "--ip", LOOPBACK, "--port", str(port), "--api", "off", "--mux", "off", "--ports", "0"]
    line += ["--auth", f"@{cron.code}", "--state", str(cron.state), "--lock", *cron.background()]
    for _ in range(2):
        assert cron.run(line) == (0, "")  # it listens already when the caller comes back
    worker = lab.worker(port, targets={"echo": echo})
    assert echoes(worker.port("echo"))
    cron.kill(signal.SIGTERM)
    assert "stopping" in cron.log.read_text()
