"""A network from which nothing gets out but by a proxy to port 443, and one whose proxy looks into TLS, too.

Three namespaces in a row: the worker's, a gate that forwards nothing and runs the proxy, the server's. Needs root.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import COMMAND, Lab, Program, Worker, poll
from tests.e2e.services import find

pytestmark = pytest.mark.programs

NEAR, GATE, FAR = "10.98.1.1", "10.98.1.254", "10.98.2.1"
_GATE_TO_FAR = "10.98.2.254"
PROXY_PORT, PAGES_PORT = 3128, 8000
SIZE = 5_000_000  # mitmproxy takes apart each message, in Python


class Country:
    """``near``, ``gate`` and ``far``: what a command line begins with to run there."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names = [f"aero-{end}-{os.getpid()}" for end in ("near", "gate", "far")]
        self.near, self.gate, self.far = ([find("ip"), "netns", "exec", name] for name in self.names)
        self.state = lab.path("state")

    def build(self) -> None:
        near, gate, far = self.names
        for name in self.names:
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        for end, here, there in ((near, NEAR, GATE), (far, FAR, _GATE_TO_FAR)):
            peer = ("peer", "name", f"to-{here}", "netns", gate)
            self._ip("link", "add", "cable", "netns", end, "type", "veth", *peer)
            for name, device, address in ((end, "cable", here), (gate, f"to-{here}", there)):
                self._ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
                self._ip("-n", name, "link", "set", device, "up")
            self._ip("-n", end, "route", "add", "default", "via", there)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run([find("ip"), *words], check=True, capture_output=True)

    def raze(self) -> None:
        for name in self.names:
            subprocess.run([find("ip"), "netns", "del", name], capture_output=True, check=False)

    def listening(self, program: Program, start: Sequence[str], host: str, port: int) -> None:
        """Waits until something accepts connections there; ``start``: where to ask from."""
        probe = [*start, find("nc.openbsd"), "-z", host, str(port)]
        poll(f"{program.name} to listen", lambda: not self.lab.run(probe).returncode or not program.running)
        assert program.running, f"{program.name} ended with {program.popen.returncode}"

    def server(self) -> None:
        """At 443 alone."""
        where = ["--ip", FAR, "--port", "443", "--ports", "20000-20010", "--api", "off", "--mux", "off"]
        argv = [*self.far, *COMMAND, "server", *where, "--auth", self.lab.code]
        server = self.lab.start([*argv, "--state", str(self.lab.path("server"))], name="server")
        self.listening(server, self.far, FAR, 443)

    def pages(self) -> bytes:
        """A service beside the worker; what its only file has."""
        body = os.urandom(SIZE)
        folder = self.lab.new_folder("www")
        (folder / "big").write_bytes(body)
        python = COMMAND[0]
        argv = [*self.near, python, "-m", "http.server", "-b", NEAR, "-d", str(folder), str(PAGES_PORT)]
        self.listening(self.lab.start(argv, name="pages"), self.near, NEAR, PAGES_PORT)
        return body

    def worker(self, *options: str, env: dict[str, str] | None = None) -> Worker:
        argv = [*self.near, *COMMAND, "client", "--server", f"auto://{FAR}", "--auth", self.lab.code]
        argv += ["--target", f"web@{NEAR}:{PAGES_PORT}", "--tag", "t", "--state", str(self.state), *options]
        return self.lab._start(Worker, "worker", argv, env)

    def fetch(self, worker: Worker, *options: str) -> bytes:
        """The file, by a visitor at the server's end."""
        file = self.lab.path("got")
        url = f"http://{FAR}:{worker.port('web')}/big"
        self.lab.check([*self.far, find("curl"), "-sf", "-m", "60", "-o", str(file), *options, url])
        return file.read_bytes()

    def proxy(self, *argv: str, name: str) -> Program:
        program = self.lab.start([*self.gate, *argv], name=name)
        self.listening(program, self.near, GATE, PROXY_PORT)
        return program

    def tinyproxy(self) -> Program:
        file = self.lab.path("tinyproxy.conf")
        file.write_text(f"Port {PROXY_PORT}\nListen {GATE}\nConnectPort 443\nLogLevel Info\n")
        return self.proxy(find("tinyproxy"), "-d", "-c", str(file), name="tinyproxy")

    def mitmproxy(self, folder: Path) -> Program:
        """Its own server is not checked there: that shows a certificate that it has made itself."""
        listen = ("--listen-host", GATE, "--listen-port", str(PROXY_PORT))
        settings = ("--set", f"confdir={folder}", "--ssl-insecure", "-q")
        return self.proxy(find("mitmdump"), *listen, *settings, name="mitmdump")


