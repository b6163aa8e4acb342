"""Targets: ids are never given twice in a row, and a reload changes what has changed."""

from __future__ import annotations

import gevent

from aero import address
from aero.address import Target
from aero.config import targets
from aero.core import frames
from aero.core.messages import INVALID, MAX_TARGETS, TAKEN, Answer, Register, Unregister, Wanted
from aero.worker.targets import Services

A, B, C = (Target(name, "127.0.0.1", port) for name, port in (("a", 1), ("b", 2), ("c", 3)))


def services(*targets: Target) -> tuple[Services, list[tuple[str, int]]]:
    said: list[tuple[str, int]] = []
    return Services(
        gevent.get_hub().loop, targets, lambda target, port: said.append((target.name, port))
    ), said


def wanted(message: Register | Unregister) -> list[Wanted]:
    assert isinstance(message, Register)
    return [each for each in message.targets if isinstance(each, Wanted)]


def registered(table: Services) -> dict[str, int]:
    return {service.target.name: service.id for service in table}


def test_a_reload_takes_new_ids_and_leaves_the_rest() -> None:
    table, said = services(A, B)
    assert [type(each) for each in table.messages()] == [Register]
    assert table.registered([Answer(1, port=10), Answer(2, port=20)])
    assert not table.messages()
    table.replace((A, B._replace(port=9), C))
    gone, new = table.messages()
    assert gone == Unregister((2,))
    assert [(each.id, each.name) for each in wanted(new)] == [(3, "b"), (4, "c")]
    assert said == [("a", 10), ("b", 20)]


def test_the_same_answer_twice_is_told_once() -> None:
    table, said = services(A)
    table.registered([Answer(1, port=10)])
    table.registered([Answer(1, port=10)])
    assert said == [("a", 10)]


def test_a_late_answer_for_a_removed_target_is_nobodys() -> None:
    table, said = services(A)
    table.replace((B,))
    assert table.registered([Answer(1, port=10)])
    assert not said and registered(table) == {"b": 2}


def test_ids_go_round_and_skip_those_in_use() -> None:
    table, _ = services(A)
    for number in range(0xFFFF + 5):
        table.replace((A, B._replace(port=1 + number % 60_000)))
    ids = registered(table)
    assert ids["a"] == 1 and 2 <= ids["b"] <= 0xFFFF
    gone = table.messages()[0]
    assert isinstance(gone, Unregister) and len(gone.ids) <= 4096


def test_all_targets_of_a_worker_fit_into_one_message() -> None:
    host = "h" * address.HOST_CHARS
    names = (f"{number:x<{address.NAME_CHARS}}" for number in range(targets.MOST))
    table, _ = services(*(Target(name, host, 65535, 65535) for name in names))
    (message,) = table.messages()
    assert len(wanted(message)) == targets.MOST == MAX_TARGETS
    assert len(message.pack()) < 50 * 1024 < frames.MAX_JSON_BYTES


def test_an_answer_for_nobody_is_no_harm() -> None:
    table, said = services(A)
    assert table.registered([Answer(0, error=INVALID, text="\x1b"), Answer(7, "x", 10)])
    assert not said


def test_a_target_that_could_not_be_had_asks_again_only_where_that_helps() -> None:
    table, _ = services(A)
    assert not table.registered([Answer(1, "a", error=TAKEN, text="port 1 is taken")])
    assert table.registered([Answer(1, "a", error=INVALID, text="no")])


def test_the_port_that_a_target_had_is_said_when_it_registers_anew() -> None:
    table, _ = services(A, B)
    table.registered([Answer(1, "a", 10)])
    table.forget_mappings()
    (message,) = table.messages()
    assert [(each.name, each.had) for each in wanted(message)] == [("a", 10), ("b", 0)]
