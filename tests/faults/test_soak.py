"""The faults at full size: minutes each, run with ``--soak``. What they find is kept small in the other files."""

from __future__ import annotations

import socket as plain
import sys
from time import monotonic

import gevent
import pytest

from aero.config import Limits
from aero.daemon import raise_file_limit
from tests.e2e import services
from tests.e2e.harness import Lab, connect, echoes, free_port, listening, poll
from tests.e2e.harness import exchange as exchange_bytes
from tests.faults.hostile import Hostile
from tests.faults.hostile import connect as connect_from
from tests.faults.inside import (
    Inside,
    blocks,
    digest_of,
    download,
    pieces,
    receive_digest,
    until,
    upload,
)
from tests.faults.relay import Relay
from tests.faults.test_processes import _vanish, state

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

MIB = 1024 * 1024


@pytest.mark.parametrize("every_s", [5.0, 0.5])
def test_a_gigabyte_each_way_while_links_are_killed(every_s: float) -> None:
    cuts = 0
    with Inside() as lab, pieces() as running:
        running.append(gevent.spawn(download, lab.port, 1, 1024 * MIB))
        running.append(gevent.spawn(upload, lab.port, 2, 1024 * MIB))
        while any(not each.dead for each in running):
            gevent.joinall(running, timeout=every_s)
            cuts += lab.relay.cut()
    print(f"{cuts} cuts")


def test_a_gigabyte_between_processes_while_links_are_killed(lab: Lab) -> None:
    """Real processes and a paced transfer that lasts a minute: a dozen cuts, one every five seconds."""

    def send(connection: plain.socket) -> None:
        for block in blocks(7, 1024 * MIB):
            connection.sendall(block)
        connection.shutdown(plain.SHUT_WR)
        connection.recv(1)

    port = services.serve(lab, send)
    server = lab.server()
    relay = Relay(server.link_port)
    lab.closing.callback(relay.close)
    worker = lab.worker(relay.port, targets={"bulk": port})
    mapping = worker.port("bulk")
    digests: list[tuple[str, int]] = []

    def fetch() -> None:
        with connect(mapping) as visitor:
            visitor.settimeout(120)
            digests.append(receive_digest(visitor))

    reader = gevent.get_hub().threadpool.spawn(fetch)
    began = monotonic()
    cuts = 0
    while not reader.ready():
        reader.wait(timeout=1.0)
        cuts += relay.cut()
    assert digests == [(digest_of(7, 1024 * MIB), 1024 * MIB)]
    print(f"{cuts} cuts in {monotonic() - began:.0f} s")


def _crowd(lab: Inside, count: int, addresses: int) -> list[plain.socket]:
    crowd: list[plain.socket] = []
    first = _seen(lab)
    for number in range(count):
        crowd.append(connect_from(lab.server.port, f"127.1.{number % addresses}.1"))
        if number % 25 == 24:  # the server's turn: its kernel's queue is shorter than the crowd
            until("the gate", lambda: _seen(lab) >= first + len(crowd) - 500)
    return crowd


def _seen(lab: Inside) -> int:
    return sum(lab.server.counters.handshakes.values()) + len(lab.server.gate)


def test_five_thousand_half_open_connections_keep_nobody_out() -> None:
    raise_file_limit()
    with Inside() as lab:
        crowd = _crowd(lab, 5000, 250)
        until("the crowd at the gate", lambda: len(lab.server.gate) == Limits.HANDSHAKES)
        began = monotonic()
        with Hostile(lab.server.port) as worker:
            assert worker.join()["cid"]
        print(f"let in after {monotonic() - began:.3f} s")
        same = _crowd(lab, 2000, 1)
        with Hostile(lab.server.port) as worker:
            assert worker.join()["cid"]
        for sock in (*crowd, *same):
            sock.close()
        until("an empty gate", lambda: not len(lab.server.gate))
        for uplink in list(lab.server.uplinks.values()):
            if uplink.worker.tag == "hostile":
                uplink.end(0, "the test is over")


def test_two_thousand_workers_that_die_silently(lab: Lab) -> None:
    server = lab.server("--resume", "1")

    def come_and_go(first: int, count: int) -> None:
        for number in range(first, first + count):
            join = {"v": "0", "tag": f"x{number % 7}", "host": "h", "ping": 1, "identity": f"i{number}"}
            with Hostile(server.link_port, join, code=lab.code) as worker:
                worker.join()
                target = {"id": 1, "name": f"n{number % 100}", "local": "h:1"}
                worker.say({"do": "register", "targets": [target]})
                while not worker.control:
                    worker.read()
        poll("their end", lambda: not state(server)["sessions"])

    come_and_go(0, 100)
    poll("the tidying", lambda: server.memory() < 55 * MIB)
    before, memory = state(server), server.memory()
    began = monotonic()
    come_and_go(100, 2000)
    print(f"{2000 / (monotonic() - began):.0f} logins/s, one after the other, with a mapping each")
    now = state(server)
    print(f"{before['rss_kib']} KiB before, {now['rss_kib']} right after")
    poll("the memory", lambda: server.memory() <= 1.1 * memory)
    now = state(server)
    assert now["mappings"] == now["workers"] == 0
    assert now["descriptors"] <= before["descriptors"] and now["greenlets"] <= before["greenlets"]


def test_ten_thousand_visitors_that_vanish(lab: Lab) -> None:
    server, worker = lab.tunnel({"echo": services.echo(lab)})
    port = worker.port("echo")
    _vanish(port, 500)
    poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])
    before = state(server), state(worker)
    _vanish(port, 10_000)
    poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])
    for then, now in zip(before, (state(server), state(worker))):
        assert now["descriptors"] <= then["descriptors"] and now["greenlets"] <= then["greenlets"]
        assert now["rss_kib"] <= 1.1 * then["rss_kib"], (then, now)
    assert echoes(port)


_HOLD = """
import asyncio, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
async def hold(reader, writer):
    while data := await reader.read(64):
        writer.write(data)
    writer.close()
async def main():
    server = await asyncio.start_server(hold, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()
asyncio.run(main())
"""


def test_ten_thousand_idle_connections_for_a_minute(lab: Lab) -> None:
    raise_file_limit()
    count, target = 10_000, free_port()
    lab.start([sys.executable, "-c", _HOLD, str(target)], name="hold")
    poll("the service", lambda: listening(target))
    server, worker = lab.tunnel({"hold": target}, ping=5)
    port = worker.port("hold")
    before = state(server), state(worker)
    visitors = [connect(port) for _ in range(count)]
    for visitor in visitors:
        visitor.sendall(b"?")
    for visitor in visitors:
        assert visitor.recv(1) == b"?"
    now = state(server), state(worker)
    assert [each["streams"] for each in now] == [count, count]
    memory = [(late["rss_kib"] - early["rss_kib"]) / count for early, late in zip(before, now)]
    print(f"{memory[0]:.1f} KiB a connection at the server, {memory[1]:.1f} at the worker")
    until_s = monotonic() + 60
    while monotonic() < until_s:
        for visitor in visitors[:: count // 20]:
            assert exchange_bytes(visitor)
        gevent.sleep(1)
    assert "link lost" not in server.stderr, "no ping was late"
    assert [state(each)["streams"] for each in (server, worker)] == [count, count]
    for visitor in visitors:
        visitor.close()
    poll("the streams' end", lambda: [state(each)["streams"] for each in (server, worker)] == [0, 0])
    assert state(server)["descriptors"] <= before[0]["descriptors"]
