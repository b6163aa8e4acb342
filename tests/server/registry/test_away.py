"""Targets whose workers are away: which of them still listen, who waits there, and what becomes of both."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.limits import Limits
from aero.net.announced import Announcers
from aero.net.listen import listen_all
from aero.net.loop import event_loop
from aero.server.policy.proxies import Trust
from aero.server.registry.away import Away
from aero.server.registry.doors.tcp import House, TcpDoor
from aero.server.registry.gradually import at_once
from aero.server.registry.ports.ports import Ports
from aero.server.store.database import Database
from aero.server.store.leases import Leases, Owner
from aero.server.watch.counters import Counters
from tests.faults.inside import until
from tests.server.registry.lab import is_reset

LOOPBACK = "127.0.0.1"


class Lab:
    """Ports of loopback, with leases of targets whose workers are away."""

    def __init__(self) -> None:
        loop = event_loop()
        self.loop_house = House.build(loop, Counters(), Announcers.build(loop, Trust(())))
        self.now = 1000.0
        self.leases = Leases(Database(""), lambda: self.now)
        self.ports = Ports("tcp", listen_all, (LOOPBACK,), 1, 65535, self.leases, 100, lambda: self.now)
        self.away = Away(self, self.ports)

    def house(self) -> House:
        return self.loop_house

    def lease(self, name: str, wait_s: int = 30) -> int:
        """A free port, leased to a target that is away."""
        with socket.create_server((LOOPBACK, 0)) as sock:
            port = int(sock.getsockname()[1])
        self.now += 1
        self.leases.keep(Owner("", "t", "h", name), port, "i", wait_s=wait_s)
        self.leases.release(port)
        return port

    def mapping(self, name: str, port: int, door: Any) -> Any:
        owner = Owner("", "t", "h", name)
        return SimpleNamespace(
            owner=owner, identity="i", port=port, name=name, options={"wait": 30}, logins=None, door=door
        )


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.away.close()


def listens(port: int) -> bool:
    with socket.socket() as visitor:
        return visitor.connect_ex((LOOPBACK, port)) == 0


def test_so_many_are_awaited_after_a_restart_those_who_went_last(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "AWAY_TARGETS", 2)
    first, second, third = (lab.lease(name) for name in ("a", "b", "c"))
    unasked = lab.lease("d", wait_s=0)
    lab.away.begin(lab.leases)
    assert [listens(port) for port in (first, second, third, unasked)] == [False, True, True, False]
    assert lab.away.leaves(lab.mapping("e", 9, None)) is None, "there are as many as there may be"
    assert lab.away.lobby("t", "a") is None and lab.away.lobby("t", "b") is not None
    lab.now += 1000
    lab.ports.look_after()
    assert not len(lab.away) and not listens(second) and lab.away.lobby("t", "b") is None, (
        "their leases are void"
    )


def test_who_waits_comes_to_the_target_that_is_back_and_to_no_other(lab: Lab) -> None:
    mine, others = lab.lease("a"), lab.lease("b")
    lab.away.begin(lab.leases)
    visitors = [socket.create_connection((LOOPBACK, port)) for port in (mine, others)]
    lobbies = [cast(Any, lab.away.lobby("t", name))[0] for name in ("a", "b")]
    until("both to wait", lambda: [len(lobby) for lobby in lobbies] == [1, 1])
    came: list[Any] = []
    door = TcpDoor(lab.house(), cast(Any, SimpleNamespace(rushed=False)))
    at_once(door.listen(listen_all((LOOPBACK,), 0)))
    door.receive = lambda sock, address: came.append((sock, address))  # type: ignore[method-assign]
    lab.away.back(lab.mapping("a", mine, door))
    assert [address for _, address in came] == [visitors[0].getsockname()], "as who came"
    stranger = lab.mapping("x", others, door)
    lab.away.back(stranger)
    until("the other to be reset", lambda: is_reset(visitors[1]))
    assert len(came) == 1 and not len(lab.away)
    door.close()
    for sock in [*visitors, *(sock for sock, _ in came)]:
        sock.close()


def test_a_target_that_is_back_at_another_port_leaves_the_old_one(lab: Lab) -> None:
    old = lab.lease("a")
    lab.away.begin(lab.leases)
    assert listens(old)
    lab.away.back(lab.mapping("a", 9, None))
    assert not len(lab.away) and not listens(old) and not lab.ports.held(old)


def test_so_many_wait_and_no_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "WAITING_VISITORS", 2)
    port = lab.lease("a")
    lab.away.begin(lab.leases)
    visitors = [socket.create_connection((LOOPBACK, port)) for _ in range(3)]
    until("the third to be reset", lambda: sum(map(is_reset, visitors)) == 1)
    lobby = cast(Any, lab.away.lobby("t", "a"))[0]
    assert len(lobby) == 2
    lab.away.close()
    assert not len(lobby) and not listens(port)
    for each in visitors:
        each.close()
