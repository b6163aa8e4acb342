"""The real docker command line against an Engine that does just what it asks for: by a mapping and by subdomain.

``exec`` and ``attach`` change protocols in a POST with a body, ``logs -f`` is a response without an end, a build
uploads its context in chunks.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import DEADLINE_S, LOOPBACK, Lab, free_port, listening, poll
from tests.e2e.mux import Wire
from tests.e2e.services import find

pytestmark = pytest.mark.programs
VERSION = "1.41"
NAME = "aero.test"
CONTAINER = {
    "Id": "c" * 64, "Name": "/box", "Image": "i", "Args": [], "Path": "sh", "Created": "2026-01-01T00:00:00Z",
    "State": {"Running": True, "Status": "running", "Paused": False, "ExitCode": 0},
    "Config": {"Tty": False, "OpenStdin": True, "AttachStdin": True, "Image": "i"},
    "HostConfig": {"LogConfig": {"Type": "json-file"}},
}  # fmt: skip
_ROUTE = re.compile(r"(?:/v[0-9.]+)?(/[^?]*)")


class Engine:
    """The part of the Engine API that the four commands use."""

    def __init__(self, lab: Lab) -> None:
        self.built: list[str] = []  # the files of build contexts
        self.chunked: list[bool] = []  # whether they came in chunks
        self.more = threading.Event()  # what ``logs -f`` waits for
        self.port = services.serve(lab, self._talk)

    def _talk(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        while True:
            head = wire.until(b"\r\n\r\n").decode()
            method, target = head.split()[:2]
            route = _ROUTE.match(target)
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            if fields.get("transfer-encoding") == "chunked":
                body, _ = wire._chunks()
            else:
                body = wire.exactly(int(fields.get("content-length", "0")))
            path = route[1] if route else ""
            if "upgrade" in fields:
                self._hijacked(wire, path)
                return
            if path.endswith("/logs"):
                self._follow(sock)
                return
            if path == "/build":
                self._build(sock, body, fields)
                return
            self._plain(sock, method, path)

    def _plain(self, sock: socket.socket, method: str, path: str) -> None:
        answers = {
            "/containers/box/json": CONTAINER,
            "/containers/box/exec": {"Id": "e1"},
            "/exec/e1/json": {"ID": "e1", "Running": False, "ExitCode": 7, "Pid": 1},
            "/info": {"OSType": "linux"},
            "/version": {"ApiVersion": VERSION},
        }
        if path.endswith("/wait"):
            content = b'{"StatusCode":3}'
        else:
            content = b"OK" if path == "/_ping" else json.dumps(answers.get(path, {})).encode()
        head = f"HTTP/1.1 200 OK\r\nApi-Version: {VERSION}\r\nOstype: linux\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        sock.sendall(head.encode() + (b"" if method == "HEAD" else content))

    def _hijacked(self, wire: Wire, path: str) -> None:
        """A shell that says back what it reads, line by line, until its input ends."""
        sock = wire.sock
        sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        sock.sendall(framed(1, b"ready\n"))
        said = wire.rest()
        sock.sendall(framed(1, said.upper()) + framed(2, b"%b over\n" % path.split("/")[1].encode()))
        sock.close()

    def _follow(self, sock: socket.socket) -> None:
        kind = "application/vnd.docker.multiplexed-stream"
        sock.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        sock.sendall(chunk(framed(1, b"first\n")))
        assert self.more.wait(DEADLINE_S)
        sock.sendall(chunk(framed(1, b"second\n")) + chunk(b""))

    def _build(self, sock: socket.socket, body: bytes, fields: dict[str, str]) -> None:
        with tarfile.open(fileobj=io.BytesIO(body)) as context:
            self.built += sorted(f"{each.name} {each.size}" for each in context)
        self.chunked.append("transfer-encoding" in fields)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sock.sendall(chunk(b'{"stream":"Step 1/1 : FROM scratch\\n"}\n'))
        sock.sendall(chunk(b'{"stream":"Successfully built 0123\\n"}\n') + chunk(b""))


def framed(stream: int, data: bytes) -> bytes:
    return struct.pack("!BxxxI", stream, len(data)) + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Docker:
    """The command line, which finds the Engine at ``host``; ``hosts``: what it takes for /etc/hosts, "" for that."""

    def __init__(self, lab: Lab, host: str, hosts: str = "") -> None:
        self.argv = [find("docker"), "--host", f"tcp://{host}"]
        if hosts:
            file = lab.path("hosts")
            file.write_text(hosts)
            self.argv = [
                "unshare",
                "-m",
                "sh",
                "-c",
                f'mount --bind {file} /etc/hosts && exec "$@"',
                "sh",
                *self.argv,
            ]
        self.env = {
            **os.environ,
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": str(lab.path("docker")),
            "LC_ALL": "C",
        }

    def run(self, *words: str, said: bytes = b"") -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [*self.argv, *words],
            input=said,
            capture_output=True,
            env=self.env,
            timeout=DEADLINE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.argv, *words], stdout=subprocess.PIPE, env=self.env)


@pytest.mark.parametrize("way", ["mapping", "subdomain"])
def test_docker(lab: Lab, way: str, tmp_path: Path) -> None:
    engine, mux = Engine(lab), free_port()
    server = lab.server("--mux", f"{LOOPBACK}:{mux}", "--domain", NAME)
    worker = lab.worker(server, targets={"docker": engine.port})
    port = worker.port("docker")
    if way == "mapping":
        docker = Docker(lab, f"{LOOPBACK}:{port}")
    else:
        if os.geteuid():
            pytest.skip("only root can give a program another /etc/hosts")
        poll("the mux to listen", lambda: listening(mux))
        docker = Docker(lab, f"t.docker.{NAME}:{mux}", f"{LOOPBACK} t.docker.{NAME}\n")

    code, out, err = docker.run("exec", "-i", "box", "cat", said=b"one\ntwo\n" * 20_000)
    assert (code, out[:14], len(out), err) == (7, b"ready\nONE\nTWO\n", 6 + 160_000, b"exec over\n")
    code, out, err = docker.run("attach", "--sig-proxy=false", "box", said=b"hello\n")
    assert (out, err) == (b"ready\nHELLO\n", b"containers over\n") and code in (0, 3)

    with docker.begin("logs", "-f", "box") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"first\n", "it comes while the response goes on"
        engine.more.set()
        assert logs.stdout.read() == b"second\n"

    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    code, out, err = docker.run("build", str(tmp_path))
    assert b"Successfully built 0123" in out, err
    assert "big 3000000" in engine.built and engine.chunked == [True]
