"""A mapping: what it counts, also after its end, and that nothing is held by it once it is closed."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.server.registry.mapping import Mapping
from aero.server.store.leases import Owner
from aero.server.watch.counters import Counters


class Door:
    """Where visitors come in; holds its mapping, as the true ones do."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.addresses = ["127.0.0.1:20000"]
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Streamed:
    """What a tally asks of a stream."""

    def __init__(self, sent: int, received: int) -> None:
        self.sent, self.received = sent, received


def made(counters: Counters, ways: list[Mapping] | None = None) -> Mapping:
    worker = SimpleNamespace(tag="nas", identity="i1", holder=lambda: "how it is")
    give_way = [].append if ways is None else ways.append
    owner = Owner("", "nas", "box", "web")
    mapping = Mapping(cast(Any, worker), owner, 7, "127.0.0.1:80", 20_000, counters, give_way)
    mapping.door = Door(mapping)
    return mapping


def stream(sent: int, received: int) -> Any:
    return Streamed(sent, received)


def test_it_shows_its_door_and_its_worker() -> None:
    ways: list[Mapping] = []
    mapping = made(Counters(), ways)
    assert (mapping.name, mapping.identity, mapping.holder()) == ("web", "i1", "how it is")
    assert mapping.addresses == ["127.0.0.1:20000"]
    mapping.give_way()
    assert ways == [mapping] and not mapping.closed, "whoever drops it closes it"


def test_bytes_go_in_from_visitors_and_out_to_them() -> None:
    mapping = made(Counters())
    first, second = stream(sent=10, received=200), stream(sent=1, received=2)
    mapping.joined(first)
    mapping.joined(second)
    mapping.left(first)
    mapping.left(first)
    assert (mapping.streams, mapping.visitors) == (1, 2)
    assert (mapping.bytes_in, mapping.bytes_out) == (11, 202), "of open streams and of those that are over"


def test_streams_that_outlive_it_are_counted_to_their_end() -> None:
    counters = Counters()
    mapping, open_still = made(counters), stream(sent=10, received=20)
    mapping.joined(open_still)
    mapping.close()
    open_still.sent = 15
    mapping.left(open_still)
    successor = made(counters)
    successor.joined(stream(sent=1, received=0))
    (total,) = counters.totals.values()
    assert (total.visitors, total.bytes_in, total.bytes_out) == (2, 16, 20)
    assert successor.visitors == 1, "its own only"


def test_once_closed_it_goes_without_the_garbage_collector() -> None:
    mapping = made(Counters())
    door = cast(Door, mapping.door)
    gc.disable()
    try:
        mapping.close()
        assert mapping.closed and door.closed == 1
        with pytest.raises(AttributeError):
            mapping.addresses  # noqa: B018
        gone = weakref.ref(mapping)
        del mapping, door
        assert gone() is None
    finally:
        gc.enable()
