"""Whom the management API answers, and what it refuses: parameters, methods, hosts, bytes, tokens, keys."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from tests.e2e.api import JSON, ApiServer, EventStream
from tests.e2e.harness import (
    COMMAND,
    LOOPBACK,
    Lab,
    connect,
    free_port,
    poll,
)

ROUTES = ["/", "/health", "/list", "/metrics", "/traffic", "/openapi.json"]


@pytest.mark.parametrize("path", [*(path for path in ROUTES if path != "/health"), "/ping", "/events"])
def test_unknown_parameters_are_named(api: ApiServer, path: str) -> None:
    reply = api.call(f"{path}?unknown=1&strange=2")
    assert reply.status == 400
    assert "unknown" in reply.error
    assert "strange" in reply.error


@pytest.mark.parametrize(
    "query", ["tags=", "tags=a&tags=b", "tags", "tags=a,,b", "tags=<b>", "tags=%ff", "tags=" + "a" * 64]
)
def test_parameters_that_cannot_be(api: ApiServer, query: str) -> None:
    reply = api.call(f"/list?{query}")
    assert reply.status == 400
    assert reply.error.isprintable()


@pytest.mark.parametrize(
    "path", ["/nothing", "/list/", "//list", "/LIST", "/%2e%2e/etc/passwd", "/ui/page.js", "/%ff"]
)
def test_an_unknown_path(api: ApiServer, path: str) -> None:
    reply = api.call(path)
    assert reply.status == 404
    assert "path" in reply.error


@pytest.mark.parametrize("path", [*ROUTES, "/ping", "/events"])
def test_a_wrong_method(api: ApiServer, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
        reply = api.post(path) if method == "POST" else api.call(path, method)
        assert reply.status == 405, method
        assert reply.headers["allow"] == "GET, HEAD"
    assert api.call("/kick?cid=x").headers["allow"] == "POST"


def test_head_is_get_without_a_body(api: ApiServer) -> None:
    for path in [*ROUTES, "/events"]:
        reply = api.call(path, "HEAD")
        assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("path", [*ROUTES, "/nothing", "/list?x=y"])
def test_every_answer_is_safe_in_a_browser(api: ApiServer, path: str) -> None:
    headers = api.call(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("localhost.", 200),
        ("127.0.0.1:3000", 200),
        ("127.8.9.10", 200),
        ("[::1]:3000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("192.168.0.1", 403),
        ("0.0.0.0", 403),
        ("user@localhost", 400),
        ("localhost/..", 400),
        ("localhost:x", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_dns_rebinding(api: ApiServer, host: str, status: int) -> None:
    for path in ("/", "/list"):
        assert api.call(path, headers={"Host": host}).status == status


HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /kick?cid=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LACKS_KEY = b"401"
RAW = {
    "a line without an end": (b"GET /" + b"a" * 100_000, 414),
    "a long path": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "a long header": (HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "a long head": (HEAD + b"X: aaaaaaaaaaaaaaaaaaaa\r\n" * 5000 + b"\r\n", 431),
    "many headers": (HEAD + b"X: a\r\n" * 500 + b"\r\n", 431),
    "no version": (b"GET /health\r\n\r\n", 400),
    "another version": (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
    "no version number": (b"GET /health HTTP/x\r\nHost: localhost\r\n\r\n", 400),
    "nonsense": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a whole address": (b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no host": (b"GET /list HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + b"Host: localhost\r\n\r\n", 400),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
    "chunked and a length": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 411),
    "gzip": (POST + b"Transfer-Encoding: gzip\r\n\r\n{}", 411),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
    "a signed length": (POST + b"Content-Length: +2\r\n\r\n{}", 400),
    "a negative length": (POST + b"Content-Length: -2\r\n\r\n{}", 400),
    "a length in words": (POST + b"Content-Length: two\r\n\r\n{}", 400),
    "a huge length": (POST + b"Content-Length: 99999999999999999\r\n\r\n{}", 413),
    "a long body": (POST + b"Content-Length: 5000\r\n\r\n" + b" " * 5000, 413),
    "a body that ends early": (POST + b"Content-Length: 100\r\n\r\n{}", 400),
}


@pytest.mark.parametrize("name", RAW)
def test_hostile_bytes(api: ApiServer, name: str) -> None:
    request, status = RAW[name]
    answer = api.raw(request)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"application/json" in answer
    assert b"nosniff" in answer
    assert api.call("/health").status == 200


def test_one_connection_serves_many_requests_and_waits_for_a_body(api: ApiServer) -> None:
    expecting = POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    answer = api.raw(HEAD + b"\r\n" + expecting + HEAD + b"Connection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"100", LACKS_KEY, b"200"]


def test_with_a_token_everything_but_page_and_health_needs_it(lab: Lab) -> None:
    token = "token-of-this-test"
    file = lab.path("token")
    file.write_text(token + "\n")
    file.chmod(0o600)
    api = ApiServer(lab, "--api-token", f"@{file}", "--debug", token=token)
    for path in [*ROUTES, "/nothing"]:
        reply = api.raw(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        is_open = path in ("/", "/health")
        assert reply.startswith(b"HTTP/1.1 200 " if is_open else b"HTTP/1.1 401 ")
        assert (b"WWW-Authenticate: Bearer" in reply) != is_open
        assert api.call(path).status == (404 if path == "/nothing" else 200)
        assert api.call(path, headers={"Authorization": f"bearer {token}"}).status == api.call(path).status
    wrong = ("Bearer", "Bearer x", f"Basic {token}", f"bearer {token}x", token)
    for given in wrong:
        reply = api.call("/list", headers={"Authorization": given})
        assert reply.status == 401
        assert "token" in reply.error
    assert api.call("/", "POST", {"Authorization": "", **JSON}, "{}").status == 401
    assert api.metric("aero_errors_total", kind="api_token_wrong") == len(wrong)
    assert token not in api.program.stderr + api.program.stdout
    assert token not in api.call("/", headers={"Authorization": ""}).body.decode()


def test_a_changed_token_counts_from_sighup_on(lab: Lab) -> None:
    old, new = "token-of-this-test", "another-token-of-this-test"
    file = lab.path("token")
    file.write_text(old + "\n")
    file.chmod(0o600)
    api = ApiServer(lab, "--api-token", f"@{file}", token=old)
    listener = EventStream(api)
    file.write_text(new + "\n")
    assert api.call("/list").status == 200, "nothing has changed yet"
    api.program.send(signal.SIGHUP)
    poll("the old token to be refused", lambda: api.call("/list").status == 401)
    api.token = new
    assert api.call("/list").status == 200
    with pytest.raises(AssertionError, match="the stream ended"):
        listener.next("whatever comes")
    assert "restart" not in api.program.stderr
    file.write_text("\n")
    api.program.send(signal.SIGHUP)
    api.program.says("reload failed")
    assert api.call("/list").status == 200, "the one before stays"
    assert old not in api.program.stderr and new not in api.program.stderr


def test_a_token_that_others_need_cannot_be_taken_away(lab: Lab) -> None:
    """The address cannot change while it runs, so the new configuration would leave it open to everybody."""
    port, file = free_port(), lab.path("server.toml")

    def configure(api: str) -> None:
        file.write_text(f'[server]\n{api}\nmux = "off"\nport = 0\nstate = "{lab.path("state")}"\n')
        file.chmod(0o600)

    configure(f'api = "0.0.0.0:{port}"\napi-token = "of-this-test"')
    server = lab.start([*COMMAND, "server", "--config", str(file)], name="server")
    server.says("management API")
    configure(f'api = "localhost:{port}"')
    server.send(signal.SIGHUP)
    server.says("reload failed.*set --api-token")
    with connect(port) as visitor:
        visitor.sendall(b"GET /list HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert visitor.recv(100).startswith(b"HTTP/1.1 401 ")


def test_an_api_that_others_can_reach_needs_a_token(lab: Lab) -> None:
    for address in ("0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "server.example:0"):
        done = lab.aero("server", "--port", "0", "--mux", "off", "--api", address)
        assert done.returncode == 2
        assert "--api-token" in done.stderr
        assert done.stderr.count("\n") == 1
    port = free_port()
    state = str(lab.path("state"))
    options = ["--port", "0", "--mux", "off", "--ports", "0", "--state", state, "--api", f"0.0.0.0:{port}"]
    server = lab.start([*COMMAND, "server", *options], env={"AERO_API_TOKEN": "of-the-environment"})
    server.says("management API")
    assert server.running


def test_a_taken_address_is_said_plainly(lab: Lab) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        done = lab.aero("server", "--port", "0", "--mux", "off", "--api", address)
    assert done.returncode == 4
    assert "--api" in done.stderr
    assert address in done.stderr
    assert done.stderr.splitlines()[-1].startswith("aero: cannot listen")
