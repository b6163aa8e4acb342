"""Who is the same worker, and which ports it gets: after restarts, deaths, copies and lost links."""

from __future__ import annotations

import shutil
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import (
    LOOPBACK,
    Lab,
    connect,
    connections_to,
    echoes,
    exchange,
    free_port,
    free_ports,
    listening,
    poll,
)
from tests.e2e.mux import Target


@pytest.fixture
def echo(lab: Lab) -> int:
    return services.echo(lab)


@pytest.fixture
def ports(lab: Lab) -> str:
    """A range for mappings: more than the tests here need, and nobody else's."""
    reserved = free_ports(10)
    return f"{reserved[0]}-{reserved[-1]}"


def test_a_restarted_worker_gets_its_port_again(lab: Lab, echo: int, ports: str) -> None:
    server, state = lab.server(ports=ports), lab.path("identity")
    first = lab.worker(server, targets={"echo": echo}, state=state)
    port = first.port("echo")
    assert first.stop() == 0
    poll("the mapping to be closed", lambda: not echoes(port))
    other = lab.worker(server, targets={"echo": echo, "more": echo}, tag="other")
    assert port not in (other.port("echo"), other.port("more"))
    again = lab.worker(server, targets={"echo": echo}, state=state)
    assert again.port("echo") == port
    assert echoes(port)


def test_a_restarted_server_gives_the_same_ports(lab: Lab, echo: int, ports: str) -> None:
    state = lab.path("leases")
    server = lab.server(ports=ports, state=state)
    workers = [lab.worker(server, targets={"echo": echo, "b": echo}, tag=tag) for tag in ("x", "y", "z")]
    before = [(worker.port("echo"), worker.port("b")) for worker in workers]
    assert len({port for pair in before for port in pair}) == 6
    assert server.stop() == 0
    lab.server(ports=ports, state=state, port=server.link_port)
    for pair in before:
        for port in pair:
            poll("the mapping to be back", lambda port=port: echoes(port))
    assert [(worker.port("echo"), worker.port("b")) for worker in workers] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_request_right_after_a_restart_waits_for_its_worker(lab: Lab, number: int) -> None:
    state, mux = lab.path("leases"), free_port()
    options = ("--mux", f"127.0.0.1:{mux}")
    server = lab.server(*options, state=state)
    lab.worker(server, targets={"web": Target(lab).port}, tag="t").port("web")
    server.stop(number)
    lab.server(*options, state=state, port=server.link_port)
    poll("the mux to listen", lambda: listening(mux))
    with urllib.request.urlopen(f"http://127.0.0.1:{mux}/t/web/") as answer:
        assert answer.status == 200


def test_a_killed_server_gives_the_same_ports(lab: Lab, echo: int, ports: str) -> None:
    state = lab.path("leases")
    server = lab.server(ports=ports, state=state)
    worker = lab.worker(server, targets={"echo": echo})
    port = worker.port("echo")
    server.stop(signal.SIGKILL)
    again = lab.server(ports=ports, state=state, port=server.link_port)
    lab.worker(again, targets={"echo": echo}, tag="other")
    poll("the mapping to be back", lambda: echoes(port))
    assert worker.running


def test_a_killed_worker_s_successor_gets_its_port_at_once(lab: Lab, echo: int, ports: str) -> None:
    server, state = lab.server(ports=ports), lab.path("identity")
    worker = lab.worker(server, targets={"echo": echo}, state=state)
    port = worker.port("echo")
    worker.stop(signal.SIGKILL)
    again = lab.worker(server, targets={"echo": echo}, state=state)
    assert again.port("echo") == port
    assert echoes(port)


def test_a_frozen_worker_s_successor_takes_its_place(lab: Lab, echo: int, ports: str) -> None:
    """To the server a stopped process looks like a cut cable: the link stands, and nobody answers."""
    server, state = lab.server(ports=ports), lab.path("identity")
    frozen = lab.worker(server, targets={"echo": echo}, state=state)
    port = frozen.port("echo")
    frozen.send(signal.SIGSTOP)
    again = lab.worker(server, targets={"echo": echo}, state=state)
    assert again.port("echo") == port
    assert echoes(port)


