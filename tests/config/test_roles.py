"""Every default and every check of the configuration, and the one line that each slip gets."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import address
from aero.address import CID, Address, Target, check_name, check_tag
from aero.cli import help
from aero.config import values
from aero.config.option import Options
from aero.config.roles import ClientConfig, ServerConfig
from aero.core.aead import BACKENDS
from aero.errors import ConfigError

WEB = {"target": ["web@127.0.0.1:80"]}


@pytest.mark.parametrize(
    "text, host, port, shown",
    [
        ("example.org:8080", "example.org", 8080, "example.org:8080"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
        (":8080", "0.0.0.0", 8080, "0.0.0.0:8080"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
        ("my_container:1", "my_container", 1, "my_container:1"),
        ("example.org.:80", "example.org.", 80, "example.org.:80"),
    ],
)
def test_addresses(text: str, host: str, port: int, shown: str) -> None:
    address = Address.parse(text)
    assert address == (host, port)
    assert str(address) == shown
    assert Address.parse(shown) == address


def test_default_port() -> None:
    assert Address.parse("example.org", 8080) == ("example.org", 8080)
    assert Address.parse("[::1]", 8080) == ("::1", 8080)
    assert Address.parse("10.0.0.1", 8080) == ("10.0.0.1", 8080)


def test_port_0_only_to_listen() -> None:
    assert Address.parse(":0", listen=True).port == 0
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        Address.parse(":0")


@pytest.mark.parametrize(
    "text, hint",
    [
        ("", "HOST:PORT"),
        ("localhost", "localhost:PORT"),
        ("8080", "write :8080 or localhost:8080"),
        ("::1:80", "[::1]:PORT for IPv6"),
        ("[::1", "[::1]:PORT for IPv6"),
        ("[::1]80", "[::1]:PORT for IPv6"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[1.2.3.4]:80", "not an IPv6 address"),
        ("a:b:c", "not an address"),
        ("a:http", "not a port"),
        ("a:", "not a port"),
        ("a:65536", "not a port"),
        ("a:-1", "not a port"),
        ("a:٣", "not a port"),
        ("256.1.1.1:80", "not a host name"),
        ("1.2.3:80", "not a host name"),
        ("a..b:80", "not a host name"),
        ("-a:80", "not a host name"),
        ("a b:80", "not a host name"),
        ("user@a:80", "not a host name"),
        ("a\n:80", "not a host name"),
        ("x" * 254 + ":80", "not a host name"),
    ],
)
def test_addresses_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)) as error:
        Address.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, target",
    [
        ("web@127.0.0.1:80", ("web", "127.0.0.1", 80, 0)),
        ("web:127.0.0.1:80", ("web", "127.0.0.1", 80, 0)),
        ("web@[::1]:80", ("web", "::1", 80, 0)),
        ("web:[::1]:80", ("web", "::1", 80, 0)),
        ("Web-2@nas.local:80", ("web-2", "nas.local", 80, 0)),
        ("db@127.0.0.1:5432?remote=15432", ("db", "127.0.0.1", 5432, 15432)),
    ],
)
def test_targets(text: str, target: tuple[str, str, int, int]) -> None:
    parsed = Target.parse(text)
    assert parsed == target
    assert Target.parse(str(parsed)) == parsed
    assert parsed.address == target[1:3]


@pytest.mark.parametrize(
    "text, hint",
    [
        ("web", "write name@host:port"),
        ("127.0.0.1:80", "write name@host:port"),
        ("[::1]:80", "write name@host:port"),
        ("web@:80", "write name@host:port"),
        ("@127.0.0.1:80", "'' is not a name"),
        ("my_web@127.0.0.1:80", "letters, digits and inner hyphens"),
        ("a.b@127.0.0.1:80", "letters, digits and inner hyphens"),
        ("-a@127.0.0.1:80", "not a name"),
        ("a-@127.0.0.1:80", "not a name"),
        ("x" * 64 + "@127.0.0.1:80", "not a name"),
        ("web@127.0.0.1", "write name@host:port"),
        ("web@127.0.0.1:0", "not a port"),
        ("web@::1:80", "[::1]:PORT"),
        ("web@127.0.0.1:80?", "unknown option ''"),
        ("web@127.0.0.1:80?remote", "'' is not a port"),
        ("web@127.0.0.1:80?remote=0", "'0' is not a port"),
        ("web@127.0.0.1:80?port=1", "unknown option 'port', known are: remote"),
        ("web@127.0.0.1:80?remote=1&remote=2", "given twice"),
        ("web@127.0.0.1:80?remote=1?remote=2", "not a port"),
    ],
)
def test_targets_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)):
        Target.parse(text)


@given(st.text())
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    for parse in (
        Address.parse,
        Target.parse,
        check_name,
        check_tag,
        values.addresses,
        values.domain,
        address.host,
        values.integer(1, 9),
        values.listening_address,
        values.listening_port,
        values.log_size,
        values.one_of(("a", "b")),
        values.port_range,
    ):
        try:
            parse(text)
        except ConfigError as error:
            assert str(error).isprintable()


def test_a_list_of_targets() -> None:
    targets = values.target_list(["a@h:1, b@h:2,", "c@h:3"])
    assert [target.name for target in targets] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "texts, hint",
    [
        ([], "no target is given"),
        ([","], "no target is given"),
        (["web@h:1,WEB@h:2"], "the name 'web' stands for both web@h:1 and web@h:2"),
        (["a@h:1?remote=7", "b@h:2?remote=7"], "ask for the same port"),
        ([",".join(f"n{i}@h:1" for i in range(values.TARGETS + 1))], "too many"),
    ],
)
def test_lists_of_targets_that_cannot_be(texts: list[str], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        values.target_list(texts)


def test_a_tag_cannot_pass_for_a_workers_id() -> None:
    cid = "c0123456789ab"
    assert CID.fullmatch(cid)
    for text in (cid, cid.upper()):
        with pytest.raises(ConfigError, match="looks like a worker's id"):
            check_tag(text)
    assert check_name(cid) == cid
    assert check_tag("c0123456789al") == "c0123456789al"  # no l in an id
    assert check_tag("NAS-2") == "nas-2"


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
        with pytest.raises(ConfigError, match="20000-39999"):
            values.port_range(text)


@pytest.mark.parametrize(
    "text, count", [("65536", 65536), ("512K", 512 << 10), ("10m", 10 << 20), ("1G", 1 << 30)]
)
def test_sizes(text: str, count: int) -> None:
    assert values.log_size(text) == count
    assert values.size(values.size_text(count)) == count


@pytest.mark.parametrize("text", ["", "0", "15K", "2G", "10MB", "1.5M", "M", "-1", "9" * 5000])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError):
        values.log_size(text)


def test_encryption_libraries_are_those_that_exist() -> None:
    assert values.AEADS == BACKENDS
    for name in values.AEADS:
        assert name in help.text("server")


def test_integers_take_digits_only() -> None:
    parse = values.integer(1, 3600, "seconds")
    assert parse("3600") == 3600
    for text in ("0", "3601", "1_0", " 1", "1.0", "٣", "9" * 5000):
        with pytest.raises(ConfigError, match="from 1 to 3600 seconds"):
            parse(text)


def test_defaults_of_a_server() -> None:
    config = ServerConfig.parse(Options({}))
    assert config == ServerConfig(state=values.default_state())
    assert (config.ips, config.port, config.ports) == (("0.0.0.0",), 8080, (20000, 39999))
    assert (config.api, config.mux) == (("localhost", 3000), ("localhost", 4000))
    assert (config.log, config.log_format, config.log_size) == ("", "text", 10 << 20)


def test_defaults_of_a_worker() -> None:
    config = ClientConfig.parse(Options(WEB))
    assert config == ClientConfig(
        host=values.machine_host(), targets=(Target("web", "127.0.0.1", 80),), state=values.default_state()
    )
    assert (config.tag, config.server, config.ping_s, config.pool) == ("aero", ("0.0.0.0", 8080), 60, 1)


def test_every_option_of_a_server_arrives() -> None:
    config = ServerConfig.parse(
        Options(
            {
                "ip": "::", "port": "0", "auth": "code", "api": "off", "mux": ":0", "domain": "d.org",
                "ports": "1-2", "debug": True, "log": "/l", "log-format": "json", "log-size": "1M",
                "state": "/s", "aead": "openssl", "lock": "/k", "detach": True,
            }
        )
    )  # fmt: skip
    mux = Address("0.0.0.0", 0)
    assert config == ServerConfig(
        ips=("::",), port=0, auth="code", api=None, mux=mux, domain="d.org", ports=(1, 2), debug=True, log="/l",
        log_format="json", log_size=1 << 20, state="/s", aead="openssl", lock="/k", detach=True,
    )  # fmt: skip


def test_every_option_of_a_worker_arrives() -> None:
    config = ClientConfig.parse(
        Options(
            {
                **WEB, "tag": "nas", "host": "box", "server": "[::1]", "auth": "code", "debug": True,
                "log": "/l", "log-format": "json", "log-size": "1M", "ping": "1", "pool": "16", "once": True,
                "state": "/s", "aead": "pycryptodome", "lock": "/k", "detach": True,
            }
        )
    )  # fmt: skip
    targets, server = (Target("web", "127.0.0.1", 80),), Address("::1", 8080)
    assert config == ClientConfig(
        tag="nas", host="box", server=server, targets=targets, auth="code", debug=True, log="/l",
        log_format="json", log_size=1 << 20, ping_s=1, pool=16, once=True, state="/s", aead="pycryptodome",
        lock="/k", detach=True,
    )  # fmt: skip


def test_the_code_never_shows() -> None:
    for config in (ServerConfig(auth="geheim"), ClientConfig(auth="geheim")):
        assert "geheim" not in f"{config} {config!r} {[config]}"
        assert "auth='***'" in repr(config)
    assert "auth=''" in repr(ServerConfig())


def test_messages_say_where_the_value_came_from() -> None:
    with pytest.raises(ConfigError, match=r"^AERO_PORT: 'x' is not a port"):
        ServerConfig.parse(Options({"port": "x"}, {"port": "AERO_PORT"}))
    with pytest.raises(ConfigError, match=r"^--port: 'x' is not a port"):
        ServerConfig.parse(Options({"port": "x"}))


@pytest.mark.parametrize("content", [b"geheim", b"geheim\n", b"geheim\r\n"])
def test_code_from_a_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "code"
    file.write_bytes(content)
    file.chmod(0o600)
    config = ServerConfig.parse(Options({"auth": f"@{file}"}))
    assert (config.auth, config.warnings) == ("geheim", ())


@pytest.mark.parametrize(
    "given, warnings",
    [
        ({"mux": "off", "domain": "a.org"}, ["--domain does nothing while --mux is off"]),
        ({"mux": "off", "trust-proxy": "::1"}, ["--trust-proxy does nothing while --mux is off"]),
        ({"api": "off", "api-token": "t" * 32}, ["--api-token does nothing while --api is off"]),
        ({"mux": ":80", "domain": "a.org"}, []),
    ],
)
def test_options_of_what_is_off_are_a_warning(given: dict[str, str], warnings: list[str]) -> None:
    assert list(ServerConfig.parse(Options(given)).warnings) == warnings


def test_code_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_text("geheim")
    file.chmod(0o644)
    config = ClientConfig.parse(Options({**WEB, "auth": f"@{file}"}))
    assert config.auth == "geheim"
    assert len(config.warnings) == 1
    assert str(file) in config.warnings[0]
    assert "geheim" not in config.warnings[0]


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"geheim\n\n", "more than one line"),
        (b"geheim\nzwei\n", "more than one line"),
        (b"geheim\xff", "not UTF-8"),
        (b"geheim\0", "more than one line"),
        (b"geheim" * 1000, "longer than 1024 bytes"),
    ],
)
def test_code_files_that_cannot_be(tmp_path: Path, content: bytes, hint: str) -> None:
    file = tmp_path / "code"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=hint) as error:
        ServerConfig.parse(Options({"auth": f"@{file}"}))
    assert str(file) in str(error.value)
    assert "geheim" not in str(error.value)


def test_a_code_of_the_largest_size_fits(tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_bytes(b"x" * values.AUTH_BYTES + b"\r\n")
    assert len(values.auth_code(f"@{file}")[0]) == values.AUTH_BYTES


@pytest.mark.parametrize("name", ["missing", "", "nul\0"])
def test_code_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the code from"):
        values.auth_code(f"@{tmp_path}/{name}")


def test_code_from_a_pipe_or_an_endless_device(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"geheim\n")
        os.close(writer)
        assert values.auth_code(f"@/dev/fd/{reader}") == ("geheim", ())
    finally:
        os.close(reader)
    with pytest.raises(ConfigError, match="longer than"):
        values.auth_code("@/dev/zero")


@pytest.mark.parametrize(
    "environ, uid, folder",
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
    assert values.path("x.log") == f"{tmp_path}/x.log"
    assert values.path("~/x.log") == "/home/a/x.log"


def test_a_relative_path_in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert values.path("/x.log") == "/x.log"
    with pytest.raises(ConfigError, match="folder that is gone"):
        values.path("x.log")


@pytest.mark.parametrize(
    "raw, name", [("nas", "nas"), ("my nas\n", "my-nas"), ("", "localhost"), ("-.-", "localhost")]
)
def test_machine_host(monkeypatch: pytest.MonkeyPatch, raw: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: raw)
    assert values.machine_host() == name
