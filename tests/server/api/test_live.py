"""The stream of events: what is remembered, what a slow listener gets, how peers' words come out."""

from __future__ import annotations

import json

import pytest

from aero.limits import Limits
from aero.server.api import live as live_module
from aero.server.api.live import Live, shown
from aero.server.watch.events import Events, Happening


def blocks(piece: bytes) -> dict[str, str]:
    lines = piece.decode().rstrip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines if not line.startswith(":"))


def test_a_new_listener_hears_what_comes() -> None:
    events = Events()
    events.emit("worker up", cid="c1")
    stream = Live(events).stream("")
    assert blocks(next(stream)) == {"retry": "2000"}
    events.fault("link lost", cid="c2", why="cut")
    block = blocks(next(stream))
    assert block["event"] == "link-lost"
    content = json.loads(block["data"])
    assert content.pop("at").endswith("Z")
    assert content == {"event": "link lost", "fault": True, "cid": "c2", "why": "cut"}


def test_a_listener_that_comes_back_hears_what_it_missed() -> None:
    events = Events()
    live = Live(events)
    stream = live.stream("")
    next(stream)
    events.emit("worker up", cid="c0")
    last_id = blocks(next(stream))["id"]
    stream.close()
    for number in (1, 2):
        events.emit("worker up", cid=f"c{number}")
    again = live.stream(last_id)
    next(again)
    missed = [blocks(each) for each in next(again).removesuffix(b"\n\n").split(b"\n\n")]
    assert [json.loads(each["data"])["cid"] for each in missed] == ["c1", "c2"]
    odd = live.stream(last_id.partition("-")[0] + "-\N{SUPERSCRIPT TWO}")  # a digit that is no number
    next(odd)
    assert next(odd).count(b"data:") == 3


def test_an_event_is_written_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Happening] = []
    monkeypatch.setattr(live_module, "shown", lambda event: written.append(event) or {})
    events = Events()
    live = Live(events)
    streams = [live.stream("") for _ in range(30)]
    for stream in streams:
        next(stream)
    for _ in range(5):
        events.emit("worker up", cid="c1")
    pieces = {next(stream) for stream in streams}
    assert len(written) == 5
    assert len(pieces) == 1
    assert pieces.pop().count(b"event: worker-up") == 5, "and all that waits goes out at once"
    for stream in streams:
        stream.close()
    assert not events.listeners, "with nobody there, nothing is written"


@pytest.mark.parametrize(
    "last_id", ["0", "other-1", "x", "-", "-1", "²", "other-99999999999999999999", "\r\n"]
)
def test_an_id_of_another_start_gives_all_that_is_remembered(last_id: str) -> None:
    events = Events()
    events.emit("worker up", cid="c0")
    stream = Live(events).stream(last_id)
    next(stream)
    assert json.loads(blocks(next(stream))["data"])["cid"] == "c0"


def test_silence_is_broken_by_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "API_HEARTBEAT_S", 0.01)
    stream = Live(Events()).stream("")
    next(stream)
    assert next(stream).startswith(b":")


def test_a_listener_that_does_not_keep_up_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "API_EVENTS", 10)
    events = Events()
    stream = Live(events).stream("")
    next(stream)
    for number in range(20):
        events.emit("worker up", number=number)
    assert list(stream) == []
    assert not events.listeners


def test_all_may_be_ended_and_new_ones_come() -> None:
    """The token has changed: who listens has to show the new one."""
    events = Events()
    live = Live(events)
    before = live.stream("")
    next(before)
    live.close()
    after = live.stream("")
    next(after)
    events.emit("worker up", cid="c1")
    assert list(before) == []
    assert json.loads(blocks(next(after))["data"])["cid"] == "c1"


def test_only_so_many_may_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "API_LISTENERS", 2)
    live = Live(Events())
    streams = [live.stream("") for _ in range(2)]
    assert not live.full
    for stream in streams:
        next(stream)
    assert live.full
    streams.pop().close()
    assert not live.full


def test_what_peers_wrote_is_cleaned() -> None:
    event = Happening(1, 0.0, "link lost", {"why": "\x1b[2J\nevent: x\u2028" + "a" * 5000, "port": 5}, True)
    content = shown(event)
    assert content["why"].isprintable()
    assert len(content["why"]) < 600
    assert content["port"] == 5
