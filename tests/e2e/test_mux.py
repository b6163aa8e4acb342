"""The HTTP mux as visitors and targets see it, byte by byte: addresses, bodies, headers, connections, answers."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.harness import LOOPBACK, Lab, connect, free_port
from tests.e2e.mux import Message, Mux, Target, Wire, heard, in_threads, pieces, told, wait_until
from tests.e2e.services import abort

GET = b"GET /t/web/%b HTTP/1.1\r\nHost: mux.test\r\n\r\n"


class Stage:
    def __init__(self, *options: str) -> None:
        self.lab = Lab()
        self.mux = Mux(self.lab, *options)
        self.target = Target(self.lab)
        self.worker = self.mux.worker(web=self.target)


def staged(*options: str) -> Iterator[Stage]:
    stage = Stage(*options)
    try:
        yield stage
    finally:
        stage.mux.leave()
        stage.lab.close()


@pytest.fixture(scope="module")
def by_path() -> Iterator[Stage]:
    yield from staged()


@pytest.fixture(scope="module")
def by_host() -> Iterator[Stage]:
    yield from staged("--domain", "aero.test", "--debug")


@pytest.fixture
def stage(by_path: Stage) -> Iterator[Stage]:
    yield by_path
    by_path.mux.leave()
    by_path.target.talks.clear()


@pytest.fixture
def domain(by_host: Stage) -> Iterator[Stage]:
    yield by_host
    by_host.mux.leave()


# ----------------------------------------------------------------------------
# Addresses
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("/t/web/", "/"),
        ("/t/web/a/b?c=d&e=/f", "/a/b?c=d&e=/f"),
        ("/T/Web/a", "/a"),
        ("/t/web//a/../%2e%2e/b%00%0a", "//a/../%2e%2e/b%00%0a"),
        ("/t/web/?", "/?"),
        ("http://mux.test/t/web/a", "/a"),
        ("HTTP://mux.test/t/web/?a", "/?a"),
    ],
)
def test_a_path_leads_to_a_target(stage: Stage, asked: str, got: str) -> None:
    assert heard(stage.mux.ask(asked)).target == got


def test_a_missing_slash_is_added(stage: Stage) -> None:
    response = stage.mux.ask("/t/web?a=b/c")
    assert (response.status, response.get("Location")) == (307, "web/?a=b/c")
    assert stage.lab.check(["curl", "-sfL", stage.mux.url("/t/web?a=b")])


@pytest.mark.parametrize("mark", ["@", "%40", "%23", ""])
def test_a_cid_picks_one_worker(stage: Stage, mark: str) -> None:
    cid = stage.mux.cid()
    request = heard(stage.mux.ask(f"/{cid}{mark}/web/a"))
    assert request.target == "/a"
    assert request.get("X-Forwarded-Prefix") == f"/{cid}{mark}/web", "as this visitor wrote it"


@pytest.mark.parametrize(
    "target", ["/", "/t", "/t/", "/favicon.ico", "/t/web%2f", "/../t/web/", "/t@/w/", "/%74/web/"]
)
def test_other_paths_are_not_found(stage: Stage, target: str) -> None:
    assert stage.mux.ask(target).status == 404


@pytest.mark.parametrize(
    "host", ["t.web.aero.test", "T.WEB.Aero.Test", "t.web.aero.test:4000", "t.web.aero.test."]
)
def test_a_host_leads_to_a_target(domain: Stage, host: str) -> None:
    request = heard(domain.mux.ask("/t/web/a?b", host=host))
    assert request.target == "/t/web/a?b"
    assert request.get("Host") == request.get("X-Forwarded-Host") == host
    assert request.get("X-Forwarded-Prefix") is None


@pytest.mark.parametrize("mark", ["", "@", "%40", "%23"])
def test_a_cid_stands_in_a_host_name(domain: Stage, mark: str) -> None:
    cid = domain.mux.cid()
    request = heard(domain.mux.ask("/a", host=f"{cid}{mark}.web.aero.test"))
    assert request.get("Host") == request.get("X-Forwarded-Host") == f"{cid}.web.aero.test"


def test_other_hosts_are_told_what_was_expected(domain: Stage) -> None:
    for host in (
        "aero.test",
        "web.aero.test",
        "a.t.web.aero.test",
        "t.web.aero.test.evil.test",
        "127.0.0.1:4000",
    ):
        response = domain.mux.ask("/", host=host)
        assert response.status == 404
        assert b"<tag>.<name>.aero.test" in response.body


def test_options_for_all_of_a_target(domain: Stage) -> None:
    assert heard(domain.mux.ask("*", method="OPTIONS", host="t.web.aero.test")).target == "*"


def test_every_address_of_localhost(lab: Lab) -> None:
    port = free_port()
    lab.server("--mux", f"localhost:{port}").says("targets by HTTP")
    for host in {str(each[4][0]) for each in socket.getaddrinfo("localhost", port)}:
        with connect(port, host) as visitor:
            visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert visitor.recv(100).startswith(b"HTTP/1.1 404 ")


def test_a_taken_port_names_the_option(lab: Lab) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        where = f"{LOOPBACK}:{taken.getsockname()[1]}"
        done = lab.aero(
            "server", "--port", "0", "--api", "off", "--mux", where, "--state", str(lab.path("state"))
        )
    assert done.returncode == 4
    assert "--mux" in done.stderr.splitlines()[-1]


# ----------------------------------------------------------------------------
# Bodies
# ----------------------------------------------------------------------------


def test_bodies_up(stage: Stage) -> None:
    wire = stage.mux.visit()
    head = b"POST /t/web/ HTTP/1.1\r\nHost: mux.test\r\n"
    wire.send(head + b"Content-Length: 5\r\n\r\nhello")
    assert heard(wire.message()).body == b"hello"
    wire.send(head + b"Content-Length: 0\r\n\r\n")
    assert heard(wire.message()).get("Content-Length") == "0"
    wire.send(
        head
        + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0006;a=b\r\n world\r\n0\r\nX-Sum: 1\r\nHost: a\r\n\r\n"
    )
    request = heard(wire.message())
    assert request.body == b"hello world"
    assert request.raw.endswith(b"\r\n0\r\nX-Sum: 1\r\n\r\n"), "a trailer may not say what a head says"


def test_a_body_in_pieces(stage: Stage) -> None:
    body = bytes(range(256)) * 4000
    wire = stage.mux.visit()
    wire.send(b"PUT /t/web/ HTTP/1.1\r\nHost: mux.test\r\nContent-Length: %d\r\n\r\n" % len(body))
    for piece in pieces(body, 70_001):
        wire.send(piece)
    assert heard(wire.message()).body == body
    wire.send(b"PUT /t/web/ HTTP/1.1\r\nHost: mux.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in pieces(body, 10_007):
        wire.send(b"%X\r\n%b\r\n" % (len(piece), piece))
    wire.send(b"0\r\n\r\n")
    assert heard(wire.message()).body == body


def answering(stage: Stage, path: str, data: bytes, close: bool = False) -> None:
    def talk(wire: Wire, _: Message) -> bool:
        wire.send(data)
        return not close

    stage.target.talks[path] = talk


def test_chunks_and_trailers_down(stage: Stage) -> None:
    answering(
        stage,
        "/chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    wire = stage.mux.visit()
    for _ in range(2):
        wire.send(GET % b"chunks")
        response = wire.message()
        assert response.body == b"abc"
        assert response.raw == b"3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"


def test_a_body_until_the_end_of_the_connection(stage: Stage) -> None:
    """An HTTP/1.0 target; the visitor's connection goes on all the same."""
    answering(stage, "/old", b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nabc", close=True)
    wire = stage.mux.visit()
    for _ in range(2):
        wire.send(GET % b"old")
        response = wire.message()
        assert (response.body, response.get("Transfer-Encoding")) == (b"abc", "chunked")


def test_an_old_visitor(stage: Stage) -> None:
    """HTTP/1.0: no chunks, no interim responses, no Host; the connection goes on only when it asks."""
    answering(
        stage,
        "/chunks",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )
    wire = stage.mux.visit()
    wire.send(b"GET /t/web/chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = wire.message()
    assert (response.status, response.body) == (200, b"abc")
    assert response.get("Transfer-Encoding") is None
    assert response.get("Connection") == "close"
    wire = stage.mux.visit()
    wire.send(b"GET /t/web/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = wire.message()
    assert response.get("Connection") == "keep-alive"
    assert heard(response).get("Host") == f"127.0.0.1:{stage.target.port}"
    wire.send(b"GET /t/web/ HTTP/1.0\r\n\r\n")
    assert wire.message().get("Connection") == "close"
    assert wire.ended()


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: a\r\n\r\n"),
    ],
)
def test_responses_without_body(stage: Stage, method: str, response: bytes) -> None:
    answering(stage, "/none", response)
    wire = stage.mux.visit()
    for _ in range(2):
        wire.send(b"%b /t/web/none HTTP/1.1\r\nHost: mux.test\r\n\r\n" % method.encode())
        assert wire.until(b"\r\n\r\n") == response.replace(
            b"Content-Length: 1000\r\nETag: a", b"ETag: a\r\nContent-Length: 1000"
        )
    wire.send(GET % b"after")
    assert heard(wire.message()).target == "/after"


def test_interim_responses(stage: Stage) -> None:
    answering(
        stage,
        "/hints",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    wire = stage.mux.visit()
    wire.send(GET % b"hints")
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: </t/web/a>\r\n\r\n"
    assert wire.message().body == b"ok"


def test_expect_100_continue(stage: Stage) -> None:
    """The target says when to go on; the mux does not say it in its place."""
    wire = stage.mux.visit()
    wire.send(
        b"POST /t/web/continue HTTP/1.1\r\nHost: mux.test\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"hello")
    assert heard(wire.message()).body == b"hello"


def test_a_final_response_instead_of_100(stage: Stage) -> None:
    """What would follow is not known to be a body: the connection ends."""
    answering(stage, "/early", b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
    wire = stage.mux.visit()
    wire.send(
        b"POST /t/web/early HTTP/1.1\r\nHost: mux.test\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n"
    )
    response = wire.message()
    assert (response.status, response.body, response.get("Connection")) == (413, b"no", "close")
    assert wire.ended()


def test_an_answer_before_the_end_of_a_large_body(stage: Stage) -> None:
    answering(stage, "/early", b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno", close=True)
    wire = stage.mux.visit()
    wire.send(
        b"POST /t/web/early HTTP/1.1\r\nHost: mux.test\r\nContent-Length: 100000000\r\n\r\n" + bytes(300_000)
    )
    response = wire.message()
    assert (response.status, response.body) == (413, b"no")


def test_a_truncated_body_does_not_look_complete(stage: Stage) -> None:
    answering(stage, "/short", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=True)
    wire = stage.mux.visit()
    wire.send(GET % b"short")
    wire.until(b"\r\n\r\n")
    assert len(wire.rest()) < 10


# ----------------------------------------------------------------------------
# Headers
# ----------------------------------------------------------------------------


def test_hop_by_hop_fields_end_here(stage: Stage) -> None:
    fields = ["Connection: close, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "TE: gzip", "Proxy-Connection: a"]
    fields += ["Proxy-Authorization: b", "Upgrade: c", "X-Other: 2"]
    wire = stage.mux.visit()
    wire.send(("GET /t/web/ HTTP/1.1\r\nHost: a\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode())
    names = {name for name, _ in heard(wire.message()).fields}
    assert names == {
        "Host",
        "X-Other",
        *(f"X-Forwarded-{name}" for name in ("For", "Proto", "Host", "Prefix")),
        "Forwarded",
    }
    answering(
        stage,
        "/hop",
        b"HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nX-Other: 2\r\n"
        b"Content-Length: 0\r\n\r\n",
    )
    response = stage.mux.ask("/t/web/hop")
    assert sorted(name for name, _ in response.fields) == ["Connection", "Content-Length", "X-Other"]


def test_trailers_are_asked_for(stage: Stage) -> None:
    request = heard(stage.mux.ask("/t/web/", "TE: trailers, gzip"))
    assert (request.get("TE"), request.get("Connection")) == ("trailers", "TE")


def test_the_target_hears_of_whom_it_is_for(stage: Stage) -> None:
    lies = [
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
    ]
    lies += [
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Port: 1",
        "x_forwarded_for: 6.6.6.6",
    ]
    request = heard(stage.mux.ask("/t/web/a", *lies))
    said = {name: value for name, value in request.fields if "orwarded" in name}
    assert said == {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "mux.test",
        "X-Forwarded-Prefix": "/t/web",
        "Forwarded": 'for=127.0.0.1;host="mux.test";proto=http',
    }
    assert request.get("Host") == "mux.test"
    assert "6.6.6.6" not in str(request)


def test_a_trusted_proxy_is_believed(lab: Lab) -> None:
    mux, target = Mux(lab, "--trust-proxy", "10.0.0.0/8,127.0.0.1"), Target(lab)
    mux.worker(web=target)
    request = heard(
        mux.ask(
            "/t/web/a",
            *("X-Forwarded-For: 1.2.3.4, 2001:db8::1", "X-Forwarded-Proto: https"),
            *("X-Forwarded-Host: a.test", "X-Forwarded-Prefix: /b/"),
        )
    )
    said = {name: value for name, value in request.fields if "orwarded" in name}
    assert said == {
        "X-Forwarded-For": "1.2.3.4, 2001:db8::1, 127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "a.test",
        "X-Forwarded-Prefix": "/b/t/web",
        "Forwarded": 'for=1.2.3.4;host="a.test";proto=https, '
        'for="[2001:db8::1]";host="a.test";proto=https, for=127.0.0.1',
    }
    request = heard(
        mux.ask("/t/web/a", "Forwarded: for=_x", "X-Forwarded-Host: a b", "X-Forwarded-Proto: gopher")
    )
    assert request.get("Forwarded") == "for=_x, for=127.0.0.1"
    assert (request.get("X-Forwarded-Host"), request.get("X-Forwarded-Proto")) == ("mux.test", "http")
    mux.leave()


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("Location: /a?b", "Location: /t/web/a?b"),
        ("Location: http://mux.test/a", "Location: /t/web/a"),
        ("Location: https://MUX.test?a", "Location: /t/web/?a"),
        ("Location: http://127.0.0.1:{port}/a", "Location: /t/web/a"),
        ("Location: http://other.test/a", "Location: http://other.test/a"),
        ("Location: //other.test/a", "Location: //other.test/a"),
        ("Location: a/b", "Location: a/b"),
        ("Location: /t/web/a", "Location: /t/web/a"),
        ("Location: /t/webber", "Location: /t/web/t/webber"),
        ("set-cookie: a=b; path=/; HttpOnly", "set-cookie: a=b; path=/t/web/; HttpOnly"),
        ("Set-Cookie: a=/b; Path = /c", "Set-Cookie: a=/b; Path = /t/web/c"),
        ("Set-Cookie: a=b; Path=/t/web", "Set-Cookie: a=b; Path=/t/web"),
        ("Set-Cookie: a=b; Secure", "Set-Cookie: a=b; Secure"),
        ("Set-Cookie: __Host-a=b; Path=/; Secure", "Set-Cookie: __Host-a=b; Path=/; Secure"),
    ],
)
def test_what_is_under_the_root_gets_the_prefix_back(stage: Stage, sent: str, seen: str) -> None:
    field = sent.format(port=stage.target.port)
    answering(stage, "/r", f"HTTP/1.1 302 Found\r\n{field}\r\nContent-Length: 0\r\n\r\n".encode())
    name, value = seen.split(": ", 1)
    assert stage.mux.ask("/t/web/r").get(name) == value


def test_by_host_nothing_is_rewritten(domain: Stage) -> None:
    answering(domain, "/r", b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n")
    assert domain.mux.ask("/r", host="t.web.aero.test").get("Location") == "/a"


# ----------------------------------------------------------------------------
# Connections
# ----------------------------------------------------------------------------


def test_keep_alive_on_both_sides(stage: Stage) -> None:
    wire = stage.mux.visit()
    wire.send(GET % b"")
    wire.message()
    before = stage.target.connections
    for _ in range(20):
        wire.send(GET % b"")
        wire.message()
    for _ in range(20):  # other visitors share it, and end theirs
        stage.mux.ask("/t/web/")
    assert stage.target.connections == before


def test_a_target_that_ends_its_connections(stage: Stage) -> None:
    answering(
        stage, "/close", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", close=True
    )
    wire = stage.mux.visit()
    for _ in range(5):
        wire.send(GET % b"close")
        response = wire.message()
        assert (response.body, response.get("Connection")) == (b"ok", None)


def test_a_kept_connection_gone_stale_costs_nobody_a_request(stage: Stage) -> None:
    """The target says nothing of it and closes without warning, just as the next request is on its way."""

    def silent(wire: Wire, _: Message) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        wire.fill()  # the next request: read, and dropped
        abort(wire.sock)
        return False

    stage.target.talks["/stale"] = silent
    wire = stage.mux.visit()
    wire.send(GET % b"stale")
    assert wire.message().body == b"ok"
    wire.send(GET % b"next")
    assert heard(wire.message()).target == "/next"


def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    wire = stage.mux.visit()
    count = 300
    wire.send(b"".join(GET % b"%d" % number for number in range(count)))
    assert [heard(wire.message()).target for _ in range(count)] == [f"/{number}" for number in range(count)]


def test_a_pipeline_beyond_its_bound_waits_in_the_kernel(stage: Stage) -> None:
    release = threading.Event()

    def slow(wire: Wire, request: Message) -> bool:
        release.wait(20)
        wire.send(told(request))
        return True

    stage.target.talks["/slow"] = slow
    wire = stage.mux.visit()
    requests = [b"slow", *(b"x" * 1000 + b"%d" % number for number in range(400))]
    sender = threading.Thread(target=wire.send, args=(b"".join(GET % path for path in requests),))
    sender.start()
    release.set()
    for path in requests:
        assert heard(wire.message()).target == "/" + path.decode()
    sender.join()


def test_half_closed_visitors_get_their_answers(stage: Stage) -> None:
    wire = stage.mux.visit()
    wire.send(GET % b"a" + GET % b"b")
    wire.sock.shutdown(socket.SHUT_WR)
    assert heard(wire.message()).target == "/a"
    assert heard(wire.message()).target == "/b"
    assert wire.ended()


def test_the_target_hears_when_a_visitor_goes(stage: Stage) -> None:
    gone = threading.Event()

    def events(wire: Wire, _: Message) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        while wire.fill():
            pass
        gone.set()
        return False

    stage.target.talks["/events"] = events
    wire = stage.mux.visit()
    wire.send(GET % b"events")
    assert wire.message("HEAD").status == 200
    wire.until(b"data: 1\n\n")
    wire.sock.close()
    assert gone.wait(20), "the target was not told"


def test_an_upgrade_to_something_of_ones_own(stage: Stage) -> None:
    """Raw bytes both ways after 101, what came early included, and each direction ends by itself."""

    def shout(wire: Wire, request: Message) -> bool:
        assert request.get("Connection") == "Upgrade"
        assert request.get("Upgrade") == "shout/1"
        wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\nhello "
        )
        while wire.buffer or wire.fill():
            wire.send(wire.buffer.upper())
            wire.buffer = b""
        wire.send(b" bye")
        return False

    stage.target.talks["/shout"] = shout
    wire = stage.mux.visit()
    wire.send(
        b"GET /t/web/shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\nearly\0\n\n"
    )
    head = wire.until(b"\r\n\r\n")
    assert head == b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\n"
    assert wire.exactly(14) == b"hello EARLY\0\n\n"
    body = b"abc" * 100_000
    sender = threading.Thread(target=wire.send, args=(body,))
    sender.start()
    assert wire.exactly(len(body)) == body.upper()
    sender.join()
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.rest() == b" bye"


def test_a_refused_upgrade_is_a_response(stage: Stage) -> None:
    wire = stage.mux.visit()
    wire.send(
        b"GET /t/web/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n" + GET % b"after"
    )
    assert heard(wire.message()).get("Upgrade") == "other"
    assert heard(wire.message()).target == "/after"


def test_http2_is_not_upgraded_to(stage: Stage) -> None:
    request = heard(
        stage.mux.ask(
            "/t/web/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"
        )
    )
    assert request.get("Upgrade") is None and request.get("HTTP2-Settings") is None


def test_what_ends_with_its_connection_does_not_look_complete_when_the_server_is_killed(lab: Lab) -> None:
    mux, target = Mux(lab), Target(lab)
    mux.worker(web=target)

    def talk(wire: Wire, _: Message) -> bool:
        wire.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        wire.fill()
        return False

    target.talks["/old"] = talk
    wire = mux.visit()
    wire.send(b"GET /t/web/old HTTP/1.0\r\n\r\n")
    wire.until(b"\r\n\r\nabc")
    mux.server.stop(signal.SIGKILL)
    with pytest.raises(ConnectionResetError):
        wire.fill()
    mux.leave()


# ----------------------------------------------------------------------------
# Several workers
# ----------------------------------------------------------------------------


def test_workers_with_one_tag_take_turns(lab: Lab) -> None:
    mux = Mux(lab)
    targets = [Target(lab, f"target {number}") for number in range(3)]
    for target in targets[:2]:
        mux.worker("farm", web=target)
    mux.worker("farm", other=targets[2])
    names = [json.loads(mux.ask("/farm/web/").body)["name"] for _ in range(6)]
    assert names in (["target 0", "target 1"] * 3, ["target 1", "target 0"] * 3)
    mux.leave()


@pytest.mark.parametrize("failure", ["refuses", "resets", "hangs up"])
def test_a_failing_worker_is_passed_over(lab: Lab, failure: str) -> None:
    mux, good = Mux(lab), Target(lab)

    def fail(wire: Wire, _: Message) -> bool:
        if failure == "resets":
            abort(wire.sock)
        return False

    bad = Target(lab)
    bad.talks["/"] = fail
    mux.worker("farm", web=good)
    mux.worker("farm", web=free_port() if failure == "refuses" else bad)
    for _ in range(6):
        assert heard(mux.ask("/farm/web/")).target == "/"
    statuses = {mux.ask("/farm/web/", method="POST", body=b"once").status for _ in range(6)}
    # Where nothing was reached, nothing can have been done twice.
    assert statuses == ({200} if failure == "refuses" else {200, 502})
    mux.leave()


# ----------------------------------------------------------------------------
# Answers of the mux's own
# ----------------------------------------------------------------------------


def test_unknown_names(stage: Stage) -> None:
    wire = stage.mux.visit()
    for path, text in (
        (b"x/web/", b"tag x"),
        (b"t/x/", b"name x"),
        (b"c000000000000/x/", b"id c000000000000"),
    ):
        wire.send(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        response = wire.message()
        assert response.status == 404 and text in response.body
        assert b"web" not in response.body.replace(path.rstrip(b"/"), b"") or path == b"x/web/"
    wire.send(b"HEAD /x/web/ HTTP/1.1\r\nHost: a\r\n\r\n" + GET % b"after")
    assert wire.message("HEAD").status == 404
    assert heard(wire.message()).target == "/after"


def test_debug_says_what_exists(domain: Stage) -> None:
    assert b"Known here: t." in domain.mux.ask("/", host="x.web.aero.test").body
    assert b"Known here: web." in domain.mux.ask("/", host="t.x.aero.test").body


def test_answers_for_people_programs_and_terminals(stage: Stage) -> None:
    page = stage.mux.ask("/t/x/", "Accept: text/html,application/json;q=0.9")
    assert page.get("Content-Type") == "text/html; charset=utf-8"
    assert page.get("Content-Security-Policy") and page.body.startswith(b"<!doctype html>")
    chinese = stage.mux.ask("/t/x/", "Accept: text/html", "Accept-Language: zh-CN,en;q=0.5")
    assert "没有名为 x 的目标" in chinese.body.decode() and b'lang="zh"' in chinese.body
    said = json.loads(stage.mux.ask("/t/x/", "Accept: application/json").body)
    assert (said["status"], said["error"]) == (404, "unknown name")
    assert (
        stage.mux.ask("/t/x/", "Accept: */*").body
        == b"404 Not Found: Worker t has no target with the name x.\n"
    )
    stage.lab.check(["curl", "-s", stage.mux.url("/t/x/")])


def test_nothing_is_reflected_unescaped(domain: Stage) -> None:
    for host in ("<script>alert(1)</script>", '"><script>', "x.y.aero.test"):
        response = domain.mux.ask("/<script>alert(1)</script>", "Accept: text/html", "A: <script>", host=host)
        assert b"<script" not in response.body


def test_a_target_that_refuses(lab: Lab) -> None:
    mux = Mux(lab)
    mux.worker(web=free_port())
    response = mux.ask("/t/web/")
    assert response.status == 502
    assert b"Target web of worker t" in response.body and b"refused" in response.body.lower()
    mux.leave()


def test_a_worker_that_is_away(lab: Lab) -> None:
    mux, target = Mux(lab), Target(lab)
    worker = mux.worker(web=target)
    assert mux.ask("/t/web/").status == 200
    worker.stop(signal.SIGKILL)
    mux.server.says("link lost|worker down")
    response = mux.ask("/t/web/")
    assert response.status == 503
    assert response.get("Retry-After")
    mux.worker(web=target)
    wait_until("the worker's return", lambda: mux.ask("/t/web/").status == 200)
    worker = mux.lab.programs[-1]
    worker.stop(signal.SIGTERM)
    mux.server.says("worker down")
    assert mux.ask("/t/web/").status == 503
    assert mux.ask("/t/never/").status == 404
    mux.leave()


def test_many_visitors_at_once(stage: Stage) -> None:
    def visit(number: int) -> None:
        wire = stage.mux.visit()
        for step in range(20):
            body = b"%d-%d" % (number, step) * 500
            wire.send(b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert heard(wire.message()).body == body

    in_threads(16, visit)
