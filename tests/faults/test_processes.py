"""Faults of real processes: stopped, killed, out of descriptors, out of disk. Each end is looked at from outside."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import (
    COMMAND,
    Lab,
    Program,
    Server,
    Worker,
    connect,
    echoes,
    exchange,
    free_port,
    free_ports,
    listening,
    poll,
    read_all,
)
from tests.faults.hostile import Hostile
from tests.faults.outside import nothing_left_in, settled, state, vanish
from tests.faults.relay import LOOPBACK

pytestmark = pytest.mark.usefixtures("even_memory")


@pytest.fixture
def echo(lab: Lab) -> int:
    return services.echo(lab)


# ----------------------------------------------------------------------------
# Stopped and killed
# ----------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["server", "worker"])
def test_a_stopped_process_goes_on_where_it_was(lab: Lab, echo: int, who: str) -> None:
    server = lab.server()
    worker = lab.worker(server, targets={"echo": echo}, ping=1)
    with connect(worker.port("echo")) as visitor:
        assert exchange(visitor, b"x" * 100_000)
        with nothing_left_in(server, worker):
            program: Program = server if who == "server" else worker
            other: Program = worker if who == "server" else server
            program.send(signal.SIGSTOP)
            try:
                other.says("no sign of life")
            finally:
                program.send(signal.SIGCONT)
            assert exchange(visitor, b"x" * 100_000)


def test_a_killed_worker_resets_its_visitors_once_it_is_back(lab: Lab, echo: int) -> None:
    server = lab.server()
    state_folder = lab.new_folder("state")

    def start() -> Worker:
        worker = lab.worker(server, targets={"echo": echo}, state=state_folder, ping=1)
        assert echoes(worker.port("echo"))
        return worker

    def kill(worker: Worker) -> Worker:
        with connect(worker.port("echo")) as visitor:
            assert exchange(visitor)
            worker.stop(signal.SIGKILL)
            worker = start()
            with pytest.raises(ConnectionResetError):
                visitor.recv(1)  # not an end that looks complete
        return worker

    worker = kill(start())  # the first one shows what is left of any worker
    with nothing_left_in(server):
        kill(worker)


def test_a_killed_server_resets_its_visitors_and_targets(lab: Lab) -> None:
    seen: list[str] = []
    held = threading.Event()

    def hold(connection: socket.socket) -> None:
        held.set()
        try:
            seen.append("end" if not connection.recv(1) else "data")
        except ConnectionResetError:
            seen.append("reset")

    port = services.serve(lab, hold)
    ports, link_port = free_port(), free_port()
    server = lab.server(port=link_port, ports=f"{ports}-{ports}")
    worker = lab.worker(server, targets={"hold": port}, ping=1)
    mapping = worker.port("hold")
    with nothing_left_in(worker):
        with connect(mapping) as visitor:
            poll("the target", held.is_set)
            server.stop(signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                visitor.recv(1)  # a clean end would look like a whole file
        again = lab.server(port=link_port, ports=f"{ports}-{ports}")
        poll("the mapping", lambda: listening(ports))
        poll("the target's reset", lambda: seen)
        assert seen == ["reset"]
    assert again.running and worker.running


_POUR = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        visitor = listener.accept()[0]
        while True:
            visitor.sendall(b"x" * 65536)
"""


def test_a_target_that_is_killed_in_mid_transfer_resets_its_visitor(lab: Lab) -> None:
    """It has not read all that was sent to it, so its system says reset, and so do we."""
    target = free_port()
    server, worker = lab.tunnel({"pour": target}, ping=1)

    def kill() -> None:
        service = lab.start([sys.executable, "-c", _POUR, str(target)], name="pour")
        poll("the target", lambda: listening(target))
        with connect(worker.port("pour")) as visitor:
            visitor.sendall(b"never read")
            for _ in range(100):
                assert visitor.recv(65536)
            service.stop(signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                read_all(visitor)

    kill()  # the first one shows what a transfer leaves: buffers for the next
    with nothing_left_in(server, worker):
        kill()


def test_visitors_that_never_read_or_write_cost_the_others_nothing(lab: Lab, echo: int) -> None:
    server, worker = lab.tunnel({"echo": echo}, ping=1)
    port = worker.port("echo")

    def crowd() -> None:
        idle = [connect(port) for _ in range(20)]
        stuck = [connect(port) for _ in range(5)]
        for each in stuck:
            each.settimeout(0.2)
            with pytest.raises(TimeoutError):
                while True:
                    each.sendall(b"x" * 1_000_000)  # and never reads what comes back
        assert echoes(port, b"y" * 1_000_000)
        poll("the others' end", lambda: state(server)["streams"] == 25)
        for each in (*idle, *stuck):
            each.close()
        poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])

    crowd()
    with nothing_left_in(server, worker):
        crowd()


