"""One port for everything: links, pages by HTTP and HTTPS, told apart by what comes first; certificates on the way."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import DEADLINE_S, LOOPBACK, Lab, Server, connect, echoes, free_port, listening, poll
from tests.e2e.mux import Message, Target, Wire, heard
from tests.e2e.services import echo
from tests.server.links.test_certificates import made, openssl_pin


class Stage:
    """A server with certificates whose workers' port is the mux's, too; a worker with a target."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pair = made(lab.new_folder("tls"), "aero.test", "*.aero.test", "*.web.aero.test")
        self.tls_port = free_port()
        self.server: Server = lab.server(
            "--mux", "same", "--mux-tls", f"{LOOPBACK}:{self.tls_port}", "--domain", "aero.test",
            "--tls-cert", self.pair.certificate, "--tls-key", self.pair.key,
        )  # fmt: skip
        poll("--mux-tls to listen", lambda: listening(self.tls_port))
        self.target = Target(lab)
        self.target.talks["/back"] = sent_back
        self.worker = lab.worker(self.server, targets={"web": self.target.port, "echo": echo(lab)})
        self.worker.port("web")
        self.wires: list[Wire] = []

    def visit(self, port: int = 0, secure: bool = False) -> Wire:
        sock: socket.socket = connect(port or self.server.link_port)
        if secure:
            context = ssl.create_default_context(cafile=self.pair.certificate)
            sock = context.wrap_socket(sock, server_hostname="t.web.aero.test")
        sock.settimeout(DEADLINE_S)
        self.wires.append(Wire(sock))
        return self.wires[-1]

    def close(self) -> None:
        for wire in self.wires:
            wire.sock.close()


def sent_back(wire: Wire, request: Message) -> bool:
    """Answers with the body."""
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body)
    return True


@pytest.fixture
def stage(lab: Lab) -> Iterator[Stage]:
    stage = Stage(lab)
    yield stage
    stage.close()


def asked(
    wire: Wire, path: str = "/a", body: bytes = b"", fields: str = "", host: str = "t.web.aero.test"
) -> None:
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}"
    wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_pages_by_http_and_https_beside_the_link(stage: Stage) -> None:
    ways = ((0, False, "http"), (0, True, "https"), (stage.tls_port, True, "https"))
    for port, secure, protocol in ways:
        wire = stage.visit(port, secure)
        for _ in range(3):  # on one connection
            asked(wire)
            assert heard(wire.message()).get("x-forwarded-proto") == protocol
    assert echoes(stage.worker.port("echo"))
    wire = stage.visit(stage.tls_port)
    asked(wire)
    assert b"write https://" in wire.rest()


def test_much_goes_both_ways_by_https(stage: Stage) -> None:
    """More than sockets hold: TLS's own buffers are drained whether the descriptor says so or not."""
    body = os.urandom(3_000_000)
    wire = stage.visit(secure=True)
    asked(wire, "/back", body)
    assert wire.message().body == body
    asked(wire, "/back", body[:70_000])
    asked(wire)  # in one go with the body before
    assert wire.message().body == body[:70_000]
    assert wire.message().status == 200


def test_what_is_told_apart_and_how(stage: Stage) -> None:
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    for secure in (False, True):
        wire = stage.visit(secure=secure)
        asked(wire, "/_aero/link", fields=upgrade, host="aero.test")
        assert wire.message().status == 101
        wire = stage.visit(secure=secure)
        asked(wire, "/_aero/link", fields=upgrade)  # a target's own host: its path, and no WebSocket there
        assert heard(wire.message()).target == "/_aero/link"
        wire = stage.visit(secure=secure)
        asked(wire, "/_aero/link", host="aero.test")
        assert wire.message().status == 404
        wire = stage.visit(secure=secure)
        asked(wire, "/workers", host="localhost")  # of the API, which is never here
        assert wire.message().status in (404, 421)
        wire = stage.visit(secure=secure)
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert wire.exactly(4)[3] == 4  # SETTINGS; the rest is the mux's own way to refuse


def test_certificates_are_read_again_and_wrong_ones_are_not_taken(stage: Stage) -> None:
    old = openssl_pin(stage.pair.certificate)
    wire = stage.visit(secure=True)
    asked(wire)
    assert wire.message().status == 200
    good = Path(stage.pair.certificate).read_bytes()
    Path(stage.pair.certificate).write_bytes(b"nonsense")
    stage.server.send(signal.SIGHUP)
    stage.server.says("reload failed, keeping the previous configuration.*cert.pem")
    Path(stage.pair.certificate).write_bytes(good)
    assert stage.visit(secure=True)
    made(Path(stage.pair.certificate).parent, "aero.test", "*.aero.test", "*.web.aero.test")
    stage.server.send(signal.SIGHUP)
    stage.server.says("certificates were read anew")
    assert stage.visit(secure=True) and openssl_pin(stage.pair.certificate) != old
    asked(wire)  # the old connection goes on
    assert wire.message().status == 200


def test_options_that_do_not_fit_are_told(lab: Lab) -> None:
    pair = made(lab.new_folder("tls"), "a.test")
    for options, words in (
        (
            ("--tls-cert", pair.certificate, "--tls-key", pair.key, "--tls-key", pair.key),
            "one --tls-key for each",
        ),
        (("--tls-cert", pair.key), "no certificate and its key"),
        (("--tls-cert", "/nowhere/cert.pem"), "cannot read /nowhere/cert.pem"),
        (("--mux-tls", "localhost:0"), "needs a certificate"),
        (("--mux", "same,same"), "named twice"),
        (("--link-path", "link"), "is no path"),
    ):
        done = lab.aero("server", "--api", "off", "--port", "0", "--state", str(lab.path("state")), *options)
        assert done.returncode == 2 and words in done.stderr, done.stderr


def test_curl_takes_the_pin(lab: Lab) -> None:
    state = lab.path("state")
    server = lab.server(state=state)
    pin = lab.aero("pin", "--state", str(state)).stdout.strip()
    url = f"https://{LOOPBACK}:{server.link_port}/"
    assert "AeRO-proxy workers" in lab.check(["curl", "-sk", "--pinnedpubkey", pin, url])
    assert lab.run(["curl", "-sk", "--pinnedpubkey", pin[:-3] + "AA=", url]).returncode == 90