@pytest.fixture
def country(lab: Lab) -> Iterator[Country]:
    assert os.geteuid() == 0, "network namespaces need root"
    country = Country(lab)
    try:
        country.build()
        country.server()
        yield country
    finally:
        country.raze()


def test_auto_finds_the_only_way_out_and_remembers_it(country: Country) -> None:
    country.tinyproxy()
    body = country.pages()
    by = f"by the proxy {GATE}:{PROXY_PORT}"
    found = rf'link up lane=1 server="tls://{FAR}:443 {by}"'
    worker = country.worker("--tls-insecure", env={"HTTPS_PROXY": f"http://{GATE}:{PROXY_PORT}"})
    worker.says(found)
    assert country.fetch(worker) == body
    worker.stop()
    noted = (country.state / "networks").read_text()
    assert re.match(rf"{GATE} [0-9a-f:]{{17}}\t\w+\ttls://{FAR}:443\n", noted), noted
    worker = country.worker("--tls-insecure", "--proxy", f"http://{GATE}:{PROXY_PORT}")
    worker.says(found)
    assert "no way to the server" not in worker.stderr, "it began with what got out here the last time"
    worker.stop()
    (country.state / "networks").unlink()
    worker = country.worker("--tls-insecure", "--proxy", f"http://{GATE}:{PROXY_PORT}")
    worker.says(found)
    assert re.search(
        rf'way="{FAR}:8080 {by}" why="the proxy {GATE}:{PROXY_PORT} does not allow conn', worker.stderr
    )


def test_a_proxy_that_looks_into_tls_lets_a_websocket_through(country: Country) -> None:
    """It is told of where nobody has said that it may, and its end in the middle of a transfer is a resume."""
    folder = country.lab.new_folder("mitm")
    proxy = country.mitmproxy(folder)
    body = country.pages()
    env = {"HTTPS_PROXY": f"http://{GATE}:{PROXY_PORT}"}
    worker = country.worker("--once", env=env)
    assert worker.wait() == 1
    line = worker.stderr.splitlines()[-1]
    assert f"the certificate of {FAR}:443 comes from nobody whom this machine trusts; --ca FILE names" in line
    trusting = ("--ca", str(folder / "mitmproxy-ca-cert.pem"))
    worker = country.worker(*trusting, env=env)
    worker.says(rf'link up lane=1 server="wss://{FAR}:443 by the proxy {GATE}:{PROXY_PORT}"')
    assert country.fetch(worker) == body

    fetching = [*country.far, find("curl"), "-sf", "-m", "60", "--limit-rate", "2M", "-o"]
    file = country.lab.path("through-a-cut")
    visitor = country.lab.start(
        [*fetching, str(file), f"http://{FAR}:{worker.port('web')}/big"], name="visitor"
    )
    poll("the first bytes", lambda: file.exists() and file.stat().st_size > 1_000_000)
    proxy.end()
    country.mitmproxy(folder)
    assert visitor.wait(70) == 0 and file.read_bytes() == body
    assert re.search(r"link resumed lane=1", worker.stderr)
    worker.stop()
    worker = country.lab._start(
        Worker, "worker",
        [*country.near, *COMMAND, "client", "--once", "--server", f"tls://{FAR}", "--auth", country.lab.code,
         "--target", "x@127.0.0.1:1", "--state", str(country.lab.path("other")), *trusting], env,
    )  # fmt: skip
    assert worker.wait() == 1
    assert "wss:// in place of tls:// may get through" in worker.stderr.splitlines()[-1]
