"""What stands in files: codes as people save them, and paths to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aero.config import filed
from aero.errors import ConfigError


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
