"""Networks that do not let everything out: lists of servers, real proxies, and what is told where nothing works."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import proxies, services
from tests.e2e.certificates import Authority
from tests.e2e.harness import (
    LOOPBACK,
    Lab,
    Server,
    address,
    connect,
    exchange,
    free_port,
    free_ports,
    listening,
    poll,
)
from tests.e2e.proxies import PASSWORD
from tests.e2e.services import find
from tests.faults.outside import relay_to

#: What runs aero in a Python that has no module ssl.
WITHOUT_SSL = f"""
import runpy, sys
sys.modules.update(ssl=None, _ssl=None)
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
sys.argv[0] = "aero"
runpy.run_module("aero", run_name="__main__")
"""
SCHEMES = ("tls", "ws", "wss")


def refused(lab: Lab, *options: str, server: int = 0, ways: str = "") -> str:
    """What a worker that tries once says on stderr, which it ends with."""
    worker = lab.worker(server or free_port(), "--once", *options, targets={"x": 1}, ways=ways)
    assert worker.wait() == 1
    assert PASSWORD not in worker.stderr and "eva" not in worker.stderr
    return worker.stderr.splitlines()[-1]


def test_a_list_of_servers_costs_little_where_some_are_dead(lab: Lab) -> None:
    """One that refuses, one that is silent, one that answers with something else, and the real one; and back again."""
    server = lab.server()
    silent = lab.closing.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
    crowd = [lab.closing.enter_context(socket.socket()) for _ in range(3)]
    for each in crowd:
        each.setblocking(False)
        each.connect_ex(silent.getsockname())
    page = services.serve(lab, lambda sock: sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"))
    dead = [free_port(), silent.getsockname()[1], page]
    ways = ",".join(address(port) for port in [*dead, server.link_port])
    state = lab.path("state")
    begun = time.monotonic()
    worker = lab.worker(server, targets={"x": services.echo(lab)}, ways=ways, state=state)
    port = worker.port("x")
    assert time.monotonic() - begun < 10
    with connect(port) as visitor:
        exchange(visitor, b"hello")
    assert re.search(rf"link up lane=1 server={address(server.link_port)}", worker.stderr)
    for number in (dead[0], dead[2]):
        assert re.search(rf'no way to the server way={address(number)} why="', worker.stderr)
    worker.stop()
    again = lab.worker(server, targets={"x": services.echo(lab)}, ways=ways, state=state)
    again.port("x")
    assert "no way to the server" not in again.stderr, "it began with what had worked"


def test_when_no_way_works_the_last_line_says_why(lab: Lab) -> None:
    page = services.serve(lab, lambda sock: sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"))
    dead = free_port()
    worker = lab.worker(dead, "--once", targets={"x": 1}, ways=f"{address(dead)},{address(page)}")
    assert worker.wait() == 1
    assert re.search(rf"Connection refused\) \[{address(dead)}\]", worker.stderr.splitlines()[-1])
    assert f"[{address(page)}]" in worker.stderr.splitlines()[-1]


def through(lab: Lab, proxy: str, *schemes: str) -> None:
    """A worker that has only a proxy carries bytes, and a file may hold its URL; raw, and by these transports."""
    server = lab.server()
    file = lab.path("proxy-url")
    file.write_text(f"{proxy}\n")
    file.chmod(0o600)
    where = proxy.rpartition("@")[2].rpartition("//")[2]
    to, port = address(server.link_port), services.echo(lab)
    for way in (to, *(f"{scheme}://{to}" for scheme in schemes)):
        options = ("--tls-insecure",) if way.startswith(("tls:", "wss:")) else ()
        worker = lab.worker(server, "--proxy", f"@{file}", *options, targets={"x": port}, ways=way)
        with connect(worker.port("x")) as visitor:
            exchange(visitor, bytes(range(256)) * 4096)
        assert re.search(rf'link up lane=1 server="{way} by the proxy [^"]*{where}"', worker.stderr)
        assert PASSWORD not in worker.stderr and proxies.LOGIN not in worker.stderr
        worker.stop()


def test_tinyproxy_with_a_login_that_dies_and_comes_back(lab: Lab) -> None:
    proxy = proxies.tinyproxy(lab, login=True)
    server = lab.server()
    worker = lab.worker(server, "--proxy", proxy.url(), targets={"x": services.echo(lab)})
    with connect(worker.port("x")) as visitor:
        exchange(visitor, b"before")
        proxy.program.end()
        worker.says(r"cannot reach the server .*the proxy does not answer: cannot reach 127\.0\.0\.1")
        proxies.tinyproxy(lab, login=True, port=proxy.port)
        worker.says(r"link resumed .*by the proxy")
        exchange(visitor, b"after")
    assert PASSWORD not in worker.stderr and proxies.LOGIN not in worker.stderr


def test_what_tinyproxy_refuses(lab: Lab) -> None:
    proxy = proxies.tinyproxy(lab, "ConnectPort 443", login=True)
    where = address(proxy.port)
    line = refused(lab, "--proxy", proxy.url(login=""))
    assert (
        f"the proxy {where} wants a password (407 Basic): write --proxy http://USER:PASSWORD@{where}" in line
    )
    line = refused(lab, "--proxy", proxy.url(login="eva:wrong@"))
    assert f"the proxy {where} does not take this user and password (4" in line
    port = free_port()
    line = refused(lab, "--proxy", proxy.url(), server=port)
    assert f"the proxy {where} does not allow connections to {address(port)} (403 " in line


def test_microsocks_with_a_login(lab: Lab) -> None:
    proxy = proxies.microsocks(lab, login=True)
    through(lab, proxy.url("socks5h"))
    where = address(proxy.port)
    assert "wants a password: write --proxy socks5h://USER:PASSWORD@" in refused(
        lab, "--proxy", proxy.url("socks5h", login="")
    )
    assert f"the proxy socks5h://{where} does not take this user and password" in refused(
        lab, "--proxy", proxy.url("socks5h", login="eva:wrong@")
    )
    port = free_port()
    assert "nothing listens there" in refused(lab, "--proxy", proxy.url("socks5"), server=port)


def test_every_transport_by_a_proxy_and_a_session_that_changes_over(lab: Lab) -> None:
    """TLS and WebSocket to the server's one port; the environment's proxy is for what is TLS."""
    server = lab.server()
    proxy = proxies.tinyproxy(lab, login=True)
    env = {"HTTPS_PROXY": proxy.url()}
    where, port = address(server.link_port), services.echo(lab)
    for scheme, by in (("tls", " by the proxy"), ("ws", ""), ("wss", " by the proxy")):
        way = f"{scheme}://{where}"
        worker = lab.worker(server, "--tls-insecure", targets={"x": port}, ways=way, env=env, tag=scheme)
        with connect(worker.port("x")) as visitor:
            exchange(visitor, bytes(range(256)) * 2048)
        assert re.search(rf'link up lane=1 server="?{way}{by}', worker.stderr)
        assert ("only the code protects" in worker.stderr) == (scheme != "ws")
        assert PASSWORD not in worker.stderr
        worker.stop()
    straight = relay_to(lab, server)
    raw = address(straight.port)
    ways = f"{raw},wss://{where}"
    worker = lab.worker(server, "--tls-insecure", targets={"x": port}, ways=ways, env=env)
    with connect(worker.port("x")) as visitor:
        exchange(visitor, b"by tcp")
        lies_on(server, "tcp")
        straight.refusing = True
        straight.cut()
        worker.says(rf"link resumed lane=1 server=\"wss://{where} by the proxy")
        exchange(visitor, b"by wss")
        lies_on(server, "wss")
        straight.refusing = False
        proxy.program.end()
        worker.says(rf"link resumed lane=1 server={raw}$")
        exchange(visitor, b"by tcp again")


def lies_on(server: Server, transport: str) -> None:
    """The server's state names the transport of the only worker's link."""
    server.send(signal.SIGUSR1)
    server.says(rf"state: worker .*\btransports={transport}\b")


def test_certificates_that_are_not_taken_each_have_their_line(lab: Lab) -> None:
    server = lab.server()
    way = f"tls://{address(server.link_port)}"
    line = refused(lab, ways=way, server=server.link_port)
    assert "was made by whoever shows it; --tls-pin names its key" in line
    line = refused(lab, "--tls-pin", "ab" * 32, ways=way, server=server.link_port)
    pin = re.search(r"is not the pinned one: (sha256//[^;]+);", line)
    assert pin, line
    worker = lab.worker(server, "--tls-pin", pin[1], targets={"x": services.echo(lab)}, ways=way)
    with connect(worker.port("x")) as visitor:
        exchange(visitor, b"pinned")

    def plain(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")

    page = services.serve(lab, plain)
    assert "does not speak TLS" in refused(lab, ways=f"tls://{address(page)}", server=page)
    line = refused(lab, ways=f"ws://{address(server.link_port)}/other", server=server.link_port)
    assert "knows nothing of /other (HTTP 404)" in line or "does not pass WebSocket on" in line, line
    done = lab.aero("client", "--server", way, "--target", "x@127.0.0.1:1", "--tls-insecure")
    assert done.returncode == 2 and "--tls-insecure needs a code" in done.stderr


def test_a_server_whose_certificate_is_past_early_or_somebody_elses(lab: Lab) -> None:
    """What the operator of a real server gets wrong; the files change under it, as they do when they are renewed."""
    authority = Authority(lab.new_folder("certificates"))
    file = Path(authority.issue("server.pem", LOOPBACK, days=(-9, -1)))
    server = lab.server("--tls-cert", str(file))
    where = address(server.link_port)
    trusting = ("--ca", str(authority.file))
    kinds = (
        ((LOOPBACK,), (-9, -1), "has expired; renew it, or is this machine's clock wrong?"),
        ((LOOPBACK,), (1, 9), "is not valid yet; is this machine's clock right?"),
        (("127.0.0.2",), (-1, 9), "is for another address; --tls-name NAME asks for the name that it has"),
    )
    for scheme in ("tls", "wss"):
        for names, days, words in kinds:
            authority.issue("server.pem", *names, days=days)
            server.send(signal.SIGHUP)
            line = refused(lab, *trusting, ways=f"{scheme}://{where}", server=server.link_port)
            assert f"the certificate of {where} {words}" in line, line
    authority.issue("server.pem", "aero.test")
    server.send(signal.SIGHUP)
    line = refused(lab, *trusting, "--tls-name", "other.test", ways=f"tls://{where}", server=server.link_port)
    assert f"the certificate of {where} is for another name; --tls-name NAME asks for" in line
    line = refused(lab, "--tls-name", "aero.test", ways=f"tls://{where}", server=server.link_port)
    assert f"the certificate of {where} comes from nobody whom this machine trusts; --ca FILE names" in line
    worker = lab.worker(
        server, *trusting, "--tls-name", "aero.test", targets={"x": services.echo(lab)}, ways=f"wss://{where}"
    )
    with connect(worker.port("x")) as visitor:
        exchange(visitor, b"trusted")


def test_a_python_without_tls_says_so_and_goes_another_way(lab: Lab) -> None:
    """As some small systems build it."""
    command = [sys.executable, "-c", WITHOUT_SSL]
    server = lab.server(command=[*command, "server"])
    where = address(server.link_port)
    ways, port = f"tls://{where},{where}", services.echo(lab)
    worker = lab.worker(server, targets={"x": port}, ways=ways, command=[*command, "client"])
    with connect(worker.port("x")) as visitor:
        exchange(visitor, b"by tcp")
    assert re.search(r"no way to the server way=tls://\S+ why=\"this Python has no TLS \(", worker.stderr)
    line = refused(lab, "--tls-insecure", ways=f"wss://{where}", server=server.link_port)
    assert "hung up in the TLS handshake" in line, line
    server.says(r"TLS has no certificate error=\"this Python has no TLS: ")
    assert "please report" not in server.stderr


@pytest.mark.programs
def test_microsocks_dante_and_tinyproxy_without_a_login(lab: Lab) -> None:
    through(lab, proxies.microsocks(lab).url("socks5", login=""))
    through(lab, proxies.dante(lab).url("socks5h", login=""), *SCHEMES)
    through(lab, proxies.tinyproxy(lab).url(login=""))


@pytest.mark.programs
def test_squid_with_basic(lab: Lab) -> None:
    proxy = proxies.squid(lab)
    through(lab, proxy.url(), *SCHEMES)
    where = address(proxy.port)
    assert f"the proxy {where} wants a password (407 Basic)" in refused(lab, "--proxy", proxy.url(login=""))
    assert f"the proxy {where} does not take this user and password (407 Basic)" in refused(
        lab, "--proxy", proxy.url(login="eva:wrong@")
    )
    assert "could not connect to" in refused(lab, "--proxy", proxy.url())
    rules = "acl web port 443\nhttp_access allow in web"
    assert "does not allow connections to" in refused(lab, "--proxy", proxies.squid(lab, rules).url())


@pytest.mark.programs
def test_stunnel_puts_tls_around_a_link_and_haproxy_takes_it_off(lab: Lab) -> None:
    """Either end of TLS may be a program that knows nothing of links."""
    authority = Authority(lab.new_folder("certificates"))
    file = authority.issue("server.pem", LOOPBACK)
    server = lab.server("--tls-cert", file)
    around, before = free_ports(2)
    conf = lab.path("stunnel.conf")
    conf.write_text(
        f"foreground = yes\npid =\n[link]\nclient = yes\naccept = {address(around)}\n"
        f"connect = {address(server.link_port)}\nCAfile = {authority.file}\nverifyChain = yes\n"
    )
    stunnel = lab.start([find("stunnel"), str(conf)], name="stunnel")
    conf = lab.path("haproxy.conf")
    conf.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
        f"listen link\n bind {address(before)} ssl crt {file}\n server aero {address(server.link_port)}\n"
    )
    haproxy = lab.start([find("haproxy"), "-f", str(conf)], name="haproxy")
    for each, number in ((stunnel, around), (haproxy, before)):
        poll(f"{each.name} to listen", lambda each=each, at=number: listening(at) or not each.running)
    trusting, port = ("--ca", str(authority.file)), services.echo(lab)
    for way, options in ((address(around), ()), (f"tls://{address(before)}", trusting)):
        worker = lab.worker(server, *options, targets={"x": port}, ways=way)
        with connect(worker.port("x")) as visitor:
            exchange(visitor, bytes(range(256)) * 4096)
        assert f"link up lane=1 server={way} " in worker.stderr
        worker.stop()
