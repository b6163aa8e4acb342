"""`aero users`: what is printed, what is not, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from aero.cli import main as cli
from aero.core.spake2plus import Verifier
from aero.core.stretch import stretch


def test_a_new_user_gets_a_code_that_never_stands_beside_its_verifier(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["users", "add", "CI"], "aero") == 0
    shown = capsys.readouterr()
    code = shown.err.split("nowhere else: ")[1].split()[0]
    assert code not in shown.out
    assert shown.out == f'\n[user.ci]\nverifier = "{Verifier.of(*stretch(code, "ci")).text}"\n'
    file = tmp_path / "users"
    file.write_text(shown.out)
    assert cli.main(["users", "check", str(file)], "aero") == 0
    assert capsys.readouterr().out == f"{file}: good, 1 users, without [default]\n"


def test_a_code_that_was_given_is_not_repeated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.write_text("correct horse\n")
    code.chmod(0o600)
    assert cli.main(["users", "add", "ci", "--auth", f"@{code}"], "aero") == 0
    shown = capsys.readouterr()
    assert "correct horse" not in shown.out + shown.err
    assert Verifier.of(*stretch("correct horse", "ci")).text in shown.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[user.ci]\nlimt = "1MB"\nauth = "@/nowhere"\n',
            "line 2: [user.ci]: unknown key limt, did you mean limit?",
        ),
        (
            '[user.ci]\nauth = "@/nowhere"\n',
            "line 1: [user.ci]: auth: cannot read the code from '/nowhere': No such",
        ),
        (f'[user.ci]\nverifier = "spake2plus${"A" * 130}"\n', "line 1: [user.ci]: verifier: that is none"),
    ],
)
def test_a_file_that_is_not_good_is_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    assert cli.main(["users", "check", str(file)], "aero") == 2
    assert f"{file}: {said}" in capsys.readouterr().out


def test_a_date_that_is_past_is_a_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("[default]\nexpires = 2001-01-01\n")
    assert cli.main(["users", "check", str(file)], "aero") == 0
    assert "warning: line 2: [default]: expires: that is past" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["", "check", "add", "add --auth x", "remove ci", "add a_b", "check /gone/from/here"]
)
def test_slips(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert cli.main(["users", *words.split()], "aero") == 2
    assert capsys.readouterr().err.startswith("aero: ")
