"""The management API as its callers see it: every route, every refusal, and what operators do with it."""

from __future__ import annotations

import re
import signal
import socket
import stat
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from tests.e2e import services
from tests.e2e.api import JSON, ApiServer, EventStream
from tests.e2e.harness import (
    COMMAND,
    LOOPBACK,
    Lab,
    Program,
    Worker,
    connect,
    echoes,
    exchange,
    free_port,
    is_reset,
    poll,
)

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ROUTES = ["/", "/health", "/list", "/metrics", "/traffic", "/openapi.json"]


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """One server for all tests that leave it as it was, with a worker `stay`."""
    lab = Lab()
    try:
        server = ApiServer(lab)
        lab.worker(server.link_port, tag="stay", targets={"echo": services.echo(lab)})
        server.worker("stay")
        yield server
    finally:
        lab.close()


def join(api: ApiServer, tag: str, pool: int = 1) -> tuple[Worker, str, int]:
    """Another worker with an echo service; its cid and its port."""
    lab = api.lab
    worker = lab.worker(api.link_port, pool=pool, tag=tag, targets={"echo": services.echo(lab)})
    found = api.worker(tag)
    return worker, found["cid"], int(found["targets"][0]["listen"].rpartition(":")[2])


def seconds_ago(text: str) -> float:
    assert RFC3339.fullmatch(text), text
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - at).total_seconds()


# ----------------------------------------------------------------------------
# What it tells
# ----------------------------------------------------------------------------


def test_health(api: ApiServer) -> None:
    health = api.call("/health").json
    assert set(health) == {"status", "version", "uptime_s", "workers", "streams"}
    assert health["status"] == "ok"
    assert health["workers"] >= 1
    assert health["uptime_s"] > 0
    assert health["version"] in api.lab.aero("--version").stdout


def test_list_tells_everything_of_a_worker(api: ApiServer) -> None:
    worker, cid, port = join(api, "whole", pool=2)
    with connect(port) as visitor:
        assert exchange(visitor, b"x" * 1000)
        poll("both links", lambda: api.worker("whole")["links"] == 2)
        found = api.worker("whole")
        (target,) = found.pop("targets")
        assert 0 <= seconds_ago(found.pop("connected_at")) < 60
        assert 0 < found.pop("ping_ms") < 10_000
        assert found.pop("address").startswith(f"{LOOPBACK}:")
        paths = found.pop("paths")
        assert [path["transport"] for path in paths] == ["tcp", "tcp"]
        assert all(0 < path["round_trip_ms"] < 10_000 and path["bound_bytes"] > 0 for path in paths)
        assert found == {
            "cid": cid,
            "tag": "whole",
            "host": "lab",
            "user": "",
            "links": 2,
            "transports": ["tcp"],
        }
        assert target.pop("local").startswith(f"{LOOPBACK}:")
        assert target == {
            "name": "echo",
            "proto": "tcp",
            "listen": f"{LOOPBACK}:{port}",
            "healthy": True,
            "why": "",
            "streams": 1,
            "bytes_in": 1000,
            "bytes_out": 1000,
            "url": None,
        }
    poll("the stream to end", lambda: api.worker("whole")["targets"][0]["streams"] == 0)
    assert api.worker("whole")["targets"][0]["bytes_in"] == 1000
    worker.stop()
    poll("it to leave", lambda: all(each["tag"] != "whole" for each in api.workers()))


@pytest.mark.parametrize(("query", "found"), [("stay", 1), ("STAY", 1), ("other", 0), ("other,stay", 1)])
def test_list_by_tags(api: ApiServer, query: str, found: int) -> None:
    assert len(api.call(f"/list?tags={query}").json["workers"]) == found


def test_ping(api: ApiServer) -> None:
    cid = api.worker("stay")["cid"]
    answer = api.call(f"/ping?cid={cid}").json
    assert set(answer) == {"cid", "sent_at", "rtt_ms"}
    assert answer["cid"] == cid
    assert 0 <= seconds_ago(answer["sent_at"]) < 30
    assert 0 < answer["rtt_ms"] < 10_000
    assert api.call("/ping").status == 400
    assert "cid" in api.call("/ping").error
    assert api.call("/ping?cid=c000000000000").status == 404
    assert "c000000000000" in api.call("/ping?cid=c000000000000").error


