"""What targets may get wrong: each row of docs/mux.md is a case here, read through a whole connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aero.core.stream import OPEN, OURS_ENDED
from aero.errors import MessageError
from aero.server.httpmux.repair import repair
from tests.server.httpmux.scene import Scene

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "mux.md"
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
#: By the table's first column: what the target says, and what of its head the visitor gets; whether the connection to
#: the target is kept.
FORGIVEN: dict[str, tuple[bytes, bytes, bool]] = {
    "the same length twice": (OK + LENGTH * 2 + b"\r\nok", LENGTH, True),
    "the same length in a list": (OK + b"Content-Length: 2, 2\r\n\r\nok", LENGTH, True),
    "`chunked` twice": (OK + CHUNKED * 2 + b"\r\n" + CHUNKS, CHUNKED, False),
    "a length beside `chunked`": (OK + LENGTH + CHUNKED + b"\r\n" + CHUNKS, CHUNKED, False),
    "`Transfer-Encoding: identity`": (OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\nok", LENGTH, True),
    "chunks in HTTP/1.0": (OK.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNKS, CHUNKED, False),
    "lines that end in a lone LF": (b"HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\nok", b"A: b\r\n" + LENGTH, True),
    "a folded line": (OK + b"A: b\r\n\t c\r\n" + LENGTH + b"\r\nok", b"A: b c\r\n" + LENGTH, True),
    "a folded line before the first field": (OK + b" b: c\r\n" + LENGTH + b"\r\nok", LENGTH, True),
    "a blank in or after a field's name": (OK + b"A b: c\r\nD : e\r\n" + LENGTH + b"\r\nok", LENGTH, True),
    "a field's name that is none": (OK + b"(A): c\r\n: d\r\n" + LENGTH + b"\r\nok", LENGTH, True),
    "a blank after `Content-Length` or `Transfer-Encoding`": (OK + b"Content-Length : 2\r\n\r\nok", LENGTH, False),
    "blanks behind a chunk's size": (OK + CHUNKED + b"\r\n2 \t\r\nok\r\n0  \r\n\r\n", CHUNKED, True),
    "a lone LF in chunks": (OK + CHUNKED + b"\r\n2\nok\n0\nA: b\n\n", CHUNKED, True),
}  # fmt: skip
REFUSED: dict[str, bytes] = {
    "two different lengths": OK + LENGTH + b"Content-Length: 3\r\n\r\nabc",
    "a length that is no number": OK + b"Content-Length: +2\r\n\r\nok",
    "a coding other than `chunked`": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "a lone CR": OK + b"A: b\rC: d\r\n" + LENGTH + b"\r\nok",
    "a control character": OK + b"A: b\x01\r\n" + LENGTH + b"\r\nok",
    "a line without a colon": OK + b"what\r\n" + LENGTH + b"\r\nok",
    "another status line": b"HTTP/2 200\r\n" + LENGTH + b"\r\nok",
}


def visited(answer: bytes, step: int) -> Scene:
    scene = Scene(b"GET /t/web/ HTTP/1.1\r\nHost: a\r\n\r\n", answer, step)
    scene.sock.ends = False
    scene.run()
    return scene


@pytest.mark.parametrize("step", [1 << 16, 1], ids=["whole", "in bytes"])
@pytest.mark.parametrize("row", FORGIVEN)
def test_what_has_one_meaning_passes_and_is_written_as_the_rules_have_it(row: str, step: int) -> None:
    answer, head, kept = FORGIVEN[row]
    scene = visited(answer, step)
    assert scene.sock.taken.startswith(OK + head + b"\r\n")
    body = scene.sock.taken.partition(b"\r\n\r\n")[2]
    assert body == b"ok" or re.sub(rb"[0-9a-f]+\r\n|\r\n|A: b", b"", body) == b"ok"
    assert [stream.state for stream in scene.open] == [OPEN if kept else OURS_ENDED]
    scene.finish()


@pytest.mark.parametrize("row", REFUSED)
def test_what_has_none_is_a_502(row: str) -> None:
    scene = visited(REFUSED[row], 1 << 16)
    assert scene.sock.taken.startswith(b"HTTP/1.1 502 ")
    assert not scene.open
    scene.finish()


def test_the_table_is_the_law() -> None:
    text = DOCUMENT.read_text()
    section = text[text.index("## What targets may get wrong") :].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert rows == ["a target sends", *FORGIVEN, "a target sends", *REFUSED]


@pytest.mark.parametrize("row", REFUSED)
def test_a_reason_is_given(row: str) -> None:
    head = REFUSED[row].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    if row != "a control character":  # that one is found before
        with pytest.raises(MessageError):
            repair(head)


def test_a_head_of_a_good_device_is_not_touched() -> None:
    head = b"HTTP/1.1 200\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    assert repair(head) == head


def test_many_cookies_and_a_long_policy() -> None:
    cookies = b"".join(b"Set-Cookie: c%d=1\r\n" % number for number in range(130))
    policy = b"Content-Security-Policy: " + b"x" * 40_000 + b"\r\n"
    scene = visited(OK + cookies + policy + LENGTH + b"\r\nok", 1 << 16)
    assert scene.sock.taken == OK + cookies + policy + LENGTH + b"\r\nok"
    scene.finish()


def test_an_interim_response_may_be_wrong_too() -> None:
    answer = b"HTTP/1.1 103 Early Hints\nLink: </a>\n\n" + OK + LENGTH + b"\r\nok"
    scene = visited(answer, 1 << 16)
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </t/web/a>\r\n\r\n"
    assert scene.sock.taken == hints + OK + LENGTH + b"\r\nok"
    scene.finish()


def test_nothing_is_forgiven_to_visitors() -> None:
    for bad in (
        b"A: b\nC: d\r\n",
        b"A: b\r\n c\r\n",
        b"A : b\r\n",
        LENGTH * 2,
        LENGTH + CHUNKED,
        CHUNKED * 2,
    ):
        scene = Scene(
            b"POST /t/web/ HTTP/1.1\r\nHost: a\r\n" + bad + b"\r\n" + CHUNKS, OK + LENGTH + b"\r\nok"
        )
        scene.run()
        assert scene.sock.taken.startswith(b"HTTP/1.1 400 "), bad
        scene.finish()
    for bad in (
        b"2 \r\nok\r\n0\r\n\r\n",
        b"2\nok\r\n0\r\n\r\n",
        b"2\r\nok\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\n\n",
    ):
        request = b"POST /t/web/ HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n"
        scene = Scene(request + bad, OK + LENGTH + b"\r\nok")
        scene.run()
        assert b" 400 " in scene.sock.taken or scene.visitor.closed, bad
        assert not any(got.endswith(b"0\r\n\r\n") for got in scene.got.values())
        scene.finish()
