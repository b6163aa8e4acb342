"""What an operator sees and does: first lines, sources of options, logs, signals, file names, the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import COMMAND, LOOPBACK, Lab, Program, address, echoes, free_port, poll


@pytest.fixture
def echo(lab: Lab) -> int:
    return services.echo(lab)


def test_the_first_lines_say_what_one_needs_to_know(lab: Lab) -> None:
    server = lab.server()
    version = lab.aero("--version").stdout.split()[-1]
    first = server.says(r"client --.*").string
    assert version in first
    assert address(server.link_port) in first
    assert re.search(r"\b(cryptography|openssl|pycryptodome)\b", first)
    command = re.search(r"aero\S* client .*", first)
    assert (
        command
        and f"{server.link_port}" in command[0]
        and "--auth" in command[0]
        and "--target" in command[0]
    )


def test_the_code_from_the_environment(lab: Lab, echo: int) -> None:
    env = {"AERO_AUTH": lab.code}
    server = lab.server(code="", env=env)
    worker = lab.worker(server, code="", env=env, targets={"echo": echo})
    assert echoes(worker.port("echo"))


def test_the_code_from_a_file_shows_nowhere(lab: Lab, echo: int) -> None:
    file = lab.path("code")
    file.write_text(lab.code + "\n")
    file.chmod(0o600)
    server = lab.server("--auth", f"@{file}", "--debug", code="")
    worker = lab.worker(server, "--auth", f"@{file}", "--debug", code="", targets={"echo": echo})
    assert echoes(worker.port("echo"))
    for program in (server, worker):
        for name in ("cmdline", "environ"):
            assert lab.code.encode() not in Path(f"/proc/{program.pid}/{name}").read_bytes()
    # That no output shows it is checked at the end of every test.


def test_the_command_line_beats_the_environment_beats_the_file(lab: Lab, echo: int) -> None:
    config = lab.path("worker.toml")
    config.write_text(
        f'[client]\ntag = "from-file"\nserver = "{LOOPBACK}:1"\nauth = "{lab.code}"\nping = 7\n'
    )
    config.chmod(0o600)
    server = lab.server()
    env = {"AERO_TAG": "from-env", "AERO_SERVER": f"{LOOPBACK}:2", "AERO_CONFIG": str(config)}
    argv = [*COMMAND, "client", "--server", address(server.link_port), "--target", f"echo@{address(echo)}"]
    lab.start([*argv, "--state", str(lab.path("state"))], env=env).prints(r"^echo\b")
    server.says(r"\bfrom-env\b")


def test_older_users_single_dashes(lab: Lab, echo: int) -> None:
    server = lab.server()
    argv = [
        "-tag",
        "nas",
        "-server",
        address(server.link_port),
        "-target",
        f"echo:{address(echo)}",
        "-auth",
        lab.code,
    ]
    worker = lab.start([*COMMAND, "client", *argv, "-state", str(lab.path("state"))])
    worker.prints(r"^echo\b")
    server.says(r"\bnas\b")


def test_links_named_aeros_and_aeroc(lab: Lab, echo: int) -> None:
    folder = lab.new_folder("bin")
    *interpreter, file = COMMAND
    for name in ("aeros", "aeroc"):
        (folder / name).symlink_to(Path(file).resolve())
    server = lab.server(command=[*interpreter, str(folder / "aeros")])
    worker = lab.worker(server, targets={"echo": echo}, command=[*interpreter, str(folder / "aeroc")])
    assert echoes(worker.port("echo"))


@pytest.mark.parametrize("ip", ["::", "0.0.0.0,::"])
def test_ipv4_and_ipv6_at_once(lab: Lab, ip: str) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    six = services.echo(lab, "::1")
    server = lab.server(ip=ip)
    by_four = lab.worker(server, targets={"echo": f"[::1]:{six}"}, tag="four")
    by_six = lab.worker(server, targets={"echo": f"[::1]:{six}"}, tag="six", server_host="[::1]")
    for worker in (by_four, by_six):
        port = worker.port("echo")
        assert echoes(port, host=LOOPBACK) and echoes(port, host="::1")
    assert by_six.address("echo")[0] == "::1"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_server_name_is_resolved(lab: Lab, echo: int) -> None:
    worker = lab.worker(lab.server(), targets={"echo": f"localhost:{echo}"}, server_host="localhost")
    assert echoes(worker.port("echo"))


def test_a_log_file_is_opened_again_on_sighup(lab: Lab, echo: int) -> None:
    logs = {name: lab.path(f"{name}.log") for name in ("server", "worker")}
    server = lab.server("--log", str(logs["server"]))
    worker = lab.worker(server, "--log", str(logs["worker"]), targets={"echo": echo})
    worker.port("echo")
    programs: dict[str, Program] = {"server": server, "worker": worker}
    for name, program in programs.items():
        assert logs[name].stat().st_size > 0 and program.stderr == ""
        logs[name].rename(f"{logs[name]}.old")
        program.send(signal.SIGHUP)
        poll("a new log file", logs[name].exists)
    assert echoes(worker.port("echo"))
    lab.worker(server, targets={"echo": echo}, tag="newcomer").port("echo")
    poll("news in the new file", lambda: "newcomer" in logs["server"].read_text())
    assert all(program.running for program in programs.values())
    for log in logs.values():
        assert lab.code not in log.read_text() + Path(f"{log}.old").read_text()


def test_a_log_that_outgrows_its_size_keeps_one_old_file(lab: Lab, echo: int) -> None:
    log = lab.path("server.log")
    server = lab.server("--log", str(log), "--log-size", "16K", "--debug")
    worker = lab.worker(server, targets={"echo": echo})
    port = worker.port("echo")
    old = Path(f"{log}.1")
    poll("the log to be full", lambda: echoes(port) and old.exists())
    assert max(old.stat().st_size, log.stat().st_size) <= 16 * 1024
    assert sorted(path.name for path in lab.folder.glob(f"{log.name}*")) == [log.name, old.name]


def test_json_logs_are_json_line_by_line(lab: Lab, echo: int) -> None:
    server = lab.server("--log-format", "json", "--debug")
    worker = lab.worker(
        server, "--log-format", "json", "--debug", targets={"echo": echo, "gone": free_port()}
    )
    assert echoes(worker.port("echo"))
    assert not echoes(worker.port("gone"))
    for program in (worker, server):
        assert program.stop() == 0
        lines = [json.loads(line) for line in program.stderr.splitlines()]
        assert lines
        assert all({"ts", "level", "part", "event"} <= line.keys() for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_stopped_as_asked_is_0(lab: Lab, echo: int, number: int) -> None:
    server, worker = lab.tunnel({"echo": echo})
    assert echoes(worker.port("echo"))
    assert worker.stop(number) == 0
    assert server.stop(number) == 0


def test_a_worker_that_still_dials_stops_as_asked(lab: Lab) -> None:
    worker = lab.worker(free_port(), targets={"web": free_port()})
    worker.says("cannot reach")
    assert worker.stop() == 0


def test_once_ends_when_its_link_ends(lab: Lab, echo: int) -> None:
    server = lab.server()
    worker = lab.worker(server, "--once", targets={"echo": echo})
    worker.port("echo")
    server.stop()
    assert worker.wait() == 1


def test_the_demo_checks_this_host(lab: Lab) -> None:
    done = lab.aero("demo", "--check")
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:" in done.stdout


def test_the_demo_stays_up_until_it_is_interrupted(lab: Lab) -> None:
    demo = lab.start([*COMMAND, "demo"], name="demo")
    url = demo.prints(r"http://127\.0\.0\.1:\d+\S*")[0]
    assert lab.check([services.find("curl"), "-sS", "--fail", url])
    assert demo.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("backend", ["cryptography", "openssl", "pycryptodome"])
def test_every_aead_backend_speaks_to_every_other(lab: Lab, echo: int, backend: str) -> None:
    backends = ["openssl", "pycryptodome"]
    if lab.run([*COMMAND, "demo", "--check", "--aead", "cryptography"]).returncode != 78:
        backends.append("cryptography")
    if backend not in backends:
        pytest.skip("what is tested here, an archive perhaps, runs on a Python without a usable cryptography")
    server = lab.server("--aead", backend)
    server.says(backend)
    for other in backends:
        worker = lab.worker(server, "--aead", other, targets={"echo": echo}, tag=f"with-{other}")
        assert echoes(worker.port("echo"), os.urandom(300_000))


def test_help_and_version(lab: Lab) -> None:
    for arguments in (
        ["--help"],
        ["server", "--help"],
        ["client", "--help"],
        ["demo", "--help"],
        ["--version"],
    ):
        done = lab.aero(*arguments)
        assert done.returncode == 0 and done.stdout and not done.stderr
