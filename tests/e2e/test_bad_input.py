"""Whoever sends nonsense is told so where he sees it; his connection ends, and everything else goes on."""

from __future__ import annotations

import os
import socket

import pytest

from aero.core.codes import Close
from aero.core.handshake import fail
from tests.e2e import services
from tests.e2e.harness import (
    LOOPBACK,
    Lab,
    Server,
    Worker,
    address,
    connect,
    connections_to,
    echoes,
    exchange,
    free_port,
    free_ports,
    is_reset,
    read_all,
)
from tests.e2e.services import find


def test_a_wrong_code_is_final_with_once(lab: Lab) -> None:
    server = lab.server()
    worker = lab.worker(server, "--once", targets={"web": free_port()}, code="wrong")
    assert worker.wait() == 3
    assert "wrong auth code" in worker.stderr.splitlines()[-1]
    server.says(r"handshake failed.*127\.0\.0\.1.*wrong auth code")


def test_a_wrong_code_is_tried_again_slowly_without_once(lab: Lab) -> None:
    worker = lab.worker(lab.server(), targets={"web": free_port()}, code="wrong")
    retry = worker.says(r"wrong auth code.*\bretry_s=(\d+)")
    assert int(retry[1]) >= 30
    assert worker.running


def test_without_a_code_on_both_sides_it_works_and_warns(lab: Lab) -> None:
    server = lab.server(code="")
    worker = lab.worker(server, code="", targets={"echo": services.echo(lab)})
    assert echoes(worker.port("echo"))
    for program in (server, worker):
        assert program.stderr.count("no auth code is set") == 1


def test_a_code_on_one_side_only_is_a_wrong_code(lab: Lab) -> None:
    worker = lab.worker(lab.server(), "--once", code="", targets={"web": free_port()})
    assert worker.wait() == 3


def a_tunnel_with_a_visitor(lab: Lab) -> tuple[Server, Worker, socket.socket]:
    server, worker = lab.tunnel({"echo": services.echo(lab)})
    visitor = connect(worker.port("echo"))
    lab.closing.enter_context(visitor)
    assert exchange(visitor)
    return server, worker, visitor


@pytest.mark.parametrize(
    "garbage",
    [b"\r\n\r\n", bytes(64), b"SSH-2.0-OpenSSH_9.2\r\n", os.urandom(20_000)],
    ids=["line ends", "zeros", "an SSH client", "20 kB of noise"],
)
def test_garbage_on_the_link_port(lab: Lab, garbage: bytes) -> None:
    server, _, visitor = a_tunnel_with_a_visitor(lab)
    with connect(server.link_port) as stranger:
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        try:
            read_all(stranger)
        except ConnectionResetError:
            pass  # hanging up on noise that is still under way is an answer too
    server.says(r"127\.0\.0\.1.*not (aero|a worker|this protocol|our protocol)")
    assert exchange(visitor)


def test_an_http_request_on_the_link_port_is_answered_in_http(lab: Lab) -> None:
    server, _, visitor = a_tunnel_with_a_visitor(lab)
    url = f"http://{address(server.link_port)}/"
    answer = lab.run([find("curl"), "-sS", "-w", "\n%{http_code}", url])
    text, _, status = answer.stdout.rpartition("\n")
    assert (answer.returncode, status) == (0, "400")
    assert "worker" in text
    server.says(r"127\.0\.0\.1.*HTTP")
    assert exchange(visitor)


def test_a_tls_client_on_the_link_port(lab: Lab) -> None:
    """The port speaks TLS for links; a browser that comes by it is told where it is, as one without TLS."""
    server, _, visitor = a_tunnel_with_a_visitor(lab)
    url = f"https://{address(server.link_port)}/"
    answer = lab.run([find("curl"), "-sSk", "--max-time", "10", "-w", "\n%{http_code}", url])
    text, _, status = answer.stdout.rpartition("\n")
    assert (answer.returncode, status) == (0, "400")
    assert "worker" in text
    server.says(r"127\.0\.0\.1.*HTTP")
    assert exchange(visitor)


def test_a_port_that_is_taken_is_named_with_its_option(lab: Lab) -> None:
    taken = services.echo(lab)
    done = lab.aero("server", "--ip", LOOPBACK, "--port", str(taken), "--api", "off", "--mux", "off")
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert str(taken) in last and "--port" in last


def test_a_remote_port_that_cannot_be_had_costs_that_target_only(lab: Lab) -> None:
    echo = services.echo(lab)
    ports = free_ports(4)
    taken, wanted = ports[1], ports[2]
    server = lab.server(ports=f"{ports[0]}-{ports[3]}")
    with socket.create_server((LOOPBACK, taken)):
        targets = {
            "taken": f"{address(echo)}?remote={taken}",
            "outside": f"{address(echo)}?remote={ports[0] - 1}",
            "given": f"{address(echo)}?remote={wanted}",
            "any": echo,
        }
        worker = lab.worker(server, targets=targets)
        assert worker.port("given") == wanted
        assert worker.port("any") in (ports[0], ports[3])
        worker.says(rf"\btaken\b.*{taken}")
        worker.says(rf"\boutside\b.*{ports[0] - 1}.*{ports[0]}-{ports[3]}")
    assert echoes(worker.port("given")) and echoes(worker.port("any"))


def test_a_range_of_ports_that_is_used_up_costs_the_last_target_only(lab: Lab) -> None:
    port, echo = free_port(), services.echo(lab)
    worker = lab.worker(lab.server(ports=f"{port}-{port}"), targets={"first": echo, "second": echo})
    worker.says(rf"\bsecond\b.*no port is free in {port}\b")
    assert worker.port("first") == port and echoes(port)


