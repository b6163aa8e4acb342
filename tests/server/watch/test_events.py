"""Events: told to whoever listens, remembered for whoever comes later, and no error kept alive."""

from __future__ import annotations

import gc
import weakref

from aero.server.watch.events import REMEMBERED, Events, Happening


def test_an_event_is_told_in_order_and_numbered() -> None:
    events, heard = Events(), list[Happening]()
    events.listeners.add(heard.append)
    events.emit("worker up", cid="c1")
    events.fault("link lost", cid="c1", why="cut")
    assert [(each.number, each.what, each.fault) for each in heard] == [
        (1, "worker up", False),
        (2, "link lost", True),
    ]
    assert heard == list(events.past) and heard[1].fields == {"cid": "c1", "why": "cut"}


def test_the_past_is_bounded() -> None:
    events = Events()
    for number in range(REMEMBERED + 50):
        events.emit("worker up", cid=f"c{number}")
    assert len(events.past) == REMEMBERED and events.past[0].number == 51


def test_a_listener_may_go_while_it_is_told() -> None:
    events, heard = Events(), list[str]()

    def once(event: Happening) -> None:
        heard.append(event.what)
        events.listeners.discard(once)

    events.listeners.add(once)
    events.emit("worker up")
    events.emit("worker down")
    assert heard == ["worker up"]


def test_an_error_is_told_as_text() -> None:
    """Its traceback would keep the link and the session alive that it came through."""

    class Leak(Exception):
        pass

    events, error = Events(), Leak("cut")
    gone = weakref.ref(error)
    events.fault("link lost", why=error)
    del error
    gc.collect()
    assert gone() is None and events.past[0].fields["why"] == "cut"
