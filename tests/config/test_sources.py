"""An option that may stand alone (--lock [FILE]), as argv, environment and file write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aero.cli import main as cli
from aero.config.roles import ClientConfig, ServerConfig
from aero.errors import ConfigError

WEB = ["--target", "web@127.0.0.1:80"]


def lock_of(*argv: str, environ: dict[str, str] | None = None) -> str | None:
    """What a worker's ``lock`` becomes."""
    return ClientConfig.parse(cli.gather("client", [*argv, *WEB], environ or {})).lock


@pytest.mark.parametrize(
    ("argv", "lock"),
    [
        ("", None),
        ("--lock", ""),
        ("-lock", ""),
        ("--lock --server h:1", ""),
        ("--lock -server h:1", ""),
        ("--lock /run/x.lock", "/run/x.lock"),
        ("--lock /run/x.lock --server h:1", "/run/x.lock"),
        ("--lock=/run/x.lock", "/run/x.lock"),
        ("-lock=/run/x.lock", "/run/x.lock"),
        ("--lock=-", str(Path("-").absolute())),
        ("--once --lock", ""),
    ],
)
def test_command_line(argv: str, lock: str | None) -> None:
    assert lock_of(*argv.split()) == lock


def test_the_last_word_may_be_the_option_itself() -> None:
    assert ClientConfig.parse(cli.gather("client", [*WEB, "--lock"], {})).lock == ""
    assert ServerConfig.parse(cli.gather("server", ["--lock"], {})).lock == ""


@pytest.mark.parametrize(
    ("value", "lock"), [("1", ""), ("on", ""), ("TRUE", ""), ("0", None), ("off", None), ("/l", "/l")]
)
def test_environment(value: str, lock: str | None) -> None:
    assert lock_of(environ={"AERO_LOCK": value}) == lock


@pytest.mark.parametrize(("value", "lock"), [("true", ""), ("false", None), ('"/l"', "/l")])
def test_file(tmp_path: Path, value: str, lock: str | None) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(f"[client]\nlock = {value}\n")
    assert lock_of("--config", str(file)) == lock
    assert lock_of("--config", str(file), environ={"AERO_LOCK": "0"}) is None
    assert lock_of("--config", str(file), "--lock", "/mine") == "/mine"


@pytest.mark.parametrize("value", ['""', '["/l"]', "1.5"])
def test_slips_in_the_file(tmp_path: Path, value: str) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(f"[client]\nlock = {value}\n")
    with pytest.raises(ConfigError, match=r"\[client\] lock: write true, false or a string"):
        lock_of("--config", str(file))


def test_detach_needs_a_log_from_wherever() -> None:
    assert ClientConfig.parse(cli.gather("client", ["--detach", *WEB], {"AERO_LOG": "/l"})).detach
    with pytest.raises(ConfigError, match="AERO_DETACH needs a log file, write --log FILE too"):
        ClientConfig.parse(cli.gather("client", WEB, {"AERO_DETACH": "1"}))


@pytest.mark.parametrize(
    "value", ["\ufeffc0de", "c0de\r", "c0de \t\r\n", "\ufeffc0de\n", "\udcef\udcbb\udcbfc0de"]
)
def test_invisible_bytes_in_the_environment(value: str) -> None:
    """From ``AERO_AUTH=$(cat file)``, or an env_file with the line ends of Windows."""
    gathered = cli.gather("client", WEB, {"AERO_AUTH": value})
    assert ClientConfig.parse(gathered).auth == "c0de"
    assert gathered.notes == ["left out a byte order mark, or white space at the end of a line: AERO_AUTH"]


def test_a_value_of_nothing_but_invisible_bytes_is_empty() -> None:
    with pytest.raises(ConfigError, match="AERO_AUTH is empty"):
        cli.gather("client", WEB, {"AERO_AUTH": "\ufeff \r\n"})
