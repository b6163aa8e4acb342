"""Hooks of a running server: events arrive signed, one decides who comes in, and a slow or dead one harms nobody."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable

from tests.e2e import services
from tests.e2e.harness import Lab, echoes, free_port, free_ports, poll

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
SECRET = "a secret of both"


def documented() -> Callable[[str, bytes, str], bool]:
    """The example of how a signature is checked."""
    found = re.search(r"```python\n(import hashlib.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    check: Callable[[str, bytes, str], bool] = names["is_genuine"]
    return check


class HookServer:
    """A real HTTP server beside the program, in threads."""

    def __init__(self, lab: Lab, certificate: Path | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.pause_s = 0.0
        self.say: Callable[[dict[str, Any]], dict[str, Any]] = lambda question: {"allow": True}
        genuine = documented()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(hooks.pause_s)
                if not genuine(SECRET, body, self.headers["X-Aero-Signature"]):
                    self.send_error(403)
                    return
                said = json.loads(body)
                (hooks.asked if "ask" in said else hooks.events).append(said)
                answer = json.dumps(hooks.say(said)).encode() if "ask" in said else b""
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked did not wait
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://localhost:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        lab.closing.callback(self.server.server_close)
        lab.closing.callback(self.server.shutdown)

    def heard(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


def certificate(lab: Lab) -> Path:
    path = lab.new_folder("tls") / "pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", f"{path}", "-out", f"{path}.crt",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_a_hook_hears_and_decides(lab: Lab) -> None:
    pem = certificate(lab)
    hooks = HookServer(lab, pem)
    low = free_ports(20)[0]
    port = low + 7

    def say(question: dict[str, Any]) -> dict[str, Any]:
        if question["ask"] == "worker":
            return {"allow": question["tag"] != "stranger", "why": "no strangers"}
        if question["target"] == "shut":
            return {"allow": False, "why": "not this one"}
        return {"allow": True, "port": port} if question["target"] == "moved" else {"allow": True}

    hooks.say = say
    env = {"SSL_CERT_FILE": f"{pem}.crt"}
    options = ["--hook", hooks.url, "--hook-asks", hooks.url, "--hook-secret", SECRET]
    server = lab.server(*options, ports=f"{low}-{low + 19}", env=env)
    echo = services.echo(lab)
    worker = lab.worker(server, tag="nas", targets={"echo": echo, "moved": echo, "shut": echo}, pool=2)
    assert worker.port("moved") == port
    assert echoes(port, b"x" * 1000) and echoes(worker.port("echo"))
    poll("the refusal", lambda: hooks.heard("target refused"))
    (refused,) = hooks.heard("target refused")
    assert (refused["target"], refused["why"]) == ("shut", "not this one")
    assert hooks.heard("worker up")[0]["tag"] == "nas"
    questions = [each["ask"] for each in hooks.asked]
    assert questions.count("worker") == 1, "a second link of the same worker is not asked for"
    assert questions.count("target") == 3
    stranger = lab.worker(server, tag="stranger", targets={"echo": echo})
    poll("the stranger to be turned away", lambda: hooks.heard("worker turned away"))
    assert hooks.heard("worker turned away")[0]["why"] == "no strangers"
    poll("it to hear why", lambda: "no strangers" in stranger.stderr)
    assert [each["tag"] for each in hooks.heard("worker up")] == ["nas"]
    worker.stop()
    poll("its end", lambda: hooks.heard("worker down"))


def test_a_hook_that_is_slow_or_dead_fails_as_the_operator_said(lab: Lab) -> None:
    slow = HookServer(lab)
    slow.pause_s = 10.0
    echo = services.echo(lab)
    closed = lab.server("--hook-asks", slow.url, "--hook-secret", SECRET)
    lab.worker(closed, tag="late", targets={"echo": echo})
    poll("it to be kept out", lambda: "the server cannot ask whether it may" in closed.stderr)
    assert "nobody new is let in until it does" in closed.stderr
    opened = lab.server("--hook-asks", f"http://127.0.0.1:{free_port()}/", "--hook-fails", "open")
    worker = lab.worker(opened, targets={"echo": echo})
    assert echoes(worker.port("echo"), b"x" * 1000)
    assert "everybody is let in until it does" in opened.stderr


def test_a_slow_hook_for_events_costs_no_visitor_anything(lab: Lab) -> None:
    slow = HookServer(lab)
    slow.pause_s = 10.0
    server = lab.server("--hook", slow.url, "--hook-secret", SECRET)
    worker = lab.worker(server, targets={"echo": services.echo(lab)})
    began = time.monotonic()
    for _ in range(20):
        assert echoes(worker.port("echo"), b"x" * 1000)
    assert time.monotonic() - began < 5.0
