"""Balancing, health and the PROXY protocol with real programs: HAProxy, nginx, PostgreSQL, pgbench, wrk, Chromium."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from typing import NamedTuple

import pytest

from tests.e2e import services
from tests.e2e.browser import chromium
from tests.e2e.harness import LOOPBACK, Lab, Program, Server, Worker, connect, free_port, poll, read_all
from tests.e2e.mux import Mux, Target
from tests.e2e.services import AROUND_NGINX, find, postgres, serve

pytestmark = pytest.mark.programs

VISITOR, BALANCER = "127.0.0.9", "127.0.0.2"

_HAPROXY = """
global
    log stderr format raw local0
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""
_NGINX = """
    server {{
        listen {host}:{port} proxy_protocol;
        set_real_ip_from {host};
        real_ip_header proxy_protocol;
        return 200 "$remote_addr $proxy_protocol_port $http_x_forwarded_for";
    }}
"""


def haproxy(lab: Lab, *sections: str) -> Program:
    """HAProxy with these sections behind the common ones; ready when it says nothing any more."""
    folder = lab.new_folder("haproxy")
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY + "".join(sections))
    lab.check([find("haproxy"), "-c", "-q", "-f", str(config)])
    program = lab.start([find("haproxy"), "-db", "-f", str(config)])
    for port in map(int, re.findall(rf"bind {LOOPBACK}:(\d+)", config.read_text())):
        services.started(program, port)
    return program


def in_front(port: int, to: int, version: str) -> str:
    """A section that passes on what comes, with a PROXY header."""
    return (
        f"listen to-{to}\n  mode tcp\n  bind {LOOPBACK}:{port}\n"
        f"  server aero {LOOPBACK}:{to} {version} source {BALANCER}\n"
    )


def behind(port: int, *lines: str) -> str:
    """A section that wants a PROXY header."""
    return f"frontend at-{port}\n  bind {LOOPBACK}:{port} accept-proxy\n" + "".join(
        f"  {line}\n" for line in lines
    )


def fetched(port: int, path: str = "/", source: str = VISITOR, *fields: str) -> str:
    """The body that one visitor gets, from an address of his own."""
    head = "".join(f"{field}\r\n" for field in fields)
    with services.socket.create_connection((LOOPBACK, port), 10, (source, 0)) as visitor:
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: mux.test\r\n{head}Connection: close\r\n\r\n".encode())
        got = read_all(visitor).decode()
    assert got.startswith("HTTP/1.1 200"), got
    return got.partition("\r\n\r\n")[2]


