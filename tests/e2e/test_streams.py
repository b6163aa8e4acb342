"""What a stream promises, seen from both ends: resets stay resets, and a stalled stream stalls itself alone."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading

import pytest

from tests.e2e import services
from tests.e2e.harness import Lab, connect, echoes, exchange, poll, read_all

MIB = 1024 * 1024


@pytest.mark.parametrize("first", ["visitor", "target"])
def test_a_reset_stays_a_reset(lab: Lab, first: str) -> None:
    """An aborted connection must not look like one that ended well, whoever aborts it."""
    outcome: list[str] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"go")
        if first == "target":
            connection.recv(1)
            services.abort(connection)
            return
        try:
            outcome.append("end" if not read_all(connection) else "data")
        except ConnectionResetError:
            outcome.append("reset")

    _, worker = lab.tunnel({"x": services.serve(lab, talk)})
    with connect(worker.port("x")) as visitor:
        assert visitor.recv(2) == b"go"
        if first == "visitor":
            services.abort(visitor)
            poll("the target to notice", lambda: outcome)
            assert outcome == ["reset"]
        else:
            visitor.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                read_all(visitor)


def test_a_visitor_that_leaves_in_mid_transfer_frees_the_target(lab: Lab) -> None:
    ended: list[bool] = []

    def pour(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(bytes(65536))
        except OSError:
            ended.append(True)

    _, worker = lab.tunnel({"pour": services.serve(lab, pour)})
    with connect(worker.port("pour")) as visitor:
        assert visitor.recv(65536)
    poll("the target to notice", lambda: ended)


def test_a_visitor_that_never_reads_stops_only_itself(lab: Lab) -> None:
    """Its stream stalls, nobody buffers for it without end, and everybody else goes on."""
    poured = [0]

    def pour(connection: socket.socket) -> None:
        while True:
            poured[0] += connection.send(bytes(65536))

    server, worker = lab.tunnel({"pour": services.serve(lab, pour), "echo": services.echo(lab)})
    neighbour = lab.closing.enter_context(connect(worker.port("echo")))
    assert exchange(neighbour)
    before = [program.memory() for program in (server, worker)]
    for _ in range(4):
        lab.closing.enter_context(connect(worker.port("pour")))

    def stalled() -> bool:
        amount = poured[0]
        return amount > 0 and exchange(neighbour, os.urandom(MIB)) and poured[0] == amount

    poll("the streams to stall", stalled)
    assert echoes(worker.port("echo"), os.urandom(4 * MIB))
    growth = [program.memory() - start for program, start in zip((server, worker), before)]
    assert max(growth) < 64 * MIB, growth


def test_a_target_that_never_reads_stops_only_its_visitor(lab: Lab) -> None:
    release = threading.Event()

    def ignore(connection: socket.socket) -> None:
        release.wait()

    server, worker = lab.tunnel({"ignore": services.serve(lab, ignore), "echo": services.echo(lab)})
    neighbour = lab.closing.enter_context(connect(worker.port("echo")))
    before = [program.memory() for program in (server, worker)]
    visitor = lab.closing.enter_context(connect(worker.port("ignore")))
    visitor.settimeout(1)
    sent = 0
    with pytest.raises(socket.timeout):
        while True:
            sent += visitor.send(bytes(65536))
    assert sent < 64 * MIB
    assert exchange(neighbour, os.urandom(4 * MIB))
    growth = [program.memory() - start for program, start in zip((server, worker), before)]
    release.set()
    assert max(growth) < 64 * MIB, growth


def test_five_hundred_streams_at_once(lab: Lab) -> None:
    """All open at the same time, each with its own bytes both ways, then closed in another order."""
    _, worker = lab.tunnel({"echo": services.echo(lab)})
    port = worker.port("echo")
    visitors = [lab.closing.enter_context(connect(port)) for _ in range(500)]
    words = [hashlib.sha256(b"%d" % number).digest() * 8 for number in range(len(visitors))]
    for visitor, word in zip(visitors, words):
        visitor.sendall(word)
    for visitor in visitors:
        visitor.shutdown(socket.SHUT_WR)
    order = random.Random(3).sample(range(len(visitors)), len(visitors))
    assert all(read_all(visitors[number]) == words[number] for number in order)


def test_every_short_connection_is_served(lab: Lab) -> None:
    """The target speaks first and leaves at once: the last bytes and the end must not race each other."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 welcome\r\n")

    _, worker = lab.tunnel({"greet": services.serve(lab, greet)})
    port = worker.port("greet")
    for _ in range(300):
        with connect(port) as visitor:
            assert read_all(visitor) == b"220 welcome\r\n"


def test_connections_that_vanish_at_once_leave_nothing_behind(lab: Lab) -> None:
    server, worker = lab.tunnel({"echo": services.echo(lab)})
    port = worker.port("echo")
    assert echoes(port)
    before = [len(os.listdir(f"/proc/{program.pid}/fd")) for program in (server, worker)]
    for number in range(300):
        visitor = connect(port)
        if number % 2:
            visitor.send(b"x")
            services.abort(visitor)
        visitor.close()
    assert echoes(port)
    for program, count in zip((server, worker), before):
        poll("descriptors to be closed", lambda p=program, c=count: len(os.listdir(f"/proc/{p.pid}/fd")) <= c)