def test_visitors_that_connect_and_vanish_leave_nothing_behind(lab: Lab, echo: int) -> None:
    server, worker = lab.tunnel({"echo": echo}, ping=1)
    port = worker.port("echo")
    vanish(port, 300)
    poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])
    with nothing_left_in(server, worker):
        for _ in range(4):
            vanish(port, 250)
            poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])
    assert echoes(port)


def test_workers_that_come_and_die_silently_leave_nothing_behind(lab: Lab) -> None:
    server = lab.server("--resume", "1")
    die_silently(lab, server, 0, 50)
    settled(server)
    with nothing_left_in(server):
        die_silently(lab, server, 50, 50)
        die_silently(lab, server, 100, 50)


def die_silently(lab: Lab, server: Server, first: int, count: int) -> None:
    """Workers that log in one after the other, get a mapping each, and vanish without a word; until all are gone."""
    for number in range(first, first + count):
        join = {"v": "0", "tag": f"x{number % 7}", "host": "h", "ping": 1, "identity": f"i{number}"}
        with Hostile(server.link_port, join, code=lab.code) as worker:
            worker.join()
            target = {"id": 1, "name": f"n{number % 7}", "local": "h:1"}
            worker.say({"do": "register", "targets": [target]})
            while not worker.control:
                worker.read()
    poll("their end", lambda: not state(server)["sessions"])


# ----------------------------------------------------------------------------
# Out of descriptors, out of disk, out of names
# ----------------------------------------------------------------------------


def few_descriptors(role: str) -> tuple[str, ...]:
    """A command: an interpreter of its own lowers its limit, then becomes that role; the soft limit is no way out."""
    code = (
        "import resource,os,sys;resource.setrlimit(resource.RLIMIT_NOFILE,(64,64));"
        f"os.execvp({COMMAND[0]!r},{[*COMMAND, role]!r}+sys.argv[1:])"
    )
    return "python3", "-c", code


def test_out_of_descriptors_the_server_resets_visitors_and_lets_workers_in(lab: Lab, echo: int) -> None:
    server = lab.server(command=few_descriptors("server"))
    worker = lab.worker(server, targets={"echo": echo}, ping=1)
    port = worker.port("echo")
    with connect(port) as visitor:
        assert exchange(visitor)
        with nothing_left_in(server, worker):
            crowd = []
            for _ in range(100):
                try:
                    crowd.append(connect(port))
                except ConnectionResetError:  # while it still connects
                    pass
            server.says("visitor turned away.*descriptors are running out")
            assert exchange(visitor), "who is in stays in"
            late = lab.worker(server, targets={"late": echo}, tag="late")
            assert late.port("late"), "descriptors are kept back for links"
            late.stop()
            for each in crowd:
                each.close()
            poll("the server to recover", lambda: echoes(port))
            assert exchange(visitor)


def test_a_target_that_is_its_own_mapping_ends_in_resets(lab: Lab, echo: int) -> None:
    """One visitor makes as many connections as there are descriptors, and no more: others are served."""
    ports = free_ports(3)
    server = lab.server(command=few_descriptors("server"), ports=f"{ports[0]}-{ports[-1]}")
    chain = {"loop": f"{LOOPBACK}:{ports[1]}?remote={ports[1]}"}
    looping = lab.worker(server, targets=chain, tag="loop", ping=1)
    looping.says("loop")
    server.says("target may lead back to a mapping of this server")
    with connect(ports[1]) as visitor:
        visitor.sendall(b"?")
        server.says("visitor turned away.*descriptors are running out")
        worker = lab.worker(server, targets={"echo": echo}, tag="other", ping=1)
        port = worker.port("echo")
        with pytest.raises(ConnectionError):
            visitor.settimeout(30)
            if not visitor.recv(1):
                raise ConnectionResetError
    poll("everything to be as before", lambda: echoes(port))


