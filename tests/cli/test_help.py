"""The help texts: what fits a terminal, and what they have to tell."""

from __future__ import annotations

import re

import pytest

from aero.cli import help


@pytest.mark.parametrize("command", ["", "server", "client", "demo"])
def test_help_fits_a_terminal(command: str) -> None:
    text = help.text(command)
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 80
    assert not re.search(r"[ \t]$|\n\n\n|\t|\{|\}", text, re.M)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("command", ["server", "client"])
def test_help_tells_the_exit_codes(command: str) -> None:
    text = " ".join(help.text(command).split())
    assert "0 stopped as asked" in text
    for code in (2, 3, 4, 78):
        assert re.search(rf"\b{code} [a-z]", text)


@pytest.mark.parametrize("command", help.PAGES)
def test_every_option_stands_in_the_help_with_its_default(command: str) -> None:
    text = help.text(command)
    for each in help.PAGES[command][1].OPTIONS:
        if not each.positional:
            entry = text.partition(f"\n  --{each.name}")[2].partition("\n  -")[0]
            assert entry
            assert not each.default_text or f"[default: {each.default_text}]" in entry
