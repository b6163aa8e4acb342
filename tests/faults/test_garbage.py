"""What a login leaves behind when it is over: nothing that waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aero.core import frames, record
from aero.core.codes import Close
from aero.server.links.uplink import Uplink
from tests.faults.hostile import JOIN, Hostile
from tests.faults.inside import ECHO, Inside, ask, until


@pytest.fixture(scope="module")
def lab() -> Iterator[Inside]:
    with Inside(start=False) as lab:
        lab.server.sessions._tidying = lab.server.ground.loop.timer(
            3600.0
        )  # it would collect garbage after each session
        yield lab


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def silent_death(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    worker.sock.close()


def no_sign_of_life(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    assert uplink.link is not None
    uplink.link.machine.ping_s = 0.001
    uplink.link._arm()


def a_rule_broken(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    worker.send(record.SESSION, frames.pack(0x7F, 0))
    assert worker.close_code() == Close.FRAME
    worker.sock.close()


def a_goodbye(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    worker.link(frames.pack(frames.CLOSE, 0, frames.pack_reason(Close.DONE, "bye")))


def a_kick(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    uplink.end(Close.KICKED, "out")


def never_resumed(lab: Inside, worker: Hostile, uplink: Uplink) -> None:
    """It has a target and an open stream when its link breaks, and nobody comes back for them."""
    worker.say({"do": "register", "targets": [{"id": 1, "name": "n", "local": "h:1"}]})
    while not worker.control:
        worker.read()
    visitor = ask(worker.control[0]["targets"][0]["port"], ECHO)
    until("the stream", lambda: uplink.session.streams)
    worker.sock.close()
    until("the frozen session", lambda: not uplink.alive)
    uplink._frozen_until = 0.0
    lab.server.sessions._look_at_frozen()
    visitor.close()


@pytest.mark.parametrize(
    "death", [silent_death, no_sign_of_life, a_rule_broken, a_goodbye, a_kick, never_resumed]
)
def test_a_login_and_its_end_leave_nothing_to_the_collector(
    lab: Inside, no_collector: None, death: Callable[[Inside, Hostile, Uplink], None]
) -> None:
    with Hostile(lab.server.port, {**JOIN, "identity": death.__name__}) as worker:
        worker.join()
        (uplink,) = lab.server.sessions.uplinks.values()
        (arrival,) = lab.server.sessions.links
        assert uplink.link is not None
        parts: list[Any] = [arrival, uplink, uplink.worker, uplink.session, uplink.link, uplink.link.machine]
        left = {type(part).__module__: weakref.ref(part) for part in parts}
        del parts, arrival
        death(lab, worker, uplink)
        del uplink
        until("the session's end", lambda: not lab.server.sessions.uplinks)
        worker.sock.close()
        until("the link's end", lambda: not lab.server.sessions.links)
        until(f"all to be gone: {left}", lambda: not [part for part in left.values() if part() is not None])
