"""Which tries are made for a request: never one that could be a second time of what may not be done twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.core.codes import Reset
from aero.errors import StreamError
from aero.limits import Limits
from aero.server.httpmux import retry
from aero.server.httpmux.retry import Tries


class Kept:
    """Kept connections by mapping; asks for how long they may have lain."""

    def __init__(self, **by_mapping: Any) -> None:
        self.by_mapping = by_mapping
        self.asked: list[float] = []

    def take(self, mapping: str, longest_s: float) -> Any:
        self.asked.append(longest_s)
        return self.by_mapping.pop(mapping, None)


@pytest.fixture(autouse=True)
def new_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(kept: Any, mapping: Any, visitor: str, arrived: Any) -> Any:
        return upstream(f"new {mapping}")

    monkeypatch.setattr(retry, "Upstream", connect)


def upstream(name: str, used: bool = False, nothing_left: bool = False) -> Any:
    return SimpleNamespace(name=name, used=used, nothing_left=nothing_left)


def tries(method: bytes = b"GET", *mappings: str, sent: bytes = b"") -> Any:
    return Tries(list(mappings or ("a", "b")), method, sent, lambda _: None)  # type: ignore[arg-type]


def test_a_dead_kept_connection_is_followed_by_a_new_one_to_the_same_target() -> None:
    made, kept = tries(), Kept(a=upstream("kept a", used=True))
    first = made.next(kept, "")
    assert first.name == "kept a"
    assert made.failed(first, "target failed", True, "it closed the connection")
    assert made.next(kept, "").name == "new a"
    assert made.failed(upstream("new a"), "target failed", True, "")
    assert made.next(kept, "").name == "new b"


def test_others_take_fresh_connections_only() -> None:
    kept = Kept()
    tries(b"POST").next(kept, "")
    tries(b"GET").next(kept, "")
    assert kept.asked == [Limits.MUX_POOLED_FRESH_S, Limits.MUX_POOLED_S]


@pytest.mark.parametrize(
    ("method", "reached", "again"),
    [
        (b"GET", True, True),
        (b"PUT", False, True),
        (b"POST", False, True),
        (b"POST", True, False),
        (b"X", True, False),
    ],
)
def test_what_may_follow(method: bytes, reached: bool, again: bool) -> None:
    made = tries(method)
    assert made.failed(upstream("a"), "target failed", reached, "why") == again
    assert made.failure == ("target failed", "why")


def test_nothing_follows_nonsense_a_large_body_or_a_begun_response() -> None:
    assert not tries().failed(upstream("a"), "target talks nonsense", True, "")
    large = tries(b"PUT")
    large.remember(bytes(Limits.MUX_REPLAY_BYTES))
    assert large.sent is not None
    large.remember(b"x")
    large.remember(b"x")
    assert not large.failed(upstream("a"), "target failed", False, "") and large.next(Kept(), "") is None
    begun = tries()
    begun.begun()
    assert not begun.failed(upstream("a"), "target failed", False, "")


def test_so_many_tries_and_no_more() -> None:
    made = tries(b"GET", *"abcdefgh")
    assert [made.next(Kept(), "") is not None for _ in range(6)] == [True] * Limits.MUX_TRIES + [False] * 2


def test_what_may_have_reached_somebody_is_never_called_unreached_afterwards() -> None:
    made = tries()
    assert made.failed(upstream("a"), "target failed", True, "it broke off")
    assert made.failed(upstream("b"), "busy", False, "")
    assert made.failure == ("target failed", "it broke off"), "502, not 503"


def test_where_a_request_may_move_to() -> None:
    made = tries(b"POST")
    assert not made.may_move(upstream("a"))
    assert made.may_move(upstream("a", nothing_left=True))
    assert tries(b"GET").may_move(upstream("a"))
    made.move(upstream("a", nothing_left=True), ["c"])
    assert made.next(Kept(), "").name == "new c"


def test_a_request_that_moved_and_finds_nobody_may_have_reached_somebody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> Any:
        raise StreamError(Reset.LOST, "leaving")

    monkeypatch.setattr(retry, "Upstream", refused)
    made = tries()
    made.move(upstream("a"), ["b"])
    assert made.next(Kept(), "") is None and made.failure == ("link lost", ""), "502, not 503"
    unsent = tries()
    unsent.move(upstream("a", nothing_left=True), ["b"])
    assert unsent.next(Kept(), "") is None and unsent.failure == ("no worker", "")


def test_who_has_no_try_left_stays_where_he_is() -> None:
    made = tries(b"GET", *"abcdefgh")
    for _ in range(Limits.MUX_TRIES):
        made.next(Kept(), "")
    assert not made.may_move(upstream("a"))
