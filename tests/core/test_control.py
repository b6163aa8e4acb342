"""Control messages: what is packed is read again, and what does not fit is refused with the field's name."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core import control, frames
from aero.core.codes import Close
from aero.core.control import (
    INVALID,
    TAKEN,
    Answer,
    Look,
    RateLimits,
    Register,
    Registered,
    Seen,
    Unknown,
    Unregister,
    Wanted,
)
from aero.errors import RemoteProtocolError
from aero.limits import Limits
from tests.core.joined import refused
from tests.core.payloads import payload

WANTED = Wanted(1, "web", "127.0.0.1:80", 8080, 8081, options={"visitors": ["10.0.0.0/8"], "proxy": True})
ANSWER = Answer(1, "web", 8080, ("0.0.0.0:8080",), {"proxy": True})


@pytest.mark.parametrize(
    "message",
    [
        Register(
            (
                WANTED,
                Wanted(2, "b", "[::1]:22"),
                Wanted(3, "c", "unix:/run/c.sock"),
                Wanted(4, "d", "h:5-9", row=5),
            )
        ),
        Registered((ANSWER, Answer(2, "b", error=TAKEN, text="port 1 is taken"))),
        Unregister((1, 65_535)),
        RateLimits(),
        RateLimits(1, 2, {3: 4, 65_535: (1 << 40) - 1}),
        Seen((Look(1), Look(65_535, "Connection refused"))),
        control.AddedTargets(()),
        control.AddedTargets((control.Added("db", "h:5432"), control.Added("dns", "[::1]:53", "udp", 53))),
        control.Declined((control.Decline("db", "tcp", "no"), control.Decline("dns", "udp", ""))),
        Unknown("something"),
    ],
)
def test_every_control_message_is_read_as_it_was_said(message: control.Control) -> None:
    assert control.parse_control(memoryview(message.pack())) == message


def test_what_may_be_left_out_of_a_target() -> None:
    bare = payload({"do": "register", "targets": [{"id": 1, "name": "WEB", "local": "h:80"}]})
    assert control.parse_control(bare) == Register((Wanted(1, "web", "h:80"),)), "names are folded"


@pytest.mark.parametrize("do", ["add", "declined"])
@pytest.mark.parametrize(
    "wrong",
    [None, {}, "x", [1], [{}], [{"name": "a b"}], [{"name": "db", "proto": "sctp"}], [{"name": "db", "why": "x" * 129}],
     [{"name": "db", "local": "nowhere"}], [{"name": "db", "local": "h:1", "proto": ["tcp"]}],
     [{"name": "db", "local": "h:1", "proto": "tcp", "remote": -1, "why": 7}],
     [{"name": "db", "local": "h:1", "proto": "tcp", "why": ""}] * 129],
)  # fmt: skip
def test_what_cannot_be_added_or_declined_ends_the_session(do: str, wrong: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=do):
        control.parse_control(payload({"do": do, "targets": wrong}))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (None, "needs an id"),
        ({}, "needs an id"),
        ({"id": 0}, "needs an id"),
        ({"id": 65_536}, "needs an id"),
        ({"id": True}, "needs an id"),
        ({"id": 1.0}, "needs an id"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"name": "x" * 1000}, "xxx"),
        ({"name": "\u212a"}, "name"),
        ({"name": 5}, "needs a name"),
        ({"local": "nowhere"}, "not an address"),
        ({"local": "h:99999"}, "not a port"),
        ({"local": "h:9-5"}, "ends before it begins"),
        ({"local": "h:1-99999"}, "not a port"),
        ({"local": "h:1-20000"}, "at the most"),
        ({"local": "h:1-9", "id": 65530}, "ids and ports of at most 65535"),
        ({"local": "h:1-9", "remote": 65530}, "ids and ports of at most 65535"),
        ({"local": "h:²"}, "ASCII"),
        ({"local": ["h", 1]}, "needs a name"),
        ({"local": "bücher.local:80"}, "ASCII"),
        ({"local": "h" * 266 + ":1"}, "at most 267"),
        ({"proto": "sctp"}, "protocol tcp or udp"),
        ({"proto": ["tcp"]}, "protocol tcp or udp"),
        ({"remote": -1}, "remote port"),
        ({"remote": 70_000}, "remote port"),
        ({"remote": True}, "remote port"),
        ({"remote": "80"}, "remote port"),
        ({"had": 65_536}, "remote port"),
        ({"options": []}, "options are an object"),
        ({"options": {"x" * 33: 1}}, "option 'xxx"),
        ({"options": {"Upper": 1}}, "option 'Upper'"),
        ({"options": {"a": None}}, "option 'a'"),
        ({"options": {"a": {}}}, "option 'a'"),
        ({"options": {"a": ["x", 1]}}, "option 'a'"),
        ({"options": {"a": "x" * 1025}}, "option 'a'"),
        ({"options": {f"o{n}": 1 for n in range(33)}}, "at most 32"),
    ],
)
def test_a_target_that_cannot_be_is_answered(target: Any, text: str) -> None:
    good = {"id": 1, "name": "web", "local": "127.0.0.1:80"}
    wanted = {**good, **target} if target else target
    message = control.parse_control(payload({"do": "register", "targets": [wanted, {**good, "id": 2}]}))
    assert isinstance(message, Register)
    answer, other = message.targets
    assert isinstance(answer, Answer) and isinstance(other, Wanted), "it spoils no other"
    assert answer.error == INVALID and text in answer.text and len(answer.text) <= 200
    assert control.parse_control(memoryview(Registered((answer,)).pack())) == Registered((answer,))


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=9))
def test_what_is_too_long_for_one_message_goes_into_several(sizes: list[int]) -> None:
    answers = (Answer(number, port=1, options={"a": "x" * size}) for number, size in enumerate(sizes))
    said = Registered(tuple(answers))
    parts = control.fitting(said)
    assert tuple(each for part in parts for each in part.targets) == said.targets
    assert all(len(each.pack()) <= frames.MAX_JSON_BYTES for each in parts)


def test_one_target_too_many_is_read_so_that_the_worker_is_told() -> None:
    targets = [{"id": number, "name": f"n{number}", "local": "h:1"} for number in range(1, 300)]
    message = control.parse_control(payload({"do": "register", "targets": targets}))
    assert isinstance(message, Register) and len(message.targets) == control.MAX_TARGETS + 1
    assert control.MAX_TARGETS == Limits.TARGETS_PER_WORKER


def test_the_longest_message_is_read_within_a_turn_of_the_loop() -> None:
    """Names in other scripts cost a millisecond each to convert: a peer would have made everybody wait."""
    costly = [
        {"id": number, "name": f"n{number}", "local": "é" * 120 + ".é" * 60 + ":1"}
        for number in range(1, 129)
    ]
    message = json.dumps({"do": "register", "targets": costly}, ensure_ascii=False).encode()
    assert 50_000 < len(message) <= frames.MAX_JSON_BYTES
    took = []
    for _ in range(3):
        began = thread_time()
        control.parse_control(memoryview(message))
        took.append(thread_time() - began)
    assert min(took) < 0.02


@pytest.mark.parametrize(
    "message",
    [
        {"do": "register"},
        {"do": "register", "targets": "targets"},
        {"do": "registered", "targets": None},
        {"do": "registered", "targets": [None]},
        {"do": "registered", "targets": [{}]},
        {"do": "registered", "targets": [{"id": []}]},
        {"do": "registered", "targets": [{"id": 1}]},
        {"do": "registered", "targets": [{"id": 1, "port": "x"}]},
        {"do": "registered", "targets": [{"id": 1, "port": 0}]},
        {"do": "registered", "targets": [{"id": 1, "port": 1, "listen": "x"}]},
        {"do": "registered", "targets": [{"id": 1, "port": 1, "listen": ["x" * 81]}]},
        {"do": "registered", "targets": [{"id": 1, "port": 1, "options": 1}]},
        {"do": "registered", "targets": [{"id": 1, "error": "taken", "text": 1}]},
        {"do": "registered", "targets": [{"id": 1, "error": "x" * 33}]},
        {"do": "unregister"},
        {"do": "unregister", "ids": [0]},
        {"do": "unregister", "ids": [1, "2"]},
        {"do": "unregister", "ids": {"1": 1}},
        {"do": "limits", "all": -1},
        {"do": "limits", "visitor": "2MB"},
        {"do": "limits", "targets": {"1": 2}},
        {"do": "limits", "targets": [[1, 2, 3]]},
        {"do": "limits", "targets": [[0, 2]]},
        {"do": "limits", "targets": [[1, 1 << 40]]},
    ],
)
def test_a_control_message_that_does_not_fit(message: dict[str, Any]) -> None:
    with refused(Close.FRAME, message["do"]):
        control.parse_control(payload(message))


@pytest.mark.parametrize("do", [None, 5, [], "nonsense", {}])
def test_what_is_not_known_is_ignored(do: Any) -> None:
    assert isinstance(control.parse_control(payload({"do": do, "targets": 1})), Unknown)


@given(
    st.sampled_from(["register", "registered", "unregister", "limits", ""]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "name", "local", "port", "listen", "error", "text", "options", "x"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    ),
)
def test_whatever_comes_is_read_or_refused(do: str, value: Any) -> None:
    for key in ("targets", "ids"):
        try:
            message = control.parse_control(payload({"do": do, key: value}))
        except RemoteProtocolError as error:
            assert error.code == Close.FRAME
        else:
            assert message.pack()
