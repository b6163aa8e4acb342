"""What a target may have changed in its requests, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import headers
from aero.errors import ConfigError
from aero.server.policy.altering import Alteration


def test_nothing_asked_for_is_nothing_done() -> None:
    assert Alteration.of({"limit": 5}) is None


def test_fields_are_set_in_place_of_the_visitor_s_however_he_spells_them() -> None:
    change = Alteration.of(
        {"host": "app", "header-set": ["X-Key: a b"], "header-remove": ["Cookie", "Remote-User"]}
    )
    assert change is not None
    assert change.host == b"app"
    kept = b"A: 1\r\nx_key: 2\r\nX-KEY: 3\r\nCookie: c\r\nX-Keys: 4\r\n"
    assert change.lines_of(kept) == b"A: 1\r\nX-Keys: 4\r\nX-Key: a b\r\n"
    assert change.lines_of(b"") == b"X-Key: a b\r\n"
    assert change.fields_of(((b"X-Real-IP", b"1"), (b"remote-user", b"root"))) == ((b"X-Real-IP", b"1"),)


def test_what_was_said_to_the_mux_stays_there_and_a_target_may_get_a_word_of_its_own() -> None:
    kept = b"A: 1\r\nAuthorization: Basic YTpi\r\nauthorization: Bearer b\r\n"
    for options, left in (
        ({"auth": ["a:b"]}, b"A: 1\r\n"),
        (
            {"auth": ["a:b"], "header-set": ["Authorization: Bearer x"]},
            b"A: 1\r\nAuthorization: Bearer x\r\n",
        ),
    ):
        change = Alteration.of(options)
        assert change is not None and change.lines_of(kept) == left


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "TE",
        "Keep-Alive",
        "Upgrade",
        "Content-Length",
        "content_length",
        "Transfer-Encoding",
        "Trailer",
    ]
    + [
        "Expect",
        "Proxy",
        "Forwarded",
        "X-Forwarded-For",
        "x.forwarded~host",
        "Host",
        "---",
        "a b",
        "a\r",
        "",
    ],
)
def test_what_frames_messages_or_is_the_mux_s_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        headers.check_field(name)
    with pytest.raises(ConfigError):
        headers.check_line(f"{name}: x")


@given(st.text())
def test_whatever_is_let_pass_is_one_line(text: str) -> None:
    for line in (text, f"X-A:{text}"):
        try:
            checked = headers.check_line(line)
        except ConfigError:
            continue
        assert checked.isascii()
        assert checked.isprintable()
        assert headers.check_line(checked) == checked
    try:
        assert headers.check_host(text).isascii()
    except ConfigError:
        pass


@pytest.mark.parametrize("host", ["a", "app.example.org:8080", "192.0.2.1", "[::1]", "[::1]:80"])
def test_hosts(host: str) -> None:
    assert headers.check_host(host) == host


@pytest.mark.parametrize("host", ["", ":80", "a:", "a:0", "::1", "[x]", "a..b", "a/b", "a\r\nB: c", "u@a"])
def test_hosts_that_cannot_be(host: str) -> None:
    with pytest.raises(ConfigError):
        headers.check_host(host)
