"""The commands that end: which there are, and what stands before their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from aero.cli import help, main
from aero.cli.commands import COMMANDS
from aero.config.option import Options
from aero.errors import ConfigError


def gather(word: str, words: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of a command line, whatever the environment says."""
    return main.gather(word, words, {})


def test_every_page_of_the_help_is_a_role_or_a_command() -> None:
    assert not COMMANDS.keys() & main.ROLES.keys()
    assert COMMANDS.keys() | main.ROLES.keys() == help.PAGES.keys()


@pytest.mark.parametrize(
    ("word", "words", "says"),
    [
        ("users", [], "say what to do: aero users check FILE"),
        ("users", ["check"], "say what to do: aero users check FILE"),
        ("users", ["remove", "ci"], "say what to do: aero users check FILE"),
        ("target", [], "say what to do: aero target add"),
        ("target", ["add", "nas"], "say what to do: aero target add"),
        ("target", ["add", "nas", "--for", "1h"], "say what to do: aero target add"),
        ("target", ["list", "nas"], "unexpected 'nas'"),
        ("join", [], "say which server, and the code"),
        ("join", ["h:8080"], "say which server, and the code"),
        ("join", ["h:8080", "--target"], "say which server, and the code"),
        ("service", ["install"], "say what to install"),
        ("service", ["server"], "say what to install"),
        ("ping", [], "say which worker: aero ping CID"),
        ("list", ["nas"], "unexpected 'nas': aero list takes options only"),
    ],
)
def test_words_that_are_missing_or_too_many(word: str, words: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        COMMANDS[word](words, gather)


def test_what_is_told_aside_is_no_part_of_what_goes_into_the_file() -> None:
    printed = COMMANDS["users"](["add", "ci"], gather)
    assert printed.text.startswith("\n[user.ci]") and printed.code == 0
    assert printed.aside and "[user" not in printed.aside


def test_a_users_file_that_is_not_good_is_an_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "users.toml"
    for content, code in (
        ("[default]\nports = 70000\n", 2),
        ('[user.ci]\nverifier = "x"\n', 2),
        ("[default]\nports = 7\n", 0),
    ):
        file.write_text(content)
        printed = COMMANDS["users"](["check", str(file)], gather)
        assert (printed.code, bool(printed.text)) == (code, True), content
