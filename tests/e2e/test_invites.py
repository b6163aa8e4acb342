"""From `aero invite` to a worker that joined: by real programs, through a restart, and to its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import COMMAND, Lab, Server, echoes, free_port, listening, poll


class Inviting:
    """A server with one user, and calls of its API by the command line."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.users = lab.path("users.toml")
        self.users.write_text(lab.aero("users", "add", "ci").stdout)
        self.state, self.api = lab.path("server-state"), f"127.0.0.1:{free_port()}"
        self.server = self.start()

    def start(self, port: int = 0) -> Server:
        server = self.lab.server(
            "--users", str(self.users), "--api", self.api, code="", state=self.state, port=port
        )
        key = self.state / "api-key"
        poll("the API to have its key", lambda: key.exists() and listening(int(self.api.split(":")[1])))
        return server

    def aero(self, word: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.lab.aero(word, "--api", self.api, "--state", str(self.state), *options)

    def invite(self, *options: str) -> str:
        """A code."""
        done = self.aero("invite", "--user", "ci", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[0]

    def join(self, code: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
        where = f"127.0.0.1:{self.server.link_port}"
        return self.lab.aero("join", where, code, "--file", str(file), *options)


@pytest.fixture
def house(lab: Lab) -> Inviting:
    return Inviting(lab)


def test_from_a_code_to_a_worker_and_to_its_end(lab: Lab, house: Inviting) -> None:
    echo = services.echo(lab)
    file, other = lab.path("nas.toml"), lab.path("other.toml")
    code = house.invite("--tag", "ci-nas", "--may", f"127.0.0.1:{echo}", "--for", "10m", "--words", "4")
    second = house.invite("--tag", "ci-lab")
    assert re.fullmatch(r"\d+(-[a-z]+){4}", code) and re.fullmatch(r"\d+(-[a-z]+){2}", second)

    wrong = house.join(re.sub(r"-\w+$", "-zebras", code), file)
    assert (wrong.returncode, wrong.stderr) == (
        3, "aero: the code is wrong, or its invitation is over; three wrong codes end an invitation\n",
    )  # fmt: skip
    assert not file.exists()
    done = house.join(code, file)
    assert done.returncode == 0, done.stderr
    login = re.search(r"joined as (ci\+[a-z0-9]{8}), with the tag ci-nas", done.stdout)[1]  # type: ignore[index]
    assert f"client --config {file}" in done.stdout
    assert re.search(r"^to keep it by cron.*: \* \* \* \* \* .* --lock --detach ", done.stdout, re.MULTILINE)
    assert os.stat(file).st_mode & 0o777 == 0o600
    used = house.join(code, other)
    assert (used.returncode, used.stderr) == (3, "aero: this invitation was used already\n")
    assert house.join(second, other, "--target", f"x@127.0.0.1:{echo}").returncode == 0, "two at once"
    assert code.partition("-")[2] not in house.server.stderr, "no log has a code"

    # The server holds it, too, where the worker's own side does not.
    file.write_text(re.sub("(?m)^allow = .*\n", "", file.read_text()))
    command = [*COMMAND, "client", "--config", str(file)]
    worker = lab.worker(
        house.server, "--config", str(file), code="", tag="", targets={f"port-{echo}": echo, "db": 1}
    )
    assert echoes(worker.port(f"port-{echo}"))
    worker.says(
        rf"refused.*target=db@127\.0\.0\.1:1 .*not what this worker was invited for \(127\.0\.0\.1:{echo}"
    )

    house.server.stop(signal.SIGKILL)
    house.server = house.start(house.server.link_port)
    assert poll("the worker to be back", lambda: listening(worker.port(f"port-{echo}")))
    listed = house.aero("invites").stdout
    assert re.search(rf"^{re.escape(login)} +ci +ci-nas +127\.0\.0\.1:{echo} +joined ", listed, re.MULTILINE)
    elsewhere = lab.run([*command, "--tag", "ci-lab", "--once"])
    assert elsewhere.returncode == 3 and "was invited for the tag ci-nas" in elsewhere.stderr

    assert house.aero("invites", "--withdraw", login).stdout == f"{login} is withdrawn\n"
    worker.says(r"its credential was withdrawn")
    assert house.aero("invites", "--withdraw", login).returncode == 3
    worker.stop()
    gone = lab.run([*command, "--once"])
    assert gone.returncode == 3 and "wrong auth code" in gone.stderr

    before = house.users.read_text()
    house.users.write_text('[user.db]\nverifier = "' + before.split('"')[1] + '"\n')
    house.server.send(signal.SIGHUP)
    house.server.says("reload|configuration read")
    assert lab.run([*COMMAND, "client", "--config", str(other), "--once"]).returncode == 3, "its user is gone"


def test_codes_that_do_not_count_any_more(lab: Lab, house: Inviting) -> None:
    file = lab.path("x.toml")
    withdrawn, guessed = house.invite(), house.invite()
    assert house.aero("invites", "--withdraw", withdrawn.split("-")[0]).returncode == 0
    said = house.join(withdrawn, file)
    assert (said.returncode, said.stderr) == (3, "aero: this invitation was withdrawn\n")
    number = guessed.split("-")[0]
    for _ in range(3):
        assert house.join(f"{number}-wrong-guess", file).returncode == 3
    said = house.join(guessed, file)
    assert (said.returncode, said.stderr) == (3, "aero: this invitation ended after three wrong codes\n")
    house.server.says("invitation ended number=")
    for options, why in (
        (("--user", "nobody"), "there is no user nobody"),
        (("--user", "ci", "--tag", "db"), "the rules of user ci allow no tag db"),
    ):
        refused = house.aero("invite", *options)
        assert refused.returncode == 3 and why in refused.stderr
    # What is no code goes nowhere, and an invitation's code is for joining alone.
    assert house.join("lantern", file).returncode == 2
    code = house.invite()
    number, _, words = code.partition("-")
    done = lab.aero("client", "--server", f"127.0.0.1:{house.server.link_port}", "--user", "ci", "--once",
                    "--auth", words, "--target", "x@127.0.0.1:1")  # fmt: skip
    assert done.returncode == 3 and not file.exists()
