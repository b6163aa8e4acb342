"""The access log of a running server: streams, requests, refusals; a moved file; the filter that fail2ban is given."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import services
from tests.e2e.harness import LOOPBACK, Lab, connect, echoes, free_port, is_reset, poll
from tests.e2e.test_udp import Echo, ask, visitor

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md"


def test_streams_requests_and_refusals_are_written_down(lab: Lab) -> None:
    path, mux = lab.path("access.log"), free_port()
    server = lab.server(
        "--access-log", str(path), "--access-log-format", "json", "--mux", f"{LOOPBACK}:{mux}"
    )
    echo = services.echo(lab)
    worker = lab.worker(
        server, tag="nas", targets={"echo": echo, "shut": f"127.0.0.1:{echo}?visitors=192.0.2.0/24"}
    )

    def lines(name: Path = path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in name.read_text().splitlines()] if name.exists() else []

    assert echoes(worker.port("echo"), b"x" * 1000)
    poll("the stream's line", lambda: any(line["target"] == "echo" for line in lines()))
    (line,) = lines()
    assert (line["kind"], line["tag"], line["end"]) == ("stream", "nas", "ok")
    assert (line["bytes_in"], line["bytes_out"]) == (1000, 1000)
    assert is_reset(worker.port("shut"))
    poll("the refusal's line", lambda: lines()[-1]["end"] == "refused: visitors")
    with connect(mux) as visitor:
        visitor.sendall(
            b"GET /nas/shut/secret?token=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert visitor.recv(100).startswith(b"HTTP/1.1 403 ")
    poll("the request's line", lambda: lines()[-1]["kind"] == "request")
    last = lines()[-1]
    assert (last["method"], last["path"], last["status"]) == ("GET", "/nas/shut/secret", 403)
    assert last["end"] == "not let in"
    moved = path.with_suffix(".moved")
    path.rename(moved)
    server.send(signal.SIGHUP)
    poll("a new file", path.exists)
    assert echoes(worker.port("echo"))
    poll("its line", lambda: len(lines()) == 1)


def test_flows_of_datagrams_are_written_down(lab: Lab) -> None:
    path = lab.path("access.log")
    server = lab.server("--access-log", str(path))
    echo = Echo(lab)
    worker = lab.worker(server, tag="nas", targets={"echo": f"{LOOPBACK}:{echo.port}/udp?idle=5"})
    with visitor(worker.port("echo")) as asking:
        ask(asking, b"x" * 1000)
        poll("its line", path.read_text)
    line = path.read_text()
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[.*\] "UDP nas/echo" - 1000 "-" "-" in=1000 s=0\.\d+ .* end="ok"\n', line
    ), line


@pytest.mark.skipif(shutil.which("fail2ban-regex") is None, reason="needs fail2ban")
def test_fail2ban_finds_whom_it_should(lab: Lab) -> None:
    text = OPERATIONS.read_text()
    found = re.search(r"( *)\[Definition\]\n(?:.*\n)+?(?=\n)", text)
    assert found is not None
    folder = lab.new_folder("fail2ban")
    (folder / "aero.conf").write_text(textwrap.dedent(found[0]))
    when = "[26/Nov/2026:12:00:00 +0000]"
    tail = '"-" "-" in=0 s=0.001 tag=nas target=web cid=c1'
    (folder / "log").write_text(
        f'192.0.2.1 - - {when} "TCP nas/web" - 0 {tail} end="refused: visitors"\n'
        f'192.0.2.2 - - {when} "GET /nas/web/x" 401 17 {tail} end="ok"\n'
        f'192.0.2.3 - - {when} "GET /nas/web/" 200 17 {tail} end="ok"\n'
        f'192.0.2.4 - ci {when} "TCP nas/web" - 500 {tail} end="ok"\n'
        f'192.0.2.5 - - {when} "GET /x end=\\"refused: visitors\\"" 200 17 {tail} end="ok"\n'
    )
    command = ["fail2ban-regex", "--print-all-matched", str(folder / "log"), str(folder / "aero.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    matched = done.stdout.partition("Matched line(s)")[2].partition("Missed line(s)")[0]
    assert re.findall(r"192\.0\.2\.\d", matched) == ["192.0.2.1", "192.0.2.2"], done.stdout + done.stderr
