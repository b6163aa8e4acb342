"""What the ends say in JSON: what is packed is read again, and what does not fit is refused with the field's name."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core import frames, messages
from aero.core.codes import Close
from aero.core.messages import (
    INVALID,
    TAKEN,
    Answer,
    JoinBeside,
    JoinedAgain,
    JoinedNew,
    JoinNew,
    JoinTakeOver,
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

NEW = JoinNew("1.0", 60.0, "i", "nas", "attic")
BESIDE = JoinBeside("1.0", 60.0, "session", "secret")
TAKE_OVER = JoinTakeOver("1.0", 5.0, "session", "secret", 2, 77)
WANTED = Wanted(1, "web", "127.0.0.1:80", 8080, 8081, options={"visitors": ["10.0.0.0/8"], "proxy": True})
ANSWER = Answer(1, "web", 8080, ("0.0.0.0:8080",), {"proxy": True})


def payload(data: dict[str, Any]) -> memoryview:
    return memoryview(json.dumps(data).encode())


def changed(message: Any, **fields: Any) -> memoryview:
    """The message with other fields; ``...`` leaves one out."""
    data = {**json.loads(message.pack()), **fields}
    return payload({key: value for key, value in data.items() if value is not ...})


@pytest.mark.parametrize("join", [NEW, BESIDE, TAKE_OVER])
def test_every_join_is_read_as_it_was_said(join: messages.Join) -> None:
    assert messages.parse_join(memoryview(join.pack())) == join
    assert messages.parse_join(changed(join, later={"x": 1})) == join, "keys of later versions are ignored"


@pytest.mark.parametrize("joined", [JoinedNew("1.0", "c0", "s", "x", 60.0), JoinedAgain("1.0", "s", 7)])
def test_every_joined_is_read_as_it_was_said(joined: messages.Joined) -> None:
    assert messages.parse_joined(memoryview(joined.pack())) == joined


@pytest.mark.parametrize(
    "control",
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
        messages.AddedTargets(()),
        messages.AddedTargets((messages.Added("db", "h:5432"), messages.Added("dns", "[::1]:53", "udp", 53))),
        messages.Declined((messages.Decline("db", "tcp", "no"), messages.Decline("dns", "udp", ""))),
        Unknown("something"),
    ],
)
def test_every_control_message_is_read_as_it_was_said(control: messages.Control) -> None:
    assert messages.parse_control(memoryview(control.pack())) == control


def test_what_may_be_left_out() -> None:
    assert messages.parse_join(changed(NEW, v=..., ping=...)) == NEW._replace(version="", ping_s=60.0)
    assert messages.parse_join(changed(NEW, role="worker")) == NEW
    bare = payload({"do": "register", "targets": [{"id": 1, "name": "WEB", "local": "h:80"}]})
    assert messages.parse_control(bare) == Register((Wanted(1, "web", "h:80"),)), "names are folded"
    joined = changed(JoinedNew("", "c", "s", "x", 1.0), resume=...)
    assert messages.parse_joined(joined) == JoinedNew("", "c", "s", "x", 0.0)


INVITED = messages.JoinInvited("1", "box", "k3j2x9ab", "spake2plus$" + "A" * 130)
WELCOME = messages.Welcome("1", "ci+k3j2x9ab", "nas", "127.0.0.1:22")


def test_a_credential_is_asked_for_and_given() -> None:
    assert messages.parse_join(memoryview(INVITED.pack())) == INVITED
    assert messages.parse_joined(memoryview(WELCOME.pack())) == WELCOME
    for key, values in {
        "id": ["", "abc", "x" * 17, "K3J2", "a b c", 7, None, ...],
        "host": ["²", 7, ...],
    }.items():
        for value in values:
            with pytest.raises(RemoteProtocolError, match=key):
                messages.parse_join(changed(INVITED, **{key: value}))
    for value in ("x" * 201, 7, []):
        with refused(Close.FRAME, "JOIN: verifier is not"):
            messages.parse_join(changed(INVITED, verifier=value))
    for key, wrong in (
        ("login", "x" * 65),
        ("login", 7),
        ("allow", "x" * 1025),
        ("tag", "a b"),
        ("tag", ...),
    ):
        with pytest.raises(RemoteProtocolError, match=key):
            messages.parse_joined(changed(WELCOME, **{key: wrong}))


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
        messages.parse_control(payload({"do": do, "targets": wrong}))


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
def test_what_is_no_token(join: messages.Join, key: str, value: Any) -> None:
    if key == "session" and value is ...:
        return  # then it is another kind of JOIN
    with refused(Close.FRAME, f"JOIN: {key} is not"):
        messages.parse_join(changed(join, **{key: value}))


@pytest.mark.parametrize("half", ["\ud800", "web\udfff", "\udc80"])  # noqa: PT014 - three different halves
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(half: str) -> None:
    """It could be neither logged nor stored nor sent on."""
    for message, parse in ((NEW, messages.parse_join), (Unregister(()), messages.parse_control)):
        for more in ({"v": half}, {"x": [{"y": half}]}, {half: 1}, {"identity": half}):
            with refused(Close.FRAME, "is not JSON"):
                parse(changed(message, **more))
    whole = messages.parse_control(payload({"do": "\U0001f600"}))
    assert whole == Unknown("\U0001f600"), "two halves that belong together are a character"


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
        messages.parse_join(changed(NEW, **{key: value}))


@pytest.mark.parametrize("value", [0, -1, 3601, 1e999, "60", None, True, [], 10**30])
def test_a_ping_interval_that_cannot_be(value: Any) -> None:
    with refused(Close.FRAME, "JOIN"):
        messages.parse_join(changed(NEW, ping=value))


@pytest.mark.parametrize("key", ["link", "received"])
@pytest.mark.parametrize("value", [..., None, -1, 1 << 64, 1.0, "1", True])
def test_a_takeover_needs_its_numbers(key: str, value: Any) -> None:
    with refused(Close.FRAME, f"JOIN: {key} is not a number"):
        messages.parse_join(changed(TAKE_OVER, **{key: value}))


def test_versions_are_short_texts() -> None:
    for value in ("x" * 65, 1, None, []):
        with refused(Close.FRAME, "v is not a text of at most 64"):
            messages.parse_join(changed(NEW, v=value))


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
    message = messages.parse_control(payload({"do": "register", "targets": [wanted, {**good, "id": 2}]}))
    assert isinstance(message, Register)
    answer, other = message.targets
    assert isinstance(answer, Answer) and isinstance(other, Wanted), "it spoils no other"
    assert answer.error == INVALID and text in answer.text and len(answer.text) <= 200
    assert messages.parse_control(memoryview(Registered((answer,)).pack())) == Registered((answer,))


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=9))
def test_what_is_too_long_for_one_message_goes_into_several(sizes: list[int]) -> None:
    answers = (Answer(number, port=1, options={"a": "x" * size}) for number, size in enumerate(sizes))
    said = Registered(tuple(answers))
    parts = messages.fitting(said)
    assert tuple(each for part in parts for each in part.targets) == said.targets
    assert all(len(each.pack()) <= frames.MAX_JSON_BYTES for each in parts)


def test_one_target_too_many_is_read_so_that_the_worker_is_told() -> None:
    targets = [{"id": number, "name": f"n{number}", "local": "h:1"} for number in range(1, 300)]
    message = messages.parse_control(payload({"do": "register", "targets": targets}))
    assert isinstance(message, Register) and len(message.targets) == messages.MAX_TARGETS + 1
    assert messages.MAX_TARGETS == Limits.TARGETS_PER_WORKER


def test_the_longest_message_is_read_within_a_turn_of_the_loop() -> None:
    """Names in other scripts cost a millisecond each to convert: a peer would have made everybody wait."""
    costly = [
        {"id": number, "name": f"n{number}", "local": "é" * 120 + ".é" * 60 + ":1"}
        for number in range(1, 129)
    ]
    message = json.dumps({"do": "register", "targets": costly}, ensure_ascii=False).encode()
    assert 50_000 < len(message) <= messages.frames.MAX_JSON_BYTES
    took = []
    for _ in range(3):
        began = thread_time()
        messages.parse_control(memoryview(message))
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
        messages.parse_control(payload(message))


@pytest.mark.parametrize("do", [None, 5, [], "nonsense", {}])
def test_what_is_not_known_is_ignored(do: Any) -> None:
    assert isinstance(messages.parse_control(payload({"do": do, "targets": 1})), Unknown)


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
            message = messages.parse_control(payload({"do": do, key: value}))
        except messages.RemoteProtocolError as error:
            assert error.code == Close.FRAME
        else:
            assert message.pack()


def test_the_table_of_joining_has_one_way_through_for_each_end() -> None:
    table = messages.JOINING
    for said, answered in (
        (messages.OUR_JOIN, messages.THEIR_JOINED),
        (messages.THEIR_JOIN, messages.OUR_JOINED),
    ):
        asked = table[messages.NEW, said]
        assert table[asked, answered] == messages.AGREED
    assert not any(state == messages.AGREED for state, _ in table)
