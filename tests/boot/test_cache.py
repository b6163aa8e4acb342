"""The cache on disk: races, kills, damage, and folders that other people could have prepared."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aero.boot import cache, folders, parts
from tests.boot.hosts import Host, is_good, trees

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def tree_of(host: Host) -> Path:
    return host.cache / f"aero-{parts.read(str(host.pyz)).name}"


def test_a_first_start_unpacks_and_the_second_changes_nothing(host: Host) -> None:
    host.works()
    assert is_good(host.cache, host.pyz)
    before = os.stat(tree_of(host)).st_mtime_ns
    host.answers()
    assert trees(host.cache) == [tree_of(host).name]
    assert os.stat(tree_of(host)).st_mtime_ns == before


def test_twenty_simultaneous_first_starts_share_one_tree(host: Host) -> None:
    for process in [host.start("--help") for _ in range(20)]:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert "aero client" in out
    assert trees(host.cache) == [tree_of(host).name]
    assert is_good(host.cache, host.pyz)


def test_a_start_killed_in_the_middle_of_unpacking_does_no_harm(host: Host) -> None:
    trap = host.folder / "trap"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "seen = []\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and '/.aero-new-' in str(arguments[0]):\n"
        "        seen.append(arguments[0])\n"
        "        if len(seen) == 40:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
    )
    killed = host.run("--help", env={**host.env, "PYTHONPATH": str(trap)})
    assert killed.returncode == -9
    (left,) = trees(host.cache)
    assert left.startswith(".aero-new-")
    host.answers()
    assert trees(host.cache) == [tree_of(host).name]
    assert is_good(host.cache, host.pyz)


def lose_a_file(tree: Path) -> None:
    (tree / "gevent" / "hub.pyc").unlink()


def truncate_a_file(tree: Path) -> None:
    os.truncate(tree / "gevent" / "hub.pyc", 100)


def empty_the_tree(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.mkdir(mode=0o700)


def link_a_file_elsewhere(tree: Path) -> None:
    path = tree / "gevent" / "hub.pyc"
    path.rename(tree.parent / "elsewhere")
    path.symlink_to(tree.parent / "elsewhere")


def open_a_file_to_others(tree: Path) -> None:
    (tree / "gevent" / "hub.pyc").chmod(0o666)


def open_the_tree_to_others(tree: Path) -> None:
    tree.chmod(0o777)


def zero_a_library(tree: Path) -> None:
    """Right size, and the stamp says that it was checked: only the loader notices."""
    (library,) = (tree / "greenlet").glob("*.so")
    library.write_bytes(bytes(library.stat().st_size))


def zero_a_module_before_a_reboot(tree: Path) -> None:
    """What a power loss leaves: the right size, no content. No process has looked since."""
    module = tree / "gevent" / "hub.pyc"
    module.write_bytes(bytes(module.stat().st_size))
    (tree / cache.STAMP).write_text("another boot\n")


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_file,
        truncate_a_file,
        empty_the_tree,
        link_a_file_elsewhere,
        open_a_file_to_others,
        open_the_tree_to_others,
        zero_a_library,
        zero_a_module_before_a_reboot,
    ],
)
def test_a_damaged_tree_is_made_anew(host: Host, damage: object) -> None:
    assert callable(damage)
    host.answers()
    damage(tree_of(host))
    host.answers()
    assert is_good(host.cache, host.pyz)
    assert [name for name in trees(host.cache) if name != "elsewhere"] == [tree_of(host).name]


@root_only
def test_a_file_that_someone_else_owns_is_replaced(host: Host) -> None:
    host.answers()
    os.chown(tree_of(host) / "gevent" / "hub.pyc", 65534, 65534)
    host.answers()
    assert (tree_of(host) / "gevent" / "hub.pyc").stat().st_uid == 0


def test_a_tree_as_a_symlink_is_not_followed(host: Host) -> None:
    host.answers()
    tree_of(host).rename(host.folder / "elsewhere")
    tree_of(host).symlink_to(host.folder / "elsewhere")
    host.answers(env={**host.env, "AERO_CACHE": str(host.folder / "other")})
    host.answers()
    assert tree_of(host).is_symlink(), "nothing in the way was touched"


def make_a_symlink(folder: Path) -> None:
    (folder.parent / "target").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "target")


def make_writable_by_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def make_writable_by_group(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def make_a_file(folder: Path) -> None:
    folder.write_text("")


def make_foreign(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    os.chown(folder, 65534, 65534)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (make_a_symlink, "is a symlink"),
        (make_writable_by_all, r"is writable by others \(mode 777\)"),
        (make_writable_by_group, r"is writable by others \(mode 770\)"),
        (make_a_file, "is not a folder"),
        pytest.param(make_foreign, "belongs to uid 65534, not to us", marks=root_only),
    ],
)
def test_a_folder_that_someone_else_could_fill_is_refused(host: Host, prepare: object, reason: str) -> None:
    assert callable(prepare)
    folder = host.folder / "chosen"
    prepare(folder)
    with pytest.raises(folders.Refused, match=reason):
        folders.secured(str(folder), "/")
    host.answers(env={**host.env, "AERO_CACHE": str(folder)})
    assert is_good(host.cache, host.pyz), "the next candidate serves"


def test_a_folder_whose_parent_could_be_swapped_is_refused(host: Host) -> None:
    parent = host.folder / "open"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(folders.Refused, match="open is writable by others, who could swap it"):
        folders.secured(str(parent / "cache"), "/")
    parent.chmod(0o1777)
    assert folders.secured(str(parent / "cache"), "/") == str(parent / "cache"), "sticky, like /tmp"


@root_only
def test_a_folder_in_someone_elses_home_is_refused(host: Host) -> None:
    theirs = host.folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    with pytest.raises(folders.Refused, match="theirs belongs to uid 65534, who could swap it"):
        folders.secured(str(theirs / "cache"), "/")


def test_a_symlinked_parent_is_judged_where_it_leads(host: Host) -> None:
    (host.folder / "real").mkdir(mode=0o700)
    (host.folder / "link").symlink_to(host.folder / "real")
    assert folders.secured(str(host.folder / "link" / "cache"), "/") == str(host.folder / "real" / "cache")


def test_the_candidates_come_in_order_and_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    shared = [f"/var/tmp/aero-{uid}", f"/tmp/aero-{uid}", f"/dev/shm/aero-{uid}"]
    monkeypatch.setenv("AERO_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/h")
    named = [folder for folder, _ in folders.candidates("/p/aero.pyz")]
    assert named == ["/a", "/x/aero", "/h/.cache/aero", "/p/.aero-cache", *shared]
    for name in ("AERO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    named = [folder for folder, _ in folders.candidates("/p/aero.pyz")]
    assert named[1:] == ["/p/.aero-cache", *shared], "before them, the home that the password file names"


def test_old_versions_go_unless_somebody_runs_them(host: Host) -> None:
    host.cache.mkdir(parents=True, mode=0o700)
    idle, busy, killed = "aero-00000000000000aa-cp39-x86_64-gnu", "aero-00000000000000bb-cp39-x86_64-gnu", ""
    killed = ".aero-new-00000000000000cc"
    bystanders = ["aero-notes", "aero-1", "backup"]
    for name in [idle, busy, killed, *bystanders]:
        (host.cache / name / "aero").mkdir(parents=True)
    held = os.open(host.cache / busy, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        host.answers()
        assert trees(host.cache) == sorted([busy, tree_of(host).name, *bystanders])
    finally:
        os.close(held)
    host.answers()
    assert trees(host.cache) == sorted([tree_of(host).name, *bystanders])


def test_a_running_process_holds_its_tree_for_life(host: Host) -> None:
    running = host.start("demo")
    assert running.stdout is not None
    while "for visitors" not in (line := running.stdout.readline()):
        assert line, running.communicate()
    lock = os.open(tree_of(host), os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        running.terminate()
        running.communicate(timeout=20)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(lock)


def test_a_reader_without_write_access_can_use_what_is_there(host: Host) -> None:
    host.answers()
    subprocess.run(["chmod", "-R", "a-w", str(host.cache)], check=True)
    try:
        host.answers()
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(host.cache)], check=True)
