"""Targets: ids are never given twice in a row, and a reload changes what has changed."""

from __future__ import annotations

import socket
from typing import Any

import gevent

from aero.address import Target
from aero.core.codes import Reset
from aero.worker.targets import Services

A, B, C = (Target(name, "127.0.0.1", port) for name, port in (("a", 1), ("b", 2), ("c", 3)))


def services(*targets: Target) -> Services:
    return Services(gevent.get_hub().loop, targets)


def ids(table: Services) -> dict[str, int]:
    return {service.target.name: service.id for service in table}


def test_a_reload_takes_new_ids_and_leaves_the_rest() -> None:
    table = services(A, B)
    kept = table.get(1)
    gone = table.replace((A, B._replace(port=9), C))
    assert [(service.id, service.target) for service in gone] == [(2, B)]
    assert ids(table) == {"a": 1, "b": 3, "c": 4}
    assert table.get(1) is kept and table.get(2) is None


def test_a_target_that_changes_wants_the_port_that_it_had() -> None:
    table = services(A, B)
    for service in table:
        service.had = 100 + service.id
    table.replace((A._replace(port=9), C))
    assert {service.target.name: service.had for service in table} == {"a": 101, "c": 0}


def test_ids_go_round_and_skip_those_in_use() -> None:
    table = services(A)
    for number in range(0xFFFF + 5):
        table.replace((A, B._replace(port=1 + number % 60_000)))
    found = ids(table)
    assert found["a"] == 1 and 2 <= found["b"] <= 0xFFFF


def test_an_error_of_ours_while_a_stream_is_accepted_ends_that_stream() -> None:
    """Whoever calls is a connector: it knows of no stream, so nobody else would end it."""

    class Session:
        def accept(self, *_: object) -> None:
            raise KeyError("a slip of ours")

    class Stream:
        state, starved, receiver = 0, False, None
        session = Session()

        def __init__(self) -> None:
            self.aborted: list[int] = []

        def abort(self, code: int, text: str) -> None:
            self.aborted.append(code)

    (service,) = services(A)
    stream: Any = Stream()
    service.streams.add(stream)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        service._arrived(stream, sock, 0, "")
        assert stream.aborted == [Reset.INTERNAL] and sock.fileno() == -1 and not service.streams


def test_ports_in_a_row_have_ids_in_a_row() -> None:
    wide = Target("wide", "127.0.0.1", 100, row=5)
    table = services(A, wide, B)
    assert ids(table) == {"a": 1, "wide": 2, "b": 7}
    found = [table._find(number) for number in range(1, 9)]
    assert [(each and each.target.name, offset) for each, offset in found] == [
        ("a", 0), *(("wide", offset) for offset in range(5)), ("b", 0), (None, 0)
    ]  # fmt: skip
    wider = wide._replace(row=6)
    table.replace((A, wider, B))
    assert ids(table) == {"a": 1, "wide": 8, "b": 7} and table._find(3) == (None, 0)
    service = table.get(8)
    assert service is not None
    assert (service.way_to(0).port, service.way_to(5).port) == (100, 105)
    assert service.way_to(5) is service.way_to(5) and service.way_to(0) is service.way


def test_ids_in_a_row_go_round_and_skip_those_in_use() -> None:
    wide = Target("wide", "127.0.0.1", 100, row=16_000)
    table = services(A)
    for number in range(20):
        table.replace((A, B._replace(port=1 + number), wide._replace(port=1 + number)))
        taken = sorted((service.id, service.target.row) for service in table)
        assert all(first + row <= then for (first, row), (then, _) in zip(taken, taken[1:]))
        assert len(taken) == 3 and taken[-1][0] + taken[-1][1] - 1 <= 0xFFFF
