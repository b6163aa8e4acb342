"""The mux under fuzz: its parsers by themselves, and a visitor's connection whole, with nothing real but the session.

Held to more than "no fault comes out": what is written for the other side has to be read there as it was meant, in
whatever pieces it came; every byte of a target's is accounted for; nothing stays behind.
"""

from __future__ import annotations

from aero.errors import MessageError
from aero.server.httpmux import head, rewrite
from aero.server.httpmux.body import Transfer, chunk, last_chunk
from tests.server.httpmux.scene import FINISHES, PEER, PLACE, RESETS, STAYS, Scene

# ----------------------------------------------------------------------------
# Heads and bodies
# ----------------------------------------------------------------------------


def fuzz_head(data: bytes) -> None:
    """A request's and a response's head, a trailer; what is written from them says the same."""
    try:
        head.check_beginning(data, 0, 16384)
    except MessageError as error:
        assert len(str(error)) < 1000
    try:
        request = head.parse_request(data, 100)
    except MessageError as error:
        assert len(str(error)) < 1000
    else:
        _check_request(request)
    try:
        response = head.parse_response(data, 100)
    except MessageError as error:
        assert len(str(error)) < 1000
    else:
        for method in (b"GET", b"HEAD"):
            _check_response(response, head.body_length(method, response))
    try:
        trailers = head.parse_trailers(data, 100)
    except MessageError as error:
        assert len(str(error)) < 1000
    else:
        assert head.parse_trailers(trailers, 100) == trailers


def _check_request(request: head.Request) -> None:
    sent = rewrite.request_head(request, request.target, request.host, b"127.0.0.1:80", PEER, b"/t/web")
    assert sent.count(b"\r\n\r\n") == 1 and sent.endswith(b"\r\n\r\n")
    again = head.parse_request(sent, 200)
    assert (again.method, again.length, again.upgrade) == (request.method, request.length, request.upgrade)
    assert again.target == request.target and again.host in (request.host, b"127.0.0.1:80")


def _check_response(response: head.Response, length: int) -> None:
    if response.status < 200:
        return
    chunked = length in (head.CHUNKED, head.UNTIL_CLOSE)
    sent = rewrite.response_head(response, length, chunked, b"close", PLACE)
    assert sent.count(b"\r\n\r\n") == 1 and sent.endswith(b"\r\n\r\n")
    again = head.parse_response(sent, 200)
    assert again.status == response.status
    counted = response.length if response.length >= 0 and response.status != 204 else head.NO_BODY
    assert again.length == (head.CHUNKED if chunked else counted)


def fuzz_body(data: bytes) -> None:
    """A chunked body, whole and in pieces of a size that the first byte says; and again from what was written."""
    step, data = 1 + data[0] if data else 1, data[1:]
    whole = _transferred(data, len(data) + 1)
    assert _transferred(data, step) == whole
    if whole is None:
        return
    plain, trailers, done, _ = whole
    sent = b"".join(chunk(plain)) + (last_chunk(trailers) if done else b"")
    assert _transferred(sent, step) == (plain, trailers, done, len(sent))


def _transferred(data: bytes, step: int) -> tuple[bytes, bytes, bool, int] | None:
    """The plain bytes, the trailers, whether it is over, how much was used; None when it is malformed."""
    transfer = Transfer(head.CHUNKED)
    out, at = b"", 0
    try:
        while at < len(data) and not transfer.done:
            piece, used = transfer.feed(data[at : at + step])
            out += bytes(piece)
            at += used
            assert transfer.done or used == len(data[at - used : at - used + step])
    except MessageError:
        return None
    return out, transfer.trailers if transfer.done else b"", transfer.done, at


# ----------------------------------------------------------------------------
# A visitor's connection
# ----------------------------------------------------------------------------


def fuzz_visitor(data: bytes) -> None:
    """What one visitor sends and what the target answers, in pieces. Its first bytes: flags (the socket takes little;
    the target ends, or resets), the pieces' size, an eighth of the request's size."""
    flags, step, size = (*data[:3], 0, 0, 0)[:3]
    cut = 3 + size * 8
    ends = FINISHES if flags & 2 else RESETS if flags & 4 else STAYS
    scene = Scene(data[3:cut], data[cut:], 1 + step, bool(flags & 1), ends)
    scene.run()
    scene.finish()


REQUEST = (
    b"GET /a?b HTTP/1.1\r\nHost: t.d.org:80\r\nContent-Length: 5\r\n"
    b"Connection: upgrade, x\r\nUpgrade: h2c\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n0004;x=y\r\ndefg\r\n0\r\nA: b\r\n\r\n"
WORDS = [
    b"\r\n", b"\r\n\r\n", b" HTTP/1.0", b"chunked", b"Transfer-Encoding: ", b"Content-Length: ", b"Host: ", b"http://",
    b"Expect: 100-continue\r\n", b"[::1]", b"X-Forwarded-For: 1\r\n", b"\t", b": ", b"HTTP/1.1 ", b"*", b"CONNECT ",
]  # fmt: skip


def visit(flags: int, step: int, request: bytes, answer: bytes) -> bytes:
    padded = request + b"\r\n" * (-len(request) % 8 // 2)
    padded += b" " * (-len(padded) % 8)
    return bytes((flags, step, len(padded) // 8)) + padded + answer


_GET = b"GET /t/web/ HTTP/1.1\r\nHost: a\r\n\r\n"
_POST = b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
_PUT = b"PUT /t/web/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
_SWITCH = b"GET /t/web/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
_LOCATION = b"HTTP/1.1 302 Found\r\nLocation: /a\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
_SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw"
VISITS = [
    visit(0, 255, _GET * 2, _OK),
    visit(1, 4, _GET + _POST, _HINTS + _OK),
    visit(2, 255, _PUT, RESPONSE + CHUNKS),
    visit(3, 9, _GET, b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
    visit(4, 255, _POST, _OK[:-1]),
    visit(0, 20, _SWITCH, _SWITCHED),
    visit(0, 255, b"HEAD" + _GET[3:] + _PUT + _GET, _LOCATION),
    visit(0, 255, _GET.replace(b"1.1", b"1.0") + _GET, RESPONSE + CHUNKS),
]
VISIT_WORDS = [
    *WORDS, _GET, _POST, _PUT, _OK, _HINTS, CHUNKS, b"0\r\n\r\n", b"Connection: close\r\n", b"/t/web/", b"HEAD "
]  # fmt: skip
