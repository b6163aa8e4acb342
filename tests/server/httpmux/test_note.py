"""What the access log is told of a request: who asked whom for what, how many bytes went each way, how it ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.server.httpmux.pages import Page
from tests.server.httpmux.scene import RESETS, STAYS, Scene

ASKS = b"POST /t/web/a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def noted(asks: bytes, answer: bytes, ends: int = STAYS, found: Any = None) -> list[tuple[Any, ...]]:
    """What was written down: user, tag, target, cid, visitor, bytes in and out, end, method, path, status."""
    scene = Scene(asks, answer, ends=ends)
    lines: list[tuple[Any, ...]] = []
    scene.access = SimpleNamespace(keep=lines.append)
    mapping: Any = scene
    mapping.owner, mapping.cid = SimpleNamespace(user="eva"), "c1"
    if found is not None:
        scene.found = found
    scene.run()
    scene.finish()
    assert all(at > 0 and lasted_s >= 0 for at, *_, lasted_s, _, _, _, _ in lines)
    return [(*line[1:8], *line[9:]) for line in lines]


def test_a_request_and_its_answer() -> None:
    (line,) = noted(ASKS, OK)
    user, tag, target, cid, visitor, into, out, end, method, path, status = line
    assert (user, tag, target, cid, visitor) == ("eva", "t", "web", "c1", "192.0.2.1:1")
    assert (end, method, path, status) == ("ok", "POST", b"/t/web/a?b", 200)
    assert into > len("POST /a?b HTTP/1.1\r\n\r\nhello") and out == len(OK)


def test_each_of_two_on_one_connection_has_its_own_bytes() -> None:
    first, second = noted(ASKS + ASKS, OK)
    assert first == second


def test_what_the_mux_answers_itself_has_the_kind_of_its_page() -> None:
    (line,) = noted(ASKS, OK, found=Page("no worker", {"tag": "t", "name": "web"}))
    assert line == ("", "t", "web", "", "192.0.2.1:1", 0, 0, "no worker", "POST", b"/t/web/a?b", 503)


@pytest.mark.parametrize(
    ("answer", "ends", "end", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", RESETS, "broken off", 200),
        (b"nonsense\r\n\r\n", STAYS, "target talks nonsense", 502),
    ],
)
def test_how_else_it_ends(answer: bytes, ends: int, end: str, status: int) -> None:
    (line,) = noted(ASKS, answer, ends)
    assert (line[-4], line[-1]) == (end, status)


def test_a_change_of_protocols_is_over_with_its_connection() -> None:
    asks = b"GET /t/web/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    (line,) = noted(asks, b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", RESETS)
    assert line[-1] == 101
