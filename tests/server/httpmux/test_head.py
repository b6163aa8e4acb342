"""The head parser: what it takes has one reading, whatever the bytes; what it gives can be read again as the same."""

from __future__ import annotations

import re
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.errors import MessageError
from aero.server.httpmux import rewrite
from aero.server.httpmux.head import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Request,
    Response,
    body_length,
    check_beginning,
    end_of_head,
    parse_request,
    parse_response,
    prefers_wait,
)
from aero.server.httpmux.rewrite import Peer
from tests.server.httpmux.scene import PLACE

FIELDS = 128
STRANGER = Peer(b"192.0.2.1", False)

token = st.text("abcXYZ019-_.!#", min_size=1, max_size=12).map(str.encode)
value = st.binary(max_size=30).map(lambda data: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", data))
#: Pieces that mean something, so that random heads come near the edges.
piece = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b": ",
            b"\0",
            b"\r\n\r\n",
            b"GET ",
            b"/t/web/",
            b" HTTP/1.1",
            b"a",
        ),
        *(
            b"Host: a",
            b"Content-Length: 4",
            b"Transfer-Encoding: chunked",
            b"Connection: close",
            b"HTTP/1.1 200 OK",
        ),
        *(
            b"Content-Length",
            b"chunked",
            b"4",
            b"Expect: 100-continue",
            b"Upgrade: x",
            b"\xff",
            b"X-Forwarded-For: b",
        ),
    ]
)
soup = st.lists(st.one_of(piece, st.binary(max_size=4)), max_size=30).map(b"".join)


def read(head: bytes) -> Request | None:
    try:
        return parse_request(head, FIELDS)
    except MessageError as error:
        assert 400 <= error.status < 600
        assert str(error).isprintable()
        return None


@settings(max_examples=200)
@given(soup)
def test_any_bytes_are_a_request_or_a_refusal(data: bytes) -> None:
    head = data.replace(b"\r\n\r\n", b"\r\n") + b"\r\n\r\n"
    for start in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        request = read(start + head)
        if request is not None:
            check_meaning(request)


def check_meaning(request: Request) -> None:
    """What goes on to the target is read by a parser of a few lines, and says the same."""
    out = rewrite.request_head(request, b"/x", b"h", b"", STRANGER, b"/t/web")
    assert out.endswith(b"\r\n\r\n") and out.count(b"\r\n\r\n") == 1
    assert not re.search(rb"[^\r]\n|\r[^\n]|\0", out)
    first, *lines = out[:-4].split(b"\r\n")
    assert first == request.method + b" /x HTTP/1.1"
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, said = line.partition(b": ")
        assert colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), line
        fields.setdefault(name.lower().replace(b"_", b"-"), []).append(said)
    assert fields[b"host"] == [b"h"]
    assert fields.get(b"content-length", []) == ([b"%d" % request.length] if request.length >= 0 else [])
    assert fields.get(b"transfer-encoding", []) == ([b"chunked"] if request.length == CHUNKED else [])
    assert fields[b"x-forwarded-for"] == [b"192.0.2.1"]
    assert len(fields[b"forwarded"]) == 1


@given(st.lists(st.tuples(token, value), max_size=8))
def test_good_fields_pass(pairs: list[tuple[bytes, bytes]]) -> None:
    head = b"GET /a HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x%b:%b\r\n" % pair for pair in pairs) + b"\r\n"
    request = read(head)
    assert request is not None
    kept = [b"x%b: %b" % (name, said.strip(b" \t")) for name, said in pairs if b"forwarded" not in name]
    assert request.kept == b"".join(line + b"\r\n" for line in kept)


@settings(max_examples=150)
@given(soup)
def test_any_bytes_are_a_response_or_a_refusal(data: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + data.replace(b"\r\n\r\n", b"\r\n") + b"\r\n\r\n"
    try:
        response = parse_response(head, FIELDS)
    except MessageError:
        return
    out = rewrite.response_head(response, 3, False, b"", PLACE)
    assert out.count(b"\r\n\r\n") == 1 and not re.search(rb"[^\r]\n|\r[^\n]|\0", out)
    assert len(re.findall(rb"^content[-_]length:", out, re.I | re.M)) == 1
    assert not re.search(rb"^(connection|transfer[-_]encoding|upgrade):", out, re.I | re.M)


def test_a_head_ends_at_its_empty_line_however_it_comes() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for size in range(1, len(head) + 1):
        checked = 0
        for end in [*range(size, len(head), size), len(head)]:
            found = end_of_head(head[:end] + (b"GET" if end == len(head) else b""), checked, len(head))
            assert found == (len(head) if end == len(head) else 0)
            checked = end


def test_a_head_that_is_too_long_is_431_whole_or_not() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for part in (head, head[:-1]):
        with pytest.raises(MessageError) as raised:
            end_of_head(part, 0, len(part) - 1)
        assert raised.value.status == 431


@given(soup, st.integers(0, 60))
def test_a_beginning_is_refused_only_when_the_whole_is(data: bytes, cut: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + data.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"
    part = head[: min(cut, len(head) - 1)]
    try:
        check_beginning(part, 0, 1000)
    except MessageError:
        assert read(head) is None


@pytest.mark.parametrize(
    "head",
    [
        b"a" * 32_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 32_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b" " * 32_000 + b"\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 8_000 + b"b\r\n\r\n",
        b"GET " + b"/" * 32_000 + b"\0 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a." * 16_000 + b"/\r\n\r\n",
    ],
)
def test_no_head_takes_long(head: bytes) -> None:
    """A pattern that goes back and forth would take seconds; a hundredth of one is plenty."""
    began = perf_counter()
    assert read(head) is None
    try:
        check_beginning(head, 0, 40_000)
    except MessageError:
        pass
    assert perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        (b"GET", b"200 OK\r\nContent-Length: 5", 5),
        (b"GET", b"200 OK\r\nTransfer-Encoding: chunked", CHUNKED),
        (b"GET", b"200 OK", UNTIL_CLOSE),
        (b"HEAD", b"200 OK\r\nContent-Length: 5", NO_BODY),
        (b"GET", b"204 No Content", NO_BODY),
        (b"GET", b"304 Not Modified\r\nContent-Length: 5", NO_BODY),
        (b"GET", b"101 Switching Protocols", NO_BODY),
        (b"POST", b"500 ", UNTIL_CLOSE),
        (b"POST", b"500\r\nContent-Length: 0", 0),
    ],
)
def test_how_long_a_response_is(method: bytes, head: bytes, length: int) -> None:
    assert body_length(method, parse_response(b"HTTP/1.1 " + head + b"\r\n\r\n", FIELDS)) == length


