"""`aero join` and `aero invite`: codes as people type them, what is offered, and the file that is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aero.cli import join
from aero.config.option import Options
from aero.config.roles import ClientConfig, InviteConfig, InvitesConfig
from aero.core.joining import Welcome
from aero.errors import ConfigError, HostError


@pytest.mark.parametrize(
    "typed",
    [
        "4-lantern-harbor",
        " 4-Lantern-HARBOR\n",
        "4 lantern harbor",
        "4_lantern - harbor",
        "04-lantern-harbor",
    ],
)
def test_a_code_as_people_type_it(typed: str) -> None:
    assert join.code(typed) == ("+invited.4", "lantern-harbor")


@pytest.mark.parametrize(
    "typed", ["", "4", "lantern-harbor", "4-lantern", "4-lantern-2", "44444-a-b", "4-a" + "-b" * 6]
)
def test_what_is_no_code_is_not_sent_anywhere(typed: str) -> None:
    with pytest.raises(ConfigError, match="as aero invite has printed it"):
        join.code(typed)


def test_what_is_offered_is_what_may_be() -> None:
    assert join.offered("") == []
    assert join.offered("127.0.0.1:*+10.0.0.0/24:22+127.0.0.1:80-89") == []
    assert join.offered("127.0.0.1:22+10.0.0.7:22+[::1]:80+db.lan:5432+[fd00::]:9999") == [
        "ssh@127.0.0.1:22", "ssh-2@10.0.0.7:22", "web@[::1]:80", "postgres@db.lan:5432", "port-9999@[fd00::]:9999",
    ]  # fmt: skip


def test_the_file_is_what_a_worker_reads(tmp_path: Path) -> None:
    welcome = Welcome("1", "ci+k3j2x9ab", "nas", "127.0.0.1:*")
    given = {
        "tls-pin": "sha256//" + "A" * 43 + "=",
        "tls-insecure": True,
        "header": ['X-A: "1" \\ 2'],
        "ws-mask": False,
    }
    path = tmp_path / "nas.toml"
    content = join.text("wss://h:443", welcome, "the code", ["ssh@127.0.0.1:22"], given)
    assert join._written(str(path), "", welcome, content) == str(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    from aero.cli.main import gather

    config = ClientConfig.parse(gather("client", ["--config", str(path)], {}))
    assert (config.user, config.tag, config.auth, str(config.allow)) == (
        "ci+k3j2x9ab",
        "nas",
        "the code",
        "127.0.0.1:*",
    )
    assert [str(each) for each in config.targets] == ["ssh@127.0.0.1:22"]
    assert config.tls_insecure and not config.ws_mask and config.header[0].value == '"1" \\ 2'
    assert not config.warnings


def test_nothing_is_written_over(tmp_path: Path) -> None:
    welcome = Welcome("1", "ci+k3j2x9ab", "nas", "")
    names = [Path(join._written("", str(tmp_path), welcome, "x")).name for _ in range(3)]
    assert names == ["nas.toml", "nas-2.toml", "nas-3.toml"]
    with pytest.raises(HostError, match=r"nas\.toml is there already"):
        join._check_folder(str(tmp_path), str(tmp_path / "nas.toml"))
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(HostError, match="is there already"):
        join._check_folder(str(tmp_path), str(tmp_path / "link"))
    with pytest.raises(HostError, match="cannot make /dev/null/x"):
        join._check_folder("/dev/null/x", "")
    with pytest.raises(HostError, match=r"cannot write into /proc: .*--file"):
        join._check_folder("/proc", "/proc/nas.toml")
    join._check_folder(str(tmp_path), str(tmp_path / "new.toml"))
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "link",
        "nas-2.toml",
        "nas-3.toml",
        "nas.toml",
    ]


def test_a_worker_without_targets_needs_allow() -> None:
    with pytest.raises(ConfigError, match="no target is given"):
        ClientConfig.parse(Options({}))
    assert ClientConfig.parse(Options({"allow": "127.0.0.1:*"})).targets == ()


@pytest.mark.parametrize(
    ("given", "why"),
    [({}, "write --user NAME"), ({"user": "ci", "for": "59"}, "for"), ({"user": "ci", "words": "1"}, "words"),
     ({"user": "ci", "may": "x"}, "not HOST:PORT"), ({"user": "ci+x"}, "not a name")],
)  # fmt: skip
def test_slips_of_an_invitation(given: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        InviteConfig.parse(Options(given))


def test_what_can_be_withdrawn() -> None:
    for name in ("4", "ci+k3j2x9ab"):
        assert InvitesConfig.parse(Options({"withdraw": name})).withdraw == name
    for name in ("4444444", "ci+", "+k3j2", "CI+K3"):
        with pytest.raises(ConfigError):
            InvitesConfig.parse(Options({"withdraw": name}))
