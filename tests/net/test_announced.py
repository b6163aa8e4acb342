"""Connections with a PROXY header in front: exactly it is read, in time, and from those who have to send one only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from aero.limits import Limits
from aero.net.announced import Announcers, told
from aero.net.loop import event_loop
from aero.net.proxyheader import End, write
from tests.faults.inside import until


class Everybody:
    def __init__(self, *ips: str) -> None:
        self.ips = ips

    def covers(self, ip: str) -> bool:
        return ip in self.ips


HELD: list[socket.socket] = []


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    gevent.get_hub().loop.update_now()  # tests without a loop came before: a deadline begins with its own clock
    yield
    while HELD:
        HELD.pop().close()


class House:
    def __init__(self, ips: tuple[str, ...] = ("127.0.0.1",)) -> None:
        # The loop's clock stands still while no greenlet waits, and deadlines would begin in the past.
        gevent.sleep(0)
        self.came: list[tuple[socket.socket, Any]] = []
        self.announcers = Announcers.build(event_loop(), Everybody(*ips))
        self.porch = self.announcers.porch(lambda sock, address: self.came.append((sock, address)))

    def visitor(self, ip: str = "127.0.0.1") -> socket.socket:
        ours, theirs = socket.socketpair()
        HELD.extend((ours, theirs))
        theirs.setblocking(False)
        self.porch.entrance(theirs, (ip, 5))
        return ours


def ended(sock: socket.socket) -> bool:
    sock.settimeout(5)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("version", [1, 2])
def test_exactly_the_header_is_read_however_it_is_cut(version: int) -> None:
    header = write(version, End("192.0.2.9", 7), End("192.0.2.1", 80))
    for cut in range(1, len(header) + 1):
        house = House()
        visitor = house.visitor()
        visitor.sendall(header[:cut])
        gevent.sleep(0.001)  # in which the first part is read by itself
        visitor.sendall(header[cut:] + b"rest")
        until("the visitor", lambda house=house: house.came)
        sock, address = house.came[0]
        assert address == ("192.0.2.9", 7) and sock.recv(100) == b"rest" and not house.announcers.waiting
        sock.close()


def test_others_are_not_read_at_all() -> None:
    house = House()
    house.visitor("192.0.2.1").sendall(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n")
    sock, address = house.came[0]
    assert address == ("192.0.2.1", 5) and sock.recv(6) == b"PROXY "


def test_a_header_that_says_nobody_leaves_the_proxys_address() -> None:
    house = House()
    house.visitor().sendall(b"PROXY UNKNOWN\r\n")
    until("a visitor", lambda: house.came)
    assert house.came[0][1] == ("127.0.0.1", 5)


def test_no_header_a_late_one_and_one_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    wrong = house.visitor()
    wrong.sendall(b"GET / HTTP/1.1\r\n")
    until("the refusal", lambda: not house.announcers.waiting)
    assert ended(wrong)
    monkeypatch.setattr(Limits, "PROXY_HEADERS", 2)
    first, second, third = house.visitor(), house.visitor(), house.visitor()
    assert ended(first) and len(house.announcers.waiting) == 2
    house.porch.close()
    assert ended(second) and ended(third) and not house.announcers.waiting
    monkeypatch.setattr(Limits, "PROXY_HEADER_S", 0.01)
    late = house.visitor()
    until("the refusal", lambda: not house.announcers.waiting)
    assert ended(late) and not house.came


def test_a_fault_in_who_takes_it_costs_one_connection() -> None:
    house = House()

    def broken(sock: socket.socket, address: Any) -> None:
        raise ValueError("a fault")

    house.porch = house.announcers.porch(broken)
    visitor = house.visitor()
    visitor.sendall(b"PROXY UNKNOWN\r\n")
    until("the end", lambda: not house.announcers.waiting)
    assert ended(visitor) and not house.announcers.waiting


def test_our_end_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert told(listener) == End("127.0.0.1", listener.getsockname()[1])
    assert told(listener) == End("", 0)
