"""Targets: ids are never given twice in a row, and a reload changes what has changed."""

from __future__ import annotations

import gevent

from aero import address
from aero.address import Target
from aero.config import values
from aero.core import frames
from aero.worker.targets import Services

A, B, C = (Target(name, "127.0.0.1", port) for name, port in (("a", 1), ("b", 2), ("c", 3)))


def services(*targets: Target) -> tuple[Services, list[tuple[str, int]]]:
    said: list[tuple[str, int]] = []
    return Services(
        gevent.get_hub().loop, targets, lambda target, port: said.append((target.name, port))
    ), said


def registered(table: Services) -> dict[str, int]:
    return {service.target.name: service.id for service in table}


def test_a_reload_takes_new_ids_and_leaves_the_rest() -> None:
    table, said = services(A, B)
    assert [each["do"] for each in table.messages()] == ["register"]
    assert table.registered([{"id": 1, "port": 10}, {"id": 2, "port": 20}])
    assert not table.messages()
    table.replace((A, B._replace(port=9), C))
    gone, new = table.messages()
    assert gone == {"do": "unregister", "ids": [2]}
    assert [(each["id"], each["name"]) for each in new["targets"]] == [(3, "b"), (4, "c")]
    assert said == [("a", 10), ("b", 20)]


def test_the_same_answer_twice_is_told_once() -> None:
    table, said = services(A)
    table.registered([{"id": 1, "port": 10}])
    table.registered([{"id": 1, "port": 10}])
    assert said == [("a", 10)]


def test_a_late_answer_for_a_removed_target_is_nobodys() -> None:
    table, said = services(A)
    table.replace((B,))
    assert table.registered([{"id": 1, "port": 10}])
    assert not said and registered(table) == {"b": 2}


def test_ids_go_round_and_skip_those_in_use() -> None:
    table, _ = services(A)
    for number in range(0xFFFF + 5):
        table.replace((A, B._replace(port=1 + number % 60_000)))
    ids = registered(table)
    assert ids["a"] == 1 and 2 <= ids["b"] <= 0xFFFF
    assert len(table.messages()[0]["ids"]) <= 4096


def test_all_targets_of_a_worker_fit_into_one_message() -> None:
    host = "h" * address.HOST_CHARS
    names = (f"{number:x<{address.NAME_CHARS}}" for number in range(values.TARGETS))
    table, _ = services(*(Target(name, host, 65535, 65535) for name in names))
    (message,) = table.messages()
    assert len(message["targets"]) == values.TARGETS
    assert len(frames.pack_json(message)) < 50 * 1024 < frames.MAX_JSON_BYTES


def test_nonsense_from_the_server_is_no_harm() -> None:
    table, said = services(A)
    for answers in (
        None,
        7,
        [None],
        [{}],
        [{"id": []}],
        [{"id": 1}],
        [{"id": 1, "port": "x", "text": "\x1b"}],
    ):
        table.registered(answers)
    assert not said
