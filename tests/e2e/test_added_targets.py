"""`aero target add`: a worker that runs gets a target, where its own side lets it."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import COMMAND, Lab, Worker, connect, echoes, exchange, listening, poll


class Adding:
    """A server, and `aero target` for it."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.api = lab, ApiServer(lab)
        poll("the API to have its key", lambda: self.api.key)

    def target(self, *words: str) -> subprocess.CompletedProcess[str]:
        state = str(self.api.state)
        where = self.api.url.partition("//")[2].strip("/")
        return self.lab.aero("target", *words, "--api", where, "--state", state)

    def worker(self, *options: str, tag: str, state: Path) -> Worker:
        """A worker without targets of its own."""
        argv = [
            *COMMAND,
            "client",
            "--server",
            f"127.0.0.1:{self.api.link_port}",
            "--tag",
            tag,
            "--host",
            "lab",
        ]
        argv += ["--state", str(state), *options]
        program = self.lab._start(Worker, f"worker-{tag}", [*argv, *self.lab._auth(None)], None)
        program.says("link up")
        return program


@pytest.fixture
def place(lab: Lab) -> Adding:
    return Adding(lab)


def test_a_target_is_added_and_goes(lab: Lab, place: Adding) -> None:
    echo, state = services.echo(lab), lab.path("worker-state")
    allow = ("--allow", f"127.0.0.1:{echo}+127.0.0.1:1")
    nas = place.worker(*allow, tag="nas", state=state)
    done = place.target("add", "nas", f"db@127.0.0.1:{echo}")
    assert done.returncode == 0, done.stderr
    port = int(re.search(r"^c\w{12}: port (\d+)$", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
    assert nas.port("db") == port and echoes(port)
    visitor = connect(port)
    assert exchange(visitor)

    for words, why in (
        (("nas", "db@127.0.0.1:1"), f"nas/db was added already, at 127.0.0.1:{echo}"),
        (("nas", "x@127.0.0.1:2"), "no worker takes it: 127.0.0.1:2 is not in this worker's --allow"),
        (("lab", f"x@127.0.0.1:{echo}", "--for", "1h"), "there is no worker lab now"),
        (("cabcdefabcdef@", f"x@127.0.0.1:{echo}", "--for", "1h"), "there is no worker cabcdefabcdef@ now"),
    ):
        refused = place.target("add", *words)
        assert refused.returncode == 3 and why in refused.stderr, refused.stderr
    for words, why in (
        (("add", "nas"), "say what to do"),
        (("add", "nas", "x@h:1?weight=3"), "leave out weight="),
    ):
        slip = place.target(*words)
        assert slip.returncode == 2 and why in slip.stderr

    # For a time, and to one worker; what is open goes on.
    cid = place.api.worker("nas")["cid"]
    soon = place.target("add", f"{cid}@", f"soon@127.0.0.1:{echo}", "--for", "2")
    assert soon.returncode == 0 and echoes(nas.port("soon"))
    poll("the time to be up", lambda: not listening(nas.port("soon")))
    assert "db" in place.target("list").stdout and "soon" not in place.target("list").stdout

    # Without --allow there is none; a tag that nobody has yet is asked for it when it comes.
    free = place.worker("--target", f"own@127.0.0.1:{echo}", tag="free", state=lab.path("free"))
    refused = place.target("add", "free", f"db@127.0.0.1:{echo}")
    assert (
        refused.returncode == 3
        and "takes no targets from the server: it runs without --allow" in refused.stderr
    )
    assert echoes(free.port("own"))
    assert "no worker is there now" in place.target("add", "later", f"db@127.0.0.1:{echo}").stdout
    assert echoes(place.worker(*allow, tag="later", state=lab.path("later")).port("db"))

    assert exchange(visitor)
    visitor.close()
    nas.stop()
    again = place.worker(*allow, tag="nas", state=state)
    assert again.port("db") == port and echoes(port)
    again.stop()
    shrunk = place.worker("--allow", "127.0.0.1:1", tag="nas", state=state)
    shrunk.says(
        r"the server asks for a target that is not offered target=db why=.*not in this worker's --allow"
    )
    assert not listening(port)

    assert "db of nas is removed" in place.target("remove", "nas/db").stdout
    assert place.target("remove", "nas/db").returncode == 3


def test_what_is_for_good_outlives_the_server(lab: Lab, place: Adding) -> None:
    echo = services.echo(lab)
    nas = place.worker("--allow", "127.0.0.1:*", tag="nas", state=lab.path("worker-state"))
    assert place.target("add", "nas", f"db@127.0.0.1:{echo}").returncode == 0
    assert place.target("add", "nas", f"soon@127.0.0.1:{echo}", "--for", "1h").returncode == 0
    port, soon = nas.port("db"), nas.port("soon")
    place.api.program.stop(signal.SIGKILL)
    place.api.start()
    poll("the worker to be back", lambda: listening(port))
    assert echoes(port) and not listening(soon)
    assert place.api.worker("nas")["targets"][0]["name"] == "db"
