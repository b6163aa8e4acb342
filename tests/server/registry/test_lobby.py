"""The lobby: who comes while no link is up waits for a moment, in order, and never for ever."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import gevent
import pytest

from aero.limits import Limits
from aero.net.pipe import refuse
from aero.server.registry.lobby import Lobby
from tests.faults.inside import until
from tests.server.registry.lab import is_reset


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Five connections: (ours, the visitor's)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = []
        for _ in range(5):
            far = socket.create_connection(listener.getsockname())
            made.append((listener.accept()[0], far))
    yield made
    for near, far in made:
        near.close()
        far.close()


def test_everybody_is_let_in_in_order(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    lobby = Lobby(gevent.get_hub().loop)
    served: list[socket.socket] = []
    for near, _ in pairs:
        assert lobby.wait(partial(served.append, near), pytest.fail)
    assert len(lobby) == 5 and not served
    lobby.open()
    assert served == [near for near, _ in pairs] and not len(lobby)
    lobby.open()
    assert len(served) == 5


def test_who_waits_in_vain_gets_a_reset(
    pairs: list[tuple[socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "VISITOR_WAIT_S", 0.02)
    lobby = Lobby(gevent.get_hub().loop)
    for near, _ in pairs:
        if not lobby.wait(partial(pytest.fail, "served"), partial(refuse, near)):
            refuse(near)
    with gevent.Timeout(10):
        while len(lobby):
            gevent.sleep(0.002)
    assert all(is_reset(far) for _, far in pairs)


def test_a_full_lobby_turns_newcomers_away(
    pairs: list[tuple[socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "WAITING_VISITORS", 3)
    lobby = Lobby(gevent.get_hub().loop)
    for near, _ in pairs:
        if not lobby.wait(partial(pytest.fail, "served"), partial(refuse, near)):
            refuse(near)
    assert [is_reset(far) for _, far in pairs] == [False, False, False, True, True]
    lobby.close()
    assert all(is_reset(far) for _, far in pairs[:3])


def test_who_leaves_is_called_no_more() -> None:
    lobby = Lobby(gevent.get_hub().loop)
    leaves, stays, served = partial(pytest.fail, "served"), [], []  # type: ignore[var-annotated]
    assert lobby.wait(leaves, pytest.fail)
    assert lobby.wait(partial(served.append, 1), partial(stays.append, 1))
    lobby.leave(leaves)
    lobby.leave(leaves)
    assert len(lobby) == 1
    lobby.open()
    assert served == [1] and not stays


def test_a_slip_of_ours_for_one_leaves_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "VISITOR_WAIT_S", 0.01)
    heard: list[str] = []

    def slip() -> None:
        raise ValueError("a slip of ours")

    lobby = Lobby(gevent.get_hub().loop)
    for way in ("open", "close"):
        lobby.wait(slip, slip)
        lobby.wait(partial(heard.append, "in"), partial(heard.append, "out"))
        getattr(lobby, way)()
    assert heard == ["in", "out"]
    lobby.wait(slip, slip)
    lobby.wait(partial(heard.append, "in"), partial(heard.append, "late"))
    until("the time to be over", lambda: not len(lobby))
    assert heard == ["in", "out", "late"]


def test_who_waits_for_less_is_turned_away_before_others_who_came_earlier() -> None:
    lobby = Lobby(gevent.get_hub().loop)
    late: list[str] = []
    assert lobby.wait(lambda: late.append("?"), lambda: late.append("long"), 30)
    assert lobby.wait(lambda: late.append("!"), lambda: late.append("short"), 0.01)
    with gevent.Timeout(10):
        while not late:
            gevent.sleep(0.005)
    assert late == ["short"] and len(lobby) == 1
    lobby.open()
    assert late == ["short", "?"]
