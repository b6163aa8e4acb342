"""Targets that are sockets in the file system, and mappings that are: --target NAME@unix:/PATH, --listen-unix DIR."""

from __future__ import annotations

import contextlib
import signal
import socket
import stat
from pathlib import Path

from tests.e2e.harness import COMMAND, LOOPBACK, Lab, connect, is_reset, poll
from tests.e2e.mux import Mux, Wire
from tests.e2e.services import find, postgres, serve


def web(lab: Lab, path: Path) -> None:
    """An HTTP service that says which Host it was asked for, at a socket."""
    config = lab.path("nginx.conf")
    config.write_text(
        f"daemon off; master_process off; pid {lab.path('pid')}; error_log stderr;\nevents {{}}\nhttp {{\n"
        f"access_log off; client_body_temp_path {lab.new_folder('body')};\n"
        f"server {{ listen unix:{path}; return 200 'host $host'; }} }}\n"
    )
    lab.start([find("nginx"), "-c", str(config), "-p", str(lab.folder)])
    poll("nginx to listen", path.exists)


def test_a_socket_at_both_ends(lab: Lab) -> None:
    folder, to = lab.path("sockets-of-mappings-that-users-may-open"), lab.path("web.sock")
    web(lab, to)
    port = postgres(lab)
    database = next(Path(lab.folder).glob(f"*-postgres/.s.PGSQL.{port}"))
    mux = Mux(lab, "--listen-unix", str(folder))
    targets = {
        "web": f"unix:{to}",
        "pg": f"unix:{database}",
        "none": f"unix:{to}.none",
        "n" * 63: f"unix:{to}",
    }
    worker = lab.worker(mux.server, targets=targets)
    curl = [find("curl"), "-sS"]
    assert lab.check([*curl, f"http://{LOOPBACK}:{worker.port('web')}/"]) == f"host {LOOPBACK}"
    assert lab.check([*curl, f"http://{LOOPBACK}:{mux.port}/t/web/"]) == f"host {LOOPBACK}"
    assert lab.check([*curl, "-0", "-H", "Host:", f"http://{LOOPBACK}:{mux.port}/t/web/"]) == "host localhost"
    # The mappings' own sockets: a mode for the group, and one name that is too long for a path.
    path = folder / "t.web"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0
    assert lab.check([*curl, "--unix-socket", str(path), "http://x/"]) == "host x"
    assert sorted(each.name for each in folder.iterdir()) == ["t.none", "t.pg", "t.web"]
    assert "longer than the 107 bytes" in mux.server.stderr
    # A database, through sockets all the way; psql goes by the file's name.
    (folder / ".s.PGSQL.5432").symlink_to("t.pg")
    query = "select repeat('x', 1000) from generate_series(1, 20000)"
    where = ["-h", str(folder), "-U", "lab", "-At", "-c", query, "postgres"]
    assert lab.check([find("psql"), *where]) == ("x" * 1000 + "\n") * 20000
    # Nobody listens at the target's path.
    assert is_reset(worker.port("none"))
    with connect(mux.port) as sock:
        sock.sendall(b"GET /t/none/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert Wire(sock).until(b"\r\n").split()[1] == b"502"
    poll("the log to say why", lambda: "No such file or directory" in worker.stderr)
    worker.stop()
    poll("its sockets to be gone", lambda: not [each for each in folder.iterdir() if each.is_socket()])


def test_a_target_that_asks_for_passwords_has_no_way_past_the_mux(lab: Lab) -> None:
    folder, users = lab.new_folder("sockets"), lab.path("htpasswd")
    users.write_text("me:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n")
    users.chmod(0o600)
    mux = Mux(lab, "--listen-unix", str(folder))
    to = f"{LOOPBACK}:{serve(lab, lambda sock: sock.sendall(b'secret'))}"
    worker = lab.worker(mux.server, targets={"a": f"{to}?auth=@{users}", "b": to})
    worker.prints("b@")
    poll("the sockets", lambda: (folder / "t.b").is_socket() and (folder / "t.a").is_socket())
    for name, said in (("b", b"secret"), ("a", b"")):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(folder / f"t.{name}"))
            with contextlib.suppress(ConnectionResetError):
                assert visitor.recv(6) == said


def test_what_a_killed_server_left_is_replaced_and_what_others_have_there_is_not(lab: Lab) -> None:
    folder = lab.new_folder("sockets")
    echo = serve(lab, lambda sock: sock.sendall(b"hello"))
    server = lab.server("--listen-unix", str(folder))
    worker = lab.worker(server, targets={"a": echo})
    worker.port("a")
    server.stop(signal.SIGKILL)
    worker.stop()
    assert (folder / "t.a").is_socket()
    (folder / "t.b").write_text("somebody's")
    server = lab.server("--listen-unix", str(folder))
    worker = lab.worker(server, targets={"a": echo, "b": echo}, state=lab.path("other"))
    assert worker.port("b"), "its port is there all the same"
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(folder / "t.a"))
        assert visitor.recv(5) == b"hello"
    assert "no socket for a target" in server.stderr and (folder / "t.b").read_text() == "somebody's"


def test_a_folder_that_cannot_have_sockets_ends_the_start(lab: Lab) -> None:
    path = lab.path("file")
    path.write_text("")
    for folder, why in ((path, "cannot make"), (Path(f"/{'x' * 104}"), "leaves no room for a socket's name")):
        argv = [
            *COMMAND,
            "server",
            "--port",
            "0",
            "--api",
            "off",
            "--mux",
            "off",
            "--listen-unix",
            str(folder),
        ]
        done = lab.run([*argv, "--state", str(lab.path("state"))])
        assert done.returncode and why in done.stderr and "--listen-unix" in done.stderr
