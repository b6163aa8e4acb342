"""The options of targets: that their table is sound, and what their parsers take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aero.address import TCP, UDP
from aero.config import targetoptions
from aero.config.targetoptions import OPTIONS
from aero.core.control import MAX_OPTION_CHARS, MAX_OPTION_ITEMS, MAX_OPTIONS, OPTION
from aero.errors import ConfigError
from aero.limits import Limits
from aero.server.registry.terms import HONOURED, HONOURED_BY_UDP

HASH = "$2y$05$E1PtVCFA5In2OWd1GW87NOHLEuKtzGxzwZ8GtrtiMJLcLUmlPQIvW"


def test_the_table_is_sound() -> None:
    honoured = {TCP: HONOURED, UDP: HONOURED_BY_UDP}
    assert len(OPTIONS) <= MAX_OPTIONS
    for name, option in OPTIONS.items():
        assert name == option.name and OPTION.fullmatch(name), "as the wire has it"
        assert {option.needs, option.excludes} <= {"", *OPTIONS} - {name}
        read = [option.local or name == "remote" or name in honoured[proto] for proto in option.protos]
        assert all(read), "the server reads it"
        assert option.metavar and option.help and name in option.help_lines()
    assert {*HONOURED, *HONOURED_BY_UDP} <= set(OPTIONS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("remote", "8080", (8080, 1)),
        ("remote", "8080-8089", (8080, 10)),
        ("access", "closed", "closed"),
        ("balance", "random-two", "random-two"),
        ("check", "tcp", "tcp"),
        ("check", "http:/health?x=1", "http:/health?x=1"),
        ("every", "1m", 60),
        ("group", "Front", "front"),
        ("domain", "a.example.org+b.example.org", ("a.example.org", "b.example.org")),
        ("host", "a.test:80", "a.test:80"),
        ("header-set", "A:b+C:d", ("A: b", "C: d")),
        ("header-remove", "A+B", ("A", "B")),
        ("limit", "8mbit", 1_000_000),
        ("visitors", "10.0.0.0/8+192.0.2.7", ("10.0.0.0/8", "192.0.2.7/32")),
        ("wait", "30", 30),
    ],
)
def test_what_the_help_shows_is_taken(name: str, text: str, value: Any) -> None:
    assert OPTIONS[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("check", "https:/", "write tcp or http:/path"),
        ("check", "http:/" + "x" * 256, "write tcp or http:/path"),
        ("auth", "ada:right", "write @FILE"),
        ("group-key", "secret", "write @FILE"),
        (
            "domain",
            "+".join(f"a{number}.test" for number in range(Limits.TARGET_DOMAINS + 1)),
            "are given, write 1 to",
        ),
        ("header-set", "+".join(["A:b"] * (Limits.TARGET_HEADERS + 1)), "are given, write 1 to"),
        ("header-set", "Host:x", "write host=NAME"),
        ("weight", "101", "from 1 to 100"),
        ("amplify", "0", "number from"),
    ],
)
def test_what_is_refused_says_what_to_write(name: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        OPTIONS[name].parse(text)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "the file has no line"),
        ("# nobody\n", "the file has no line"),
        (f"ada:{HASH}\nbob:{HASH}\nada:{HASH}\n", "user ada stands there more than once"),
    ],
)
def test_a_file_of_passwords_that_is_not_good(tmp_path: Path, lines: str, says: str) -> None:
    file = tmp_path / "logins"
    file.write_text(lines)
    with pytest.raises(ConfigError, match=says):
        targetoptions.logins(f"@{file}")


def test_secrets_come_from_files_and_the_wire_gets_no_key(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(f"# people\nada:{HASH}\n")
    assert targetoptions.logins(f"@{file}") == (f"ada:{HASH}",)
    file.write_text("Authorization: Bearer a+b\n")
    assert targetoptions.header_lines(f"@{file}") == ("Authorization: Bearer a+b",)
    file.write_text("a key\n")
    digest = targetoptions.group_key(f"@{file}")
    assert len(digest) == 32 and "key" not in digest
    file.write_text("another key\n")
    assert targetoptions.group_key(f"@{file}") != digest


def test_lists_fit_the_wire() -> None:
    assert max(Limits.TARGET_DOMAINS, Limits.TARGET_HEADERS, Limits.TARGET_LOGINS) <= MAX_OPTION_ITEMS
    assert len(targetoptions.header_lines("A:" + "x" * 900)[0]) <= MAX_OPTION_CHARS
