"""Requests and responses that could be read in two ways: refused, the connection closed, nothing passed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness import Lab
from tests.e2e.mux import Mux, Target, Wire, heard, pieces

HOST = b"Host: mux.test\r\n"
GET = b"GET /t/web/x HTTP/1.1\r\n" + HOST
POST = b"POST /t/web/x HTTP/1.1\r\n" + HOST
#: What an attacker would like to be taken for a request of its own.
HIDDEN = b"GET /t/web/hidden HTTP/1.1\r\nHost: mux.test\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

AMBIGUOUS: dict[str, tuple[int, bytes]] = {
    # How long the body is.
    "two different lengths": (400, POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + HIDDEN),
    "the same length twice": (400, POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd" + HIDDEN),
    "lengths in a list": (400, POST + b"Content-Length: 4, 4\r\n\r\nabcd" + HIDDEN),
    "length and chunks": (
        400,
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    ),
    "chunks and length": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    ),
    "length with plus": (400, POST + b"Content-Length: +4\r\n\r\nabcd" + HIDDEN),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n" + HIDDEN),
    "length in hex": (400, POST + b"Content-Length: 0x4\r\n\r\nabcd" + HIDDEN),
    "length with underscore": (400, POST + b"Content-Length: 1_0\r\n\r\n" + HIDDEN),
    "length in other digits": (400, POST + "Content-Length: ٤\r\n\r\n".encode() + HIDDEN),
    "length of many digits": (400, POST + b"Content-Length: " + b"1" * 19 + b"\r\n\r\n" + HIDDEN),
    "empty length": (400, POST + b"Content-Length:\r\n\r\n" + HIDDEN),
    "chunks twice": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked, chunked": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    "gzip, chunked": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN),
    "chunked with parameter": (400, POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n" + HIDDEN),
    "quoted chunked": (400, POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + HIDDEN),
    "xchunked": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN),
    "chunked behind a tab": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    "chunks in HTTP/1.0": (
        400,
        b"POST /t/web/x HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    ),
    # Where a line ends.
    "bare LF ends the head": (400, b"GET /t/web/x HTTP/1.1\nHost: mux.test\n\n"),
    "bare LF in a head": (400, GET + b"A: b\nC: d\r\n\r\n"),
    "bare LF hides a length": (400, POST + b"A: b\nContent-Length: 4\r\n\r\nabcd"),
    "bare CR in a head": (400, GET + b"A: b\rC: d\r\n\r\n"),
    "bare CR ends a line": (400, POST + b"A: b\rContent-Length: 4\r\n\r\nabcd"),
    "CR CR LF": (400, GET + b"A: b\r\r\n\r\n"),
    "LF CR": (400, GET + b"A: b\n\rC: d\r\n\r\n"),
    "LF before the request": (400, b"\n" + GET + b"\r\n"),
    "folded line": (400, GET + b"A: b\r\n c\r\n\r\n"),
    "folded with tab": (400, GET + b"A: b\r\n\tc\r\n\r\n"),
    "folded length": (400, POST + b"Content-Length:\r\n 4\r\n\r\nabcd"),
    "first line folded": (400, b"GET /t/web/x HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n"),
    # What a name is.
    "space before colon": (400, POST + b"Content-Length : 4\r\n\r\nabcd"),
    "tab before colon": (400, POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    "space in a name": (400, GET + b"A B: c\r\n\r\n"),
    "no colon": (400, GET + b"Something\r\n\r\n"),
    "no name": (400, GET + b": value\r\n\r\n"),
    "NUL in a name": (400, GET + b"A\0B: c\r\n\r\n"),
    "8 bit in a name": (400, GET + b"A\xffB: c\r\n\r\n"),
    "NUL in a value": (400, GET + b"A: b\0c\r\n\r\n"),
    "escape in a value": (400, GET + b"A: \x1b[31m\r\n\r\n"),
    "DEL in a value": (400, GET + b"A: \x7f\r\n\r\n"),
    # What is asked for, and of whom.
    "no Host": (400, b"GET /t/web/x HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, GET + b"Host: other.test\r\n\r\n"),
    "same Host twice": (400, GET + HOST + b"\r\n"),
    "Host with a path": (400, b"GET /t/web/x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "Host with a user": (400, b"GET /t/web/x HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    "Host with an id's mark": (400, b"GET /t/web/x HTTP/1.1\r\nHost: c123456789abc@.a\r\n\r\n"),
    "Host with a space": (400, b"GET /t/web/x HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "Host list": (400, b"GET /t/web/x HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "other host in the target": (400, b"GET http://other.test/t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "other scheme": (400, b"GET ftp://mux.test/t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target without slash": (400, b"GET t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk for GET": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two spaces": (400, b"GET  /t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tab in the first line": (400, b"GET\t/t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "space in the target": (400, b"GET /t/web/x y HTTP/1.1\r\n" + HOST + b"\r\n"),
    "fragment": (400, b"GET /t/web/x#y HTTP/1.1\r\n" + HOST + b"\r\n"),
    "NUL in the target": (400, b"GET /t/web/\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "bad method": (400, b"G(T /t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long method": (400, b"G" * 33 + b" /t/web/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /t/web/x\r\n\r\n"),
    "lower case version": (400, b"GET /t/web/x http/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/1.10": (400, b"GET /t/web/x HTTP/1.10\r\n" + HOST + b"\r\n"),
    "HTTP/1.2": (505, b"GET /t/web/x HTTP/1.2\r\n" + HOST + b"\r\n"),
    "CONNECT": (405, b"CONNECT mux.test:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    "other expectation": (417, POST + b"Expect: 200-ok\r\nContent-Length: 4\r\n\r\nabcd"),
    "head too long": (431, GET + b"A: " + b"b" * 70_000 + b"\r\n\r\n"),
    "head without end": (431, GET + b"A: " + b"b" * 70_000),
    "too many fields": (431, GET + b"A: b\r\n" * 300 + b"\r\n"),
}

#: Behind a good head. The target may have seen that head by then; its connection must not go on.
BAD_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "not hex": b"xyz\r\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "space before size": b" 3\r\nabc\r\n0\r\n\r\n",
    "space behind size": b"3 \r\nabc\r\n0\r\n\r\n",
    "space before extension": b"3 ;a=b\r\nabc\r\n0\r\n\r\n",
    "bare LF behind size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF behind data": b"3\r\nabc\n0\r\n\r\n",
    "bare CR behind size": b"3\rabc\r\n0\r\n\r\n",
    "LF in extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "NUL in extension": b"3;a\0b\r\nabc\r\n0\r\n\r\n",
    "longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "shorter than its size": b"4\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"f" * 16 + b"3\r\nabc\r\n0\r\n\r\n",
    "long extension": b"3;" + b"a" * 600 + b"\r\nabc\r\n0\r\n\r\n",
    "many extensions": b"1;%b\r\na\r\n" % (b"x" * 500) * 40 + b"0\r\n\r\n",
    "bare LF at the end": b"3\r\nabc\r\n0\r\n\n",
    "bad trailer": b"3\r\nabc\r\n0\r\nA : b\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
    "too many trailers": b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 40 + b"\r\n",
    "too long a trailer": b"3\r\nabc\r\n0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
}

#: A target that says these things gets no second chance either: the visitor gets a 502.
BAD_RESPONSES = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "header with CR": b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 3\r\n\r\nabc",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "head too long": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
    "upgrade that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "interim without end": b"HTTP/1.1 102 Processing\r\n\r\n" * 50,
}


class Stage:
    def __init__(self) -> None:
        self.lab = Lab()
        self.mux = Mux(self.lab)
        self.target = Target(self.lab)
        for number, response in enumerate(BAD_RESPONSES.values()):
            self.target.heads[f"/bad/{number}"] = response
        self.mux.worker(web=self.target)


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        stage.lab.close()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.mux.leave()


def refused(wire: Wire, status: int) -> None:
    response = wire.message()
    assert response.status == status, response
    assert response.get("Connection") == "close"
    assert b"mux.test" not in response.body and b"\x1b" not in response.body
    assert wire.ended(), "the connection went on"


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_head(stage: Stage, case: str) -> None:
    status, data = AMBIGUOUS[case]
    seen = len(stage.target.requests)
    wire = stage.mux.visit()
    wire.send(data)
    refused(wire, status)
    assert len(stage.target.requests) == seen, "the target saw a request"


@pytest.mark.parametrize("case", [case for case, (_, data) in AMBIGUOUS.items() if len(data) < 300])
def test_ambiguous_head_behind_a_good_request(stage: Stage, case: str) -> None:
    status, data = AMBIGUOUS[case]
    wire = stage.mux.visit()
    wire.send(GET + b"\r\n" + data)
    assert heard(wire.message()).target == "/x"
    seen = len(stage.target.requests)
    refused(wire, status)
    assert len(stage.target.requests) == seen


@pytest.mark.parametrize("case", BAD_CHUNKS)
@pytest.mark.parametrize("step", [100_000, 1], ids=["whole", "in bytes"])
def test_bad_chunks(stage: Stage, case: str, step: int) -> None:
    seen = len(stage.target.requests)
    wire = stage.mux.visit()
    wire.send(CHUNKED)
    try:
        for piece in pieces(BAD_CHUNKS[case] + HIDDEN, step):
            wire.send(piece)
    except ConnectionError:
        assert step == 1  # refused before all of it was said
    response = wire.message()
    assert response.status in (400, 431), response
    assert wire.ended()
    assert len(stage.target.requests) == seen, "the target took the request for a whole one"


@pytest.mark.parametrize("case", BAD_RESPONSES)
def test_bad_response(stage: Stage, case: str) -> None:
    number = list(BAD_RESPONSES).index(case)
    response = stage.mux.ask(f"/t/web/bad/{number}")
    interim = case.startswith("interim")
    assert response.status == (102 if interim else 502), response


def test_what_follows_a_body_is_a_request_of_its_own(stage: Stage) -> None:
    """What one parser takes for a body, the other must not take for a request, and the other way round."""
    wire = stage.mux.visit()
    wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + GET + b"\r\n")
    first, second = heard(wire.message()), heard(wire.message())
    assert first.body == HIDDEN
    assert second.target == "/x"
    assert not [request for request in stage.target.requests if request.target == "/hidden"]


def test_fields_that_only_look_like_framing_stay_behind(stage: Stage) -> None:
    """WSGI and CGI make the same variable of Content_Length and Content-Length."""
    wire = stage.mux.visit()
    wire.send(
        GET
        + b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Forwarded_For: 1.2.3.4\r\nKept_Too: 1\r\n\r\n"
    )
    names = {name.lower() for name, _ in heard(wire.message()).fields}
    assert "kept_too" in names
    assert not names & {"content_length", "transfer_encoding", "x_forwarded_for", "content-length"}


def test_one_empty_line_before_a_request_is_forgiven(stage: Stage) -> None:
    wire = stage.mux.visit()
    wire.send(b"\r\n" + GET + b"\r\n")
    assert heard(wire.message()).target == "/x"


def test_a_head_in_single_bytes_is_the_same_head(stage: Stage) -> None:
    wire = stage.mux.visit()
    for piece in pieces(POST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n", 1):
        wire.send(piece)
    request = heard(wire.message())
    assert request.body == b"abc"
    assert request.raw.endswith(b"0\r\nT: u\r\n\r\n")
    assert b";x=y" not in request.raw
