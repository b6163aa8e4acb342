"""Who may ask: host names, tokens, origins, bodies and parameters, each as a table."""

from __future__ import annotations

import pytest

from aero.address import Address
from aero.errors import Problem
from aero.server.api.guard import ApiKey, Guard, check_empty_json, parameters

KEY = ApiKey("k" * 32, "/var/lib/aero/api-key")
LOCAL = Guard(Address("localhost", 3000), "", KEY)
NAMED = Guard(Address("box.localdomain", 3000), "t", KEY)
OPEN = Guard(Address("0.0.0.0", 3000), "t", KEY)


@pytest.mark.parametrize(
    ("guard", "host", "good"),
    [
        (LOCAL, "localhost:3000", True),
        (LOCAL, "rebound.example", False),
        (Guard(Address("127.0.0.1", 1), "", KEY), "rebound.example:1", False),
        (Guard(Address("127.0.0.1", 1), "", KEY), "LocalHost.", True),
        (NAMED, "box.localdomain", True),
        (OPEN, "anything.example", True),
        (OPEN, "", False),
    ],
)
def test_hosts(guard: Guard, host: str, good: bool) -> None:
    if good:
        guard.check_host(host)
    else:
        with pytest.raises(Problem):
            guard.check_host(host)


@pytest.mark.parametrize(
    ("header", "good"),
    [
        ("Bearer sesame", True),
        ("bearer  sesame ", True),
        ("BEARER sesame", True),
        ("Bearer Sesame", False),
        ("Bearer sesam", False),
        ("Bearer sesame sesame", False),
        ("Basic sesame", False),
        ("sesame", False),
        ("Bearer", False),
        ("", False),
    ],
)
def test_tokens(header: str, good: bool) -> None:
    assert Guard(Address("localhost", 1), "sesame", KEY).check_token(header) is good
    assert LOCAL.check_token(header)


def test_a_token_beyond_ascii() -> None:
    guard = Guard(Address("localhost", 1), "schlüssel", KEY)
    assert guard.check_token("Bearer schlüssel".encode().decode("latin-1"))
    assert not guard.check_token("Bearer schlussel")


def test_changes_need_the_key_where_there_is_no_token_and_the_token_where_there_is() -> None:
    named = Guard(Address("localhost", 1), "sesame", KEY)
    for header, by_key, by_token in (
        (f"Bearer {KEY.text}", True, False),
        ("Bearer sesame", False, True),
        ("Bearer ", False, False),
        ("", False, False),
        (f"Basic {KEY.text}", False, False),
        (f"Bearer {KEY.text}x", False, False),
    ):
        assert LOCAL.check_key(header) is by_key
        assert named.check_key(header) is by_token
    assert (LOCAL.secret, named.secret) == (KEY.text, "sesame")


def test_who_lacks_the_key_hears_where_it_is() -> None:
    assert KEY.path in str(LOCAL.no_key())
    assert "--state" in str(Guard(Address("localhost", 1), "", ApiKey("k", "")).no_key())
    problem = Guard(Address("localhost", 1), "sesame", KEY).no_key()
    assert KEY.path not in str(problem), "the token holds for all, and the key for nothing"
    assert problem.status == 401


@pytest.mark.parametrize(
    ("origin", "host", "good"),
    [
        ("", "localhost:3000", True),
        ("http://localhost:3000", "localhost:3000", True),
        ("https://LOCALHOST:3000", "localhost:3000", True),
        ("http://localhost:3001", "localhost:3000", False),
        ("http://evil.example", "localhost:3000", False),
        ("null", "localhost:3000", False),
        ("http://[::1", "localhost:3000", False),
    ],
)
def test_origins(origin: str, host: str, good: bool) -> None:
    if good:
        LOCAL.check_origin(origin, host)
    else:
        with pytest.raises(Problem):
            LOCAL.check_origin(origin, host)


def test_parameters_that_are_known() -> None:
    assert parameters("", ("cid",)) == {}
    assert parameters("cid=c1&tags=a%2Cb", ("cid", "tags")) == {"cid": "c1", "tags": "a,b"}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("x=1", "x"),
        ("cid=1&cid=2", "cid"),
        ("cid=", "cid"),
        ("cid", "cid"),
        ("cid=1&", "cid=1&"),
        ("%ff=1", "%ff"),
        ("\x1b=1", "\\x1b"),
        ("&".join(f"x{number}=1" for number in range(100)), "query"),
    ],
)
def test_parameters_that_are_not(query: str, named: str) -> None:
    with pytest.raises(Problem) as caught:
        parameters(query, ("cid",))
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b" {} \n"])
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_bodies_that_say_nothing(kind: str, body: bytes) -> None:
    check_empty_json(kind, body)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("", b"{}", 415),
        ("text/plain", b"{}", 415),
        ("text/plain; application/json", b"{}", 415),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"null", 400),
        ("application/json", b'{"cid": "c1"}', 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[" * 4000, 400),
        ("application/json", b"9" * 4000, 400),
    ],
)
def test_bodies_that_do_not_pass(kind: str, body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        check_empty_json(kind, body)
    assert caught.value.status == status
