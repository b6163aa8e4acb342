"""Users with rules: who gets in, what each may do, what a change of the rules ends and what it leaves alone."""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import services
from tests.e2e.harness import (
    Lab,
    Worker,
    connect,
    echoes,
    exchange,
    free_ports,
    is_reset,
    listening,
    poll,
    read_all,
)
from tests.e2e.mux import Mux, Target


class Users:
    """A server with a file of users, and the code of each."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.file = lab.path("users.toml")
        self._codes: dict[str, Path] = {}
        self._verifiers: dict[str, str] = {}

    def add(self, name: str) -> None:
        """A new code for a user."""
        code = self._lab.path(f"code-{name}")
        code.write_text(f"{self._lab.code}-{name}-{len(self._verifiers)}\n")
        code.chmod(0o600)
        self._codes[name] = code
        self._verifiers[name] = self._lab.aero("users", "add", name, "--auth", f"@{code}").stdout

    def write(self, **rules: str) -> None:
        """Writes the file: the rules of each user; those of "default" for the plain code."""
        tables = [
            f"[default]\n{rule}\n" if name == "default" else f"{self._verifiers[name]}{rule}\n"
            for name, rule in rules.items()
        ]
        self.file.write_text("\n".join(tables))

    def options(self, name: str, *more: str) -> list[str]:
        """What the worker of a user is started with."""
        return ["--user", name, "--auth", f"@{self._codes[name]}", *more]


@pytest.fixture
def users(lab: Lab) -> Users:
    made = Users(lab)
    made.add("ci")
    made.add("nas")
    return made


@pytest.fixture
def echo(lab: Lab) -> int:
    return services.echo(lab)


def listed(api: int) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{api}/list") as answer:
        found: list[dict[str, Any]] = json.load(answer)["workers"]
    return found


def reload(state: Path, api: int) -> tuple[int, dict[str, Any]]:
    """What POST /reload answers."""
    file = state / "api-key"
    poll("the API to have its key", lambda: file.exists() and listening(api))
    key = file.read_text().strip()
    request = urllib.request.Request(f"http://127.0.0.1:{api}/reload", b"{}", method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def ended(visitor: socket.socket) -> bool:
    """Whether a connection is over, by a reset or by an end, with nothing more said."""
    try:
        return read_all(visitor) == b""
    except ConnectionResetError:
        return True


def test_users_have_their_own_tags_ports_and_targets(lab: Lab, users: Users, echo: int) -> None:
    ports = free_ports(8)
    own, shared = ports[:4], ports[4:]
    mine = f"{own[0]}-{own[-1]}"
    users.write(ci=f'ports = "{mine}"\ntargets = "web,api-*"', nas="", default="")
    api = free_ports(1)[0]
    server = lab.server(
        "--users", str(users.file), "--api", f"127.0.0.1:{api}", ports=f"{ports[0]}-{ports[-1]}"
    )
    ci = lab.worker(server, *users.options("ci"), code="", tag="", targets={"web": echo, "db": echo})
    nas = lab.worker(server, *users.options("nas"), code="", tag="nas-1", targets={"db": echo})
    plain = lab.worker(
        server, "--target", f"x@127.0.0.1:{echo}?remote={own[2]}", targets={"db": echo}, tag="lab"
    )
    assert ci.port("web") in own
    ci.says(r'refused.*target=db@.*the rules of user ci allow no target db \(targets = ."web,api-\*')
    assert nas.port("db") in shared
    plain.says(rf"port {own[2]} is for other users: their rules name it")
    assert plain.port("db") in shared
    assert echoes(ci.port("web")) and echoes(nas.port("db")) and echoes(plain.port("db"))
    assert {each["tag"]: each["user"] for each in listed(api)} == {"ci": "ci", "nas-1": "nas", "lab": ""}
    for options, why in (
        (users.options("ci", "--tag", "nas"), "the rules of user ci allow no tag nas"),
        (["--auth", lab.code, "--tag", "ci-7"], "the tag ci-7 is for user ci"),
    ):
        refused = lab.aero("client", "--server", f"127.0.0.1:{server.link_port}", *options, "--once",
                           "--target", f"web@127.0.0.1:{echo}")  # fmt: skip
        assert refused.returncode == 3 and why in refused.stderr


def test_a_changed_file_ends_what_it_forbids_and_nothing_else(lab: Lab, users: Users, echo: int) -> None:
    users.write(ci="", nas="")
    api = free_ports(1)[0]
    server = lab.server("--users", str(users.file), "--api", f"127.0.0.1:{api}", code="")
    ci = lab.worker(server, *users.options("ci"), code="", tag="", targets={"web": echo, "db": echo})
    nas = lab.worker(server, *users.options("nas"), code="", tag="", targets={"db": echo})
    visitors = [connect(port) for port in (ci.port("web"), ci.port("db"), nas.port("db"))]
    web, db, other = visitors
    for each in (web, db, other):
        assert exchange(each)

    users.write(ci='tragets = "web"', nas="")
    server.send(signal.SIGHUP)
    server.says(
        r"reload failed, keeping the previous.*line 4: \[user\.ci\]: unknown key tragets, did you mean"
    )
    assert exchange(db)

    users.write(ci='targets = "web"', nas="")
    server.send(signal.SIGHUP)
    ci.says(r"refused a target.*db@.*the rules of user ci allow no target db")
    assert ended(db), "the stream to what is forbidden has ended"
    assert exchange(web) and exchange(other)

    users.add("ci")
    users.write(ci="", nas="max-streams = 1")
    server.send(signal.SIGHUP)
    ci.says(r"user ci was removed, or has another code")
    poll("the reload to be done", lambda: server.stderr.count("configuration read again") == 2)
    assert ended(web)
    assert exchange(other)
    assert is_reset(nas.port("db")), "the rule allows one stream"
    assert [each["tag"] for each in listed(api)] == ["nas"]
    for each in visitors:
        each.close()


def test_unknown_user_and_wrong_code_look_the_same(lab: Lab, users: Users, echo: int) -> None:
    users.write(ci="")
    server = lab.server("--users", str(users.file), code="")
    said = []
    for options in (users.options("nas"), ["--user", "ci", "--auth", "wrong"], ["--auth", "wrong"]):
        refused = lab.aero("client", "--server", f"127.0.0.1:{server.link_port}", *options, "--once",
                           "--target", f"web@127.0.0.1:{echo}")  # fmt: skip
        assert refused.returncode == 3
        said.append(refused.stderr.splitlines()[-1])
    assert said[0] == said[1] == said[2]
    poll("three failures", lambda: server.stderr.count("wrong auth code") == 3)


def test_a_reload_through_the_api_says_what_came_of_it(lab: Lab, users: Users) -> None:
    users.write(ci="", nas="")
    api, state = free_ports(1)[0], lab.new_folder("state")
    lab.server("--users", str(users.file), "--api", f"127.0.0.1:{api}", code="", state=state)
    assert reload(state, api) == (200, {"changed": [], "needs_restart": []})
    users.write(ci='limit = "1mb"', nas="")
    status, answer = reload(state, api)
    assert status == 409
    assert "line 4: [user.ci]: limit: '1mb' is not a size" in answer["error"]
    users.write(ci='limit = "1MB"')
    assert reload(state, api) == (200, {"changed": [f"users ({users.file})"], "needs_restart": []})


def test_a_worker_bounds_where_its_own_targets_may_be(lab: Lab, echo: int) -> None:
    server = lab.server()
    for allow, address in ((f"10.0.0.0/8:*+127.0.0.1:{echo + 1}", "127.0.0.1"), ("[::1]:22", "localhost")):
        refused = lab.aero("client", "--server", f"127.0.0.1:{server.link_port}", "--allow", allow,
                           "--target", f"web@{address}:{echo}", "--once")  # fmt: skip
        assert refused.returncode == 2 and f"is not in --allow {allow}" in refused.stderr
    name = socket.gethostname()
    worker = lab.worker(
        server, "--allow", f"127.0.0.1:{echo}+192.0.2.0/24:*", targets={"near": echo, "named": f"{name}:1"}
    )
    assert echoes(worker.port("near"))
    assert is_reset(worker.port("named"))
    worker.says(f"no address of {name} is allowed here|does not resolve")


def status(mux: int, path: str) -> int:
    """What the mux answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{mux}{path}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def answers_http(connection: socket.socket) -> None:
    """A service that answers one request."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def came(sock: socket.socket) -> bool:
    """Whether a datagram has come."""
    return bool(select.select([sock], [], [], 0.1)[0])


def test_a_rule_says_which_way_its_targets_are_reached(lab: Lab, users: Users, echo: int) -> None:
    users.write(ci='protocols = "http"', nas='protocols = "tcp,udp"\nmax-streams = 2')
    mux = free_ports(1)[0]
    server = lab.server("--users", str(users.file), "--mux", f"127.0.0.1:{mux}", code="")
    web = services.serve(lab, answers_http)
    ci = lab.worker(server, *users.options("ci"), code="", tag="", targets={"web": web})
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    datagrams.settimeout(10)
    udp_port = datagrams.getsockname()[1]
    nas = lab.worker(
        server, *users.options("nas", "--target", f"dns@127.0.0.1:{udp_port}/udp"),
        code="", tag="", targets={"web": web, "db": echo},
    )  # fmt: skip
    assert ci.port("web") and nas.port("db")
    assert status(mux, "/ci/web/") == 200 and status(mux, "/nas/web/") == 403
    assert is_reset(ci.port("web"))

    # Of two streams at once one may be a flow.
    first = connect(nas.port("db"))
    assert exchange(first)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as visitor, first:
        visitor.connect(("127.0.0.1", nas.port("dns")))
        visitor.settimeout(10)
        poll("the flow", lambda: visitor.send(b"ping") and came(datagrams))
        assert is_reset(nas.port("db")), "the second stream would be the third"
    users.write(ci='protocols = "http,tcp"', nas="")
    server.send(signal.SIGHUP)
    poll("the rules to be others", lambda: status(mux, "/nas/web/") == 200)
    with connect(ci.port("web")) as visitor:
        visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert visitor.recv(100).startswith(b"HTTP/1.1 200")
    datagrams.close()


ROUNDS = 6


def test_rules_that_change_under_load_disturb_nobody_else(lab: Lab, users: Users, echo: int) -> None:
    """Six reloads while both workers' streams are in full swing: one user's targets go one by one, with their streams;
    his other one's and the other user's do not miss a byte.
    """
    users.write(ci="", nas="")
    server = lab.server("--users", str(users.file), code="")
    ci = lab.worker(server, *users.options("ci"), code="", tag="",
                    targets={"web": echo, **{f"t{number}": echo for number in range(ROUNDS)}})  # fmt: skip
    nas = lab.worker(server, *users.options("nas"), code="", tag="", targets={"db": echo})
    going, moved = threading.Event(), [0] * 4
    going.set()

    def pump(number: int, port: int) -> None:
        with connect(port) as visitor:
            chunk = bytes(range(256)) * 64
            while going.is_set():
                visitor.sendall(chunk)
                got = b""
                while len(got) < len(chunk):
                    more = visitor.recv(65536)
                    assert more, "the stream of somebody else ended"
                    got += more
                assert got == chunk
                moved[number] += len(chunk)

    ports = [ci.port("web"), nas.port("db"), nas.port("db"), nas.port("db")]
    with ThreadPoolExecutor(len(ports)) as pool:
        pumps = [pool.submit(pump, number, port) for number, port in enumerate(ports)]
        try:
            poll("all to move", lambda: all(moved))
            for number in range(ROUNDS):
                before = list(moved)
                left = ",".join(f"t{each}" for each in range(number + 1, ROUNDS))
                with connect(ci.port(f"t{number}")) as visitor:
                    assert exchange(visitor)
                    users.write(
                        ci=f'targets = "web,{left or "none"}"\nlimit = "{50 + number}MB"',
                        nas=f'limit = "{60 + number}MB"',
                    )
                    server.send(signal.SIGHUP)
                    assert ended(visitor), "the stream to what is forbidden has ended"
                poll("all to go on", lambda before=before: all(a > b for a, b in zip(moved, before)))  # type: ignore[misc]
        finally:
            going.clear()
    for each in pumps:
        each.result()
    assert min(moved) >= (ROUNDS + 1) * 16_384


def test_names_at_the_mux_are_those_that_a_users_rule_says(lab: Lab, users: Users) -> None:
    """Whose rule says nothing has what --target-domains lets everybody have; a changed rule ends what it forbids."""
    users.write(ci='domains = "*.ci.example.org"', nas="")
    mux = Mux(
        lab, "--mux-host", "mux.test", "--users", str(users.file), "--target-domains", "nas.example.org"
    )
    target = Target(lab)

    def offer(user: str, name: str) -> Worker:
        where = {"web": f"127.0.0.1:{target.port}?domain={name}"}
        state = lab.new_folder(f"state-{name}")
        return lab.worker(mux.server, *users.options(user), targets=where, tag="", code="", state=state)

    for user, name in (("ci", "a.ci.example.org"), ("nas", "nas.example.org")):
        offer(user, name).port("web")
        assert mux.ask("/", host=name).status == 200
    offer("ci", "nas2.example.org").says(r"the rules of user ci do not allow the domain nas2\.example\.org")
    offer("nas", "b.ci.example.org").says(r"lets no target have b\.ci\.example\.org \(--target-domains\)")
    users.write(ci='domains = "other.org"', nas="")
    mux.server.send(signal.SIGHUP)
    poll("the name to be gone", lambda: mux.ask("/", host="a.ci.example.org").status != 200)
    assert mux.ask("/", host="nas.example.org").status == 200
    mux.leave()
