"""The access log: both forms of a line, size, renaming, and a file that cannot be written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gevent
import pytest

from aero.server.watch import access
from aero.server.watch.access import COMBINED, FLOW, JSON_LINES, AccessLog, Entry, combined_lines, json_lines

AT = 1_772_366_400.25
STREAM = Entry("ci", "nas", "ssh", "c1", "192.0.2.7:4000", 10, 20, 1.5, "ok")
REQUEST = Entry("", "nas", "web", "c2", "[2001:db8::1]:9", 1, 2, 0.25, "ok", "GET", b'/a"b\n?c', 200)


def test_lines_as_web_servers_have_them() -> None:
    assert re.fullmatch(
        r'192\.0\.2\.7 - ci \[\d\d/\w{3}/2026:\d\d:\d\d:\d\d [+-]\d{4}\] "TCP nas/ssh" - 20 "-" "-"'
        r' in=10 s=1\.500 tag=nas target=ssh cid=c1 end="ok"\n',
        combined_lines([(AT, *STREAM)]),
    )
    assert '"UDP nas/ssh" - 20 ' in combined_lines([(AT, *STREAM._replace(method=FLOW))])
    line = combined_lines([(AT, *REQUEST)])
    assert line.startswith("2001:db8::1 - - [")
    assert r'] "GET /a\"b\n" 200 2 "-" "-" in=1 ' in line
    assert line.count("\n") == 1, "nobody forges a line"


def test_lines_as_json() -> None:
    said = json.loads(json_lines([(AT, *STREAM)]))
    assert said == {
        "time": "2026-03-01T12:00:00.250Z", "kind": "stream", "user": "ci", "tag": "nas", "target": "ssh", "cid": "c1",
        "visitor": "192.0.2.7:4000", "bytes_in": 10, "bytes_out": 20, "duration_s": 1.5, "end": "ok",
    }  # fmt: skip
    assert json.loads(json_lines([(AT, *STREAM._replace(method=FLOW))])) == {**said, "kind": "flow"}
    said = json.loads(json_lines([(AT, *REQUEST)]))
    assert (said["kind"], said["method"], said["path"], said["status"]) == ("request", "GET", r'/a"b\n', 200)


def test_a_full_file_makes_place_and_a_renamed_one_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "access"
    log = AccessLog(gevent.get_hub().loop, str(path), JSON_LINES, 600)
    for _ in range(5):
        log.add(STREAM)
        log.flush()
    assert path.stat().st_size <= 600
    assert (tmp_path / "access.1").stat().st_size <= 600
    path.rename(tmp_path / "moved")
    log.reopen()
    log.add(STREAM)
    log.close()
    assert len(path.read_text().splitlines()) == 1


def test_what_cannot_be_written_is_lost_and_counted(tmp_path: Path) -> None:
    log = AccessLog(gevent.get_hub().loop, str(tmp_path / "none" / "access"), COMBINED, 1000)
    log.add(STREAM)
    log.flush()
    assert log._lost == 1
    (tmp_path / "none").mkdir()
    log.reopen()
    log.add(STREAM)
    log.close()
    assert len((tmp_path / "none" / "access").read_text().splitlines()) == 1


def test_a_crowd_of_lines_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FLUSH_LINES", 3)
    path = tmp_path / "access"
    log = AccessLog(gevent.get_hub().loop, str(path), COMBINED, 1 << 20)
    for number in range(4):
        log.add(REQUEST._replace(target_path=b"/%d" % number, visitor=f"192.0.2.{number}:7"))
    found = [line.split()[0] + " " + line.split()[6].strip('"') for line in path.read_text().splitlines()]
    assert found == ["192.0.2.0 /0", "192.0.2.1 /1", "192.0.2.2 /2"]
    log.close()
    assert len(path.read_text().splitlines()) == 4


def test_hostile_words_stay_in_their_places() -> None:
    hostile = REQUEST._replace(
        end='x" end="ok', target_path=b'/" 200 1 "-"\x00\xff' + b"a" * 2000, method="GET"
    )
    line = combined_lines([(AT, *hostile)])
    assert (line.count("\n") == 1 and line.isascii() is False) or "\x00" not in line
    assert len(line) < 1200 and 'end="x\\" end=\\"ok"' in line
    said = json.loads(json_lines([(AT, *hostile)]))
    assert said["end"] == 'x" end="ok' and len(said["path"]) < 600