SAYS_WHO = (
    "mode http",
    'http-request return status 200 content-type text/plain lf-string "%[src] %[src_port]\\n"',
)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_and_nginx_hear_who_comes(lab: Lab, version: str) -> None:
    mux, at_haproxy, at_nginx, folder = Mux(lab), free_port(), free_port(), lab.new_folder("nginx")
    haproxy(lab, behind(at_haproxy, *SAYS_WHO))
    config = folder / "nginx.conf"
    site = _NGINX.format(host=LOOPBACK, port=at_nginx)
    config.write_text(AROUND_NGINX.format(folder=folder, servers=site))
    nginx = lab.start([find("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)])
    services.started(nginx, at_nginx)
    targets: dict[str, int | str] = {
        "ha": f"{LOOPBACK}:{at_haproxy}?proxy={version}", "ng": f"{LOOPBACK}:{at_nginx}?proxy={version}"
    }  # fmt: skip
    worker = lab.worker(mux.server, targets=targets)
    for name in targets:
        for source in (VISITOR, "127.0.0.10"):
            assert fetched(worker.port(name), source=source).split()[0] == source
            assert fetched(mux.port, f"/t/{name}/", source).split()[0] == source


def test_haproxy_in_front_of_every_port(lab: Lab) -> None:
    target = Target(lab)
    mux = Mux(lab, "--proxy-protocol", BALANCER, "--trust-proxy", VISITOR)
    front = {name: free_port() for name in ("link", "mux", "map")}
    haproxy(lab, *(in_front(front[name], to, version) for name, to, version in (
        ("link", mux.server.link_port, "send-proxy-v2"),
        ("mux", mux.port, "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"),
    )))  # fmt: skip
    said: list[bytes] = []

    def keep(sock: services.socket.socket) -> None:
        said.append(sock.recv(4096))
        sock.sendall(b"ok")

    to_keep = f"{LOOPBACK}:{serve(lab, keep)}?proxy=v1"
    worker = lab.worker(front["link"], targets={"web": target.port, "raw": to_keep})
    assert mux.server.says(r"worker up.* address=(\S+):")[1] == LOOPBACK  # the worker's, not the balancer's
    haproxy(lab, in_front(front["map"], worker.port("raw"), "send-proxy"))
    with services.socket.create_connection((LOOPBACK, front["map"]), 10, (VISITOR, 0)) as visitor:
        visitor.sendall(b"hello")
        assert visitor.recv(2) == b"ok"
    poll("the header", lambda: said)
    assert said[0].startswith(f"PROXY TCP4 {VISITOR} ".encode())
    for fields, found in (((), VISITOR), (("X-Forwarded-For: 198.51.100.4",), f"198.51.100.4, {VISITOR}")):
        body = fetched(front["mux"], "/t/web/", VISITOR, *fields)
        assert f'["X-Forwarded-For", "{found}"]' in body.replace("', '", '", "')


def test_postgres_behind_haproxy_that_wants_a_header(lab: Lab) -> None:
    database, at = postgres(lab), free_port()
    program = haproxy(
        lab,
        behind(at, "mode tcp", "log global", 'log-format "from %ci"', "default_backend pg"),
        f"backend pg\n  mode tcp\n  server pg {LOOPBACK}:{database}\n",
    )
    server, worker = lab.tunnel({"db": f"{LOOPBACK}:{at}?proxy=v2"})
    argv = [
        find("psql"),
        "-h",
        LOOPBACK,
        "-p",
        str(worker.port("db")),
        "-U",
        "lab",
        "postgres",
        "-Atc",
        "select 6*7",
    ]
    assert lab.check(argv).strip() == "42"
    program.says(f"from {LOOPBACK}")
    assert server.running


# Workers that die


class Load(NamedTuple):
    """What wrk says in the end."""

    requests: int
    bad: int  # statuses other than 2xx and 3xx
    errors: int  # of sockets


def wrk(lab: Lab, url: str, seconds: int, connections: int = 24) -> Program:
    return lab.start([find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", url])


def outcome(program: Program, seconds: int) -> Load:
    assert program.wait(seconds + 30) == 0
    text = program.stdout
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    requests = re.search(r"(\d+) requests in", text)
    assert requests, text
    errors = sum(map(int, sockets.groups())) if sockets else 0
    return Load(int(requests[1]), int(bad[1]) if bad else 0, errors)


def three(lab: Lab, server: Server, to: str, tag: str = "") -> list[Worker]:
    """Three workers for one service, each with a state and, but for ``tag``, a tag of its own."""
    return [one(lab, server, to, tag or f"w{number}", number) for number in range(3)]


def one(lab: Lab, server: Server, to: str, tag: str, number: int) -> Worker:
    state = lab.folder / f"state-of-{tag}-{number}"
    return lab.worker(server, targets={"web": to}, tag=tag, state=state)


def keyed(lab: Lab) -> str:
    key = lab.folder / "group-key"
    if not key.exists():
        key.write_text("a key of the group's own")
        key.chmod(0o600)
    return f"group=front&group-key=@{key}"


def page(lab: Lab) -> int:
    site = services.nginx(lab)
    (site.root / "index.html").write_text("hello " * 200)
    return site.port


def kill_in_turn(workers: list[Worker], again: object) -> None:
    """Each worker is killed, and started anew a second later, while the others serve."""
    for number in range(len(workers)):
        time.sleep(1.2)  # of load: three deaths are spread over the ten seconds in which wrk counts
        workers[number].stop(signal.SIGKILL)
        time.sleep(1.2)  # of load for those who are left, beyond what the server needs to see the death
        workers[number] = again(number)  # type: ignore[operator]
        workers[number].port("web")


def test_on_the_mux_no_request_fails_while_workers_die(lab: Lab) -> None:
    mux, to = Mux(lab), f"{LOOPBACK}:{page(lab)}"
    workers = three(lab, mux.server, to, "t")
    for each in workers:
        each.port("web")
    load = wrk(lab, f"http://{LOOPBACK}:{mux.port}/t/web/", 10)
    kill_in_turn(workers, lambda number: one(lab, mux.server, to, "t", number))
    found = outcome(load, 10)
    assert found.requests > 1000
    assert (found.bad, found.errors) == (0, 0)


def test_behind_a_groups_port_only_what_a_dying_worker_had_fails(lab: Lab) -> None:
    server, to = lab.server(), f"{LOOPBACK}:{page(lab)}?{keyed(lab)}"
    workers = three(lab, server, to)
    (port,) = {each.port("web") for each in workers}
    load = wrk(lab, f"http://{LOOPBACK}:{port}/", 10)
    kill_in_turn(workers, lambda number: one(lab, server, to, f"w{number}", number))
    found = outcome(load, 10)
    assert found.requests > 1000
    assert found.bad == 0
    # wrk has 24 connections, and dials anew what breaks; a third of them is at each worker, or all at the last one
    # that lived. A connection that breaks is counted when it is read and when a request was on its way.
    assert found.errors <= 3 * 24


def test_pgbench_loses_only_the_clients_of_the_worker_that_dies(lab: Lab) -> None:
    database = postgres(lab)
    base = ["-h", LOOPBACK, "-U", "lab"]
    lab.check([find("pgbench"), *base, "-p", str(database), "-i", "-q", "postgres"], timeout_s=60)
    server, to = lab.server("--resume", "0"), f"{LOOPBACK}:{database}?{keyed(lab)}"
    workers = three(lab, server, to)
    (port,) = {each.port("web") for each in workers}
    argv = [find("pgbench"), *base, "-p", str(port), "-S", "-n", "-c", "9", "-j", "1", "-T", "6", "postgres"]
    load = lab.start(argv)
    poll("nine streams", lambda: nine(lab, database))
    time.sleep(1)  # of transactions by all nine, which pgbench counts and tells at its end
    workers[1].stop(signal.SIGKILL)
    load.wait(40)
    text = load.stdout + load.stderr
    lost = {int(number) for number in re.findall(r"client (\d+) (?:aborted|script)", text)}
    assert len(lost) == 3, text
    done = re.search(r"number of transactions actually processed: (\d+)", text)
    assert done and int(done[1]) > 200, text
    assert not re.search(r"failed transactions: [1-9]", text), text


def nine(lab: Lab, database: int) -> bool:
    asked = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
    argv = [find("psql"), "-h", LOOPBACK, "-p", str(database), "-U", "lab", "postgres", "-Atc", asked]
    return int(lab.check(argv)) >= 10


def test_a_target_that_flaps_is_passed_over_while_it_is_away(lab: Lab) -> None:
    mux = Mux(lab)
    steady, flapping = page(lab), free_port()
    config = behind(flapping, *SAYS_WHO).replace(" accept-proxy", "")
    options = "?check=tcp&every=1&fails=1&passes=1&timeout=1"
    for number, to in enumerate((steady, flapping)):
        state = lab.path(f"flap-{number}")
        lab.worker(mux.server, targets={"web": f"{LOOPBACK}:{to}{options}"}, tag="t", state=state).port("web")
    load = wrk(lab, f"http://{LOOPBACK}:{mux.port}/t/web/", 10, 8)
    for turn in (1, 2):
        program = haproxy(lab, config)
        poll("a look that passes", lambda: turns(mux.server, "well") >= turn)  # noqa: B023
        program.stop(signal.SIGKILL)
        poll("a look that fails", lambda: turns(mux.server, "sick") >= turn)  # noqa: B023
    found = outcome(load, 10)
    assert found.requests > 1000
    assert (found.bad, found.errors) == (0, 0)


def turns(server: Server, state: str) -> int:
    """How often a target has become well or sick."""
    return server.stderr.count(f"target {state}")


# Shares


def shares(lab: Lab, options: tuple[str, str, str], count: int) -> Counter[str]:
    """Who of three workers answers so many requests, asked over kept connections."""
    mux = Mux(lab)
    names = [Target(lab, str(number)) for number in range(3)]
    for target, option in zip(names, options):
        state = lab.path(f"share-{target.name}")
        lab.worker(
            mux.server, targets={"web": f"{LOOPBACK}:{target.port}?{option}"}, tag="t", state=state
        ).port("web")
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def ask(_: int) -> None:
        mine: Counter[str] = Counter()
        wire = mux.visit()
        for _ in range(count // 4):
            wire.send(b"GET /t/web/ HTTP/1.1\r\nHost: mux.test\r\n\r\n")
            body = wire.message().body
            mine[re.search(rb'"name": "(\d)"', body)[1].decode()] += 1  # type: ignore[index]
        with lock:
            found.update(mine)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    mux.leave()
    assert sum(found.values()) == count
    return found


def test_weights_hold_over_ten_thousand_requests(lab: Lab) -> None:
    found = shares(lab, ("weight=1", "weight=2", "weight=5"), 10_000)
    for name, weight in (("0", 1), ("1", 2), ("2", 5)):
        assert abs(found[name] / (10_000 * weight / 8) - 1) < 0.05, found


def test_the_least_busy_gets_the_next_connection(lab: Lab) -> None:
    """Behind a group's port: streams that stay open are what counts."""
    server = lab.server("--debug")

    def stay(name: str) -> int:
        def talk(sock: services.socket.socket) -> None:
            sock.sendall(name.encode())
            sock.recv(1)

        return serve(lab, talk)

    workers = [
        one(lab, server, f"{LOOPBACK}:{stay(str(number))}?{keyed(lab)}&balance=least", f"w{number}", number)
        for number in range(3)
    ]
    (port,) = {each.port("web") for each in workers}
    held = [connect(port) for _ in range(30)]
    at = [each.recv(1).decode() for each in held]
    assert Counter(at) == {"0": 10, "1": 10, "2": 10}
    for each, name in zip(held, at):
        if name != "1":
            each.close()
    poll("the ends to arrive", lambda: len(relaxed(server)) >= 20)
    late = [connect(port) for _ in range(20)]
    assert Counter(each.recv(1).decode() for each in late) == {"0": 10, "2": 10}
    for each in (*held, *late):
        each.close()


def relaxed(server: Server) -> list[str]:
    """Streams that have ended, by the server's log."""
    return re.findall("visitor gone", server.stderr)


def test_a_browser_stays_with_its_worker_by_cookie(lab: Lab) -> None:
    mux = Mux(lab)
    targets = [Target(lab, str(number)) for number in range(3)]
    workers = []
    for target in targets:
        state = lab.path(f"cookie-{target.name}")
        to = f"{LOOPBACK}:{target.port}?balance=cookie"
        workers.append(lab.worker(mux.server, targets={"web": to}, tag="t", state=state))
        workers[-1].port("web")
    url = f"http://{LOOPBACK}:{mux.port}/t/web/"

    def who(browser: object) -> str:
        browser.get(url)  # type: ignore[attr-defined]
        found = re.search(r'"name": "(\d)"', browser.page_source)  # type: ignore[attr-defined]
        assert found, browser.page_source  # type: ignore[attr-defined]
        return found[1]

    first, second = chromium(lab), chromium(lab)
    homes = [{who(browser) for _ in range(8)} for browser in (first, second)]
    assert [len(home) for home in homes] == [1, 1]
    (home,) = homes[0]
    cookie = first.get_cookie("aero-way")
    assert cookie and cookie["httpOnly"]
    assert not any(
        "aero-way" in (request.get("Cookie") or "") for target in targets for request in target.requests
    )
    workers[int(home)].stop()
    poll("another worker", lambda: who(first) != home)
    assert len({who(first) for _ in range(5)}) == 1
