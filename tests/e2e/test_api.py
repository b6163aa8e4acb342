"""The management API as its callers see it: what it tells, and what it changes."""

from __future__ import annotations

import re
import signal
import socket
from datetime import datetime, timezone

import pytest

from tests.e2e import services
from tests.e2e.api import JSON, ApiServer, EventStream
from tests.e2e.harness import (
    COMMAND,
    LOOPBACK,
    Lab,
    Worker,
    connect,
    echoes,
    exchange,
    free_port,
    is_reset,
    poll,
)

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


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