def test_a_killed_worker_s_successor_with_one_target_more_is_the_same_worker(
    lab: Lab, echo: int, ports: str
) -> None:
    """Its ports moved for good, and the one that it asks for by number was taken by its own former self."""
    server, state = lab.server(ports=ports), lab.path("identity")
    wanted = ports.split("-")[1]
    here = f"{LOOPBACK}:{echo}"
    worker = lab.worker(server, targets={"echo": echo, "fixed": f"{here}?remote={wanted}"}, state=state)
    port = worker.port("echo")
    assert worker.port("fixed") == int(wanted)
    worker.stop(signal.SIGKILL)
    targets = {"new": echo, "echo": echo, "fixed": f"{here}?remote={wanted}"}
    again = lab.worker(server, targets=targets, state=state)
    assert again.port("echo") == port
    assert again.port("fixed") == int(wanted)
    assert echoes(port) and echoes(int(wanted)) and echoes(again.port("new"))


def test_two_workers_with_one_tag_and_one_state_are_two(lab: Lab, echo: int, ports: str) -> None:
    """One that starts while the other is stopped for a moment must not be taken for its successor."""
    server, state = lab.server(ports=ports), lab.path("identity")
    first = lab.worker(server, targets={"a": echo}, state=state)
    with connect(first.port("a")) as visitor:
        assert exchange(visitor)
        first.send(signal.SIGSTOP)
        second = lab.worker(server, targets={"b": echo}, state=state)
        assert echoes(second.port("b"))
        second.stop()
        second = lab.worker(server, targets={"b": echo}, state=state)
        assert echoes(second.port("b"))
        first.send(signal.SIGCONT)
        assert exchange(visitor), "its session was not ended"


def test_two_clones_live_side_by_side(lab: Lab, echo: int, ports: str) -> None:
    server, state, copy = lab.server(ports=ports), lab.path("identity"), lab.path("copy")
    original = lab.worker(server, targets={"echo": echo}, state=state)
    port = original.port("echo")
    with connect(port) as visitor:
        shutil.copytree(state, copy)
        clone = lab.worker(server, targets={"echo": echo}, state=copy)
        assert clone.port("echo") != port
        assert exchange(visitor), "the original's visitors notice nothing"
        assert echoes(port) and echoes(clone.port("echo"))
    assert len(original.stdout.splitlines()) == 1, "it was never evicted, so it printed its address once"
    assert connections_to(server.link_port) == 2


def test_a_worker_without_a_place_for_its_identity_gets_its_port_again(
    lab: Lab, echo: int, ports: str
) -> None:
    """Where nothing can be written the identity comes from machine, host, tag and targets."""
    server, nowhere = lab.server(ports=ports), Path("/dev/null/state")
    first = lab.worker(server, targets={"echo": echo}, state=nowhere)
    port = first.port("echo")
    first.stop()
    poll("the mapping to be closed", lambda: not echoes(port))
    other = lab.worker(server, targets={"echo": echo}, tag="other")
    assert other.port("echo") != port
    again = lab.worker(server, targets={"echo": echo}, state=nowhere)
    assert again.port("echo") == port


def test_a_server_without_a_place_for_its_leases_warns_once_and_works(
    lab: Lab, echo: int, ports: str
) -> None:
    server = lab.server(ports=ports, state=Path("/dev/null/state"))
    worker = lab.worker(server, targets={"echo": echo})
    assert echoes(worker.port("echo"))
    assert server.stderr.count("warn ") == 1
    server.says(r"warn .*cannot keep leases.*/dev/null/state")


def test_losing_one_of_three_links_does_not_disturb_the_others(lab: Lab, echo: int) -> None:
    server = lab.server()
    relay = services.Relay(lab, server.link_port)
    worker = lab.worker(relay.port, targets={"echo": echo}, pool=3)
    port = worker.port("echo")
    poll("three links", lambda: len(relay.connections) == connections_to(server.link_port) == 3)

    visitors = [lab.closing.enter_context(connect(port)) for _ in range(9)]
    assert all(map(exchange, visitors))
    relay.cut(0)
    going_on = sum(map(_goes_on, visitors))
    assert going_on >= 6, f"three links carried nine streams, one was cut, {going_on} go on"
    assert echoes(port)
    poll("three links again", lambda: connections_to(server.link_port) == 3)
    assert echoes(port)


def test_a_lost_link_is_dialled_again(lab: Lab, echo: int) -> None:
    server = lab.server()
    relay = services.Relay(lab, server.link_port)
    worker = lab.worker(relay.port, targets={"echo": echo})
    port = worker.port("echo")
    for _ in range(3):
        poll("a link", lambda: relay.connections)
        relay.cut(0)
        poll("the mapping to be back", lambda: echoes(port))
    assert worker.running


def _goes_on(visitor: socket.socket) -> bool:
    try:
        return exchange(visitor)
    except OSError:
        return False
