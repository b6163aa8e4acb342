"""Why a WebSocket did not come about: one line each, with what to do."""

from __future__ import annotations

import pytest

from aero.endpoint import Endpoint, Header
from aero.errors import UpgradeError
from aero.net.connect import refusal
from aero.net.wayout import Guise, WayOut

WS = WayOut(Endpoint("ws", "h", 80))


@pytest.mark.parametrize(
    ("status", "headers", "text"),
    [
        (0, {}, "what answers at h:80 is no WebSocket"),
        (302, {"location": "https://h/x?token=geheim"}, "h:80 wants TLS (HTTP 302): write wss://"),
        (302, {"location": "http://login.hotel/x?token=geheim"}, "with a page at http://login.hotel/x: does"),
        (200, {"content-type": "text/html"}, "does this network want a login in a browser?"),
        (511, {}, "does this network want a login in a browser?"),
        (401, {}, "as --header gives one?"),
        (404, {}, "h:80 knows nothing of /_aero/link (HTTP 404)"),
        (426, {}, "does not pass WebSocket on (HTTP 426)"),
        (502, {}, "what is before the server at h:80 cannot reach it (HTTP 502)"),
        (418, {"content-type": "text/html"}, "answers HTTP 418 and a page"),
    ],
)
def test_every_refusal_has_its_line(status: int, headers: dict[str, str], text: str) -> None:
    line = refusal(UpgradeError("no", status, headers, b""), WS)
    assert text in line and "geheim" not in line


def test_names_and_headers_that_a_cdn_wants() -> None:
    wss = WayOut(Endpoint("wss", "h", 8443, "/p"), None, Guise())
    assert (wss.name, wss.host, wss.path) == ("h", "h:8443", "/p")
    named = wss._replace(guise=Guise(name="front.org"))
    assert (named.name, named.host) == ("front.org", "front.org")
    both = wss._replace(guise=Guise(name="front.org", headers=(Header("HOST", "a.org"), Header("X-T", "x"))))
    assert (both.name, both.host, both.headers) == ("front.org", "a.org", [("X-T", "x")])
    assert "'x'" not in repr(both)
