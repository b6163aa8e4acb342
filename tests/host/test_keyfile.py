"""The key of the API: made once, kept to its owner, never taken from a file that somebody else may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aero.errors import HostError
from aero.host import keyfile


def test_it_is_made_once_and_found_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    key = keyfile.make(folder)
    assert len(key) == 32
    assert keyfile.make(folder) == keyfile.find(folder) == key
    assert stat.S_IMODE(os.stat(keyfile.path_in(folder)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert os.listdir(folder) == [keyfile.FILE]


@pytest.mark.parametrize("content", ["", "short\n", "k" * 33, "k" * 31 + "\r\nX-Evil: 1", "k" * 31 + "é"])
def test_what_is_no_key_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / keyfile.FILE
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(HostError, match="there is no key"):
        keyfile.find(str(tmp_path))
    assert keyfile.make(str(tmp_path)) == keyfile.find(str(tmp_path))


def test_what_others_could_read_is_replaced(tmp_path: Path) -> None:
    key = keyfile.make(str(tmp_path))
    (tmp_path / keyfile.FILE).chmod(0o640)
    assert keyfile.make(str(tmp_path)) != key


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("k" * 32)
    (tmp_path / keyfile.FILE).symlink_to(tmp_path / "theirs")
    with pytest.raises(HostError, match=keyfile.FILE):
        keyfile.find(str(tmp_path))
    assert keyfile.make(str(tmp_path)) != "k" * 32
    assert (tmp_path / "theirs").read_text() == "k" * 32
    (tmp_path / keyfile.FILE).unlink()
    os.mkfifo(tmp_path / keyfile.FILE, 0o600)
    with pytest.raises(HostError, match="there is no key"):
        keyfile.find(str(tmp_path))
    assert keyfile.make(str(tmp_path)) == keyfile.find(str(tmp_path))


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with pytest.raises(OSError, match="/dev/null"):
        keyfile.make("/dev/null/state")
    with pytest.raises(HostError, match="--state DIR"):
        keyfile.find("/dev/null/state")
    with pytest.raises(HostError, match="--state DIR"):
        keyfile.find("")
