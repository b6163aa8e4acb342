"""One site in a real browser, by each of the three ways to a target: its port, the mux by path, the mux by host name.

The site is an ordinary one: it redirects from its root, sets a cookie for all of itself, and links by relative URLs.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from selenium import webdriver

from tests.e2e.browser import chromium
from tests.e2e.harness import LOOPBACK, Lab, poll
from tests.e2e.mux import Mux, Target

DOMAIN = "mux.test"
SIDE = (
    200  # pixels: noise that cannot be compressed, so that the image is far more than one record of the link
)
COLOUR = "rgb(1, 2, 3)"

PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>before</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="assets/page.css">
<script src="assets/page.js" defer></script></head>
<body><h1>A shop</h1><img id="image" src="../images/noise.png" alt="noise"></body></html>
"""
STYLE = b"h1 { color: %b; background-image: url(../../images/noise.png) }" % COLOUR.encode()
SCRIPT = b"""document.title = "after";
fetch("../told?by=script").then((answer) => answer.json()).then((told) => { window.told = told; });
"""


def png() -> bytes:
    """A picture of noise, always the same."""
    noise = random.Random(1)
    rows = b"".join(b"\0" + noise.randbytes(3 * SIDE) for _ in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def answer(kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def site(lab: Lab) -> Target:
    """The site; what it does not have is told what was asked for, as JSON."""
    target = Target(lab)
    target.heads = {
        "/": b"HTTP/1.1 302 Found\r\nLocation: /shop/page.html?from=door\r\n"
        b"Set-Cookie: guest=seven; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n",
        "/shop/page.html": answer(b"text/html", PAGE),
        "/shop/assets/page.css": answer(b"text/css", STYLE),
        "/shop/assets/page.js": b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SCRIPT), SCRIPT),
        "/images/noise.png": answer(b"image/png", png()),
    }
    return target


class Way(NamedTuple):
    """A way to the site: ``host`` and ``port`` as the browser has them, ``prefix`` what stands before all its paths."""

    host: str
    port: int
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.prefix}"


@pytest.fixture(scope="module")
def ways() -> Iterator[dict[str, Way]]:
    lab = Lab()
    try:
        target = site(lab)
        by_path, by_host = Mux(lab), Mux(lab, "--domain", DOMAIN)
        mapping = by_path.worker(web=target).port("web")
        by_host.worker(web=target)
        yield {
            "port": Way(LOOPBACK, mapping),
            "path": Way(LOOPBACK, by_path.port, "/t/web"),
            "host": Way(f"t.web.{DOMAIN}", by_host.port),
        }
    finally:
        lab.close()


@pytest.fixture(scope="module")
def browser(ways: dict[str, Way]) -> Iterator[webdriver.Chrome]:
    """Leaves before the servers do."""
    lab = Lab()
    try:
        yield chromium(lab, f"--host-resolver-rules=MAP *.{DOMAIN} {LOOPBACK}")
    finally:
        lab.close()


@pytest.mark.parametrize("name", ["port", "path", "host"])
def test_a_site_is_whole(ways: dict[str, Way], browser: webdriver.Chrome, name: str) -> None:
    way = ways[name]
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})  # a host's ports share its cookies
    browser.get_log("browser")

    browser.get(f"{way.url}/")
    assert browser.current_url == f"{way.url}/shop/page.html?from=door"
    assert browser.title == "after"
    assert browser.execute_script("return getComputedStyle(document.querySelector('h1')).color") == COLOUR
    size = "return [image.naturalWidth, image.naturalHeight]"
    assert browser.execute_script(size) == [SIDE, SIDE]

    told = poll("the script's request to be answered", lambda: browser.execute_script("return window.told"))
    assert told["start"] == "GET /told?by=script HTTP/1.1"
    fields = {key.lower(): value for key, value in told["fields"]}
    assert fields["host"] == f"{way.host}:{way.port}"
    assert fields["referer"] == browser.current_url
    assert fields["cookie"] == "guest=seven"
    assert fields.get("x-forwarded-prefix", "") == way.prefix

    cookie = browser.get_cookie("guest")
    assert cookie is not None
    assert (cookie["domain"], cookie["path"]) == (way.host, f"{way.prefix}/")
    names = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    places = ("images/noise.png", "shop/assets/page.css", "shop/assets/page.js", "told?by=script")
    wanted = {f"{way.url}/{place}" for place in places}
    poll("all resources to be whole", lambda: wanted == {*browser.execute_script(names)} - {"data:,"})
    assert not browser.get_log("browser")
