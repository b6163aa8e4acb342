"""Several workers for one service: a group's port, whose turn it is, targets that fail and come back."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Callable

import pytest

from tests.e2e.harness import LOOPBACK, Lab, Worker, connect, free_port, is_reset, listening, poll
from tests.e2e.mux import Message, Mux, Target, Wire, heard, in_threads, told
from tests.e2e.services import serve


def named(lab: Lab, name: str) -> int:
    """A service that says who it is."""
    return serve(lab, lambda sock: sock.sendall(name.encode()))


def who(port: int) -> str:
    """Who answers there; "" for nobody."""
    try:
        with connect(port) as visitor:
            return visitor.recv(64).decode()
    except OSError:
        return ""


def members(lab: Lab, options: str, *extra: str) -> tuple[int, list[Worker]]:
    """Three workers of one group, services "0" to "2"; the group's port."""
    server = lab.server(*extra)
    key = lab.path("group-key")
    key.write_text("a key of the group's own")
    key.chmod(0o600)
    workers = []
    for number in range(3):
        to = f"{LOOPBACK}:{named(lab, str(number))}?group=front&group-key=@{key}{options}"
        state = Path(lab.new_folder(f"state-{number}"))
        workers.append(lab.worker(server, targets={"web": to}, tag=f"w{number}", state=state))
    ports = {worker.port("web") for worker in workers}
    assert len(ports) == 1, "they share one port"
    return ports.pop(), workers


def test_a_group_goes_on_while_its_members_die_and_come_back(lab: Lab) -> None:
    port, workers = members(lab, "&balance=round-robin")
    assert Counter(who(port) for _ in range(30)) == {"0": 10, "1": 10, "2": 10}
    workers[1].stop(signal.SIGKILL)
    poll("it to be gone", lambda: Counter(who(port) for _ in range(10))["1"] == 0)
    answers = Counter(who(port) for _ in range(30))
    assert answers == {"0": 15, "2": 15}, "nobody is sent to one that is gone"


def test_a_visitor_stays_with_one_member_while_it_is_there(lab: Lab) -> None:
    port, workers = members(lab, "&balance=hash", "--resume", "0")
    (first,) = {who(port) for _ in range(9)}
    workers[int(first)].stop()
    poll("it to be gone", lambda: who(port) not in (first, ""))
    assert len({who(port) for _ in range(9)}) == 1


def test_a_target_gets_the_host_and_the_fields_that_it_asked_for(lab: Lab) -> None:
    mux, target = Mux(lab), Target(lab)
    target.heads["/away"] = (
        b"HTTP/1.1 302 Found\r\nLocation: http://app.internal/b\r\nContent-Length: 0\r\n\r\n"
    )
    secret = lab.path("fields")
    secret.write_text("X-Key: a+b, c\nX-Role: guest\n")
    options = f"host=app.internal&header-set=@{secret}&header-remove=Cookie"
    worker = lab.worker(mux.server, targets={"web": f"{LOOPBACK}:{target.port}?{options}"}, tag="t")
    worker.port("web")
    got = heard(mux.ask("/t/web/a", "X_Role: admin", "X-Role: root", "Cookie: a=b", "X-Other: 1"))
    hosts = got.get("Host"), got.get("X-Forwarded-Host")
    assert (got.target, *hosts) == ("/a", "app.internal", "mux.test")
    assert (got.get("X-Key"), got.get("X-Role"), got.get("X-Other")) == ("a+b, c", "guest", "1")
    assert (got.get("Cookie"), got.get("X_Role")) == (None, None)
    assert mux.ask("/t/web/away").get("Location") == "/t/web/b"
    assert "a+b, c" not in worker.stderr + mux.server.stderr, "what stands in a file is nobody's to read"
    mux.leave()


def test_a_target_that_fails_is_passed_over_until_it_is_well(lab: Lab) -> None:
    """Alone and as one of two; on a mapping and on the mux."""
    mux, good = Mux(lab), Target(lab, "good")
    flapping, options = free_port(), "check=tcp&every=1&fails=2&passes=1&timeout=1"
    alone = lab.worker(mux.server, targets={"web": f"{LOOPBACK}:{flapping}?{options}"}, tag="alone")
    port = alone.port("web")
    mux.server.says(r"target sick .*why=\"Connection refused\"")
    assert is_reset(port)
    answer = mux.ask("/alone/web/")
    assert (answer.status, answer.get("Retry-After")) == (503, "5")
    assert b"Connection refused" in answer.body

    mux.worker("pair", web=good)
    second = lab.worker(
        mux.server,
        targets={"web": f"{LOOPBACK}:{flapping}?{options}"},
        tag="pair",
        state=lab.new_folder("second"),
    )
    second.port("web")
    poll("both to be sick", lambda: len(re.findall("target sick", mux.server.stderr)) == 2)
    assert {mux.ask("/pair/web/", method="POST", body=b"x").status for _ in range(9)} == {200}

    with socket.create_server((LOOPBACK, flapping)):
        poll("both to be well", lambda: len(re.findall("target well", mux.server.stderr)) == 2)
        with connect(port):
            pass
    poll("both to be sick again", lambda: len(re.findall("target sick", mux.server.stderr)) == 4)
    mux.leave()


