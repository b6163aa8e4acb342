"""JOIN and JOINED: what is packed is read again, and what does not fit is refused with the field's name."""

from __future__ import annotations

from typing import Any

import pytest

from aero.core import joining
from aero.core.codes import Close
from aero.core.joining import JoinBeside, JoinedAgain, JoinedNew, JoinNew, JoinTakeOver
from aero.errors import RemoteProtocolError
from tests.core.joined import refused
from tests.core.payloads import changed

NEW = JoinNew("1.0", 60.0, "i", "nas", "attic")
BESIDE = JoinBeside("1.0", 60.0, "session", "secret")
TAKE_OVER = JoinTakeOver("1.0", 5.0, "session", "secret", 2, 77)
INVITED = joining.JoinInvited("1", "box", "k3j2x9ab", "spake2plus$" + "A" * 130)
WELCOME = joining.Welcome("1", "ci+k3j2x9ab", "nas", "127.0.0.1:22")


@pytest.mark.parametrize("join", [NEW, BESIDE, TAKE_OVER])
def test_every_join_is_read_as_it_was_said(join: joining.Join) -> None:
    assert joining.parse_join(memoryview(join.pack())) == join
    assert joining.parse_join(changed(join, later={"x": 1})) == join, "keys of later versions are ignored"


@pytest.mark.parametrize("joined", [JoinedNew("1.0", "c0", "s", "x", 60.0), JoinedAgain("1.0", "s", 7)])
def test_every_joined_is_read_as_it_was_said(joined: joining.Joined) -> None:
    assert joining.parse_joined(memoryview(joined.pack())) == joined


def test_what_may_be_left_out() -> None:
    assert joining.parse_join(changed(NEW, v=..., ping=...)) == NEW._replace(version="", ping_s=60.0)
    assert joining.parse_join(changed(NEW, role="worker")) == NEW
    joined = changed(JoinedNew("", "c", "s", "x", 1.0), resume=...)
    assert joining.parse_joined(joined) == JoinedNew("", "c", "s", "x", 0.0)


def test_a_credential_is_asked_for_and_given() -> None:
    assert joining.parse_join(memoryview(INVITED.pack())) == INVITED
    assert joining.parse_joined(memoryview(WELCOME.pack())) == WELCOME
    for key, values in {
        "id": ["", "abc", "x" * 17, "K3J2", "a b c", 7, None, ...],
        "host": ["²", 7, ...],
    }.items():
        for value in values:
            with pytest.raises(RemoteProtocolError, match=key):
                joining.parse_join(changed(INVITED, **{key: value}))
    for value in ("x" * 201, 7, []):
        with refused(Close.FRAME, "JOIN: verifier is not"):
            joining.parse_join(changed(INVITED, verifier=value))
    for key, wrong in (
        ("login", "x" * 65),
        ("login", 7),
        ("allow", "x" * 1025),
        ("tag", "a b"),
        ("tag", ...),
    ):
        with pytest.raises(RemoteProtocolError, match=key):
            joining.parse_joined(changed(WELCOME, **{key: wrong}))


NO_TOKENS = [..., None, 7, "", "x" * 65, "two words", "é", "tab\t", "\x1b[2J", ["x"], {}, True]


@pytest.mark.parametrize("value", NO_TOKENS)
@pytest.mark.parametrize(
    ("join", "key"),
    [
        (NEW, "identity"),
        (TAKE_OVER, "secret"),
        (TAKE_OVER, "session"),
        (JoinBeside("", 1, "b", "s"), "secret"),
    ],
)
def test_what_is_no_token(join: joining.Join, key: str, value: Any) -> None:
    if key == "session" and value is ...:
        return  # then it is another kind of JOIN
    with refused(Close.FRAME, f"JOIN: {key} is not"):
        joining.parse_join(changed(join, **{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [("tag", "../../etc"), ("tag", "c" + "0" * 12), ("tag", "\u212aeyser"), ("tag", "")]
    + [
        ("host", "\x1b[2J<script>"),
        ("host", ""),
        ("host", "²"),
        ("host", "bücher"),
        ("host", "h" * 254),
        ("role", "visitor"),
    ]
    + [("role", "node"), ("role", "king"), ("role", 1)],
)
def test_names_and_roles_that_may_not_be_are_denied(key: str, value: Any) -> None:
    with refused(Close.DENIED, f"JOIN: .*{key}"):
        joining.parse_join(changed(NEW, **{key: value}))


@pytest.mark.parametrize("value", [0, -1, 3601, 1e999, "60", None, True, [], 10**30])
def test_a_ping_interval_that_cannot_be(value: Any) -> None:
    with refused(Close.FRAME, "JOIN"):
        joining.parse_join(changed(NEW, ping=value))


@pytest.mark.parametrize("key", ["link", "received"])
@pytest.mark.parametrize("value", [..., None, -1, 1 << 64, 1.0, "1", True])
def test_a_takeover_needs_its_numbers(key: str, value: Any) -> None:
    with refused(Close.FRAME, f"JOIN: {key} is not a number"):
        joining.parse_join(changed(TAKE_OVER, **{key: value}))


def test_versions_are_short_texts() -> None:
    for value in ("x" * 65, 1, None, []):
        with refused(Close.FRAME, "v is not a text of at most 64"):
            joining.parse_join(changed(NEW, v=value))


def test_the_table_of_joining_has_one_way_through_for_each_end() -> None:
    table = joining.JOINING
    for said, answered in (
        (joining.OUR_JOIN, joining.THEIR_JOINED),
        (joining.THEIR_JOIN, joining.OUR_JOINED),
    ):
        asked = table[joining.NEW, said]
        assert table[asked, answered] == joining.AGREED
    assert not any(state == joining.AGREED for state, _ in table)