def test_ping_of_a_worker_that_hangs(api: ApiServer) -> None:
    worker, cid, _ = join(api, "hangs")
    worker.send(signal.SIGSTOP)
    try:
        reply = api.call(f"/ping?cid={cid}")
    finally:
        worker.send(signal.SIGCONT)
    assert reply.status == 504
    assert cid in reply.error
    poll("it to answer again", lambda: api.call(f"/ping?cid={cid}").status == 200)
    worker.stop()


def test_events_as_they_happen_and_those_that_were_missed(api: ApiServer) -> None:
    listener = EventStream(api)
    assert listener.response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    worker, cid, port = join(api, "seen")
    up = listener.next("worker-up")
    assert (up["cid"], up["tag"], up["host"], up["fault"]) == (cid, "seen", "lab", False)
    assert 0 <= seconds_ago(up["at"]) < 60
    mapped = listener.next("mapping-up")
    assert (mapped["cid"], mapped["target"], mapped["listen"]) == (cid, "echo", f"{LOOPBACK}:{port}")
    worker.stop()
    assert listener.next("mapping-down")["port"] == port
    down = listener.next("worker-down")
    assert down["cid"] == cid

    late = EventStream(api, mapped["id"])
    assert late.next("mapping-down")["cid"] == cid
    assert late.next("worker-down")["id"] == down["id"]
    stranger = EventStream(api, "another-start-7")
    assert stranger.next("worker-up")["tag"] == "stay"


def test_metrics_never_go_back(api: ApiServer) -> None:
    reply = api.call("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    handshakes = api.metric("aero_handshakes_total", result="ok")
    worker, _, port = join(api, "counted")
    assert echoes(port, b"y" * 5000)
    moved = {"tag": "counted", "target": "echo", "direction": "in"}
    poll("the bytes", lambda: api.metric("aero_target_bytes_total", **moved) == 5000)
    assert api.metric("aero_target_streams_total", tag="counted", target="echo") == 1
    assert api.metric("aero_handshakes_total", result="ok") == handshakes + 1
    assert api.metric("aero_workers") == len(api.workers())
    worker.stop()
    poll("it to leave", lambda: api.metric("aero_workers") == 1)
    assert api.metric("aero_target_bytes_total", **moved) == 5000
    assert api.metric("aero_target_bytes_total", **{**moved, "direction": "out"}) == 5000

    again, _, port = join(api, "counted")
    assert echoes(port, b"z" * 100)
    poll("the sum", lambda: api.metric("aero_target_bytes_total", **moved) == 5100)
    again.stop()
    wrong = api.lab.worker(api.link_port, "--once", code="not-the-code", targets={"x": 1}, tag="w")
    assert wrong.wait() == 3
    assert api.metric("aero_handshakes_total", result="wrong_code") >= 1
    assert api.metric("aero_ping_seconds_count") >= 2
    poll("the loop's lag", lambda: api.metric("aero_loop_lag_seconds_count") >= 1)
    assert 1 << 20 < api.metric("process_resident_memory_bytes") < 1 << 30


def test_errors_are_there_from_the_start_and_counted_by_kind(api: ApiServer) -> None:
    lines = api.call("/metrics").body.decode().splitlines()
    kinds = {line.split('"')[1] for line in lines if line.startswith("aero_errors_total{")}
    assert {"stream_reset_refused", "link_lost", "target_not_mapped", "rule_broken_credit"} <= kinds

    before = api.metric("aero_errors_total", kind="stream_reset_refused")
    worker = api.lab.worker(api.link_port, tag="dead", targets={"nobody": free_port()})
    assert is_reset(worker.port("nobody"))
    poll(
        "it to be counted",
        lambda: api.metric("aero_errors_total", kind="stream_reset_refused") == before + 1,
    )

    before = api.metric("aero_errors_total", kind="target_not_mapped")
    taken = api.worker("stay")["targets"][0]["listen"].rpartition(":")[2]
    target = f"x@127.0.0.1:1?remote={taken}"
    late = api.lab.start(
        [
            *COMMAND,
            "client",
            "--server",
            f"{LOOPBACK}:{api.link_port}",
            "--auth",
            api.lab.code,
            "--target",
            target,
        ]
    )
    poll("it to be refused", lambda: api.metric("aero_errors_total", kind="target_not_mapped") > before)
    late.stop()
    worker.stop()


def test_metrics_are_well_formed(api: ApiServer) -> None:
    text = api.call("/metrics").body.decode()
    label = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
    sample = re.compile(rf"([a-z_]+)(?:\{{{label}(?:,{label})*\}})? (?:[0-9.e+-]+)")
    declared = dict(re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.M))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines:
        match = sample.fullmatch(line)
        assert match, line
        base = re.sub(r"_(bucket|sum|count)$", "", match[1])
        assert declared.get(match[1]) in ("counter", "gauge") or declared.get(base) == "histogram", line
    assert len(lines) == len({line.rpartition(" ")[0] for line in lines})


