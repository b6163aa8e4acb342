"""Sessions at the server: which frozen one gives way when memory has run out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.core.blocks import BLOCK_BYTES, BlockPool
from aero.core.codes import Close
from aero.core.session import SessionLimits
from aero.errors import LinkClosed
from aero.limits import STANDARD
from aero.server.links.sessions import Sessions
from aero.server.links.uplink import Uplink
from tests.core.joined import memory_of


class Lab:
    """As much of a server as sessions without sockets need; eight blocks are for those who keep much."""

    def __init__(self) -> None:
        self.pool = BlockPool(10, 8)
        self.memory = memory_of(self.pool)
        self.session_limits = SessionLimits()
        self.loop = gevent.get_hub().loop
        self.counters = SimpleNamespace(error=lambda what: None)
        self.events = SimpleNamespace(fault=lambda what, **fields: None)
        self.sessions = Sessions(self)

    def uplink(self, kept: int, frozen: bool = True) -> Uplink:
        """A session that keeps so many blocks, with a link or without."""
        worker: Any = SimpleNamespace(
            limits=STANDARD,
            cid="c",
            tag="t",
            ping_s=0.0,
            lobby=SimpleNamespace(open=lambda: None),
            leave=lambda session, why: None,
        )
        uplink = Uplink(cast(Any, self), self.sessions, worker, resume_s=60)
        self.sessions.add(uplink)
        link: Any = SimpleNamespace(carry=lambda session: None, close=lambda code, text: None)
        uplink.attach(link)
        for _ in range(kept):
            uplink.session.outbox.put(bytes(BLOCK_BYTES))
        uplink.session.received = 1  # it has spoken
        if frozen:
            uplink.detach(link, LinkClosed("cut"), final=False)
        return uplink


@pytest.fixture
def lab() -> Any:
    lab = Lab()
    yield lab
    for uplink in list(lab.sessions.uplinks.values()):
        uplink.end(Close.DONE, "the test is over")
    lab.sessions.close(0)
    assert not lab.pool.taken_bytes


def look(*uplinks: Uplink) -> list[bool]:
    """A second passes for each; which have ended."""
    for uplink in uplinks:
        if not uplink.ended:
            uplink._look()
    return [uplink.ended for uplink in uplinks]


def test_the_frozen_session_that_keeps_the_most_gives_way(lab: Lab) -> None:
    some = [lab.uplink(kept) for kept in (2, 5, 4)]
    assert lab.pool.exhausted
    assert look(*some) == [False, True, False]
    assert not lab.pool.exhausted
    assert look(*some) == [False, True, False]


def test_frozen_sessions_give_way_until_there_is_memory(lab: Lab) -> None:
    alive = lab.uplink(8, frozen=False)
    some = [lab.uplink(kept) for kept in (2, 3, 1)]
    assert look(*some) == [False, True, False]
    assert look(*some) == [True, True, True], "the live one has taken all that there is"
    assert not alive.ended


def test_what_a_session_keeps_shrinks_when_it_freezes(lab: Lab) -> None:
    uplink = lab.uplink(0, frozen=False)
    uplink.session.outbox.put(b"a few bytes")
    assert uplink.link is not None
    uplink.detach(uplink.link, LinkClosed("cut"), final=False)
    assert lab.pool.taken_bytes == len(b"a few bytes")
    uplink.session.outbox.put(b"from a visitor who came meanwhile")
    look(uplink)
    assert lab.pool.taken_bytes == len(b"a few bytesfrom a visitor who came meanwhile")


def test_a_frozen_session_stays_while_there_is_memory(lab: Lab) -> None:
    some = [lab.uplink(kept) for kept in (4, 2)]
    assert look(*some) == [False, False]
