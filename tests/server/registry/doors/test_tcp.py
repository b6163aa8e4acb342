"""The TCP door: who comes in, who waits, and who is turned away at once."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Callable, cast

import pytest

from aero.core.codes import Reset
from aero.errors import StreamError
from aero.host import facts
from aero.net.announced import Announcers
from aero.server.policy.proxies import Trust
from aero.server.policy.shares import Shares
from aero.server.registry.away import AwayDoor
from aero.server.registry.doors import tcp
from aero.server.registry.doors.tcp import House, TcpDoor
from aero.server.watch.counters import Counters


class FakePipe:
    """A pipe that ends when the test says so."""

    made: list[FakePipe] = []
    reset_code = Reset.CANCELLED

    def __init__(self, loop: Any, sock: socket.socket, on_end: Callable[[Any, str], None]) -> None:
        self.sock, self.on_end, self.stream = sock, on_end, cast(Any, None)
        self.made.append(self)

    def start(self, stream: Any) -> None:
        self.stream = stream


class Lab:
    """A door without listening sockets; visitors come from where the test says."""

    def __init__(self, places: int, minimum: int) -> None:
        self.line = 1 << 30
        self.error: StreamError | None = None
        self.counters = Counters()
        self.house = House(
            cast(Any, None),
            self.counters,
            Shares(places, minimum),
            self.line,
            Announcers.build(cast(Any, None), Trust(())),
        )
        self.waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self.streams = 0
        self.refused: list[str] = []  # the reasons
        lobby = SimpleNamespace(wait=lambda serve, turn, _: self.waiting.append((serve, turn)) is None)
        self.worker = SimpleNamespace(
            cid="c", linked=True, lobby=lobby, shares=Shares(1000, 1000), open_stream=self.open_stream
        )
        self.refusing = False  # the target
        self.outcomes: list[bool] = []
        mapping = SimpleNamespace(
            options={}, announces=None, later=None,
            worker=self.worker, name="web", target_id=1, joined=self.joined, left=self.left,
            choose=lambda ip: self.chosen, outcome=lambda served: self.outcomes.append(served),
            refuse=self.refused.append, fence=None, why_not=lambda *_: None,
        )  # fmt: skip
        self.chosen: Any = mapping
        self.mapping = cast(Any, mapping)
        self.door = TcpDoor(self.house, self.mapping)

    def open_stream(self, *_: object) -> Any:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(id=1, refused=self.refusing)

    def joined(self, _: object) -> None:
        self.streams += 1

    def left(self, _: object) -> None:
        self.streams -= 1

    def come(self, ip: str) -> bool:
        """A visitor comes; whether it was not turned away."""
        near, far = socket.socketpair()
        self.door._on_visitor(near, (ip, 40_000))
        open_still = near.fileno() >= 0
        far.close()
        return open_still


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakePipe]]:
    FakePipe.made = []
    monkeypatch.setattr(tcp, "Pipe", FakePipe)
    yield FakePipe.made
    for pipe in FakePipe.made:
        pipe.sock.close()


def test_one_address_cannot_use_up_a_mapping(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    assert [lab.come("192.0.2.1") for _ in range(15)].count(True) == 10
    assert lab.come("192.0.2.2"), "there is room for others"
    assert lab.counters.errors["visitor turned away"] == 5
    assert lab.refused == ["address"] * 5
    pipes[0].on_end(pipes[0], "")
    assert lab.come("192.0.2.1") and not lab.come("192.0.2.1"), "a place is free again"


def test_a_network_is_no_crowd_of_hosts(pipes: list[FakePipe]) -> None:
    lab = Lab(places=1, minimum=2)
    came = [lab.come(f"2001:db8:0:{number:x}::1") for number in range(20)]
    assert came.count(True) == 4, "a household has twice the share of a host"


def test_visitors_of_this_machine_are_not_counted_by_address(pipes: list[FakePipe]) -> None:
    lab = Lab(places=4, minimum=1)
    assert all(lab.come(ip) for ip in ("127.0.0.1", "::1", "127.0.0.2") for _ in range(5))
    assert lab.house.shares.taken == 15


def test_above_the_line_of_descriptors_everybody_is_reset_and_nobody_parked(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.door._house = lab.house._replace(line=3)
    lab.worker.linked = False
    assert not lab.come("127.0.0.1") and not lab.waiting


def test_a_part_of_the_descriptors_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, line in ((600, 450), (1024, 768), (1 << 20, (1 << 20) - 1024), (-1, (1 << 20) - 1024)):
        monkeypatch.setattr(facts.resource, "getrlimit", lambda _, most=most: (most, most))
        assert House.build(cast(Any, None), Counters(), cast(Any, None)).line == line


def test_who_waits_in_vain_gives_the_place_back(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.worker.linked = False
    assert lab.come("192.0.2.1") and lab.come("192.0.2.1") and not pipes
    (serve, _), (_, refused) = lab.waiting
    refused()
    assert lab.house.shares.taken == lab.worker.shares.taken == 1
    serve()
    assert lab.streams == 1 and lab.house.shares.taken == 1
    pipes[0].on_end(pipes[0], "")
    assert not lab.streams and not lab.house.shares.taken and not lab.worker.shares.taken


def test_a_full_lobby_gives_the_place_back(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.worker.linked, lab.worker.lobby.wait = False, lambda *_: False
    assert not lab.come("192.0.2.1")
    assert not lab.house.shares.taken and not lab.worker.shares.taken


def test_a_session_that_takes_no_stream_gives_the_place_back(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.error = StreamError(Reset.LIMIT, "too many")
    assert not lab.come("192.0.2.1")
    assert not lab.house.shares.taken and not lab.worker.shares.taken


def test_who_waits_in_vain_gets_another_member_that_has_a_link(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.worker.linked = False
    assert lab.come("192.0.2.1")
    shares = Shares(1000, 1000)
    other = SimpleNamespace(cid="d", linked=True, shares=shares, open_stream=lab.open_stream)
    lab.chosen = SimpleNamespace(**{**vars(lab.mapping), "worker": other})
    lab.waiting[0][1]()
    assert (lab.worker.shares.taken, shares.taken, lab.house.shares.taken, lab.streams) == (0, 1, 1, 1)
    pipes[0].on_end(pipes[0], "")
    assert (shares.taken, lab.house.shares.taken, lab.streams) == (0, 0, 0)


def test_what_refused_a_visitor_is_told_and_where_nothing_works_he_is_reset(pipes: list[FakePipe]) -> None:
    lab = Lab(places=30, minimum=2)
    lab.refusing = True
    assert lab.come("192.0.2.1")
    pipes[0].on_end(pipes[0], "it refused")
    assert lab.outcomes == [False]
    lab.chosen = None
    assert not lab.come("192.0.2.1") and not lab.waiting and not lab.house.shares.taken
    assert lab.refused == ["health"]


def test_a_closed_door_leaves_nothing_to_the_collector() -> None:
    lab = Lab(10, 10)
    door, waiting = TcpDoor(lab.house, lab.mapping), AwayDoor(lab.house, cast(Any, None), 5, [])
    left = weakref.ref(door), weakref.ref(waiting)
    gc.disable()
    try:
        door.close()
        waiting.close()
        del door, waiting
        assert [each() for each in left] == [None, None]
    finally:
        gc.enable()