def test_out_of_descriptors_the_worker_resets_visitors_and_recovers(lab: Lab, echo: int) -> None:
    server = lab.server()
    worker = lab.worker(server, targets={"echo": echo}, ping=1, command=few_descriptors("client"))
    port = worker.port("echo")
    with connect(port) as visitor:
        assert exchange(visitor)
        with nothing_left_in(server, worker):
            crowd, resets = [], 0
            for _ in range(100):
                try:
                    crowd.append(connect(port))
                except ConnectionResetError:  # while it still connects
                    resets += 1
            for each in crowd:
                try:
                    each.sendall(b"?")
                    resets += each.recv(1) != b"?"
                except ConnectionError:
                    resets += 1
            assert resets >= 100 - 64
            assert exchange(visitor), "who is in stays in"
            for each in crowd:
                each.close()
            poll("the worker to recover", lambda: echoes(port))
            assert exchange(visitor)


def test_a_full_disk_takes_nobodys_tunnel_down(lab: Lab, echo: int) -> None:
    # /dev/full takes every open and no write, as a full disk does; the state folder is a file, so nothing fits in.
    nowhere = lab.path("state")
    nowhere.write_text("no folder")
    server = lab.server("--log", "/dev/full", state=nowhere)
    worker = lab.worker(server, "--log", "/dev/full", targets={"echo": echo}, state=nowhere)
    port = worker.port("echo")
    for _ in range(20):
        assert echoes(port)
    assert server.running and worker.running


