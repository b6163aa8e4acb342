"""The configurations of docs/reverse-proxy.md, run for real but for ports and certificates."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterator

import pytest
import websockets

from tests.e2e.harness import LOOPBACK, PROJECT, Lab, free_port, listening, poll
from tests.e2e.mux import Message, Mux, Target, Wire
from tests.e2e.services import AROUND_NGINX, find, self_signed

DOCUMENT = PROJECT / "docs" / "reverse-proxy.md"
HOST = "aero.example.org"

AROUND_CADDY = """
{{
	admin off
	auto_https disable_redirects
	skip_install_trust
	http_port {spare}
	https_port {port}
	storage file_system {folder}
}}
{documented}
"""


def documented(language: str, number: int = 0, **replaced: str) -> str:
    """A block of this language, with what a test has to change."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    text: str = blocks[number]
    for old, new in replaced.items():
        assert old in text, f"{old} is not in the documented configuration any more"
        text = text.replace(old, new)
    return text


class Stage:
    """A mux that trusts loopback, targets, and a proxy before it."""

    def __init__(self, proxy: str) -> None:
        self.lab = Lab()
        self.mux = Mux(self.lab, "--trust-proxy", "127.0.0.1,::1")
        self.target = Target(self.lab)
        self.target.talks["/events"] = self._events
        self.mux.worker(web=self.target)
        self.port = free_port()
        folder = self.lab.new_folder(proxy)
        if proxy == "nginx":
            (folder / "tls.pem").write_bytes(self_signed())
            where = {"127.0.0.1:4000": f"127.0.0.1:{self.mux.port}", "/etc/ssl/aero.pem": f"{folder}/tls.pem"}
            where["listen 443"] = f"listen {LOOPBACK}:{self.port}"
            config = folder / "nginx.conf"
            config.write_text(AROUND_NGINX.format(folder=folder, servers=documented("nginx", **where)))
            argv = [find("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
        else:
            block = documented("caddyfile", **{"127.0.0.1:4000": f"127.0.0.1:{self.mux.port}"})
            block = block.replace(
                "{\n", "{\n\ttls internal\n", 1
            )  # no certificate authority to be asked here
            config = folder / "Caddyfile"
            settings = {"folder": folder, "port": self.port, "spare": free_port(), "documented": block}
            config.write_text(AROUND_CADDY.format(**settings))
            argv = [find("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
        program = self.lab.start(argv, name=proxy)
        poll(f"{proxy} to listen", lambda: listening(self.port) or not program.running)
        if proxy == "caddy":
            program.says("certificate obtained")
        self.url = f"https://{HOST}:{self.port}"

    def curl(self, *arguments: str) -> str:
        resolve = f"{HOST}:{self.port}:{LOOPBACK}"
        return self.lab.check(["curl", "-sS", "-k", "--resolve", resolve, *arguments])

    @staticmethod
    def _events(wire: Wire, _: Message) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        wire.send(b"data: %d\n\n" % time.monotonic_ns())
        wire.fill()  # until the visitor leaves
        return False


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param)
    try:
        yield stage
    finally:
        stage.lab.close()


def test_the_target_hears_of_the_visitor_not_of_the_proxy(stage: Stage) -> None:
    lies = [
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        "-H",
        "Forwarded: for=6.6.6.6",
        "-H",
        "X-Forwarded-Prefix: /evil",
    ]
    said = json.loads(stage.curl(*lies, f"{stage.url}/t/web/a?b"))
    fields = dict(said["fields"])
    assert said["start"] == "GET /a?b HTTP/1.1"
    assert fields["Host"] == fields["X-Forwarded-Host"] == f"{HOST}:{stage.port}"
    assert fields["X-Forwarded-Proto"] == "https"
    assert fields["X-Forwarded-For"] == "127.0.0.1, 127.0.0.1"
    assert fields["X-Forwarded-Prefix"] == "/t/web"
    assert "proto=https" in fields["Forwarded"]
    assert "6.6.6.6" not in str(said) and "evil" not in str(said)


def test_http2_and_bodies(stage: Stage) -> None:
    file = stage.lab.path("body")
    file.write_bytes(bytes(3_000_000))
    said = json.loads(stage.curl("--http2", "-T", str(file), f"{stage.url}/t/web/put"))
    assert len(said["body"]) == 3_000_000
    assert stage.curl("-o", "/dev/null", "-w", "%{http_version}", "--http2", f"{stage.url}/t/web/") == "2"
    assert stage.curl("-o", "/dev/null", "-w", "%{http_code}", f"{stage.url}/t/none/") == "404"


def test_an_event_is_not_kept_back(stage: Stage) -> None:
    program = stage.lab.start(
        ["curl", "-sSNk", "--resolve", f"{HOST}:{stage.port}:{LOOPBACK}", f"{stage.url}/t/web/events"]
    )
    program.prints(r"data: \d+")  # while the stream goes on
    assert program.running
    program.end()


def test_websockets(stage: Stage) -> None:
    async def echo(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def talk() -> None:
        async with websockets.serve(echo, LOOPBACK, 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await asyncio.to_thread(lambda: stage.mux.worker("sockets", ws=port))
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            url = f"{stage.url}/sockets/ws/".replace("https:", "wss:")
            async with websockets.connect(url, ssl=context, host=LOOPBACK, port=stage.port) as visitor:
                await visitor.send("hello")
                assert await visitor.recv() == "hello"

    asyncio.run(asyncio.wait_for(talk(), 60))
