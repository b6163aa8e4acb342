"""Binding ports: one, or a row of which all or none are had."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from aero.errors import BindError, PortError
from aero.server.registry.gradually import at_once
from aero.server.registry.ports import binding as module
from aero.server.registry.ports.binding import Binding, unusable


class Machine:
    """Gives sockets whose descriptors count up from 3; some ports are another program's."""

    def __init__(self, *others: int) -> None:
        self.others = others
        self.socks: list[Any] = []

    def bind(self, ips: tuple[str, ...], port: int) -> list[socket.socket]:
        assert ips == ("127.0.0.1",)
        if port in self.others:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.socks.append(Sock(3 + len(self.socks)))
        return [self.socks[-1]]

    @property
    def open(self) -> int:
        return sum(not each.closed for each in self.socks)


class Sock:
    def __init__(self, number: int) -> None:
        self.number, self.closed = number, False

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        self.closed = True


def bound(machine: Machine) -> Binding:
    return Binding(machine.bind, ("127.0.0.1",))


def test_a_port_that_cannot_be_had_is_named() -> None:
    with pytest.raises(BindError) as caught:
        bound(Machine(80)).one(80)
    assert caught.value.port == 80
    assert unusable("port 80", caught.value) == "port 80 cannot be used: Address already in use"


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_a_row_is_bound_a_slice_a_turn(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    machine = Machine()
    work = bound(machine).row(8000, size)
    turns = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            assert len(end.value) == size == machine.open
            break
        turns += 1
        assert machine.open == 2 * turns
    assert turns == size // 2


def test_of_a_row_that_is_not_whole_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    machine = Machine(8004)
    with pytest.raises(BindError) as caught:
        at_once(bound(machine).row(8000, 6))
    assert caught.value.port == 8004 and len(machine.socks) == 4 and not machine.open
    given_up = bound(machine).row(8005, 5)
    next(given_up)
    given_up.close()
    assert not machine.open, "whoever asked has gone"


def test_a_row_leaves_descriptors_to_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "descriptor_line", lambda: 8)
    machine = Machine()
    with pytest.raises(PortError, match="too few descriptors for so many ports"):
        at_once(bound(machine).row(8000, 4))
    assert not machine.open and at_once(bound(Machine()).row(8000, 3))