def test_traffic_shows_what_moved(api: ApiServer) -> None:
    first = api.call("/traffic").json
    assert len(first["all"]["in"]) == len(first["all"]["out"]) == 300
    worker, cid, port = join(api, "moves")
    assert echoes(port, b"z" * 100_000)

    def moved() -> bool:
        answer = api.call(f"/traffic?since={first['last']}").json
        mine = answer["workers"].get(cid)
        if not mine:
            return False
        assert len(mine["in"]) == answer["last"] - first["last"] == len(mine["targets"]["echo"]["out"])
        assert 90_000 < sum(mine["in"]) * answer["step_s"] < 110_000
        assert sum(answer["all"]["out"]) >= sum(mine["out"])
        return True

    poll("the samples", moved)
    worker.stop()


# ----------------------------------------------------------------------------
# What it does
# ----------------------------------------------------------------------------


def test_a_kicked_worker_ends_its_streams_first_and_stays_away(api: ApiServer) -> None:
    worker, cid, port = join(api, "kicked")
    with connect(port) as visitor:
        assert exchange(visitor)
        answer = api.post(f"/kick?cid={cid}").json
        assert answer == {"cid": cid, "kicked": True, "streams": 1, "grace_s": 10.0}
        worker.says("sending us away")
        assert exchange(visitor, b"still here")
        assert not echoes(port)
        assert any(each["cid"] == cid for each in api.workers())
        visitor.shutdown(socket.SHUT_WR)
        poll("it to leave", lambda: all(each["cid"] != cid for each in api.workers()))
    retry_s = worker.says(r"link lost .*operator.* retry_s=([0-9.]+)")[1]
    assert float(retry_s) >= 30
    worker.stop()


def test_changing_something_needs_the_key(api: ApiServer) -> None:
    cid = api.worker("stay")["cid"]
    file = api.state / "api-key"
    assert file.stat().st_mode & 0o777 == 0o600
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {api.key}"}):
        reply = api.call(f"/kick?cid={cid}", "POST", {**JSON, **given}, "{}")
        assert reply.status == 401
        assert str(file) in reply.error
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert api.worker("stay")["cid"] == cid
    for path in ("/list", f"/ping?cid={cid}", "/metrics"):
        assert api.call(path).status == 200, "reading stays open on loopback"


def test_a_key_outlives_a_restart_and_one_that_others_could_read_does_not(lab: Lab) -> None:
    api = ApiServer(lab)
    file = api.state / "api-key"
    first = api.key
    api.program.stop()
    api.start()
    assert api.key == first
    api.program.stop()
    file.chmod(0o644)
    api.start()
    assert api.key != first
    assert file.stat().st_mode & 0o777 == 0o600
    second = api.key
    api.program.stop()
    file.unlink()
    elsewhere = lab.path("elsewhere")
    elsewhere.write_text(second + "\n")
    file.symlink_to(elsewhere)
    api.start()
    assert api.key != second, "a link leads to what somebody else wrote"
    assert not file.is_symlink()
    said = api.program.stderr + api.program.stdout
    assert not any(key in said for key in (first, second, api.key)), "it is in its file and nowhere else"


