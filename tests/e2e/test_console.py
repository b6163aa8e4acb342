"""The commands that ask the management API, in a terminal."""

from __future__ import annotations

import re
import signal
import stat

import pytest

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import (
    COMMAND,
    LOOPBACK,
    Lab,
    Program,
    free_port,
    poll,
)


def test_list_ping_and_kick_in_a_terminal(lab: Lab) -> None:
    token = "token-of-this-test"
    api = ApiServer(lab, "--api-token", token, token=token)
    at = ("--api", f"localhost:{api.port}", "--api-token", token)
    assert lab.aero("list", *at).stdout == "No workers.\n"
    echo = services.echo(lab)
    worker = lab.worker(api.link_port, tag="nas", targets={"echo": echo, "more": echo})
    poll("both targets", lambda: len(api.worker("nas")["targets"]) == 2)
    cid = api.worker("nas")["cid"]
    head, first, second = lab.aero("list", *at).stdout.splitlines()
    assert head.split()[:5] == ["TAG", "CID", "HOST", "UP", "LINK"]
    assert first[head.index("LINK") :].split()[0] == "tcp"
    assert first.split()[:3] == ["nas", cid, "lab"]
    assert second.split()[0] == "more"
    for column in ("TARGET", "LOCAL", "LISTEN"):
        place = head.index(column)
        assert first[place - 1] == second[place - 1] == " "
        assert first[place] != " "
        assert second[place] != " "
    assert lab.aero("list", *at, "--tags", "other").stdout == "No workers with the tags other.\n"
    assert f'"{cid}"' in lab.aero("list", *at, "--json", "--tags", "nas").stdout
    assert re.fullmatch(rf"{cid} answered in [0-9.]+ ms\n", lab.aero("ping", cid, *at).stdout)
    missing = lab.aero("ping", "c000000000000", *at)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "c000000000000" in missing.stderr
    wrong = lab.aero("list", "--api", f"localhost:{api.port}", env={"AERO_API_TOKEN": "another"})
    assert wrong.returncode == 3
    assert "--api-token" in wrong.stderr
    assert "sent away" in lab.aero("kick", cid, *at).stdout
    poll("it to leave", lambda: not api.workers())
    assert worker.running


def test_a_key_is_found_in_a_terminal(lab: Lab) -> None:
    api = ApiServer(lab)
    at = ("--api", f"localhost:{api.port}")
    folder = lab.new_folder("elsewhere")
    here, elsewhere = ("--state", str(api.state)), ("--state", str(folder))
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    cid = api.worker("nas")["cid"]
    assert lab.aero("page", *at, *here).stdout == f"http://localhost:{api.port}/#key={api.key}\n"
    for command in (["page"], ["kick", cid]):
        lost = lab.aero(*command, *at, *elsewhere)
        assert (lost.returncode, lost.stdout) == (78, "")
        assert "elsewhere/api-key" in lost.stderr
        assert "--state" in lost.stderr
    (folder / "api-key").write_text("k" * 32)
    wrong = lab.aero("kick", cid, *at, *elsewhere)
    assert wrong.returncode == 3
    assert "server-state/api-key" in wrong.stderr
    assert api.worker("nas")["cid"] == cid
    assert "sent away" in lab.aero("kick", cid, *at, *here).stdout
    poll("it to leave", lambda: not api.workers())


def test_an_api_at_a_path_is_for_its_own_user(lab: Lab) -> None:
    file = lab.new_folder("run") / "api"
    state, link_port = lab.path("server-state"), free_port()
    argv = [*COMMAND, "server", "--ip", LOOPBACK, "--api", f"unix:{file}"]
    argv += [
        "--port",
        str(link_port),
        "--mux",
        "off",
        "--ports",
        "0",
        "--auth",
        lab.code,
        "--state",
        str(state),
    ]
    at = ("--api", f"unix:{file}")

    def start() -> Program:
        server = lab.start(argv, name="server")
        poll("it to answer", lambda: lab.aero("list", *at).returncode == 0)
        return server

    server = start()
    worker = lab.worker(link_port, tag="nas", targets={"echo": services.echo(lab)})
    worker.port("echo")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cid = lab.aero("list", *at).stdout.splitlines()[1].split()[1]
    page = lab.aero("page", *at, "--state", str(state))
    assert (page.returncode, "browser" in page.stderr) == (2, True)
    assert "sent away" in lab.aero("kick", cid, *at, "--state", str(state)).stdout
    server.stop(signal.SIGKILL)
    assert file.exists()
    nobody = lab.aero("list", *at)
    assert (nobody.returncode, str(file) in nobody.stderr) == (1, True)
    server = start()
    second = lab.aero(*(word.replace(str(link_port), "0") for word in argv[len(COMMAND) :]))
    assert (second.returncode, "is taken" in second.stderr) == (4, True)
    server.stop()
    assert not file.exists()
    file.write_text("something of somebody's")
    refused = lab.aero(*argv[len(COMMAND) :])
    assert (refused.returncode, str(file) in refused.stderr) == (4, True)
    assert file.read_text() == "something of somebody's"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["list", "--api", "unix:/" + "x" * 200], 2, "103 bytes"),
        (["list", "--api", "off"], 2, "--api"),
        (["list", "--tags", "a_b"], 2, "--tags"),
        (["list", "extra"], 2, "extra"),
        (["ping"], 2, "CID"),
        (["ping", "nas"], 2, "aero list"),
        (["ping", "c000000000000", "c000000000001"], 2, "c000000000001"),
        (["kick"], 2, "CID"),
        (["kick", "--json", "c000000000000"], 2, "--json"),
    ],
)
def test_slips_in_a_terminal(lab: Lab, words: list[str], code: int, says: str) -> None:
    done = lab.aero(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr


def test_nobody_or_somebody_else_where_the_api_should_be(lab: Lab) -> None:
    nobody = lab.aero("list", "--api", f"localhost:{free_port()}")
    assert nobody.returncode == 1
    assert "--api" in nobody.stderr
    other = services.serve(lab, lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello"))
    stranger = lab.aero("ping", "c000000000000", "--api", f"{LOOPBACK}:{other}")
    assert stranger.returncode == 1
    assert "not AeRO-proxy" in stranger.stderr
