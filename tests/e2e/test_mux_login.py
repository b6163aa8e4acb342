"""Targets with ``auth=``: who is asked for a name and a password, who is let in, and what the target gets to see."""

from __future__ import annotations

import json
import signal
import sys
import time
from base64 import b64encode
from pathlib import Path

from tests.e2e.harness import LOOPBACK, Lab, Server, Worker, free_port, listening, poll
from tests.e2e.mux import Mux, Target, in_threads

# Made by htpasswd -B and openssl passwd -6; the passwords are "right" and "also right".
LINES = """# who may
ada:$2y$05$E1PtVCFA5In2OWd1GW87NOHLEuKtzGxzwZ8GtrtiMJLcLUmlPQIvW
bob:$6$lRFYKeupNL4UJSMk$Rn6Duq.c/tY333Z/EJFOJW1Cr3nHnU36hyigyeRSl6eKkk2WpFabvqTFkhIhF6afUpYQmEqlojPblpszV9Hbp/
"""


def passwords(lab: Lab, name: str = "htpasswd", lines: str = "") -> Path:
    where = lab.path(name)
    where.write_text(lines or LINES)
    where.chmod(0o600)
    return where


def offered(lab: Lab, server: Server, target: Target, file: Path, more: str = "") -> Worker:
    where = f"{LOOPBACK}:{target.port}?auth=@{file}{more}"
    worker = lab.worker(server, targets={"web": where}, tag="t", state=lab.new_folder(f"state{free_port()}"))
    worker.says("target mapped")
    return worker


def basic(user: str, password: str) -> str:
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def test_nobody_comes_in_without_a_right_password(lab: Lab) -> None:
    api, folder = free_port(), lab.path("sockets")
    mux, target = Mux(lab, "--api", f"localhost:{api}", "--listen-unix", str(folder)), Target(lab)
    worker = offered(lab, mux.server, target, passwords(lab))
    answer = mux.ask("/t/web/")
    assert answer.status == 401
    assert answer.get("WWW-Authenticate") == 'Basic realm="t/web", charset="UTF-8"'
    assert b"asks for a name and a password" in answer.body
    for wrong in (basic("ada", "wrong"), basic("eve", "right"), "Authorization: Bearer right", "Cookie: a=b"):
        assert mux.ask("/t/web/", wrong).status == 401
    assert not target.requests, "nothing of them has reached the target"
    for user, password in (("ada", "right"), ("bob", "also right")):
        answer = mux.ask("/t/web/in?x", basic(user, password), "X-Other: 1", method="POST", body=b"said")
        assert answer.status == 200
        assert target.requests[-1].get("Authorization") is None, "it was meant for the mux"
        assert (target.requests[-1].get("X-Other"), target.requests[-1].body) == ("1", b"said")
    said = worker.stderr + worker.stdout + mux.server.stderr
    assert "$2y$" not in said and "$6$" not in said and "the HTTP mux of" in said
    assert lab.run(["curl", "-s", "--unix-socket", str(folder / "t.web"), "http://a/"]).returncode
    listed = lab.aero("list", "--api", f"localhost:{api}", "--json")
    (shown,) = json.loads(listed.stdout)["workers"][0]["targets"]
    assert (shown["listen"], shown["auth"]) == ("", True)
    assert "the HTTP mux only" in lab.aero("list", "--api", f"localhost:{api}").stdout
    mux.leave()


def test_a_changed_file_counts_from_a_reload_on(lab: Lab) -> None:
    mux, target, file = Mux(lab), Target(lab), passwords(lab)
    worker = offered(lab, mux.server, target, file)
    assert mux.ask("/t/web/", basic("ada", "right")).status == 200
    file.write_text(LINES.partition("ada:")[0] + LINES[LINES.index("bob:") :])
    worker.send(signal.SIGHUP)
    poll("ada to be nobody", lambda: mux.ask("/t/web/", basic("ada", "right")).status == 401)
    assert mux.ask("/t/web/", basic("bob", "also right")).status == 200
    file.write_text("bob:plain\n")
    worker.send(signal.SIGHUP)
    worker.says("reload failed.*the proof of user bob is none that is taken")
    assert "plain" not in worker.stderr
    assert mux.ask("/t/web/", basic("bob", "also right")).status == 200, "the old lines stay"
    mux.leave()


