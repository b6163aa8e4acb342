"""What root makes ready for the user that it becomes, and what it refuses to touch. The suite runs as root."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from aero.errors import ConfigError, HostError
from aero.host import privileges

NOBODY = pwd.getpwnam("nobody")
STRANGER = pwd.getpwnam("daemon")


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of root's that others can enter."""
    made = tmp_path / "folder"
    made.mkdir(0o755)
    return made


def test_a_log_in_a_folder_of_roots_is_made_and_given_to_the_user(folder: Path) -> None:
    privileges.prepare_log(str(folder / "log"), NOBODY)
    assert owner(folder / "log") == NOBODY.pw_uid
    assert stat.S_IMODE((folder / "log").stat().st_mode) == 0o640
    assert owner(folder) == 0
    (folder / "log").write_text("earlier\n")
    privileges.prepare_log(str(folder / "log"), NOBODY)
    assert (folder / "log").read_text() == "earlier\n"


def test_a_log_in_the_users_own_folder_is_not_touched_by_root(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch(0o600)
    os.chown(folder, NOBODY.pw_uid, -1)
    (folder / "log").symlink_to(victim)
    privileges.prepare_log(str(folder / "log"), NOBODY)
    assert owner(victim) == 0


@pytest.mark.parametrize("kind", ["symlink", "second name", "stranger's"])
def test_a_log_that_leads_elsewhere_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.touch(0o600)
    if kind == "symlink":
        (folder / "log").symlink_to(victim)
    elif kind == "second name":
        os.link(victim, folder / "log")
    else:
        (folder / "log").touch()
        os.chown(folder / "log", STRANGER.pw_uid, -1)
    with pytest.raises(ConfigError, match=r"^--log: cannot write .*log: .*log: it is"):
        privileges.prepare_log(str(folder / "log"), NOBODY)
    assert owner(victim) == 0


@pytest.mark.parametrize(("mode", "uid"), [(0o757, 0), (0o1777, 0), (0o755, STRANGER.pw_uid)])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int, uid: int) -> None:
    folder.chmod(mode)
    os.chown(folder, uid, -1)
    for prepare, option in ((privileges.prepare_log, "--log"), (privileges.prepare_state, "--state")):
        with pytest.raises(ConfigError) as error:
            prepare(str(folder if option == "--state" else folder / "log"), NOBODY)
        assert str(error.value).startswith(
            f"{option}: with --run-as nobody, the folder {folder} must be root's"
        )


def test_a_device_may_be_the_log() -> None:
    before = os.stat("/dev/null")
    privileges.prepare_log("/dev/null", NOBODY)
    assert os.stat("/dev/null").st_uid == before.st_uid


def test_a_state_folder_is_made_for_the_user(folder: Path) -> None:
    privileges.prepare_state(str(folder / "state"), NOBODY)
    assert owner(folder / "state") == NOBODY.pw_uid
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700


def test_a_private_state_folder_of_roots_is_handed_over_but_for_its_locks(folder: Path) -> None:
    state = folder / "state"
    state.mkdir(0o700)
    for name in ("server.sqlite", "server.sqlite-wal", "server-8080.lock"):
        (state / name).touch(0o600)
    privileges.prepare_state(str(state), NOBODY)
    assert [owner(state / name) for name in ("", "server.sqlite", "server.sqlite-wal", "server-8080.lock")] == [
        NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid, 0,
    ]  # fmt: skip


def test_a_folder_with_another_purpose_keeps_its_owner(folder: Path) -> None:
    (folder / "precious").touch()
    privileges.prepare_state(str(folder), NOBODY)
    assert (owner(folder), owner(folder / "precious")) == (0, 0)


def test_a_link_that_the_user_left_in_his_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch(0o600)
    state = folder / "state"
    state.mkdir(0o700)
    os.chown(state, NOBODY.pw_uid, -1)
    (state / "server.sqlite").symlink_to(victim)
    privileges.prepare_state(str(state), NOBODY)
    assert owner(victim) == 0
    elsewhere = folder / "link"
    elsewhere.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="cannot prepare"):
        privileges.prepare_state(str(elsewhere), NOBODY)
    assert owner(tmp_path) == 0


def test_what_is_missing_in_the_users_own_folder_is_left_to_him(folder: Path) -> None:
    os.chown(folder, NOBODY.pw_uid, -1)
    privileges.prepare_state(str(folder / "state"), NOBODY)
    assert not (folder / "state").exists()
    privileges.prepare_state(str(folder / "a" / "b"), NOBODY)
    assert not (folder / "a").exists()


def test_a_user_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="--run-as: there is no user 'nobody-of-that-name' on this host"):
        privileges.drop("nobody-of-that-name")


def test_only_root_can_become_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER.pw_uid)
    with pytest.raises(HostError, match="only root can become nobody"):
        privileges.drop("nobody")
    privileges.drop("daemon")