def test_a_health_check_without_token_and_name(lab: Lab) -> None:
    """Of a kubelet or a balancer: it knows an address and a path."""
    token = "token-of-this-test"
    api = ApiServer(lab, "--api-token", token, token=token)
    bare = b'\r\n\r\n{"status":"ok"}'
    for request in (
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health?probe=1&x HTTP/1.1\r\nHost: 10.0.0.7:3000\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n",
    ):
        answer = api.raw(request)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert answer.endswith(bare), answer
    assert api.raw(b"HEAD /health HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\n")
    assert set(api.call("/health?x=y").json) == {"status", "version", "uptime_s", "workers", "streams"}
    assert api.call("/health", headers={"Host": "evil.example"}).json == {"status": "ok"}
    assert api.post("/health").status == 405


def test_kick_needs_json_a_cid_and_nothing_else(api: ApiServer) -> None:
    cid = api.worker("stay")["cid"]
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        headers = {"Authorization": f"Bearer {api.key}", **({"Content-Type": kind} if kind else {})}
        reply = api.call(f"/kick?cid={cid}", "POST", headers, "{}")
        assert reply.status == 415, kind
        assert "application/json" in reply.error
    assert api.post("/kick").status == 400
    assert api.post("/kick?cid=c000000000000").status == 404
    assert "force" in api.post(f"/kick?cid={cid}", '{"force": true}').error
    assert api.post(f"/kick?cid={cid}", "[").status == 400
    assert api.post(f"/kick?cid={cid}", "[]").status == 400
    assert api.post(f"/kick?cid={cid}", "{}", {"Origin": "http://evil.example"}).status == 403
    assert api.post(f"/kick?cid={cid}", "{}", {"Origin": "null"}).status == 403
    assert api.worker("stay")["cid"] == cid


# ----------------------------------------------------------------------------
# What it refuses
# ----------------------------------------------------------------------------


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


# ----------------------------------------------------------------------------
# The token
# ----------------------------------------------------------------------------


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


# ----------------------------------------------------------------------------
# In a terminal
# ----------------------------------------------------------------------------


def test_list_ping_and_kick_in_a_terminal(lab: Lab) -> None:
    token = "token-of-this-test"
    api = ApiServer(lab, "--api-token", token, token=token)
    at = ("--api", f"localhost:{api.port}", "--api-token", token)
    assert lab.aero("list", *at).stdout == "No workers.\n"
    echo = services.echo(lab)
    worker = lab.worker(api.link_port, tag="nas", targets={"echo": echo, "more": echo})
    poll("both targets", lambda: len(api.worker("nas")["targets"]) == 2)
    cid = api.worker("nas")["cid"]
    head, first, second = lab.aero("list", *at).stdout.splitlines()
    assert head.split()[:5] == ["TAG", "CID", "HOST", "UP", "LINK"]
    assert first[head.index("LINK") :].split()[0] == "tcp"
    assert first.split()[:3] == ["nas", cid, "lab"]
    assert second.split()[0] == "more"
    for column in ("TARGET", "LOCAL", "LISTEN"):
        place = head.index(column)
        assert first[place - 1] == second[place - 1] == " "
        assert first[place] != " "
        assert second[place] != " "
    assert lab.aero("list", *at, "--tags", "other").stdout == "No workers with the tags other.\n"
    assert f'"{cid}"' in lab.aero("list", *at, "--json", "--tags", "nas").stdout
    assert re.fullmatch(rf"{cid} answered in [0-9.]+ ms\n", lab.aero("ping", cid, *at).stdout)
    missing = lab.aero("ping", "c000000000000", *at)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "c000000000000" in missing.stderr
    wrong = lab.aero("list", "--api", f"localhost:{api.port}", env={"AERO_API_TOKEN": "another"})
    assert wrong.returncode == 3
    assert "--api-token" in wrong.stderr
    assert "sent away" in lab.aero("kick", cid, *at).stdout
    poll("it to leave", lambda: not api.workers())
    assert worker.running


