"""The configurations of the roles: every default, every option, and what depends on several."""

from __future__ import annotations

from pathlib import Path

import pytest

from aero.address import Address, Target
from aero.config import values
from aero.config.option import Options
from aero.config.roles import ClientConfig, ServerConfig, reloaded
from aero.endpoint import Endpoints
from aero.errors import ConfigError

WEB = {"target": ["web@127.0.0.1:80"]}


def test_defaults_of_a_server() -> None:
    config = ServerConfig.parse(Options({}))
    assert config == ServerConfig(state=values.default_state())
    assert (config.ips, config.port, config.ports) == (("0.0.0.0",), 8080, (20000, 32767))
    assert (config.api, config.mux) == (("localhost", 3000), (("localhost", 4000),))
    assert (config.log, config.log_format, config.log_size) == ("", "text", 10 << 20)


def test_defaults_of_a_worker() -> None:
    config = ClientConfig.parse(Options(WEB))
    assert config == ClientConfig(
        host=values.machine_host(), targets=(Target("web", "127.0.0.1", 80),), state=values.default_state()
    )
    assert (config.tag, str(config.server), config.ping_s, config.pool) == ("aero", "0.0.0.0:8080", 60, 1)


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
        ips=("::",), port=0, auth="code", api=None, mux=(mux,), domain="d.org", ports=(1, 2), debug=True, log="/l",
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
    targets, server = (Target("web", "127.0.0.1", 80),), Endpoints.at("::1", 8080)
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


@pytest.mark.parametrize(
    "content", [b"geheim", b"geheim\n", b"geheim\r\n", b"geheim \t\n\n", b"\xef\xbb\xbfgeheim"]
)
def test_code_from_a_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "code"
    file.write_bytes(content)
    file.chmod(0o600)
    config = ServerConfig.parse(Options({"auth": f"@{file}"}))
    assert (config.auth, config.warnings) == ("geheim", ())


@pytest.mark.parametrize(
    ("given", "warnings"),
    [
        ({"mux": "off", "domain": "a.org"}, ["--domain does nothing while --mux is off"]),
        ({"mux": "off", "mux-strict": True}, ["--mux-strict does nothing while --mux is off"]),
        ({"mux": "off", "trust-proxy": "::1"}, []),  # it counts for links by WebSocket, too
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
    ("content", "hint"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
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


def test_a_reload_takes_over_what_can_change_and_names_the_rest() -> None:
    old = ServerConfig(port=1, auth="a", drain_s=5)
    new = ServerConfig(port=2, auth="b", drain_s=5, warnings=("w",))
    config, changed, fixed = reloaded(old, new)
    assert (config.port, config.auth, config.warnings) == (1, "b", ("w",))
    assert (changed, fixed) == (["auth"], ["port"])
    assert reloaded(old, old) == (old, [], [])


def test_what_another_user_would_choose_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has become somebody else finds another folder for its state, and keeps the one that it has."""
    old = ServerConfig.parse(Options({"port": "1"}))
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    new = ServerConfig.parse(Options({"port": "1", "drain": "7"}))
    assert new.state == "/elsewhere/aero" != old.state
    config, changed, fixed = reloaded(old, new)
    assert (config.state, changed, fixed) == (old.state, ["drain"], [])
    assert reloaded(config, new)[1:] == ([], [])
    assert reloaded(config, ServerConfig.parse(Options({"port": "1", "state": "/given"})))[2] == ["state"]


def test_what_happens_without_an_answer_needs_somebody_who_is_asked() -> None:
    with pytest.raises(ConfigError, match="--hook-fails needs a hook that is asked"):
        ServerConfig.parse(Options({"hook-fails": "open"}))
    config = ServerConfig.parse(Options({"hook-fails": "open", "hook-asks": "https://h/"}))
    assert (config.hook_fails, config.hook_asks) == ("open", "https://h/")
