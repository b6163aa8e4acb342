"""Single values: text in, a checked value out, or one line that says what to write instead."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import address
from aero.address import Address, check_name, check_tag
from aero.cli import help
from aero.config import targets, units, values
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


@pytest.mark.parametrize(("text", "hint"), [("0", "too small"), ("15K", "too small"), ("2G", "too large")])
def test_sizes_of_a_log_file(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{hint}, write 16K to 1G"):
        units.size(*values.LOG_BYTES)(text)


def test_encryption_libraries_are_those_that_exist() -> None:
    assert values.AEADS == BACKENDS
    for name in values.AEADS:
        assert name in help.text("server")


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


@pytest.mark.parametrize(
    ("raw", "name"), [("nas", "nas"), ("my nas\n", "my-nas"), ("", "localhost"), ("-.-", "localhost")]
)
def test_machine_host(monkeypatch: pytest.MonkeyPatch, raw: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: raw)
    assert values.machine_host() == name


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
