"""What a target may ask the mux to change, as both ends check it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import headers
from aero.errors import ConfigError


def test_lines_that_may_be() -> None:
    assert headers.check_line("X-Team:a") == "X-Team: a"
    assert headers.check_line("X-Team:  a: b  ") == "X-Team: a: b"
    assert headers.check_line("X-Empty:") == "X-Empty: "
    assert headers.check_line("A:" + "x" * 900) == "A: " + "x" * 900


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("X-Team", "no colon"),
        (":a", "not the name"),
        ("X Team:a", "not the name"),
        ("__:a", "not the name"),
        ("x" * 65 + ":a", "not the name"),
        ("Host:a", "write host=NAME"),
        ("h_o_s_t:a", "write host=NAME"),
        ("Transfer_Encoding:a", "the mux's own"),
        ("X-Forwarded-Anything:a", "the mux's own"),
        ("connection:a", "the mux's own"),
        ("A:b\r\nC: d", "printable ASCII"),
        ("A:\u00e9", "printable ASCII"),
        ("A:" + "x" * 901, "printable ASCII"),
    ],
)
def test_lines_that_may_not_be(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        headers.check_line(line)


@pytest.mark.parametrize("host", ["a", "a.example.org:8080", "127.0.0.1", "[::1]", "[::1]:80", "a:65535"])
def test_hosts_that_may_be(host: str) -> None:
    assert headers.check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "::1",
        "[::1",
        "[g]",
        "a..b",
        "a b",
        "a\r\nb",
        "a" * 254,
        "\u00b2",
    ],
)
def test_hosts_that_may_not_be(host: str) -> None:
    with pytest.raises(ConfigError, match="is not a host"):
        headers.check_host(host)


@given(st.text())
def test_whatever_is_taken_is_one_line_of_ascii(text: str) -> None:
    for check in (headers.check_line, headers.check_host, headers.check_field):
        try:
            found = check(text)
        except ConfigError as error:
            assert "\n" not in str(error)
        else:
            assert found.isascii() and found.isprintable()
