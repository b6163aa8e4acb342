"""What is said about a word that nobody knows."""

from __future__ import annotations

import pytest

from aero.config.hints import instead, nearest, shown

KNOWN = ("log-size", "server", "target")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("taget", "target"), ("LOG_SIZE", "log-size"), ("sever", "server"), ("xyzzy", ""), ("se", "")],
)
def test_the_nearest_word(word: str, meant: str) -> None:
    assert nearest(word, KNOWN) == meant


def test_what_to_write_instead() -> None:
    assert instead("taget", KNOWN) == "did you mean target?"
    assert instead("xyzzy", KNOWN) == "known are log-size, server, target"


def test_a_word_from_outside_is_short_and_printable() -> None:
    assert shown("plain") == "plain"
    assert shown("\x1b[2J") == "'\\x1b[2J'"
    assert len(shown("x" * 1000)) == 63
