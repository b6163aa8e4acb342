"""Logs that hostile strings cannot forge, full disks cannot stop, and stuck readers cannot block."""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero import logs

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info |warn |error) [a-z]+: .*")


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Leave the process's logging as it was."""
    yield
    logs.close()
    logs.Log.debugging = False


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def run(code: str, stderr: int, before: Callable[[], None] | None = None) -> tuple[int, str, str]:
    """Exit code and output of a Python process; ``before`` runs in it first."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=before, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr or ""


def test_text_line(tmp_path: Path) -> None:
    logs.setup(str(tmp_path / "log"))
    logs.get("server").info("worker up", cid="c0123456789ab", tag="nas", host="my nas", quote='a"b', none="")
    (line,) = lines_of(tmp_path / "log")
    assert LINE.fullmatch(line)
    assert line.endswith(
        r' info  server: worker up cid=c0123456789ab tag=nas host="my nas" quote="a\"b" none=""'
    )


def test_json_line(tmp_path: Path) -> None:
    logs.setup(str(tmp_path / "log"), format="json")
    logs.get("link").warning(
        "closed", event="x", n=3, ok=True, nothing=None, ms=1.5, bad=float("nan"), raw=b"\0"
    )
    (line,) = lines_of(tmp_path / "log")
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("ts"))
    assert entry == {
        "level": "warn", "part": "link", "event": "closed", "event_": "x",
        "n": 3, "ok": True, "nothing": None, "ms": 1.5, "bad": "nan", "raw": r"b'\x00'",
    }  # fmt: skip


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    "hostile",
    [
        "a\n2026-01-01T00:00:00.000Z info  server: forged",
        "\x1b]0;title\x07",
        "\r\x1b[2K",
        "\u202eevil",
        "\x9b31m",
        "\udc80",
        "\x7f",
    ],
)
def test_no_string_forges_a_line_or_a_terminal_sequence(tmp_path: Path, format: str, hostile: str) -> None:
    logs.setup(str(tmp_path / "log"), format=format)
    logs.get("server").info(hostile, tag=hostile)
    text = (tmp_path / "log").read_text()
    assert text.endswith("\n")
    assert text[:-1].isprintable()


@given(st.text(), st.text(), st.sampled_from(["text", "json"]))
def test_every_event_is_one_printable_line(message: str, value: str, format: str) -> None:
    event = logs.Line("server", logs.INFO, message, {"value": value, "other": value})
    line = (logs.json_line if format == "json" else logs.text_line)(event)
    assert line.endswith(b"\n")
    assert len(line) <= logs.LINE_BYTES
    assert line[:-1].decode().isprintable()
    if format == "json":
        assert json.loads(line)["part"] == "server"


def test_quoted_values_read_back_unambiguously() -> None:
    event = logs.Line("x", logs.INFO, "m", {"a": 'b" c="d', "e": "\\"})
    assert event.text == r'm a="b\" c=\"d" e="\\"'


def test_long_values_are_cut() -> None:
    line = logs.Line("x", logs.INFO, "m", {"v": "v" * 100_000}).text
    assert line == "m v=" + "v" * logs.VALUE_CHARS + "..."


def test_a_hundred_long_fields_still_make_one_bounded_line() -> None:
    event = logs.Line("x", logs.INFO, "m", {f"k{i}": "\U000e0001" * 300 for i in range(100)})
    assert len(logs.text_line(event)) <= logs.LINE_BYTES
    line = logs.json_line(event)
    assert len(line) <= logs.LINE_BYTES
    assert json.loads(line)["event"] == "m"


def test_an_object_that_cannot_be_shown_does_not_raise(tmp_path: Path) -> None:
    class Bomb:
        def __str__(self) -> str:
            raise RuntimeError("boom")

    logs.setup(str(tmp_path / "log"))
    logs.get("x").info("m", bomb=Bomb())
    assert "Bomb raises RuntimeError" in (tmp_path / "log").read_text()


def test_debug_lines_only_when_asked_for(tmp_path: Path) -> None:
    log = logs.get("link")
    logs.setup(str(tmp_path / "log"))
    assert not log.debugging
    log.debug("< data")
    assert lines_of(tmp_path / "log") == []
    logs.setup(str(tmp_path / "log"), debug=True)
    assert log.debugging
    log.debug("< data")
    assert len(lines_of(tmp_path / "log")) == 1


def test_size_is_limited_and_exactly_one_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.setup(str(path), size=2000)
    log = logs.get("x")
    for number in range(200):
        log.info("event", number=number)
        assert path.stat().st_size <= 2000
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    kept = lines_of(tmp_path / "log.1") + lines_of(path)
    assert [int(line.rpartition("=")[2]) for line in kept] == list(range(200 - len(kept), 200))


def test_size_counts_what_an_earlier_run_wrote(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 1990 + "\n")
    logs.setup(str(path), size=2000)
    logs.get("x").info("event")
    assert (tmp_path / "log.1").stat().st_size == 1991
    assert len(lines_of(path)) == 1


def test_reopened_after_it_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.setup(str(path))
    log = logs.get("x")
    log.info("one")
    path.rename(tmp_path / "moved")
    log.info("two")
    logs.setup(str(path))
    log.info("three")
    assert [line[-3:] for line in lines_of(tmp_path / "moved")] == ["one", "two"]
    assert lines_of(path)[0].endswith("three")


def test_a_file_moved_by_logrotate_does_not_push_the_new_one_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.setup(str(path), size=300)
    log = logs.get("x")
    path.rename(tmp_path / "moved")
    path.write_text("someone else's\n")
    while not path.read_text().endswith("event\n"):
        log.info("event")
    assert path.read_text().startswith("someone else's\n")
    assert not (tmp_path / "log.1").exists()


def test_a_symlink_keeps_pointing_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "log"
    path.symlink_to(tmp_path / "real" / "file")
    logs.setup(str(path), size=100)
    for _ in range(5):
        logs.get("x").info("event")
    assert path.is_symlink()
    assert sorted(os.listdir(tmp_path / "real")) == ["file", "file.1"]


def test_a_device_is_never_renamed() -> None:
    before = os.stat("/dev/null")
    logs.setup("/dev/null", size=10)
    for _ in range(3):
        logs.get("x").info("event")
    assert stat.S_ISCHR(before.st_mode)
    assert os.stat("/dev/null").st_ino == before.st_ino


def test_a_folder_that_cannot_be_written_costs_no_line_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    path = tmp_path / "log"
    logs.setup(str(path), size=300)
    for number in range(30):
        logs.get("x").info("event", number=number)
    lines = lines_of(path)
    assert sum("cannot be renamed, so it grows" in line for line in lines) == 1
    assert sum("event number=" in line for line in lines) == 30


def test_full_disk_is_said_once_and_ends_by_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    logs.setup(str(path))
    log = logs.get("x")
    for _ in range(5):
        log.info("lost")
    now += logs.RETRY_S
    log.info("lost")
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "No space left on device" in told
    path.unlink()
    logs.setup(str(path))
    now += logs.RETRY_S
    log.info("found")
    first, second = lines_of(path)
    assert first.endswith("warn  log: lines were lost count=6")
    assert second.endswith("x: found")


def test_a_line_that_the_disk_cut_does_not_swallow_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    logs.setup(str(path))
    log = logs.get("x")
    real_write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:7]))
        log.info("cut")
    now += logs.RETRY_S
    log.info("whole")
    piece, notice, whole = lines_of(path)
    assert len(piece) == 7
    assert notice.endswith("lines were lost count=1")
    assert whole.endswith("x: whole")


def test_missing_folder_neither_raises_nor_repeats_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.setup(str(tmp_path / "missing" / "log"))
    for _ in range(3):
        logs.get("x").error("event")
    logs.setup(str(tmp_path / "missing" / "log"))
    assert capfd.readouterr().err.count("\n") == 1


def test_lines_go_to_stderr_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup()
    logs.get("x").info("event")
    assert LINE.fullmatch(capfd.readouterr().err.rstrip("\n"))


SPEAK = """
from aero import logs
logs.setup()
for n in range(5000):
    logs.get("x").info("event", n=n)