@pytest.mark.parametrize(
    ("minor", "connection", "stays"),
    [
        (1, b"", True),
        (1, b"close", False),
        (1, b"a, CLOSE", False),
        (0, b"", False),
        (0, b"Keep-Alive", True),
    ],
)
def test_whether_a_connection_stays(minor: int, connection: bytes, stays: bool) -> None:
    head = b"GET / HTTP/1.%d\r\nHost: a\r\nConnection: %b\r\n\r\n" % (minor, connection)
    assert parse_request(head, FIELDS).keep_alive == stays


def test_204_and_interim_responses_have_no_length() -> None:
    response = parse_response(b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", FIELDS)
    assert b"ength" not in rewrite.response_head(response, NO_BODY, False, b"")
    interim: Response = parse_response(b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\nA: b\r\n\r\n", FIELDS)
    assert rewrite.interim_head(interim, None) == b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "got"),
    [
        ("/t/web/bücher?q=ä", b"/t/web/b%C3%BCcher?q=%C3%A4"),
        ("/t/web/%c3%bc", b"/t/web/%c3%bc"),
        ("http://a/t/web/ü", b"/t/web/%C3%BC"),
    ],
)
def test_raw_utf_8_in_a_target_is_percent_encoded(target: str, got: bytes) -> None:
    request = read(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert request is not None and request.target == got


@pytest.mark.parametrize("target", [b"/a\x01", b"/a\x7f", b"/a b", b"/a#b", "http://ü/a".encode()])
def test_other_characters_stay_refused(target: bytes) -> None:
    assert read(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") is None


@pytest.mark.parametrize(
    ("credentials", "pins"),
    [
        (b"Basic YTpi", False),
        (b"Bearer a.b.c", False),
        (b'Digest username="a, Negotiate b", realm="x", nc=1', False),
        (b"AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c", False),
        (b"NTLM TlRMTVNTUAAB", True),
        (b"negotiate YIIB==", True),
        (b"Kerberos x", True),
        (b"abc==", True),
        (b"", True),
    ],
)
def test_credentials_that_may_hold_for_a_connection(credentials: bytes, pins: bool) -> None:
    request = read(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: " + credentials + b"\r\n\r\n")
    assert request is not None and request.pins == pins


@pytest.mark.parametrize(
    ("challenges", "pins"),
    [
        (b'Basic realm="a, NTLM"', False),
        (b'Digest realm="a", qop="auth", Basic realm = "b"', False),
        (b'Basic realm="a", NTLM', True),
        (b"Negotiate", True),
        (b"Negotiate oYG==, Basic realm=x", True),
    ],
)
def test_challenges_that_may_hold_for_a_connection(challenges: bytes, pins: bool) -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " + challenges + b"\r\n\r\n"
    assert parse_response(head, FIELDS).pins == pins


def test_an_upgrade_may_come_with_a_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    for framing in (b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b""):
        request = read(head + framing + b"\r\n")
        assert request is not None and request.upgrade == b"tcp"


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (b"Prefer: wait=10\r\n", 10),
        (b'Accept: */*\r\nprefer: respond-async, wait = "7"; x=y\r\nA: b\r\n', 7),
        (b"Prefer: return=minimal\r\nPrefer: wait=0\r\n", 0),
        (b"Prefer: no-wait=5\r\n", None),
        (b"X-Prefer: wait=5\r\nA: Prefer: wait=6\r\n", None),
        (b"Prefer: wait=-1\r\n", None),
        (b"Prefer: wait=\r\nA: 5\r\n", None),
        (b"", None),
    ],
)
def test_how_long_a_visitor_would_wait(kept: bytes, expected: int | None) -> None:
    assert prefers_wait(kept) == expected
