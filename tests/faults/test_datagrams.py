"""What links, strangers and older peers can do to UDP targets: flows stay, floods cost nobody his place."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import gevent
import pytest
from gevent import socket

from aero.address import Target
from aero.core import datagrams
from aero.core.memory import Room
from aero.limits import Limits
from aero.server.links.compression import Compression
from aero.server.registry.doors import udp
from aero.server.registry.mapping import Mapping
from tests.faults.inside import Inside, download, until
from tests.faults.relay import LOOPBACK


class Service:
    """A UDP echo; remembers who asked, by the port that the worker asks from."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((LOOPBACK, 0))
        self.port = int(self.sock.getsockname()[1])
        self.visitors: set[int] = set()
        self._greenlet = gevent.spawn(self._serve)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                data, visitor = self.sock.recvfrom(65_536)
                self.visitors.add(visitor[1])
                self.sock.sendto(data, visitor)

    def close(self) -> None:
        self._greenlet.kill()
        self.sock.close()


class Udp(Inside):
    """The lab with one more target, `u`, of UDP."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__(pool=pool, start=False)
        self.echo = Service()
        self.config = self.config.replace(
            targets=(*self.config.targets, Target("u", LOOPBACK, self.echo.port, 0, "udp"))
        )
        self.worker = self.new_worker()

    @property
    def mapping(self) -> Mapping:
        (worker,) = self.server.registry.workers.values()
        return next(each for each in worker.mappings.values() if each.name == "u")

    def begin(self) -> None:
        self.start()
        (worker,) = self.server.registry.workers.values()
        until("all mappings", lambda: len(worker.mappings) == 2)

    def port_of(self, name: str) -> int:
        (worker,) = self.server.registry.workers.values()
        return next(each.port for each in worker.mappings.values() if each.name == name)

    @property
    def flows(self) -> tuple[int, int]:
        """At the server, at the worker."""
        sessions = [each.core.flows for each in self.worker.crew.sessions()]
        return self.server.registry.flows, sum(len(each.by_id) for each in sessions if each is not None)  # type: ignore[attr-defined]

    def close(self) -> None:
        super().close()
        self.echo.close()
        assert not self.server.ground.memory.datagrams.taken_bytes
        assert not self.worker.ground.memory.datagrams.taken_bytes


@contextmanager
def visitor(lab: Udp, ip: str = LOOPBACK) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ip, 0))
        sock.connect((LOOPBACK, lab.mapping.port))
        sock.settimeout(0.2)
        yield sock


def ask(sock: socket.socket, data: bytes = b"there?") -> None:
    """Asks until it is answered, as who uses UDP does."""

    def answered() -> bool:
        sock.send(data)
        with suppress(OSError):
            while sock.recv(65_536) != data:
                pass
            return True
        return False

    until("an answer", answered)


def test_flows_outlive_their_link() -> None:
    with Udp() as lab:
        lab.begin()
        with visitor(lab) as sock:
            ask(sock)
            for _ in range(5):
                lab.relay.cut()
                until("the link's loss", lambda: not lab.resumed)
                sock.send(b"lost, like anything on a link that is down")
                until("the next link", lambda: lab.resumed)
                ask(sock)
        assert len(lab.echo.visitors) == 1 and lab.flows == (1, 1)
        assert lab.mapping.drops.counts[datagrams.NO_LINK] > 0


def test_a_session_that_is_over_takes_its_flows_along_and_new_ones_begin() -> None:
    with Udp() as lab:
        lab.begin()
        with visitor(lab) as sock:
            ask(sock)
            (worker,) = lab.server.registry.workers.values()
            worker.end(0, "an operator ends it")
            workers = lab.server.registry.workers
            until("the worker's return", lambda: [len(each.mappings) for each in workers.values()] == [2])
        with visitor(lab) as sock:
            ask(sock)
        assert len(lab.echo.visitors) == 2


def test_with_several_links_a_flow_stays_on_one() -> None:
    with Udp(pool=3) as lab:
        lab.begin()
        visits = []
        for _ in range(9):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((LOOPBACK, lab.mapping.port))
            sock.settimeout(0.2)
            visits.append(sock)
            ask(sock)
        each = [len(session.core.flows.by_id) for session in lab.worker.crew.sessions()]  # type: ignore[union-attr]
        assert each == [3, 3, 3]
        for _ in range(5):
            for sock in visits:
                ask(sock)
        assert len(lab.echo.visitors) == 9
        for sock in visits:
            sock.close()


def _have_come(lab: Udp, visitors: int) -> bool:
    return lab.mapping.visitors == visitors


def test_a_flood_of_made_up_visitors_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 sources, each once. Nobody is near here, so each address counts as one from afar would."""
    monkeypatch.setattr(udp, "is_near", lambda ip: False)
    monkeypatch.setattr(Limits, "FLOWS_PER_MAPPING", 200)
    monkeypatch.setattr(Limits, "FLOW_ADDRESSES", 500)
    with Udp() as lab:
        lab.begin()
        with visitor(lab) as old:
            ask(old)
            ask(old)  # an answer to an answer: it is there
            (visit,) = lab.mapping.door.visits  # type: ignore[attr-defined]
            before = lab.mapping.visitors
            for number in range(10_000):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made_up:
                    made_up.bind((f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}", 0))
                    made_up.sendto(b"?", (LOOPBACK, lab.mapping.port))
                if number % 50 == 49:  # as many as the smallest buffer of a kernel holds
                    came = before + number + 1
                    until("the door to have read them", partial(_have_come, lab, came))
                    assert max(lab.flows) <= 400
            ask(old)
            assert visit.proven and not visit.flow.ended
            until("the places to be enough", lambda: max(lab.flows) <= 200)
            assert len(lab.server.registry.mappings._udp.arrivals._of) <= 500


def test_a_datagram_storm_does_not_stop_a_download() -> None:
    with Udp() as lab:
        lab.begin()
        stop = False

        def storm() -> None:
            with visitor(lab) as sock:
                sock.setblocking(False)
                while not stop:
                    with suppress(OSError):
                        for _ in range(50):
                            sock.send(bytes(1200))
                        while True:
                            sock.recv(65_536)
                    gevent.sleep(0)

        greenlet = gevent.spawn(storm)
        download(lab.port_of("svc"), 7, 4 << 20)
        stop = True
        greenlet.join()


def test_memory_that_is_used_up_drops_datagrams_and_nothing_else() -> None:
    with Udp() as lab:
        lab.worker.ground.memory.datagrams = Room(0)
        lab.begin()
        with visitor(lab) as sock:
            sock.send(b"no answer has room")
            until("it at the target", lambda: lab.echo.visitors)
            with pytest.raises(OSError, match="timed out"):
                sock.recv(100)
        download(lab.port_of("svc"), 1, 100_000)


def test_an_older_server_is_not_asked_for_udp(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Compression, "offered", lambda self, theirs: 0)
    with Udp() as lab, caplog.at_level(logging.ERROR):
        lab.start()
        (worker,) = lab.server.registry.workers.values()
        assert [each.name for each in worker.mappings.values()] == ["svc"]
        download(lab.port, 1, 1000)
    (said,) = [each.getMessage() for each in caplog.records if "no UDP target" in each.getMessage()]
    assert "a newer AeRO-proxy does" in said


def test_all_sizes_come_back() -> None:
    with Udp() as lab:
        lab.begin()
        with visitor(lab) as sock:
            for size in (0, 1, 1472, 1473, 65_507):
                ask(sock, os.urandom(size))
