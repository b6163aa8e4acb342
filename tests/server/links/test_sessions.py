"""The table of sessions: looked at while frozen, cleaned up after, and patient at the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.server.links import sessions as module
from aero.server.links.sessions import Sessions


class Frozen:
    """A session without a link that keeps so much; raises where the test says so."""

    def __init__(self, number: int, kept: int) -> None:
        self.id = str(number)
        self.session = SimpleNamespace(outbox=SimpleNamespace(kept_bytes=kept))
        self.seen: list[int] = []
        self.error: Exception | None = None
        self.faults = 0

    def look_frozen(self, now: float, most_bytes: int) -> None:
        if self.error is not None:
            raise self.error
        self.seen.append(most_bytes)

    def faulted(self, error: Exception) -> None:
        self.faults += 1


@pytest.fixture
def table() -> Sessions:
    return Sessions(cast(Any, SimpleNamespace(loop=gevent.get_hub().loop)))


def test_all_frozen_sessions_hear_how_much_the_largest_keeps(table: Sessions) -> None:
    some = [Frozen(number, kept) for number, kept in enumerate((3, 9, 4))]
    for each in some:
        table.freeze(cast(Any, each))
    some[1].error = ZeroDivisionError()
    table._look_at_frozen()
    assert [each.seen for each in some] == [[9], [], [9]] and some[1].faults == 1
    table.thaw(cast(Any, some[1]))
    table._look_at_frozen()
    assert some[0].seen == [9, 4]
    assert table.state()["frozen"] == 2
    for each in some:
        table.thaw(cast(Any, each))
    assert table._looking is None


def test_the_end_waits_for_the_last_link_and_no_longer_than_it_may(table: Sessions) -> None:
    first, second, proved = (cast(Any, object()) for _ in range(3))
    table.link_up(first, proved)
    table.link_up(second, proved)
    gevent.spawn_later(0.01, table.link_down, first)
    gevent.spawn_later(0.02, table.link_down, second)
    with gevent.Timeout(10):
        table.close(60.0)
    table.link_up(first, proved)
    with gevent.Timeout(10):
        table.close(0.01)
    assert list(table.links) == [first]


def test_one_cleaning_for_a_crowd(table: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "trim_memory", lambda: calls.append("trim"))
    monkeypatch.setattr(module, "_TIDY_S", 0.01)
    table._ground = cast(
        Any,
        SimpleNamespace(
            loop=gevent.get_hub().loop,
            memory=SimpleNamespace(blocks=SimpleNamespace(trim=lambda: calls.append("blocks"))),
        ),
    )
    for number in range(5):
        table.forget(cast(Any, Frozen(number, 0)))
    with gevent.Timeout(10):
        while table._tidying is not None:
            gevent.sleep(0.002)
    assert calls == ["blocks", "trim"]
