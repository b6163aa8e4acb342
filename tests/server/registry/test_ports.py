"""Which port a mapping gets, and gets again; a face's addresses; what is said where a port cannot be had."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest

from aero.address import Address
from aero.errors import ListenError, Rejected
from aero.net.listen import close_all, listen_all, listen_at, listen_or_explain
from aero.server.registry import ports as module
from aero.server.registry.ports import OUT_OF_RANGE, TAKEN, TRIES, Ports
from aero.server.store.database import Database
from aero.server.store.leases import Leases, Owner


def test_localhost_is_every_loopback_address_that_there_is() -> None:
    socks = listen_at(Address("localhost", 0), "--api")
    try:
        families = {sock.family for sock in socks}
        assert socket.AF_INET in families
        assert len({sock.getsockname()[1] for sock in socks}) == 1
    finally:
        close_all(socks)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ListenError, match="--api"):
        listen_at(Address("does-not-exist.invalid", 0), "--api")


# ----------------------------------------------------------------------------
# The range: nothing is bound here, so any port will do
# ----------------------------------------------------------------------------

LOW, HIGH = 8000, 8009


class Bound:
    """Stands for the listening socket of one port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


class System:
    """Binds what it is asked for, but for ports that are other programs', or for want of something."""

    def __init__(self) -> None:
        self.others: set[int] = set()
        self.error = errno.EADDRINUSE
        self.asked: list[int] = []

    def listen_all(self, ips: tuple[str, ...], port: int) -> list[Bound]:
        self.asked.append(port)
        if port in self.others:
            raise OSError(self.error, os.strerror(self.error))
        return [Bound(port or 40_000 + len(self.asked))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    system = System()
    monkeypatch.setattr(module, "listen_all", system.listen_all)
    return system


@pytest.fixture
def leases() -> Leases:
    return Leases(Database(""))


def claiming(ports: Ports) -> Callable[..., int]:
    def claim(name: str, identity: str = "i", wanted: int = 0) -> int:
        port: int = ports.claim(Owner("", "t", "h", name), identity, wanted)[0].getsockname()[1]
        return port

    return claim


def test_a_name_gets_the_same_port_without_any_memory(system: System) -> None:
    found = {claiming(Ports(("127.0.0.1",), LOW, HIGH, Leases(Database(""))))("web") for _ in range(5)}
    assert len(found) == 1 and LOW <= found.pop() <= HIGH


def test_a_lease_beats_the_name(system: System, leases: Leases) -> None:
    first = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))("web")
    other = LOW if first != LOW else HIGH
    leases.keep(Owner("", "t", "h", "ssh"), other, "i")
    claim = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))  # the server starts again
    assert claim("ssh") == other and claim("web") == first


def test_clones_get_a_port_each_and_each_its_own_again(system: System, leases: Leases) -> None:
    claim = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))
    had = {identity: claim("web", identity) for identity in ("i1", "i2", "i3")}
    assert len(set(had.values())) == 3
    claim = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))
    assert {identity: claim("web", identity) for identity in ("i3", "i1", "i2")} == had


def test_a_port_that_is_released_keeps_its_lease(system: System, leases: Leases) -> None:
    ports = Ports(("127.0.0.1",), LOW, HIGH, leases)
    claim = claiming(ports)
    first = claim("web")
    ports.release(first)
    ports.release(first)
    taken = {claim(f"n{number}") for number in range(HIGH - LOW)}
    assert first not in taken and len(taken) == HIGH - LOW, "as long as there are others"
    assert claim("web") == first


def test_the_oldest_lease_goes_when_all_are_leased(system: System) -> None:
    seconds = iter(range(100))
    leases = Leases(Database(""), lambda: next(seconds))
    ports = Ports(("127.0.0.1",), LOW, HIGH, leases)
    claim = claiming(ports)
    had = [claim(f"n{number}") for number in range(HIGH - LOW + 1)]
    with pytest.raises(Rejected, match="no port is free in 8000-8009") as caught:
        claim("late")
    assert caught.value.code == TAKEN and not caught.value.final
    for port in had[3:6]:
        ports.release(port)
    assert claim("late") == had[3]
    assert claim("n3") == had[4], "who lost its port gets another one"
    assert claim("n5") == had[5]


