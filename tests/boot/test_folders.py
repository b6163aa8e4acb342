"""Where the cache may be: the order of the candidates, and what makes one of them fit. No archive is needed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from aero.boot import folders
from aero.boot.folders import Refused, candidates, secured


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home, and nothing else said."""
    for name in ("AERO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/eva")


def shared() -> list[tuple[str, str]]:
    return [(f"{folder}/aero-{os.geteuid()}", folder) for folder in ("/var/tmp", "/tmp", "/dev/shm")]


def test_home_comes_first_then_beside_the_archive_then_what_all_share() -> None:
    assert list(candidates("/opt/aero.pyz")) == [
        ("/home/eva/.cache/aero", "/home/eva"),
        ("/opt/.aero-cache", "/opt"),
        *shared(),
    ]


def test_what_the_user_chose_comes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AERO_CACHE", "/srv/cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert list(candidates("/opt/aero.pyz"))[:3] == [
        ("/srv/cache", "/"),
        ("/xdg/aero", "/"),
        ("/home/eva/.cache/aero", "/home/eva"),
    ]


def test_what_is_no_whole_path_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AERO_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "there")
    assert list(candidates("/opt/aero.pyz")) == [("/opt/.aero-cache", "/opt"), *shared()]


def test_an_archive_is_found_from_where_it_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (f"{tmp_path}/.aero-cache", str(tmp_path)) in list(candidates("aero.pyz"))


def test_it_is_made_for_us_alone_with_what_is_missing_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "cache"
    umask = os.umask(0)
    try:
        assert secured(str(folder), str(tmp_path)) == str(folder.resolve())
    finally:
        os.umask(umask)
    for made in (folder, folder.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert secured(str(folder), str(tmp_path)) == str(folder.resolve()), "a second time as well"


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(Refused, match=f"{home} does not exist"):
        secured(f"{home}/.cache/aero", str(home))
    assert not home.exists()


def test_a_way_through_a_symlink_is_judged_where_it_leads(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir(0o700)
    link.symlink_to(real)
    assert secured(f"{link}/cache", str(tmp_path)) == f"{real.resolve()}/cache"
    real.chmod(0o777)
    with pytest.raises(Refused, match="real is writable by others, who could swap it"):
        secured(f"{link}/cache", str(tmp_path))


def test_a_folder_from_which_nothing_may_be_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NOSUID))
    with pytest.raises(Refused, match="is mounted noexec"):
        secured(str(tmp_path / "cache"), str(tmp_path))


def test_somebody_else_above_is_refused_and_root_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owners = {str(tmp_path): 4711}

    def found(path: str) -> SimpleNamespace:
        return SimpleNamespace(st_uid=owners.get(path, 0), st_mode=stat.S_IFDIR | 0o755)

    monkeypatch.setattr(folders, "os", SimpleNamespace(path=os.path, stat=found, geteuid=lambda: 1000))
    with pytest.raises(Refused, match=f"{tmp_path} belongs to uid 4711, who could swap it"):
        folders.check_ancestors(f"{tmp_path}/a/cache")
    owners[str(tmp_path)] = 1000
    folders.check_ancestors(f"{tmp_path}/a/cache")
