"""What targets and strangers can do to a worker: names nobody answers for, visitors who come and go, slow accepts."""

from __future__ import annotations

import struct
import threading
from time import monotonic

import gevent
import pytest
from gevent import socket

from aero.address import Target
from aero.endpoint import Endpoints
from aero.host.facts import facts
from aero.limits import Limits
from aero.net import lookup
from aero.net.lookup import Found
from tests.faults.inside import Inside, download, until
from tests.faults.relay import LOOPBACK


class NameServer:
    """Has loopback for every name, and says nothing of silent ones until it ends."""

    def __init__(self, *silent: str) -> None:
        self.asked: list[str] = []
        self._silent = silent
        self._end = threading.Event()

    def __call__(self, host: str) -> Found:
        self.asked.append(host)
        if host in self._silent:
            self._end.wait(60)
        return Found(((socket.AF_INET, (LOOPBACK, 0)),))

    def end(self) -> None:
        self._end.set()


def started(lab: Inside, *more: Target) -> dict[str, int]:
    """The worker with more targets; their ports by name."""
    lab.config = lab.config.replace(targets=(*lab.config.targets, *more))
    lab.worker = lab.new_worker()
    lab.start()
    (worker,) = lab.server.registry.workers.values()
    until("all mappings", lambda: len(worker.mappings) == 1 + len(more))
    return {mapping.name: mapping.port for mapping in worker.mappings.values()}


def come(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection((LOOPBACK, port)) for _ in range(count)]


def leave(visitors: list[socket.socket]) -> None:
    """With a reset: an end would wait for the answer."""
    for visitor in visitors:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        visitor.close()


def test_a_name_that_nobody_answers_for_keeps_no_other_target_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """150 visitors of it took every look-up of the process: other names' visitors, and the server's own name."""
    names = NameServer("dead.test")
    monkeypatch.setattr(lookup, "resolve", names)
    with Inside(start=False) as lab:
        lab.config = lab.config.replace(server=Endpoints.at("aero.test", lab.relay.port))
        named = Target("named", "svc.test", lab.service.port)
        ports = started(lab, Target("dead", "dead.test", 80), named)
        waiting = come(ports["dead"], 150)
        until("the look-up", lambda: "dead.test" in names.asked)
        began = monotonic()
        download(ports["named"], 1, 1000)
        download(ports["svc"], 1, 1000)
        lab.relay.cut()
        until("the link, whose server has a name too", lambda: lab.resumed)
        download(ports["named"], 2, 1000)
        assert monotonic() - began < 5.0
        assert names.asked.count("dead.test") == 1
        leave(waiting)
        lab.quiet()
        names.end()


def test_visitors_who_come_and_go_leave_nothing_at_a_slow_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each left a connect behind, and its descriptor, until the connect's own end."""
    monkeypatch.setattr(Limits, "CONNECTS_A_TARGET", 32)
    with socket.socket() as slow, Inside(start=False) as lab:
        slow.bind((LOOPBACK, 0))
        slow.listen(0)  # the system accepts one for it, and then nobody
        ports = started(lab, Target("slow", LOOPBACK, slow.getsockname()[1]))
        first = come(ports["slow"], 1)
        until("its stream", lambda: lab.streams[1] == 1)
        before = facts()["descriptors"]
        for _ in range(10):
            visitors = come(ports["slow"], 40)
            until("them at the worker", lambda: lab.streams[1] == 41)
            assert facts()["descriptors"] - before <= 2 * 40 + Limits.CONNECTS_A_TARGET
            download(ports["svc"], 1, 1000)
            leave(visitors)
            until("the streams' end", lambda: lab.streams[1] == 1)
            until("their connects' end", lambda: facts()["descriptors"] <= before)
        leave(first)


def test_the_last_known_address_serves_while_the_resolver_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "NAME_KEPT_S", 0.01)
    with Inside(start=False) as lab:
        gone = False

        def resolve(host: str) -> Found:
            if gone:
                return Found((), "Temporary failure in name resolution")
            return Found(((socket.AF_INET, (LOOPBACK, 0)),))

        monkeypatch.setattr(lookup, "resolve", resolve)
        lab.config = lab.config.replace(server=Endpoints.at("aero.test", lab.relay.port))
        ports = started(lab, Target("named", "svc.test", lab.service.port))
        download(ports["named"], 1, 1000)
        gone = True
        for number in range(5):
            download(ports["named"], number, 1000)
            gevent.sleep(0.02)  # over all of them, what was found has expired
        lab.relay.cut()
        until("the link", lambda: lab.resumed)
        download(ports["named"], 9, 1000)
