"""Host names of targets, and globs of them: what is one, and how it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.domains import check_domain, check_glob
from aero.errors import ConfigError
from aero.server.policy.rules import matches


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("app.example.org", "app.example.org"),
        ("APP.Example.org.", "app.example.org"),
        ("nas", "nas"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert check_domain(text) == name
    assert check_glob(name) == name and matches((name,), name)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "-a.org", "a-.org", "a_b.org", "a b", "a/b", "a:80", "*.org", "a@b", "localhost", "x.LOCALHOST",
     "127.0.0.1", "::1", "[::1]", "1.2", "a" * 64 + ".org", "a." * 126 + "org"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        check_domain(text)


@given(st.text())
def test_whatever_stands_there_is_refused_or_stays_the_same_when_read_again(text: str) -> None:
    for check in (check_domain, check_glob):
        try:
            name = check(text)
        except ConfigError as error:
            assert len(str(error)) < 300
        else:
            assert check(name) == name
