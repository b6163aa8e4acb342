"""Turns: callers work one after another, one in a turn of the loop, and a long answer lets others in between."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

import gevent
import pytest

from aero.net.loop import event_loop
from aero.server.api.turns import SLICE_S, Turns

PATIENCE_S = 20.0


class Turnings:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self._watcher = gevent.get_hub().loop.prepare()
        self._watcher.start(self._turned)

    def _turned(self) -> None:
        self.count += 1

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


@pytest.fixture
def turnings() -> Iterator[Turnings]:
    made = Turnings()
    yield made
    made.close()


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns(event_loop())
    yield made
    made.close()


def test_who_is_alone_waits_for_nobody(turns: Turns, turnings: Turnings) -> None:
    turns.take()
    assert turnings.count == 0


def test_a_crowd_goes_one_by_one_and_in_order(turns: Turns, turnings: Turnings) -> None:
    went: list[tuple[int, int]] = []

    def call(number: int) -> None:
        turns.take()
        went.append((number, turnings.count))

    gevent.joinall([gevent.spawn(call, number) for number in range(64)], PATIENCE_S)
    assert [number for number, _ in went] == list(range(64))
    # The first goes before the loop looks at its sockets, the second after that in the same turn.
    assert len({turn for _, turn in went}) >= 63, "never two without a look at the sockets in between"


def test_a_long_answer_lets_others_in_between(turns: Turns) -> None:
    longest = between = 0.0
    last = monotonic()
    done = False

    def stream() -> None:
        nonlocal longest, last, between
        while not done:
            now = monotonic()
            longest, last, between = max(longest, now - last), now, between + 1
            gevent.sleep(0.0005)

    def pieces() -> Iterator[str]:
        for number in range(100):
            sleep(SLICE_S / 4)  # the work that a piece takes
            yield f"{number},"

    streaming = gevent.spawn(stream)
    gevent.sleep(0)
    whole = [gevent.spawn(turns.whole, pieces()) for _ in range(4)]
    gevent.joinall(whole, PATIENCE_S)
    done = True
    streaming.join(PATIENCE_S)
    assert {each.value for each in whole} == {"".join(f"{number}," for number in range(100)).encode()}
    assert between > 20, "about a turn for every slice, fewer where the machine is busy"


def test_who_is_killed_while_he_waits_keeps_nobody_waiting(turns: Turns) -> None:
    turns.take()
    first, second = gevent.spawn(turns.take), gevent.spawn(turns.take)
    gevent.sleep(0)
    first.kill(block=False)
    second.join(PATIENCE_S)
    assert second.ready()


def test_what_peers_wrote_comes_out_in_utf8(turns: Turns) -> None:
    assert turns.whole(["ü", "\ud800", "\n"]) == b"\xc3\xbc?\n"