print("alive")
"""


def test_broken_pipe_on_stderr_does_not_kill() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(SPEAK, stderr=writer)
    finally:
        os.close(writer)
    assert done[:2] == (0, "alive\n")


def test_closed_stderr_does_not_kill() -> None:
    done = run(SPEAK, stderr=subprocess.DEVNULL, before=lambda: os.close(2))
    assert done[:2] == (0, "alive\n")


def test_a_stuck_reader_of_stderr_loses_lines_instead_of_stopping_the_process() -> None:
    reader, writer = os.pipe()
    try:
        done = run(SPEAK, stderr=writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert done[:2] == (0, "alive\n")


def test_file_limit_of_the_shell_does_not_kill(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = SPEAK.replace("setup()", f"setup({str(tmp_path / 'log')!r})")
    done = run(code, stderr=subprocess.PIPE, before=small_files)
    assert done[:2] == (0, "alive\n")
    assert "File too large" in done[2] or "part of a line" in done[2]


def test_log_file_is_not_for_everyone(tmp_path: Path) -> None:
    logs.setup(str(tmp_path / "log"))
    assert not (tmp_path / "log").stat().st_mode & stat.S_IRWXO


def flood(path: Path, *addresses: str, message: str = "handshake failed") -> list[str]:
    logs.setup(str(path))
    for address in addresses:
        logs.get("gate").warning(message, address=address)
    logs.get("gate").info("something else")
    logs.setup("/dev/null")  # what is still counted is told
    return lines_of(path)


def test_a_flood_from_one_address_is_counted_and_summed_up(tmp_path: Path) -> None:
    lines = flood(tmp_path / "log", *(f"192.0.2.1:{port}" for port in range(1, 1001)), "198.51.100.7:1")
    assert sum(line.endswith("198.51.100.7:1") for line in lines) == 1
    assert sum("something else" in line for line in lines) == 1
    assert re.search(
        r"handshake failed: more of these address=192\.0\.2\.1 count=990 seconds=\d+$", lines[-1]
    )
    assert len(lines) == logs.FLOOD_LINES + 3


def test_a_flood_from_many_addresses_is_counted_by_kind(tmp_path: Path) -> None:
    lines = flood(tmp_path / "log", *(f"10.0.{number >> 8}.{number & 255}" for number in range(5000)))
    assert re.search(r"handshake failed: more of these count=4900 seconds=\d+$", lines[-1])
    assert len(lines) == logs.FLOOD_LINES_OF_A_KIND + 2


def test_lines_that_differ_are_no_flood(tmp_path: Path) -> None:
    logs.setup(str(tmp_path / "log"))
    for number in range(50):
        logs.get("x").warning(f"warning {number}")
        logs.get("x").info("ready")
    assert len(lines_of(tmp_path / "log")) == 100


def test_floods_are_told_when_their_time_is_over() -> None:
    floods = logs.Floods()
    kind = logs.Kind("gate", 30, "handshake failed", "192.0.2.1")
    assert [floods.passes(kind, 5.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert floods.over(5.0 + logs.FLOOD_S - 0.1) == []
    assert floods.over(5.0 + logs.FLOOD_S) == [(kind, 2, logs.FLOOD_S)]
    assert floods.passes(kind, 5.0 + logs.FLOOD_S)
    assert floods.over(1e9) == []


def test_what_is_counted_is_bounded() -> None:
    floods = logs.Floods()
    passed = sum(floods.passes(logs.Kind("gate", 30, "x", str(number)), 1.0) for number in range(10_000))
    assert passed == logs.FLOOD_LINES_OF_A_KIND
    assert len(floods._rows) <= logs.FLOOD_KINDS + 1
    assert floods.over(100.0) == [(logs.Kind("gate", 30, "x"), 9900, logs.FLOOD_S)]


def test_a_file_that_cannot_be_opened_anew_is_gone_on_with(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    logs.setup(str(folder / "log"))
    logs.get("x").info("one")
    folder.rename(tmp_path / "moved")
    logs.setup(str(folder / "log"), format="json")
    assert "cannot open the log" in capfd.readouterr().err
    logs.get("x").info("two")
    one, two = lines_of(tmp_path / "moved" / "log")
    assert one.endswith("one") and '"event": "two"' in two


def test_a_flood_is_summed_up_at_its_time_though_no_line_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(logs, "alarm", lambda seconds, call: alarms.append((seconds, call)))
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    logs.setup(str(tmp_path / "log"))
    for number in range(30):
        now = 100.0 + number
        logs.get("gate").warning("handshake failed", address="192.0.2.1")
    (alarm,) = alarms
    assert now + alarm[0] == pytest.approx(110.0 + logs.FLOOD_S, abs=11)
    now += alarm[0]
    alarm[1]()
    assert "more of these address=192.0.2.1 count=20 seconds=60" in (tmp_path / "log").read_text()
    assert len(alarms) == 1, "nothing is hidden any more"


def test_a_flood_that_ends_with_the_program_says_how_long_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    logs.setup(str(tmp_path / "log"))
    for _ in range(30):
        logs.get("gate").warning("handshake failed", address="192.0.2.1")
    now += 8.2
    logs.setup(str(tmp_path / "other"))
    assert "count=20 seconds=8" in (tmp_path / "log").read_text()