def test_a_disk_that_fills_up_under_the_leases(lab: Lab, echo: int) -> None:
    # Room for the file, its index and some 30 leases, however many are written at once; and for no byte code, which
    # Python would cut short.
    limit = (
        "import resource,signal,os,sys;signal.signal(signal.SIGXFSZ,signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE,(40000,40000));"
        f"os.execvp({COMMAND[0]!r},{[*COMMAND, 'server']!r}+sys.argv[1:])"
    )
    ports = free_ports(80)
    server = lab.server(
        command=("python3", "-c", limit),
        ports=f"{ports[0]}-{ports[-1]}",
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    worker = lab.worker(server, targets={f"t{number}": echo for number in range(80)}, ping=1)
    server.says("warn .*cannot write leases")
    assert echoes(
        worker.port("t0")
    )  # what the first visitor takes for good is no leak; and the log has a limit, too
    with nothing_left_in(server, worker):
        for number in range(80):
            assert echoes(worker.port(f"t{number}"))
    assert len(re.findall("cannot write leases", server.stderr)) == 1


# ----------------------------------------------------------------------------
# Signals
# ----------------------------------------------------------------------------


@pytest.fixture
def slow(lab: Lab) -> Iterator[tuple[int, threading.Event]]:
    """A service that answers when the event is set."""
    go = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(1)
        go.wait()
        connection.sendall(b"done")

    yield services.serve(lab, talk), go
    go.set()


def test_sigterm_lets_streams_finish_and_takes_no_new_ones(
    lab: Lab, slow: tuple[int, threading.Event]
) -> None:
    port, go = slow
    server = lab.server("--drain", "25")
    worker = lab.worker(server, targets={"slow": port})
    mapping = worker.port("slow")
    with connect(mapping) as visitor:
        visitor.sendall(b"?")
        poll("the stream", lambda: state(worker)["streams"])
        server.send(signal.SIGTERM)
        poll("it to stop listening", lambda: not listening(mapping) and not listening(server.link_port))
        assert server.running
        go.set()
        assert read_all(visitor) == b"done"
    assert server.wait() == 0
    worker.says("going down")
    again = lab.server(port=server.link_port)
    again.says("worker up")


def test_a_second_sigterm_ends_the_wait_with_resets(lab: Lab, slow: tuple[int, threading.Event]) -> None:
    server = lab.server("--drain", "3600")
    worker = lab.worker(server, targets={"slow": slow[0]})
    mapping = worker.port("slow")
    with connect(mapping) as visitor:
        visitor.sendall(b"?")
        server.send(signal.SIGTERM)
        poll("it to stop listening", lambda: not listening(mapping))
        server.send(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)
    assert server.wait() == 0


def _write(file: Path, table: str, **options: str) -> None:
    file.write_text(f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    file.chmod(0o600)


def _start_worker(lab: Lab, server: Server, file: Path) -> Worker:
    argv = [*COMMAND, "client", "--server", f"{LOOPBACK}:{server.link_port}", "--config", str(file)]
    return lab._start(Worker, "worker", [*argv, "--auth", lab.code, "--state", str(lab.path("state"))], None)


def test_sighup_reloads_a_workers_targets_and_disturbs_no_other(lab: Lab, echo: int) -> None:
    server = lab.server()
    file = lab.path("worker.toml")
    here = f"{LOOPBACK}:{echo}"
    _write(file, "client", target=f'["a@{here}", "b@{here}"]')
    worker = _start_worker(lab, server, file)
    first, second = worker.port("a"), worker.port("b")
    with connect(first) as visitor, connect(second) as leaving:
        assert exchange(visitor) and exchange(leaving)
        _write(file, "client", target=f'["a@{here}", "c@{here}"]', debug="true", tag='"other"')
        worker.send(signal.SIGHUP)
        third = worker.port("c")
        worker.says("these need a restart options=tag")
        assert echoes(third)
        poll("the removed one to close", lambda: not listening(second))
        assert exchange(visitor) and exchange(leaving), "open connections go on"
        file.write_text("[client]\ntarget = 5 = 6\n")
        worker.send(signal.SIGHUP)
        worker.says("reload failed, keeping the previous configuration")
        assert exchange(visitor) and echoes(first) and echoes(third)


@pytest.mark.parametrize("changes", [True, False])
def test_sighup_again_and_again_ends_no_stream(lab: Lab, echo: int, changes: bool) -> None:
    """After 18 of them, 0.15 s apart, the server ended the session for its control messages."""
    ports = free_ports(60)
    server = lab.server(ports=f"{ports[0]}-{ports[-1]}")
    file, here = lab.path("worker.toml"), f"{LOOPBACK}:{echo}"
    _write(file, "client", target=f'["a@{here}", "gone@{here}", "far@{here}?remote=1"]')
    worker = _start_worker(lab, server, file)
    worker.says("the server refused a target .*far")
    with connect(worker.port("a")) as visitor:
        for number in range(45):
            changing = f', "b{number}@{here}"' if changes else ""
            _write(file, "client", target=f'["a@{here}", "far@{here}?remote=1"{changing}]')
            worker.send(signal.SIGHUP)
            threading.Event().wait(0.15)
            assert exchange(visitor)
        if changes:
            assert echoes(worker.port("b44"))
        assert exchange(visitor)
    assert "control messages come faster" not in server.stderr
    assert worker.stderr.count("the server refused a target") == 1


def test_a_changed_code_ends_links_and_lets_those_back_that_know_it(lab: Lab, echo: int) -> None:
    code, theirs = lab.path("code"), lab.path("their-code")
    for file in (code, theirs):
        file.write_text(lab.code)
        file.chmod(0o600)
    server = lab.server("--auth", f"@{code}", code="")
    worker = lab.worker(server, "--auth", f"@{theirs}", code="", targets={"echo": echo})
    lost = lab.worker(server, targets={"echo": echo}, tag="lost", state=lab.path("lost"))
    with connect(worker.port("echo")) as visitor:
        assert exchange(visitor)
        server.send(signal.SIGHUP)
        server.says("configuration read again, it is unchanged")
        theirs.write_text("code-another-one")
        worker.send(signal.SIGHUP)
        worker.says("configuration read again changed=auth")
        code.write_text("code-another-one")
        server.send(signal.SIGHUP)
        server.says("configuration read again changed=auth")
        assert exchange(visitor), "its worker knows the new code, and the stream goes on over a new link"
        lost.says("wrong auth code")
        assert lab.worker(server, "--once", targets={"echo": echo}, tag="late").wait() == 3


def test_two_codes_count_while_workers_change_to_the_next(lab: Lab, echo: int) -> None:
    file = lab.path("server.toml")
    old, new = lab.code, "code-another-one"
    _write(file, "server", auth=f'"{old}"')
    server = lab.server("--config", str(file), code="")
    first = lab.worker(server, targets={"echo": echo}, tag="first")
    with connect(first.port("echo")) as visitor:
        _write(file, "server", **{"auth": f'"{old}"', "auth-next": f'"{new}"'})
        server.send(signal.SIGHUP)
        server.says("configuration read again changed=auth-next")
        second = lab.worker(server, "--once", targets={"echo": echo}, tag="second", code=new)
        with connect(second.port("echo")) as other:
            assert exchange(visitor) and exchange(other), "both codes count"
            assert lab.worker(server, "--once", targets={"echo": echo}, tag="x", code="neither").wait() == 3
            _write(file, "server", auth=f'"{new}"')
            server.send(signal.SIGHUP)
            server.says('configuration read again changed="auth, auth-next"')
            first.says("wrong auth code")
            assert exchange(other), "its link, which --once would end with, stays"
    assert echoes(lab.worker(server, targets={"echo": echo}, tag="third", code=new).port("echo"))


def test_a_reload_that_cannot_read_its_code_says_so_and_keeps_the_old_one(lab: Lab, echo: int) -> None:
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        os.chmod(folder, 0o755)
        code = Path(folder, "code")
        code.write_text(lab.code)
        code.chmod(0o600)  # for root alone
        server = lab.server(
            "--run-as", "nobody", "--auth", f"@{code}", code="", state=Path(folder, "state"), ports="0"
        )
        poll("it to change", lambda: _uid(server) != 0)
        code.write_text("code-another-one")

        def asked() -> bool:
            server.send(signal.SIGHUP)  # ignored until the server is set up
            return "reload failed" in server.stderr

        poll("the reload", asked)
        said = server.says("reload failed, keeping the previous configuration.*").string
        assert str(code) in said and "Permission denied" in said and "needs a restart" in said
        assert "configuration read again" not in server.stderr
        worker = lab.worker(server, targets={"echo": echo})
        assert echoes(worker.port("echo"))
        assert server.stop() == 0


# ----------------------------------------------------------------------------
# Privileges and secrets
# ----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["server", "client"])
def test_strict_refuses_a_code_that_others_can_read(lab: Lab, role: str) -> None:
    code = lab.path("code")
    code.write_text("code-1")
    code.chmod(0o644)
    argv = [role, "--strict", "--auth", f"@{code}"]
    done = lab.aero(*argv, *(["--target", "a@127.0.0.1:1"] if role == "client" else []))
    assert done.returncode == 2
    assert "can be read by others" in done.stderr and "chmod 600" in done.stderr


def test_a_user_that_there_is_not(lab: Lab) -> None:
    options = ("--port", "0", "--api", "off", "--mux", "off", "--state", str(lab.path("state")))
    done = lab.aero("server", "--ip", LOOPBACK, "--run-as", "nobody-of-that-name", *options)
    assert done.returncode == 2
    assert "there is no user" in done.stderr


def test_a_server_started_by_root_becomes_somebody_else(lab: Lab, echo: int) -> None:
    assert os.geteuid() == 0, "the suite runs as root, as its other parts need it too"
    ports = free_port()
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:  # the tests' own folder is closed to others
        os.chmod(folder, 0o755)
        state, log = Path(folder, "state"), Path(folder, "log")
        server = lab.server("--run-as", "nobody", "--log", str(log), state=state, ports=f"{ports}-{ports}")
        poll("it to change", lambda: _uid(server) != 0)
        worker = lab.worker(server, targets={"echo": echo})
        assert echoes(worker.port("echo"))
        poll("the lease", lambda: (state / "server.sqlite").exists())
        owners = {path.stat().st_uid for path in (state, state / "server.sqlite", log)}
        assert owners == {_uid(server)}
        assert "cannot keep leases" not in log.read_text()
        assert server.stop() == 0


def _uid(program: Program) -> int:
    status = Path(f"/proc/{program.pid}/status").read_text()
    return int(re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]
