"""One of a kind: what two starts, a killed one, a stranger's file and a full disk do to the lock."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aero.address import Target
from aero.config.roles import ClientConfig, ServerConfig
from aero.endpoint import Endpoints
from aero.errors import Busy, ConfigError, HostError
from aero.host import lock

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ClientConfig(tag="nas", host="box", server=Endpoints.at("h", 1), targets=(Target("web", "::1", 80),))


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes to the machine's own folders."""
    folders = [tmp_path / "run", tmp_path / "tmp"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(lock, "FALLBACKS", tuple(map(str, folders)))


def test_the_second_start_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = lock.take("", "name", str(tmp_path / "state"))
    first.sign()
    with pytest.raises(Busy) as busy:
        lock.take("", "name", str(tmp_path / "state"))
    assert str(busy.value) == f"process {os.getpid()} holds {tmp_path}/state/name.lock"
    first.release()
    lock.take("", "name", str(tmp_path / "state")).release()


def test_a_killed_process_leaves_a_file_but_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from aero.host import lock; held = lock.take(sys.argv[1], '', ''); held.sign()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"process {other.pid} holds"):
            lock.take(str(path), "", "")
        other.kill()
    assert path.read_text() == f"{other.pid}\n"
    lock.take(str(path), "", "").release()


def test_a_stale_file_with_a_longer_number_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("99999999999999\nrubbish\n")
    held = lock.take(str(path), "", "")
    held.sign()
    assert path.read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_file_that_was_removed_is_no_lock_any_more(tmp_path: Path) -> None:
    """Whoever removes it lets a second one in; the two then never share what is locked by accident."""
    path = tmp_path / "lock"
    first = lock.take(str(path), "", "")
    path.unlink()
    second = lock.take(str(path), "", "")
    with pytest.raises(Busy):
        lock.take(str(path), "", "")
    first.release()
    with pytest.raises(Busy):
        lock.take(str(path), "", "")
    second.release()


def test_only_we_can_open_the_file_and_so_lock_it(tmp_path: Path) -> None:
    held = lock.take(str(tmp_path / "lock"), "", "")
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    assert not os.get_inheritable(held.descriptor)
    held.release()


def test_a_file_of_ours_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o644)
    lock.take(str(tmp_path / "lock"), "", "").release()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_a_named_file_that_leads_elsewhere_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    os.link(victim, tmp_path / "name")
    for name, reason in (("link", "it is a symbolic link"), ("name", "the file there has another name, too")):
        with pytest.raises(ConfigError, match=f"--lock: cannot lock {tmp_path / name}: {reason}"):
            lock.take(str(tmp_path / name), "", "")
    assert victim.read_text() == "precious"


def test_a_strangers_file_by_name_is_a_slip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").touch()
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(ConfigError, match="the file there belongs to uid"):
        lock.take(str(tmp_path / "lock"), "", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/lock", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "it is not a regular file"),
        ("file/lock", "Not a directory"),
    ],
)
def test_a_named_file_that_cannot_be_locked(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as error:
        lock.take(str(tmp_path / name), "", "")
    assert str(error.value) == f"--lock: cannot lock {tmp_path / name}: {reason}"


def test_without_a_state_folder_the_lock_goes_to_a_shared_one(tmp_path: Path) -> None:
    held = lock.take("", "name", "")
    assert held.path == f"{tmp_path}/run/aero-{os.geteuid()}-name.lock"
    held.release()


def test_a_state_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    held = lock.take("", "name", f"{tmp_path}/file/state")
    assert held.path.startswith(f"{tmp_path}/run/")
    held.release()


def test_a_lock_that_was_taken_while_the_better_folder_was_full_still_counts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.touch()  # a file in place of the folder
    held = lock.take("", "name", str(state))
    state.unlink()
    with pytest.raises(Busy, match="/run/"):
        lock.take("", "name", str(state))
    held.release()
    again = lock.take("", "name", str(state))
    assert again.path == str(state / "name.lock")
    again.release()


def test_a_symlink_in_a_shared_folder_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(lock.places("name", "")[0]).symlink_to(victim)
    held = lock.take("", "name", "")
    held.sign()
    assert held.path.startswith(f"{tmp_path}/tmp/")
    assert victim.read_text() == "precious"
    held.release()


def test_a_strangers_file_in_a_shared_folder_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = lock.places("name", "")
    for place in places:
        Path(place).touch()
    stranger = os.geteuid() + 1
    monkeypatch.setattr(lock, "places", lambda name, state: places)
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(HostError) as error:
        lock.take("", "name", "")
    text = str(error.value)
    assert text.startswith("no folder here can hold a lock, name a file: --lock FILE")
    assert text.count("the file there belongs to uid") == len(places)


def test_names_tell_apart_what_may_run_side_by_side() -> None:
    others = [
        CONFIG.replace(tag="other"),
        CONFIG.replace(host="other"),
        CONFIG.replace(server=Endpoints.at("h", 2)),
        CONFIG.replace(targets=(Target("web", "::1", 81),)),
        CONFIG.replace(targets=(Target("web", "::1", 80, 25000),)),
        CONFIG.replace(targets=(*CONFIG.targets, Target("ssh", "::1", 22))),
    ]
    names = {config.lock_name() for config in [CONFIG, *others]}
    assert len(names) == 1 + len(others)
    servers = [ServerConfig(), ServerConfig(port=1), ServerConfig(ips=("::1",))]
    assert len({config.lock_name() for config in servers}) == len(servers)


def test_the_same_worker_has_one_name_whatever_else_differs() -> None:
    two = (Target("a", "::1", 1), Target("b", "::1", 2))
    first = CONFIG.replace(targets=two, auth="x", debug=True, ping_s=5)
    second = CONFIG.replace(targets=two[::-1], pool=3, log="/l")
    assert first.lock_name() == second.lock_name()
    assert first.lock_name().startswith("client-nas-")
