"""What `aero list` prints: columns, units, and other people's words."""

from __future__ import annotations

import pytest

from aero.address import Address, is_loopback
from aero.cli import console
from aero.cli.console import duration, listed, size, table
from aero.config.option import Options
from aero.config.roles import ListConfig, ServerConfig
from aero.errors import ConfigError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7800, "2 h 10 min"), (363_600, "4 d 5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (150_000, "146 KiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_columns_line_up_and_lines_end_with_their_words() -> None:
    text = table(("TAG", "STREAMS", "IN"), [["nas", "3", "1 B"], ["a-long-tag", "12345678", ""]])
    assert text == "TAG          STREAMS   IN\nnas                3  1 B\na-long-tag  12345678\n"


def test_hostile_names_stay_on_their_line() -> None:
    text = table(("TAG",), [["\x1b[2J\nroot\u202e"]])
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_what_is_this_machine_alone(host: str, good: bool) -> None:
    assert is_loopback(host) is good


def test_a_config_does_not_show_its_token() -> None:
    config = ListConfig.parse(Options({"api": "server.example", "api-token": "geheim", "tags": "A, b"}))
    assert config == ListConfig(api=Address("server.example", 3000), api_token="geheim", tags=("a", "b"))
    assert "geheim" not in repr(config)
    assert "geheim" not in repr(ServerConfig.parse(Options({"api-token": "geheim"})))


@pytest.mark.parametrize("address", ["0.0.0.0:3000", ":3000", "[::]:3000", "10.0.0.1:1", "server.example:1"])
def test_an_open_api_needs_a_token(address: str) -> None:
    with pytest.raises(ConfigError, match="--api-token"):
        ServerConfig.parse(Options({"api": address}))
    assert ServerConfig.parse(Options({"api": address, "api-token": "t"})).api_token == "t"


def test_who_is_late_stands_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {
        "user": "",
        "tag": "nas",
        "host": "b\nox",
        "since": "2026-03-01T12:00:00.000000Z",
        "usual_s": 3300,
    }
    monkeypatch.setattr(console, "ask", lambda *_: {"workers": [], "late": [late]})
    first, second = listed(ListConfig()).splitlines()
    assert first == "No workers."
    assert second.startswith(r"late: nas on b\nox is away for ") and second.endswith(
        ", usually 55 min at the most"
    )