def test_what_a_target_says_decides_where_it_is_asked_by_http(lab: Lab) -> None:
    mux, target = Mux(lab), Target(lab)
    target.heads["/health"] = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    to = f"{LOOPBACK}:{target.port}?check=http:/health&every=1&fails=1&passes=1"
    lab.worker(mux.server, targets={"web": to}).port("web")
    mux.server.says(r"target sick .*status 500")
    target.heads["/health"] = b"HTTP/1.1 204 Fine\r\n\r\n"
    mux.server.says("target well")
    assert mux.ask("/t/web/").status == 200
    assert {each.get("User-Agent") for each in target.requests[:1]} == {"aero-check"}
    mux.leave()


def test_a_browser_stays_with_the_worker_that_its_cookie_names(lab: Lab) -> None:
    mux = Mux(lab)
    for number in range(3):
        to = f"{LOOPBACK}:{Target(lab, str(number)).port}?balance=cookie"
        lab.worker(mux.server, targets={"web": to}, tag="farm", state=lab.new_folder(f"s{number}")).port(
            "web"
        )
    first = mux.ask("/farm/web/", "Cookie: a=b")
    cookie = str(first.get("Set-Cookie"))
    assert cookie.endswith("; Path=/farm/web; HttpOnly; SameSite=Lax")
    pair = cookie.partition(";")[0]
    answers = [mux.ask("/farm/web/", f"Cookie: a=b; {pair}") for _ in range(6)]
    assert {each.get("Set-Cookie") for each in answers} == {None}
    assert {each.body for each in answers} == {answers[0].body}
    assert b"aero-way" not in answers[0].body, "the target does not see it"
    assert len({mux.ask("/farm/web/").body for _ in range(6)}) == 3, "others take turns"
    mux.leave()


def test_a_closed_target_is_reached_only_while_it_is_open(lab: Lab) -> None:
    api = free_port()
    mux, target = Mux(lab, "--api", f"{LOOPBACK}:{api}", "--api-token", "a token"), Target(lab)
    worker = lab.worker(mux.server, targets={"web": f"{LOOPBACK}:{target.port}?access=closed"}, tag="nas")
    port = worker.port("web")
    at = ("--api", f"{LOOPBACK}:{api}", "--api-token", "a token")
    assert not listening(port)
    assert mux.ask("/nas/web/").status == mux.ask(f"/{mux.cid()}/web/").status == 403

    opened = lab.aero("open", "nas/web", "--for", "5m", *at)
    assert f"nas/web is open at port {port} until" in opened.stdout
    assert mux.ask("/nas/web/").status == mux.ask(f"/{mux.cid()}/web/").status == 200
    with connect(port) as visitor:
        wire = Wire(visitor)
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.message().status == 200
        assert "is closed" in lab.aero("open", "nas/web", "--for", "0", *at).stdout
        assert not listening(port)
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.message().status == 200, "an open stream stays"
        lab.aero("open", "nas/web", "--for", "5m", "--cut", *at)
        lab.aero("open", "nas/web", "--for", "0", *at)
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)

    lab.aero("open", "nas/web", "--from", "192.0.2.7", *at)
    assert mux.ask("/nas/web/").status == 403
    assert is_reset(port), "it listens, for others"
    lab.aero("open", "nas/web", "--for", "1s", *at)
    mux.server.says("target closed .*\n(?:.*\n)*.*target closed .*\n(?:.*\n)*.*target closed")
    assert not listening(port) and mux.ask("/nas/web/").status == 403

    lab.worker(mux.server, targets={"web": target.port}, tag="free", state=lab.new_folder("free")).port("web")
    for given, code, text in (
        (("nas/web", "--for", "soon"), 2, "is not a time"),
        (("nas",), 2, "write TAG/NAME"),
        (("nas/db",), 3, "no target nas/db"),
        (("free/web",), 3, "is public"),
        (("nas/web", "--from", "10.0.0.1/8"), 2, "10.0.0.0/8"),
    ):
        said = lab.aero("open", *given, *at)
        assert (said.returncode, text in said.stderr) == (code, True), said
    mux.leave()


def _ends_at_once(wire: Wire, request: Message) -> bool:
    """Says that the connection goes on, and ends it."""
    wire.send(told(request))
    return False


def _answers_early(wire: Wire, request: Message) -> bool:
    """Answers, ends its side, and never reads the rest."""
    wire.send(told(request))
    wire.sock.shutdown(socket.SHUT_WR)
    return False


def _is_slow_to_close(wire: Wire, request: Message) -> bool:
    """Says that this was the last, and takes its time to end it."""
    wire.send(told(request).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    gone.wait(0.3)
    return False


gone = threading.Event()  # never set: a pause of the target's


@pytest.mark.parametrize("talk", [_ends_at_once, _answers_early, _is_slow_to_close])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_how_a_target_ends_costs_no_request_that_was_not_begun(
    lab: Lab, talk: Callable[[Wire, Message], bool], method: str
) -> None:
    mux, target = Mux(lab), Target(lab)
    target.talks["/"] = talk
    mux.worker("t", web=target)

    def visit(_: int) -> None:
        wire = Wire(connect(mux.port))
        for _ in range(30):
            body = b"x" if method == "POST" else b""
            head = f"{method} /t/web/ HTTP/1.1\r\nHost: mux.test\r\nContent-Length: {len(body)}\r\n\r\n"
            wire.send(head.encode() + body)
            answer = wire.message(method)
            assert answer.status == 200, answer
        wire.sock.close()

    in_threads(4, visit)
    assert len(target.requests) == 4 * 30, "each was made once"
