"""The mux's own cookie: who it names, that targets do not see it, and when it is set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.server.httpmux import sticky
from aero.server.httpmux.head import Request, parse_request, parse_response

ONE, OTHER = (SimpleNamespace(key=key) for key in ("identity 1", "identity 2"))
BOTH: Any = (ONE, OTHER)
TOKEN = sticky._token(ONE.key)


def request(*cookies: bytes) -> Request:
    lines = b"".join(b"Cookie: %b\r\n" % each for each in cookies)
    return parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nA: aero-way=0\r\n%bB: c\r\n\r\n" % lines, 9)


@pytest.mark.parametrize(
    ("cookies", "found", "left"),
    [
        ((), False, b""),
        ((b"a=b",), False, b"Cookie: a=b\r\n"),
        ((b"aero-way=%b" % TOKEN,), True, b""),
        ((b"a=b; aero-way=%b; c=d" % TOKEN,), True, b"Cookie: a=b; c=d\r\n"),
        ((b"aero-way=%b;c=d" % TOKEN,), True, b"Cookie: c=d\r\n"),
        ((b"a=b; aero-way=%b" % TOKEN,), True, b"Cookie: a=b\r\n"),
        ((b"a=b", b"aero-way=%b" % TOKEN), True, b"Cookie: a=b\r\n"),
        ((b"a=b; aero-way=" + b"0" * 16,), False, b"Cookie: a=b\r\n"),
        ((b"xaero-way=%b" % TOKEN,), False, b"Cookie: xaero-way=%b\r\n" % TOKEN),
        ((b"aero-way=%b0" % TOKEN,), False, b"Cookie: aero-way=%b0\r\n" % TOKEN),
    ],
)
def test_whom_a_cookie_names_and_what_the_target_sees(
    cookies: tuple[bytes, ...], found: bool, left: bytes
) -> None:
    asked = request(*cookies)
    assert sticky.named(asked, BOTH) is (ONE if found else None)
    assert sticky.without(asked).kept == b"A: aero-way=0\r\n" + left + b"B: c\r\n"


def test_it_is_set_where_it_did_not_name_whoever_answered() -> None:
    answer = parse_response(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\n\r\n", 9)
    named = request(b"aero-way=%b" % TOKEN)
    assert sticky.marked(answer, named, BOTH[0], b"/t/web") is answer
    for asked, prefix, path in ((named, b"/t/web", b"/t/web"), (request(), b"", b"/")):
        kept = sticky.marked(answer, asked, BOTH[1], prefix).kept
        token = sticky._token(OTHER.key)
        line = b"Set-Cookie: aero-way=%b; Path=%b; HttpOnly; SameSite=Lax\r\n" % (token, path)
        assert kept == b"A: b\r\n" + line
    assert b"identity" not in token
