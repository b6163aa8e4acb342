"""First bytes: each kind that comes to the server's port is told apart, has its own answer, and is counted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import gevent
import pytest

from aero.core.handshake import MAGIC
from aero.errors import AeroError, LinkClosed
from aero.net.tls import TlsTransport
from aero.net.transport import TcpTransport, Transport, receive, send_all
from aero.net.websocket import upgrade
from aero.server.links import dialect
from aero.server.links.certificates import Certificates
from aero.server.links.entrance import Entrance
from aero.server.policy.proxies import Origin, Trust
from aero.server.watch.counters import OPENINGS, Counters
from tests.net import carried

PATH = "/_aero/link"
FIELDS = (
    b"Host: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Visit:
    """A guest of an entrance, and the other end of its connection."""

    def __init__(self, folder: Path, said: bytes = b"") -> None:
        self.counters = Counters()
        trust = Trust((ip_network("127.0.0.0/8"),))
        entrance = Entrance(self.counters, Certificates((), str(folder)), PATH, trust)
        near, far = carried.connected()
        self.near: Transport = TcpTransport(near)
        self.transport: Transport = TcpTransport(far)
        self.ip, self.origin, self.result = "127.0.0.1", Origin("127.0.0.1"), ""
        send_all(self.near, said)
        self.entering = gevent.spawn(entrance.enter, self)

    def reported(self, origin: Origin) -> None:
        self.origin = origin

    def turn(self) -> None: ...

    def ends_as(self, result: str, why: object) -> None:
        self.result = f"{result}: {why}"

    def within_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        secured = TlsTransport(self.near, context, name="any")
        secured.handshake()
        self.near = secured

    def heard(self) -> bytes:
        """All that the entrance says, to the end."""
        data = b""
        try:
            while True:
                data += receive(self.near, 4096)
        except LinkClosed:
            self.near.close()  # nobody waits for more of us
            return data

    def entered(self) -> Any:
        return self.entering.get(timeout=30)

    @property
    def openings(self) -> dict[str, int]:
        return {kind: count for kind, count in self.counters.openings.items() if count}

    def close(self) -> None:
        self.near.close()
        self.transport.close()


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Any]:
    made: list[Visit] = []

    def make(said: bytes = b"") -> Visit:
        made.append(Visit(tmp_path, said))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"AeRO\x02", "link"),
        (b"\x16\x03\x01\x02", "tls"),
        (b"\x16\x02", "unknown"),
        (b"\x80\x2e\x01\x03", "unknown"),  # SSL 2
        (b"GET / HTTP/1.1", "http"),
        (b"A / HTTP/1.1", "http"),
        (b"VERSION-CONTROL /", "http"),
        (b"PRI * HTTP/2.0", "http/2"),
        (b"SSH-2.0-OpenSSH_9", "unknown"),
        (b"get / HTTP/1.1", "unknown"),
        (b"AAAAAAAAAAAAAAAAAAAAAAAAAAA /", "unknown"),
        (b"\x00", "unknown"),
        (b"\r\n", "unknown"),
    ],
)
def test_kinds_are_told_apart_as_soon_as_they_differ(data: bytes, kind: str) -> None:
    assert kind in OPENINGS
    found = [dialect.kind_of(data[:size]) for size in range(1, len(data) + 1)]
    assert set(found) <= {"", kind} and found[-1] == kind
    assert found == sorted(found, key=bool)  # once it is clear it stays so


def test_the_links_path_is_told_from_others() -> None:
    path = PATH.encode()
    for data, ours in (
        (b"GET /_aero/link HTTP/1.1", True),
        (b"GET /_aero/link?x=1 HTTP/1.1", True),
        (b"GET /_aero/links HTTP/1.1", False),
        (b"POST /_aero/link HTTP/1.1", False),
        (b"GET /nas/web/_aero/link HTTP/1.1", False),
    ):
        found = [dialect.asks_for(path, data[:size]) for size in range(1, len(data) + 1)]
        assert found[-1] is ours
        assert set(found) <= {None, ours}


def test_a_worker_enters_as_it_is(visit: Any) -> None:
    guest = visit(MAGIC + b"...")
    assert guest.entered() == MAGIC + b"..."
    assert guest.openings == {"link": 1}


def test_a_worker_enters_through_tls_and_websocket(visit: Any) -> None:
    guest = visit()
    guest.within_tls()
    ws = upgrade(guest.near, "a", PATH, [("X-Forwarded-For", "192.0.2.7")], False)
    send_all(ws, MAGIC)
    assert guest.entered() == MAGIC
    assert guest.transport.kind == "wss"
    assert guest.openings == {"tls": 1, "http": 1, "websocket": 1}
    assert guest.origin == Origin("192.0.2.7")
    send_all(guest.transport, b"hello")
    assert receive(ws, 100) == b"hello"


def test_what_comes_with_the_upgrade_is_not_lost(visit: Any) -> None:
    guest = visit(b"GET /_aero/link HTTP/1.1\r\n" + FIELDS + b"\r\n\x82\x84\0\0\0\0AeRO")
    assert guest.entered() == MAGIC


REFUSED = {
    b"GET / HTTP/1.1\r\n\r\n": b"HTTP/1.1 400 ",
    b"GET /_aero/link HTTP/1.1\r\nHost: a\r\n\r\n": b"HTTP/1.1 400 ",
    b"GET /_aero/link HTTP/1.1\r\n" + FIELDS.replace(b"13", b"8") + b"\r\n": b"HTTP/1.1 426 ",
    b"GET /_aero/link HTTP/1.1\r\n" + FIELDS.replace(b"dGhl", b"") + b"\r\n": b"HTTP/1.1 400 ",
    b"GET /_aero/link HTTP/1.1\r\nX: " + b"x" * 17_000 + b"\r\n": b"HTTP/1.1 431 ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": b"\0\0\0\x04\0",
}


@pytest.mark.parametrize("said", REFUSED)
@pytest.mark.parametrize("secured", [False, True])
def test_others_have_the_answer_that_is_right(visit: Any, said: bytes, secured: bool) -> None:
    guest = visit(b"" if secured else said)
    if secured:
        guest.within_tls()
        send_all(guest.near, said)
    answer = guest.heard()
    assert answer.startswith(REFUSED[said])
    if b" 426 " in answer:
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
    assert guest.entered() is None
    assert guest.result.startswith("rule broken")
    kind = "http/2" if said.startswith(b"PRI") else "http"
    assert guest.openings == ({kind: 1, "tls": 1} if secured else {kind: 1})


def test_half_a_client_hello_ends_in_time(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aero.server.links.entrance.TIMEOUT_S", 0.05)
    for said in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half", b"GET /_aero/li", b"PR", b""):
        guest = visit(said)
        with pytest.raises(AeroError, match="no handshake in time"):
            guest.entered()


def test_a_client_hello_that_makes_no_sense_gets_an_alert(visit: Any) -> None:
    guest = visit(b"\x16\x03\x01\x00\x05\x02hello")
    assert guest.heard()[:1] == b"\x15"
    with pytest.raises(AeroError, match="no TLS"):
        guest.entered()
    assert guest.openings == {"tls": 1, "tls failed": 1}
