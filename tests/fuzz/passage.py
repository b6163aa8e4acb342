"""What is fuzzed of a worker's way out: what people and the environment write of it, and what stands on it answers."""

from __future__ import annotations

from typing import Any, cast

from aero.endpoint import Endpoint, Endpoints
from aero.errors import ConfigError, LinkClosed, UpgradeError
from aero.net.connect import refusal
from aero.net.wayout import WayOut
from aero.net.websocket import upgrade
from aero.proxies import Proxy, Surroundings
from aero.worker import networks
from tests.fuzz.guided import Target

_WAY = WayOut(Endpoint("ws", "aero.test", 80))


class _Heard:
    """A connection whose other end has said all that it says: some bytes a time, then the end."""

    kind = "tcp"
    pending = 1
    fileno = keep_unsent = None

    def __init__(self, said: bytes, step: int) -> None:
        self._said, self._step = said, step

    def receive_into(self, buffer: memoryview) -> int:
        count = min(self._step, len(buffer), len(self._said))
        buffer[:count], self._said = self._said[:count], self._said[count:]
        return count

    @staticmethod
    def send(data: memoryview) -> int:
        return len(data)


def fuzz_answer(data: bytes) -> None:
    """The answer to our request for a WebSocket, in pieces as large as its first byte says: what a person hears."""
    try:
        upgrade(
            cast(Any, _Heard(data[1:], 1 + (data[0] if data else 0))), "aero.test", "/_aero/link", (), False
        )
    except UpgradeError as error:
        text = refusal(error, _WAY)
        assert len(text) < 500, text
        assert text.isprintable(), text
    except LinkClosed:
        pass


def fuzz_endpoints(data: bytes) -> None:
    """``--server``: what is taken reads the same again, written out."""
    text = data.decode("utf-8", "replace")
    try:
        found = Endpoints.parse(text)
    except ConfigError:
        return
    for each in found.ways:
        assert Endpoints.parse(str(each)).ways == (each,)
    assert Endpoints.parse(str(found)) == found


def fuzz_proxy_url(data: bytes) -> None:
    """``--proxy`` and the environment: an error never shows what may be a password."""
    url, _, exceptions = data.decode("utf-8", "replace").partition("\n")
    try:
        around = Surroundings.of({"HTTPS_PROXY": url, "NO_PROXY": exceptions})
    except ConfigError as error:
        assert "geheim" not in str(error)
        return
    for host in ("aero.test", "10.1.2.3", "fe80::1%eth0", "2001:db8::1"):
        around.proxy_to(host, 443)
    if around.proxy is not None:
        assert "geheim" not in repr(around.proxy) + str(around.proxy) or "geheim" in around.proxy.host
        assert Proxy.parse(str(around.proxy)) == around.proxy._replace(user=None, password=b"")


def fuzz_networks(data: bytes) -> None:
    """The state's file of networks, and what the kernel says of routes and neighbours."""
    text = data.decode("utf-8", "replace")
    routes, _, neighbours = text.partition("\0")
    assert "\n" not in networks.gateway(routes, neighbours)
    lines = networks.parse(text)
    networks.chosen(lines, "", "x")
    again = networks.noted(lines, networks.Worked("10.0.0.1", "x", "tls://a:443"))
    assert len(again) <= networks.MAX_LINES
    assert networks.chosen(again, "10.0.0.1", "x") == "tls://a:443"


_ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\0"
    "IP address HW type Flags HW address Mask Device\n192.168.1.1 0x1 0x2 52:54:00:12:34:56 * eth0\n"
)

TARGETS: dict[str, tuple[Target, list[bytes], list[bytes]]] = {
    "websocket_answer": (
        fuzz_answer,
        [
            b"\xffHTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            b"\xffHTTP/1.1 302 Found\r\nLocation: http://portal.test/login?a=b\r\n\r\n<html>",
            b"\x01HTTP/1.0 511 x\r\nContent-Type: text/html\r\n\r\n",
        ],
        [
            b"HTTP/1.1 404 \r\n",
            b"HTTP/1.1 502 ",
            b"Location: https://aero.test",
            b"\r\n\r\n",
            b"\x1b[2J",
            b"\0",
        ],
    ),
    "endpoints": (
        fuzz_endpoints,
        [
            b"aero.test:8080,wss://aero.test/x?a=b,tls://[::1]:1",
            b"auto://aero.test/way",
            b"ws://10.0.0.1,tcp://a",
        ],
        [b"://", b",", b"[", b"]:", b"%", b"auto://", "\u00fc".encode(), b":65536", b"@", b"/"],
    ),
    "proxy_url": (
        fuzz_proxy_url,
        [
            b"http://eva:geheim@proxy.test:3128/\n.test,10.0.0.0/8,*",
            b"socks5h://eva:ge%68eim@[::1]:1\n[::1]:443",
        ],
        [b"socks5://", b"https://", b"%00", b"%", b"geheim", b"*", b"/33", b"]:", b"@", b"\n"],
    ),
    "networks": (
        fuzz_networks,
        [_ROUTES.encode(), b"10.0.0.1 52:54:00:12:34:56\tx\ttls://a:443\n"],
        [b"\t", b"\n", b"\0", b"0003", b"00000000", b"-1", b"x"],
    ),
}
