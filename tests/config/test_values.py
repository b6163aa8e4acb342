"""Single values: text in, a checked value out, or one line that says what to write instead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import address
from aero.address import Address, check_name, check_tag
from aero.cli import help
from aero.config import filed, targets, units, values
from aero.core.aead.choose import BACKENDS
from aero.errors import ConfigError


@given(st.text())
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    for parse in (
        Address.parse,
        targets.target,
        check_name,
        check_tag,
        values.addresses,
        values.domain,
        address.host,
        units.integer(1, 9),
        values.listening_address,
        values.listening_port,
        units.size(1, 1 << 40),
        units.duration(0, 86400),
        values.one_of(("a", "b")),
        values.port_range,
    ):
        try:
            parse(text)
        except ConfigError as error:
            assert str(error).isprintable()


def test_names_fit_a_host_name() -> None:
    longest = "x" * address.NAME_CHARS
    domain = ".".join(["d" * 62] * 2)
    assert len(f"{longest}.{longest}.{domain}") <= address.HOST_CHARS
    assert values.domain(domain) == domain
    assert values.domain(".Aero.Example.org.") == "aero.example.org"


@pytest.mark.parametrize("text", ["", ".", "a..b", "a_b", "-a", "d" * 64, ".".join(["d" * 62] * 3)])
def test_domains_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="not a domain"):
        values.domain(text)


def test_lists_of_ips() -> None:
    assert values.addresses("0.0.0.0, [::],0.0.0.0") == ("0.0.0.0", "::")
    for text in ("", "localhost", "0.0.0.0,", "[::", ",".join(f"10.0.0.{i}" for i in range(values.IPS + 1))):
        with pytest.raises(ConfigError):
            values.addresses(text)


def test_ranges_of_ports() -> None:
    assert values.port_range("1-65535") == (1, 65535)
    assert values.port_range("80-80") == (80, 80)
    assert values.port_range("0") == (0, 0)
    for text in ("", "80", "0-80", "90-80", "1-65536", "1-2-3", "-1", " 1-2"):
        with pytest.raises(ConfigError, match="20000-32767"):
            values.port_range(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("65536", 65536), ("512K", 512 << 10), ("10M", 10 << 20), ("1G", 1 << 30), ("2KiB", 2048),
        ("3MiB", 3 << 20), ("1GiB", 1 << 30), ("2KB", 2000), ("3MB", 3_000_000), ("1GB", 10**9),
        ("8kbit", 1000), ("8mbit", 10**6), ("1gbit", 125_000_000),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    parse = units.size(1, 1 << 40)
    assert parse(text) == count
    assert parse(units.size_text(count)) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "1.5M",
        "-1",
        "10m",
        "10k",
        "10Kb",
        "10kB",
        "1 K",
        "10B",
        "10T",
        "8Mbit",
        "\u0663K",
        "9" * 5000,
    ],
)
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"K M G or KiB MiB GiB .1024-based., KB MB GB .1000-based., kbit mbit gbit"
    ):
        units.size(1, 1 << 40)(text)


@pytest.mark.parametrize(("text", "hint"), [("0", "too small"), ("15K", "too small"), ("2G", "too large")])
def test_sizes_of_a_log_file(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{hint}, write 16K to 1G"):
        units.size(*values.LOG_BYTES)(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30", 30), ("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604800)]
)
def test_durations(text: str, seconds: int) -> None:
    parse = units.duration(0, 30 * 86400)
    assert parse(text) == seconds
    assert parse(units.duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "m", "1.5h", "-1", "10 m", "10min", "10M", "1w", "\u0663", "9" * 5000])
def test_durations_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="seconds, or with a unit, as in 30, 30s, 10m, 2h or 7d"):
        units.duration(0, 60)(text)


@pytest.mark.parametrize(("text", "hint"), [("0", "too short"), ("2h", "too long"), ("3601", "too long")])
def test_durations_out_of_bounds(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{hint}, write 1s to 1h"):
        units.duration(1, 3600)(text)


def test_encryption_libraries_are_those_that_exist() -> None:
    assert values.AEADS == BACKENDS
    for name in values.AEADS:
        assert name in help.text("server")


def test_integers_take_digits_only() -> None:
    parse = units.integer(1, 3600, "seconds")
    assert parse("3600") == 3600
    for text in ("0", "3601", "1_0", " 1", "1.0", "٣", "9" * 5000):
        with pytest.raises(ConfigError, match="from 1 to 3600 seconds"):
            parse(text)


def test_a_code_of_the_largest_size_fits(tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_bytes(b"x" * filed.AUTH_BYTES + b"\r\n")
    assert len(filed.auth_code(f"@{file}")[0]) == filed.AUTH_BYTES


@pytest.mark.parametrize("name", ["missing", "", "nul\0"])
def test_code_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the code from"):
        filed.auth_code(f"@{tmp_path}/{name}")


def test_code_from_a_pipe_or_an_endless_device(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"geheim\n")
        os.close(writer)
        assert filed.auth_code(f"@/dev/fd/{reader}") == filed.Code("geheim")
    finally:
        os.close(reader)
    with pytest.raises(ConfigError, match="longer than"):
        filed.auth_code("@/dev/zero")


@pytest.mark.parametrize(
    ("environ", "uid", "folder"),
    [
        ({"HOME": "/home/a"}, 1000, "/home/a/.local/state/aero"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/x"}, 1000, "/x/aero"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "relative"}, 1000, "/home/a/.local/state/aero"),
        ({"HOME": "/root"}, 0, "/var/lib/aero"),
        ({}, 0, "/var/lib/aero"),
        ({"HOME": ""}, 4_000_000, ""),
    ],
)
def test_state_folder(environ: dict[str, str], uid: int, folder: str) -> None:
    assert values.default_state(environ, uid) == folder


def test_state_folder_without_home_is_that_of_the_user_database() -> None:
    import pwd

    user = next(entry for entry in pwd.getpwall() if entry.pw_uid and os.path.isabs(entry.pw_dir))
    assert values.default_state({}, user.pw_uid) == os.path.join(user.pw_dir, ".local/state/aero")


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/a")
    assert filed.path("x.log") == f"{tmp_path}/x.log"
    assert filed.path("~/x.log") == "/home/a/x.log"


def test_a_relative_path_in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert filed.path("/x.log") == "/x.log"
    with pytest.raises(ConfigError, match="folder that is gone"):
        filed.path("x.log")


@pytest.mark.parametrize(
    ("raw", "name"), [("nas", "nas"), ("my nas\n", "my-nas"), ("", "localhost"), ("-.-", "localhost")]
)
def test_machine_host(monkeypatch: pytest.MonkeyPatch, raw: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: raw)
    assert values.machine_host() == name


@pytest.mark.parametrize(
    ("data", "plain", "said"),
    [
        (b"geheim\n", b"geheim", False),
        (b"geheim", b"geheim", False),
        (b" geheim", b" geheim", False),
        (b"", b"", False),
        (b"\xef\xbb\xbfgeheim\n", b"geheim", True),
        (b"geheim\r\n", b"geheim", True),
        (b"geheim \n", b"geheim", True),
        (b"geheim\n\n\n", b"geheim", True),
        (b"a\r\n\r\nb \r\n", b"a\n\nb", True),
    ],
)
def test_what_nobody_sees_in_a_file_does_not_count(data: bytes, plain: bytes, said: bool) -> None:
    left, notes = filed.visible(data, "/etc/aero/code")
    assert (left, bool(notes)) == (plain, said)
    assert all("/etc/aero/code" in note for note in notes)


def test_the_log_hears_of_invisible_bytes_and_not_of_the_code(tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_bytes(b"\xef\xbb\xbfgeheim\r\n")
    file.chmod(0o600)
    code = filed.auth_code(f"@{file}")
    assert code.text == "geheim"
    assert str(file) in code.notes[0]
    assert "geheim" not in code.notes[0]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10.0.0.1/8", "the network of that address is 10.0.0.0/8"),
        ("10.0.0.0/33", "write for example 127.0.0.1 or 10.0.0.0/8"),
        ("nas", "write for example"),
    ],
)
def test_networks_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        values.networks(f"127.0.0.1,{text}")


def test_one_of_several_words() -> None:
    with pytest.raises(ConfigError, match=r"'x' is unknown, write a, b or c$"):
        values.one_of(("a", "b", "c"))("x")
