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
