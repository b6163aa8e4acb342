"""The faults at full size: minutes each, run with ``--soak``. What they find is kept small in the other files."""

from __future__ import annotations

import socket as plain
import sys
from contextlib import suppress
from time import monotonic

import gevent
import pytest

from aero.core.aead.growing import GROW_BYTES
from aero.host.daemon import raise_file_limit
from aero.limits import Limits
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
from tests.faults.outside import nothing_left_in, relay_to, settled, state, vanish
from tests.faults.test_hostile import HALF
from tests.faults.test_processes import die_silently

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800), pytest.mark.usefixtures("even_memory")]

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
    """Real processes, and a cut every second."""
    sizes = [0]

    def send(connection: plain.socket) -> None:
        for block in blocks(7, sizes[0]):
            connection.sendall(block)
        connection.shutdown(plain.SHUT_WR)
        connection.recv(1)

    port = services.serve(lab, send)
    server = lab.server()
    relay = relay_to(lab, server)
    worker = lab.worker(relay.port, targets={"bulk": port}, ping=1)
    mapping = worker.port("bulk")

    def fetch() -> tuple[str, int]:
        with connect(mapping) as visitor:
            visitor.settimeout(120)
            return receive_digest(visitor)

    def round_trip(size: int) -> int:
        sizes[0], cuts = size, 0
        reader = gevent.get_hub().threadpool.spawn(fetch)
        while not reader.ready():
            reader.wait(timeout=1.0)
            cuts += relay.cut()
        assert reader.get() == (digest_of(7, size), size)
        return cuts

    round_trip(128 * MIB)  # the buffers that a transfer leaves for the next one, and a cut in its midst
    with nothing_left_in(server, worker):
        began = monotonic()
        cuts = round_trip(1024 * MIB)
        print(f"{cuts} cuts in {monotonic() - began:.0f} s")


def _crowd(lab: Inside, count: int, addresses: int, said: bytes = b"") -> list[plain.socket]:
    crowd: list[plain.socket] = []
    first = _seen(lab)
    for number in range(count):
        crowd.append(connect_from(lab.server.port, f"127.1.{number % addresses}.1"))
        with suppress(OSError):  # whoever had to make place
            crowd[-1].send(said)
        if number % 25 == 24:  # the server's turn: its kernel's queue is shorter than the crowd
            until("the gate", lambda: _seen(lab) >= first + len(crowd) - 500)
    return crowd


def _seen(lab: Inside) -> int:
    return sum(lab.server.ground.counters.handshakes.values()) + len(lab.server.gate)


@pytest.mark.parametrize("said", HALF)
def test_five_thousand_half_open_connections_keep_nobody_out(said: bytes) -> None:
    raise_file_limit()
    with Inside() as lab:
        crowd = _crowd(lab, 5000, 250, said)
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
        for uplink in list(lab.server.sessions.uplinks.values()):
            if uplink.worker.tag == "hostile":
                uplink.end(0, "the test is over")


def test_two_thousand_workers_that_die_silently(lab: Lab) -> None:
    """Memory is compared with that after the first 200: as many as are remembered at once, a second each."""
    server = lab.server("--resume", "1")
    die_silently(lab, server, 0, 200)
    before = settled(server)
    with nothing_left_in(server):
        began, most = monotonic(), 0
        for first in range(200, 2200, 200):
            die_silently(lab, server, first, 200)
            most = max(most, server.memory())
        print(f"{2000 / (monotonic() - began):.0f} logins/s, with a mapping each and a pause after every 200")
    figures = (before, most, settled(server))
    print("MB before, most right after a round, in the end:", *(f"{each / 1e6:.1f}" for each in figures))


def test_ten_thousand_visitors_that_vanish(lab: Lab) -> None:
    """Memory is compared with that after the first 500, and after what traffic loads once (core/aead/growing.py)."""
    server, worker = lab.tunnel({"echo": services.echo(lab)}, ping=1)
    port = worker.port("echo")

    def come_and_go(count: int) -> None:
        """In rounds: how many are there at once must not depend on which process the system favours."""
        for _ in range(0, count, 250):
            vanish(port, 250)
            poll("the streams' end", lambda: state(server)["streams"] == 0 == state(worker)["streams"])

    for _ in range(2 * GROW_BYTES >> 16):
        assert echoes(port, bytes(1 << 16))
    come_and_go(500)
    with nothing_left_in(server, worker):
        before = server.memory(), worker.memory()
        come_and_go(10_000)
        most = server.memory(), worker.memory()
    after = server.memory(), worker.memory()
    for name, row in zip(("server", "worker"), zip(before, most, after)):
        print(name, "MB before, right after, in the end:", *(f"{each / 1e6:.1f}" for each in row))
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

    def hold(count: int, seconds: float) -> None:
        before = state(server), state(worker)
        visitors = [connect(port) for _ in range(count)]
        for visitor in visitors:
            visitor.sendall(b"?")
        for visitor in visitors:
            assert visitor.recv(1) == b"?"
        now = state(server), state(worker)
        assert [each["streams"] for each in now] == [count, count]
        memory = [(late["rss_kib"] - early["rss_kib"]) / count for early, late in zip(before, now)]
        print(f"{count}: {memory[0]:.1f} KiB a connection at the server, {memory[1]:.1f} at the worker")
        until_s = monotonic() + seconds
        while monotonic() < until_s:
            for visitor in visitors[:: count // 20]:
                assert exchange_bytes(visitor)
            gevent.sleep(1)
        assert "link lost" not in server.stderr, "no ping was late"
        assert [state(each)["streams"] for each in (server, worker)] == [count, count]
        for visitor in visitors:
            visitor.close()
        poll("the streams' end", lambda: [state(each)["streams"] for each in (server, worker)] == [0, 0])

    hold(1000, 0)
    # What is more than a tenth lies in arenas of the interpreter's allocator, 1 MiB each since Python 3.10, which it
    # gives back when nothing in them is in use: with PYTHONMALLOC=malloc all but 3 % could be given back. The crowd
    # that comes next finds that room again.
    with nothing_left_in(server, worker, memory=1.45):
        before = server.memory(), worker.memory()
        hold(count, 60)
    after = server.memory(), worker.memory()
    print("MB before and after:", *(f"{each / 1e6:.1f}" for each in (*before, *after)))