def test_ports_of_other_programs_are_passed_over(system: System, leases: Leases) -> None:
    system.others = set(range(LOW, HIGH))
    claim = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))
    assert claim("web") == HIGH
    with pytest.raises(Rejected, match="no port is free"):
        claim("ssh")


def test_a_wide_range_is_not_tried_through(system: System, leases: Leases) -> None:
    system.others = set(range(10_000, 60_000))
    with pytest.raises(Rejected, match="no port is free"):
        claiming(Ports(("127.0.0.1",), 10_000, 59_999, leases))("web")
    assert len(system.asked) == TRIES


@pytest.mark.parametrize("low, high", [(LOW, HIGH), (0, 0)])
@pytest.mark.parametrize("wanted", [0, 8005])
def test_out_of_descriptors_is_an_answer_and_nothing_is_held(
    system: System, leases: Leases, low: int, high: int, wanted: int
) -> None:
    """The worker is told so and asks again; anything else that rises from here would end its link."""
    claim = claiming(Ports(("127.0.0.1",), low, high, leases))
    system.others, system.error = {0, *range(LOW, HIGH + 1)}, errno.EMFILE
    with pytest.raises(Rejected, match="Too many open files") as caught:
        claim("web", wanted=wanted)
    assert caught.value.code == TAKEN and not caught.value.final
    system.others = set()
    assert claim("web", wanted=wanted)
    assert len(leases) == bool(low)


def test_the_systems_choice_of_ports_leaves_no_lease(system: System, leases: Leases) -> None:
    claim = claiming(Ports(("127.0.0.1",), 0, 0, leases))
    assert claim("web") != claim("web")
    assert claim("ssh", wanted=22_022) == 22_022
    assert system.asked == [0, 0, 22_022] and len(leases) == 0
    system.others = {0}
    with pytest.raises(Rejected, match=r"no port is free$"):
        claim("web")


def test_a_port_that_is_asked_for(system: System, leases: Leases) -> None:
    ports = Ports(("127.0.0.1",), LOW, HIGH, leases)
    claim = claiming(ports)
    assert claim("web", wanted=8004) == 8004
    with pytest.raises(Rejected, match="port 8004 is taken") as caught:
        claim("ssh", wanted=8004)
    assert caught.value.code == TAKEN and not caught.value.final, "it may be free later"
    for port in (LOW - 1, HIGH + 1, 22):
        with pytest.raises(Rejected, match="out of the server's range 8000-8009") as caught:
            claim("ssh", wanted=port)
        assert caught.value.code == OUT_OF_RANGE and caught.value.final
    system.others = {8005}
    with pytest.raises(Rejected, match="port 8005 is taken"):
        claim("ssh", wanted=8005)
    system.error = errno.EACCES
    with pytest.raises(Rejected, match="port 8005 cannot be used: Permission denied"):
        claim("ssh", wanted=8005)
    ports.release(8004)
    assert claim("ssh", wanted=8004) == 8004, "whoever asks for it by number, and nobody has it now"


def test_leases_from_a_range_that_was_changed(system: System, leases: Leases) -> None:
    leases.keep(Owner("", "t", "h", "web"), 9000, "i")
    port = claiming(Ports(("127.0.0.1",), LOW, HIGH, leases))("web")
    assert LOW <= port <= HIGH


# ----------------------------------------------------------------------------
# Real sockets
# ----------------------------------------------------------------------------


def test_all_addresses_share_one_port_or_none_is_kept() -> None:
    first = listen_all(("127.0.0.1", "127.0.0.2"), 0)
    port = first[0].getsockname()[1]
    try:
        assert [sock.getsockname() for sock in first] == [("127.0.0.1", port), ("127.0.0.2", port)]
        with pytest.raises(OSError, match="in use"):
            listen_all(("127.0.0.3", "127.0.0.2"), port)
        close_all(listen_all(("127.0.0.3",), port))  # what the failed try had bound is free again
    finally:
        close_all(first)


def test_a_port_that_is_taken_is_said_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is taken .* --port"):
            listen_or_explain(("127.0.0.1",), port, "--port")
        with pytest.raises(ListenError, match="taken by another program; choose another address with --mux"):
            listen_at(Address("127.0.0.1", port), "--mux")


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(ListenError, match=r"no address of this machine.*--ip"):
        listen_or_explain(("192.0.2.1",), 0, "--port")
    with pytest.raises(ListenError, match="--api"):
        listen_at(Address("192.0.2.1", 0), "--api")
