"""A local route: alive while a link carries its session and nobody leaves; streams are the session's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aero.core.codes import Reset
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import OVER
from aero.errors import StreamError
from aero.server.registry.route import LocalRoute


def test_a_route_lives_and_dies_with_its_session() -> None:
    session = Session(SimpleNamespace(), SERVER_FIRST_ID, Memory(64 << 20), SessionLimits(), 0.0)  # type: ignore[arg-type]
    carried = SimpleNamespace(session=session, alive=True)
    route = LocalRoute(carried, 7)
    assert route.alive
    stream = route.open(OVER, "192.0.2.1:1")
    assert session.streams == {stream.id: stream}
    carried.alive = False
    assert not route.alive, "no link carries the session"
    carried.alive, session.leaving = True, True
    assert not route.alive, "one side is leaving"
    with pytest.raises(StreamError) as raised:
        route.open(OVER, "192.0.2.1:1")
    assert raised.value.code == Reset.LIMIT