def test_a_key_is_found_in_a_terminal(lab: Lab) -> None:
    api = ApiServer(lab)
    at = ("--api", f"localhost:{api.port}")
    folder = lab.new_folder("elsewhere")
    here, elsewhere = ("--state", str(api.state)), ("--state", str(folder))
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    cid = api.worker("nas")["cid"]
    assert lab.aero("page", *at, *here).stdout == f"http://localhost:{api.port}/#key={api.key}\n"
    for command in (["page"], ["kick", cid]):
        lost = lab.aero(*command, *at, *elsewhere)
        assert (lost.returncode, lost.stdout) == (78, "")
        assert "elsewhere/api-key" in lost.stderr
        assert "--state" in lost.stderr
    (folder / "api-key").write_text("k" * 32)
    wrong = lab.aero("kick", cid, *at, *elsewhere)
    assert wrong.returncode == 3
    assert "server-state/api-key" in wrong.stderr
    assert api.worker("nas")["cid"] == cid
    assert "sent away" in lab.aero("kick", cid, *at, *here).stdout
    poll("it to leave", lambda: not api.workers())


def test_an_api_at_a_path_is_for_its_own_user(lab: Lab) -> None:
    file = lab.new_folder("run") / "api"
    state, link_port = lab.path("server-state"), free_port()
    argv = [*COMMAND, "server", "--ip", LOOPBACK, "--api", f"unix:{file}"]
    argv += [
        "--port",
        str(link_port),
        "--mux",
        "off",
        "--ports",
        "0",
        "--auth",
        lab.code,
        "--state",
        str(state),
    ]
    at = ("--api", f"unix:{file}")

    def start() -> Program:
        server = lab.start(argv, name="server")
        poll("it to answer", lambda: lab.aero("list", *at).returncode == 0)
        return server

    server = start()
    worker = lab.worker(link_port, tag="nas", targets={"echo": services.echo(lab)})
    worker.port("echo")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cid = lab.aero("list", *at).stdout.splitlines()[1].split()[1]
    page = lab.aero("page", *at, "--state", str(state))
    assert (page.returncode, "browser" in page.stderr) == (2, True)
    assert "sent away" in lab.aero("kick", cid, *at, "--state", str(state)).stdout
    server.stop(signal.SIGKILL)
    assert file.exists()
    nobody = lab.aero("list", *at)
    assert (nobody.returncode, str(file) in nobody.stderr) == (1, True)
    server = start()
    second = lab.aero(*(word.replace(str(link_port), "0") for word in argv[len(COMMAND) :]))
    assert (second.returncode, "is taken" in second.stderr) == (4, True)
    server.stop()
    assert not file.exists()
    file.write_text("something of somebody's")
    refused = lab.aero(*argv[len(COMMAND) :])
    assert (refused.returncode, str(file) in refused.stderr) == (4, True)
    assert file.read_text() == "something of somebody's"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["list", "--api", "unix:/" + "x" * 200], 2, "103 bytes"),
        (["list", "--api", "off"], 2, "--api"),
        (["list", "--tags", "a_b"], 2, "--tags"),
        (["list", "extra"], 2, "extra"),
        (["ping"], 2, "CID"),
        (["ping", "nas"], 2, "aero list"),
        (["ping", "c000000000000", "c000000000001"], 2, "c000000000001"),
        (["kick"], 2, "CID"),
        (["kick", "--json", "c000000000000"], 2, "--json"),
    ],
)
def test_slips_in_a_terminal(lab: Lab, words: list[str], code: int, says: str) -> None:
    done = lab.aero(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr


def test_nobody_or_somebody_else_where_the_api_should_be(lab: Lab) -> None:
    nobody = lab.aero("list", "--api", f"localhost:{free_port()}")
    assert nobody.returncode == 1
    assert "--api" in nobody.stderr
    other = services.serve(lab, lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello"))
    stranger = lab.aero("ping", "c000000000000", "--api", f"{LOOPBACK}:{other}")
    assert stranger.returncode == 1
    assert "not AeRO-proxy" in stranger.stderr