def test_a_remote_port_of_another_worker_is_not_given_away(lab: Lab) -> None:
    echo = services.echo(lab)
    ports = free_ports(3)
    server, wanted = lab.server(ports=f"{ports[0]}-{ports[2]}"), ports[1]
    first = lab.worker(server, targets={"echo": f"{address(echo)}?remote={wanted}"}, tag="first")
    assert first.port("echo") == wanted
    second = lab.worker(server, targets={"echo": f"{address(echo)}?remote={wanted}", "b": echo}, tag="second")
    second.says(rf"\becho\b.*{wanted}")
    assert echoes(second.port("b")) and echoes(wanted)


def test_nobody_chooses_a_port_where_the_system_does(lab: Lab) -> None:
    """With ``--ports 0`` a worker could have any port, 443 for one, if it might choose."""
    echo, wanted = services.echo(lab), free_port()
    worker = lab.worker(lab.server(ports="0"), targets={"web": f"{address(echo)}?remote={wanted}", "b": echo})
    worker.says(r"\bweb\b.*--ports 0")
    assert echoes(worker.port("b"))


def test_a_target_that_refuses_resets_the_visitor_and_is_named(lab: Lab) -> None:
    nobody = free_port()
    _, worker = lab.tunnel({"gone": nobody, "echo": services.echo(lab)})
    assert is_reset(worker.port("gone"))
    worker.says(r"\bgone\b.*refused|refused.*\bgone\b")
    assert echoes(worker.port("echo"))


def test_a_target_whose_name_does_not_resolve_is_named(lab: Lab) -> None:
    _, worker = lab.tunnel({"lost": "no-such-host.invalid:80", "echo": services.echo(lab)})
    assert is_reset(worker.port("lost"))
    worker.says(r"\blost\b.*no-such-host\.invalid|no-such-host\.invalid.*\blost\b")
    assert echoes(worker.port("echo"))


def test_a_target_that_comes_up_later_is_reached_then(lab: Lab) -> None:
    port = free_port()
    _, worker = lab.tunnel({"late": port})
    assert is_reset(worker.port("late"))
    with socket.create_server((LOOPBACK, port)) as late, connect(worker.port("late")) as visitor:
        accepted, _ = late.accept()
        with accepted:
            accepted.sendall(b"here")
            assert visitor.recv(4) == b"here"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["client", "--target", "web@127.0.0.1:80,web@127.0.0.1:81"], "'web'"),
        (["client", "--target", "web"], "name@host:port"),
        (["client", "--target", "web@127.0.0.1:80", "--pool", "0"], "--pool"),
        (["client", "--target", "web@127.0.0.1:80", "--serve", "h:1"], "--server"),
        (["client"], "--target"),
        (["server", "--port", "80800"], "--port"),
        (["server", "--ports", "30000"], "--ports"),
        (["server", "--auth", "@/no/such/file"], "/no/such/file"),
        (["sever"], "server"),
        ([], "aero --help"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_a_bad_option_ends_with_2_and_one_line(lab: Lab, arguments: list[str], expected: str) -> None:
    done = lab.aero(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and expected in done.stderr


def test_a_server_that_is_not_there_is_dialled_until_it_is(lab: Lab) -> None:
    port = free_port()
    worker = lab.worker(port, targets={"echo": services.echo(lab)})
    worker.says(rf"cannot reach.*{port}")
    lab.server(port=port)
    assert echoes(worker.port("echo"))
    assert connections_to(port) == 1


def test_a_server_that_is_not_aero_is_named(lab: Lab) -> None:
    web = services.nginx(lab)
    worker = lab.worker(web.port, "--once", targets={"web": web.port})
    assert worker.wait() == 1
    assert "HTTP" in worker.stderr.splitlines()[-1]


@pytest.mark.parametrize("code", [Close.AUTH, Close.LIMIT])
def test_what_a_server_refuses_us_with_is_shown_without_its_escapes(lab: Lab, code: int) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(fail(code, "no\x1b[2J\rroot# \u202e\n"))

    worker = lab.worker(services.serve(lab, refuse), "--once", targets={"web": free_port()})
    assert worker.wait() == (3 if code == Close.AUTH else 1)
    line = worker.stderr.splitlines()[-1]
    assert line == "aero: no\\x1b[2J\\rroot# \\u202e\\n"
    assert "\x1b" not in worker.stderr and "\u202e" not in worker.stderr


def test_a_server_that_says_nothing_is_given_up_with_once(lab: Lab) -> None:
    def say_nothing(connection: socket.socket) -> None:
        read_all(connection)

    worker = lab.worker(services.serve(lab, say_nothing), "--once", targets={"web": free_port()})
    assert worker.wait() == 1
    worker_says = worker.stderr.splitlines()[-1]
    assert "did not answer" in worker_says


def test_half_open_connections_do_not_keep_a_worker_out(lab: Lab) -> None:
    """More silent strangers, from several addresses, than handshakes may be under way at once."""
    server = lab.server()
    for number in range(300):
        stranger = lab.closing.enter_context(socket.socket())
        stranger.bind((f"127.0.1.{number % 6 + 1}", 0))
        stranger.connect_ex((LOOPBACK, server.link_port))
    worker = lab.worker(server, targets={"echo": services.echo(lab)})
    # Sooner than the strangers run into the handshake's deadline of 10 s.
    assert echoes(worker.port("echo", timeout_s=8))
