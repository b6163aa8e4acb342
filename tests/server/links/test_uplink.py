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
from aero.server.watch.counters import Counters
from tests.core.joined import memory_of


class Lab:
    """As much of a server as sessions without sockets need; eight blocks are for those who keep much."""

    def __init__(self) -> None:
        self.pool = BlockPool(10, 8)
        self.memory = memory_of(self.pool)
        self.session_limits = SessionLimits()
        self.loop = gevent.get_hub().loop
        self.counters = Counters()
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
    sessions = cast(Sessions, uplinks[0]._table)
    if sessions._frozen:
        sessions._look_at_frozen()
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
    assert look(*some) == [True, True, False], "one a second"
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


class Pinged:
    """A link that takes so many pings at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sent = 0

    def ping(self) -> int:
        if self.sent == self.most:
            return 0
        self.sent += 1
        return self.sent

    def close(self, code: int, text: str) -> None:
        return


def test_forty_who_ping_share_what_is_under_way(lab: Lab) -> None:
    uplink = lab.uplink(0, frozen=False)
    link = Pinged(16)
    uplink.link = cast(Any, link)
    heard: list[float] = []
    assert all(uplink.ping(heard.append) for _ in range(40))
    assert link.sent == 1 and not heard
    uplink.pong(1, 0.3)
    assert heard == [0.3] * 40 and uplink.worker.ping_s == 0.3


def test_who_needs_a_ping_of_his_own_gets_one_while_there_is_room(lab: Lab) -> None:
    uplink = lab.uplink(0, frozen=False)
    link = Pinged(3)
    uplink.link = cast(Any, link)
    heard: list[int] = []
    for number in range(5):
        assert uplink.ping(lambda _, number=number: heard.append(number), fresh=True)  # type: ignore[misc]
    assert link.sent == 3
    uplink.pong(1, 0.3)
    assert heard == [0], "an answer is no sign of life for who asked later"
    uplink.pong(3, 0.3)
    assert heard == [0, 1, 2, 3, 4] and uplink.lived_at > 0


def test_a_link_that_takes_no_ping_at_all_answers_by_any(lab: Lab) -> None:
    uplink = lab.uplink(0, frozen=False)
    uplink.link = cast(Any, Pinged(0))
    heard: list[float] = []
    assert uplink.ping(heard.append, fresh=True)
    uplink.pong(7, 0.1)
    assert heard == [0.1]


def test_a_session_without_a_link_cannot_be_pinged(lab: Lab) -> None:
    assert not lab.uplink(1).ping(lambda _: None)