def test_workers_of_one_tag_with_other_files_are_no_way_around(lab: Lab) -> None:
    """The first one's file counts; whoever has another is passed over, by path and by a cookie alike."""
    mux, first, second = Mux(lab), Target(lab, "first"), Target(lab, "second")
    one = offered(lab, mux.server, first, passwords(lab), "&balance=cookie")
    others = passwords(lab, "others", LINES[LINES.index("bob:") :])
    offered(lab, mux.server, second, others, "&balance=cookie")
    open_one = lab.worker(mux.server, targets={"web": second.port}, tag="t", state=lab.new_folder("open"))
    open_one.port("web")
    answers = [mux.ask("/t/web/", basic("ada", "right")) for _ in range(9)]
    assert {json.loads(each.body)["name"] for each in answers} == {"first"}
    assert mux.ask("/t/web/").status == 401 and not second.requests
    one.stop()
    poll("the next one's to count", lambda: mux.ask("/t/web/", basic("ada", "right")).status == 401)
    answer = mux.ask("/t/web/", basic("bob", "also right"))
    assert json.loads(answer.body)["name"] == "second"
    mux.leave()


def test_many_at_once_wait_for_one_look_and_a_guesser_waits_for_himself(lab: Lab) -> None:
    mux, target = Mux(lab, "--trust-proxy", LOOPBACK), Target(lab)
    offered(lab, mux.server, target, passwords(lab))
    answers: list[int] = []

    def ask(_: int) -> None:
        answers.append(mux.ask("/t/web/", basic("ada", "right"), "X-Forwarded-For: 192.0.2.1").status)

    in_threads(32, ask)
    assert answers == [200] * 32
    began = time.monotonic()
    statuses = [
        mux.ask("/t/web/", basic("ada", f"guess{number}"), "X-Forwarded-For: 192.0.2.2").status
        for number in range(6)
    ]
    assert statuses == [401] * 6 and time.monotonic() - began > 1.0, "later ones are answered later"
    answers.clear()
    ask(0)
    assert answers == [200]
    mux.leave()


def test_a_closed_target_that_asks_does_both(lab: Lab) -> None:
    api = free_port()
    mux, target = Mux(lab, "--api", f"{LOOPBACK}:{api}", "--api-token", "a token"), Target(lab)
    offered(lab, mux.server, target, passwords(lab), "&access=closed")
    assert mux.ask("/t/web/", basic("ada", "right")).status == 403
    at = ("--api", f"{LOOPBACK}:{api}", "--api-token", "a token")
    assert "t/web is open by HTTP until" in lab.aero("open", "t/web", "--for", "5m", *at).stdout
    assert mux.ask("/t/web/").status == 401
    assert mux.ask("/t/web/", basic("ada", "right")).status == 200
    assert "is closed" in lab.aero("open", "t/web", "--for", "0", *at).stdout
    assert mux.ask("/t/web/", basic("ada", "right")).status == 403
    mux.leave()


def test_auth_where_it_cannot_be_is_refused(lab: Lab) -> None:
    target, file = Target(lab), passwords(lab)
    where = f"{LOOPBACK}:{target.port}?auth=@{file}"
    worker = lab.worker(lab.server(), targets={"web": where})
    worker.says(r"the server refused a target .*need the server's HTTP mux, which is off \(--mux off\)")
    done = lab.aero("client", "--target", f"web@{where}&group=front")
    assert done.returncode == 2 and "auth" in done.stderr and "group" in done.stderr


def test_curl_and_git_with_a_password(lab: Lab) -> None:
    """As people use them: a password on the command line, one in a URL, one that a helper keeps."""
    mux, work = Mux(lab), lab.new_folder("work")
    lab.check(["git", "init", "-q", "--bare", "-b", "main", str(work / "site.git")])
    lab.check(["git", "init", "-q", "-b", "main", str(work / "made")])
    git = ["git", "-C", str(work / "made"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    lab.check([*git, "commit", "-q", "--allow-empty", "-m", "one"])
    lab.check([*git, "push", "-q", str(work / "site.git"), "main"])
    lab.check(["git", "-C", str(work / "site.git"), "update-server-info"])
    port = free_port()
    lab.start([sys.executable, "-m", "http.server", "--bind", LOOPBACK, "--directory", str(work), str(port)])
    poll("the files to be served", lambda: listening(port))
    where = f"{LOOPBACK}:{port}?auth=@{passwords(lab)}"
    lab.worker(mux.server, targets={"web": where}).says("target mapped")
    url = mux.url("/t/web/site.git")
    said = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/HEAD"]
    assert lab.check(said) == "401"
    assert lab.check([*said, "-u", "bob:also right"]) == "200"
    assert lab.check([*said, "--anyauth", "-u", "bob:also right"]) == "200"
    denied = lab.run(["git", "clone", "-q", url, str(work / "no")], env={"GIT_TERMINAL_PROMPT": "0"})
    assert denied.returncode and "could not read Username" in denied.stderr
    kept = lab.path("credentials")
    kept.write_text(f"http://ada:right@{LOOPBACK}:{mux.port}\n")
    lab.check(["git", "-c", f"credential.helper=store --file={kept}", "clone", "-q", url, str(work / "got")])
    assert lab.check(["git", "-C", str(work / "got"), "log", "--format=%s"]).strip() == "one"
    mux.leave()
