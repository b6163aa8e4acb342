"""Links through nginx and Caddy, with the configurations of docs/reverse-proxy.md and the proxies' own defaults."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from aero.core.aead.choose import choose
from aero.core.joining import JoinNew
from aero.core.spake2plus import Password
from aero.core.stretch import stretch
from aero.errors import AeroError
from aero.net.handshake import greet_server
from aero.net.tls import TlsTransport
from aero.net.transport import TcpTransport, Transport
from aero.net.websocket import upgrade
from tests.e2e.harness import LOOPBACK, Lab, connect, free_port, listening, poll
from tests.e2e.services import AROUND_NGINX, find, self_signed
from tests.e2e.test_mux_behind_proxies import AROUND_CADDY, documented

_NGINX = "server {{ listen {host}:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};\n{block} }}"
_CADDY = "localhost {{\n\ttls internal\n{block}}}\n"


class Stage:
    """A server that trusts loopback, and a proxy before it."""

    def __init__(self, lab: Lab, proxy: str) -> None:
        self.server = lab.server("--trust-proxy", "127.0.0.1,::1")
        self.code = lab.code
        self.port = free_port()
        folder: Path = lab.new_folder(proxy)
        where = {"127.0.0.1:8080": f"{LOOPBACK}:{self.server.link_port}"}
        if proxy == "nginx":
            (folder / "tls.pem").write_bytes(self_signed())
            block = documented("nginx", 1, **where)
            text = _NGINX.format(host=LOOPBACK, port=self.port, pem=folder / "tls.pem", block=block)
            (folder / "conf").write_text(AROUND_NGINX.format(folder=folder, servers=text))
            argv = [find("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "conf")]
        else:
            text = _CADDY.format(block=documented("caddyfile", 1, **where))
            settings = {"folder": folder, "port": self.port, "spare": free_port(), "documented": text}
            (folder / "conf").write_text(AROUND_CADDY.format(**settings))
            argv = [find("caddy"), "run", "--config", str(folder / "conf"), "--adapter", "caddyfile"]
        program = lab.start(argv, name=proxy)
        poll(f"{proxy} to listen", lambda: listening(self.port) or not program.running)
        poll(f"{proxy}'s certificate", self._has_certificate)  # Caddy listens before it has made one

    def _has_certificate(self) -> bool:
        try:
            self.secured().close()
        except OSError:
            return False
        return True

    def secured(self) -> Transport:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        secured = TlsTransport(TcpTransport(connect(self.port)), context, name="localhost")
        try:
            with gevent.Timeout(20):
                secured.handshake()
        except BaseException:
            secured.close()
            raise
        return secured

    def connected(self) -> Transport:
        secured = self.secured()
        with gevent.Timeout(20):
            return upgrade(secured, "localhost", "/_aero/link", [("X-Forwarded-For", "192.0.2.9")], False)

    def joined(self, code: str) -> None:
        """A link's handshake, whose JOIN leaves with its proof. Raises AeroError."""
        transport = self.connected()
        try:
            join = JoinNew("1", 60, "0" * 32, "t", "lab")
            greet_server(transport, Password(*stretch(code, "")), "", choose(""), join.pack)
        finally:
            transport.close()


@pytest.fixture(params=["nginx", "caddy"])
def stage(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Stage]:
    return Stage(lab, request.param)


def test_a_worker_is_known_by_the_address_that_the_proxy_reports(stage: Stage) -> None:
    """What the worker says itself in X-Forwarded-For is replaced."""
    stage.joined(stage.code)
    stage.server.says(r"worker up .*address=127\.0\.0\.1\b")
    with pytest.raises(AeroError, match="code"):
        stage.joined("wrong")
    stage.server.says(r"handshake failed address=127\.0\.0\.1\b")
