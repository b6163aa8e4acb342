"""Targets with a name of their own (``domain=``): by HTTP and HTTPS, who gets it, and what becomes of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.browser import chromium
from tests.e2e.harness import LOOPBACK, Lab, Worker, free_port, poll
from tests.e2e.mux import Message, Mux, Target, heard

APP, SHOP = "app.example.org", "shop.example.org"


class Stage:
    """A mux on this machine alone, which answers to mux.test."""

    def __init__(self, *options: str) -> None:
        self.lab = Lab()
        self.api = free_port()
        self.mux = Mux(
            self.lab, "--mux-host", "mux.test", "--api", f"localhost:{self.api}", "--target-domains", "*.example.org",
            *options,
        )  # fmt: skip

    def worker(self, tag: str, target: Target, options: str, *more: str, state: str = "") -> Worker:
        return self.lab.worker(
            self.mux.server, *more, targets={"web": f"{LOOPBACK}:{target.port}?{options}"}, tag=tag,
            state=self.lab.new_folder(state or f"state-{tag}"),
        )  # fmt: skip

    def asked(self, host: str, path: str = "/a?b") -> Message:
        return self.mux.ask(path, host=host)

    def who(self, host: str) -> str:
        answer = self.asked(host)
        return str(json.loads(answer.body)["name"]) if answer.status == 200 else str(answer.status)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    try:
        yield made
    finally:
        made.mux.leave()
        made.lab.close()


def test_a_target_under_its_own_names(stage: Stage) -> None:
    target = Target(stage.lab, "nas")
    target.heads["/away"] = (
        b"HTTP/1.1 302 Found\r\nLocation: /b\r\nSet-Cookie: a=b; Path=/c\r\nContent-Length: 0\r\n\r\n"
    )
    worker = stage.worker("nas", target, f"domain={APP.upper()}+{SHOP}&host=inside")
    worker.says(rf"target mapped .*domain=\"{APP}, {SHOP}\"")
    got = heard(stage.asked(f"{APP.title()}:{stage.mux.port}"))
    assert (got.target, got.get("Host"), got.get("X-Forwarded-Prefix")) == ("/a?b", "inside", None)
    assert got.get("X-Forwarded-Host") == f"{APP.title()}:{stage.mux.port}"
    answer = stage.asked(SHOP, "/away")
    assert (answer.get("Location"), answer.get("Set-Cookie")) == ("/b", "a=b; Path=/c"), "nothing to rewrite"
    assert heard(stage.mux.ask("/nas/web/x")).target == "/x", "by path it is there as well"
    assert stage.who("mux.test") == "404" and stage.who("other.org") == "421"
    assert stage.who("other.example.org") == "503", "the server is young, and somebody may have had it before"
    shown = json.loads(stage.lab.aero("list", "--api", f"localhost:{stage.api}", "--json").stdout)
    (listed,) = shown["workers"][0]["targets"]
    assert listed["domains"] == [APP, SHOP] and listed["url"] == f"http://{APP}:{stage.mux.port}/"
    assert f", {APP}, {SHOP}" in stage.lab.aero("list", "--api", f"localhost:{stage.api}").stdout


def test_whose_a_name_is(stage: Stage) -> None:
    """Two workers of a tag share it, another tag gets it when it was given up; what is not allowed is said."""
    one, two, box = (Target(stage.lab, name) for name in ("one", "two", "box"))
    first = stage.worker("nas", one, f"domain={APP}", state="one")
    first.port("web")
    stage.worker("nas", two, f"domain={APP}", state="two").port("web")
    assert {stage.who(APP) for _ in range(4)} == {"one", "two"}
    third = stage.lab.worker(
        stage.mux.server, targets={"web": box.port}, tag="nas", state=stage.lab.new_folder("three")
    )
    third.port("web")
    assert {stage.who(APP) for _ in range(6)} == {"one", "two"}, "who has not claimed it is not asked"
    other = stage.worker("box", box, f"domain={APP}")
    other.says(rf"the server refused a target .*another target has the domain {APP}")
    for host, why in (("other.org", "lets no target have other.org"), ("mux.test", "of the server's own")):
        stage.worker(f"x-{host[0]}", box, f"domain={host}").says(why)
    assert stage.who("other.org") == "421"


def test_a_name_whose_worker_is_away_waits_for_it(stage: Stage) -> None:
    target = Target(stage.lab, "nas")
    worker = stage.worker("nas", target, f"domain={APP}")
    worker.port("web")
    worker.stop(signal.SIGTERM)
    poll("it to be away", lambda: stage.who(APP) == "503")
    stage.worker("box", Target(stage.lab), f"domain={APP}").says("another target has the domain")
    stage.worker("nas", target, f"domain={APP}", state="again").port("web")
    assert stage.who(APP) == "nas"


def test_a_reload_takes_names_away_and_gives_them(stage: Stage) -> None:
    lab, target = stage.lab, Target(stage.lab, "nas")
    config = lab.path("server.toml")
    config.write_text(f'[server]\ntarget-domains = "{APP}"\n')
    mux = Mux(lab, "--mux-host", "mux.test", "--config", str(config))
    where = f"{LOOPBACK}:{target.port}?domain={APP}"
    worker = lab.worker(mux.server, targets={"web": where}, tag="nas", state=lab.new_folder("w"))
    port = worker.port("web")
    assert mux.ask("/", host=APP).status == 200
    config.write_text('[server]\ntarget-domains = "other.org"\n')
    mux.server.send(signal.SIGHUP)
    worker.says(rf"refused a target .*lets no target have {APP} \(--target-domains\)")
    assert mux.ask("/", host=APP).status == 421 and port
    mux.leave()


def test_https_shows_the_certificate_of_the_name(stage: Stage) -> None:
    lab, target = stage.lab, Target(stage.lab, "nas")
    pairs = []
    for name in ("mux.test", APP):
        cert, key = lab.path(f"{name}.pem"), lab.path(f"{name}.key")
        lab.check(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(cert)]
        )  # fmt: skip
        pairs += ["--tls-cert", str(cert), "--tls-key", str(key)]
    tls = free_port()
    server = lab.server("--mux-tls", f"{LOOPBACK}:{tls}", *pairs, "--target-domains", "*.example.org")
    where = f"{LOOPBACK}:{target.port}?domain={APP}+{SHOP}"
    lab.worker(server, targets={"web": where}, tag="nas", state=lab.new_folder("w")).port("web")
    curl = ["curl", "-s", "--connect-to", f"::{LOOPBACK}:{tls}", "--cacert", pairs[5]]
    assert json.loads(lab.check([*curl, f"https://{APP}/"]))["name"] == "nas"
    assert lab.run([*curl, f"https://{SHOP}/"]).returncode == 60, "no certificate is for it"
    server.says(rf"no certificate is for a target's domain.*domain={SHOP}")
    assert f"domain={APP}" not in server.stderr.partition("no certificate")[2]


def test_a_browser_logs_in_once_and_stays_with_its_worker(stage: Stage) -> None:
    """Chromium, on a name of the target's own: a password in the address, a page with pieces, a cookie for the way."""
    lab = stage.lab
    passwords = lab.path("htpasswd")
    # "right", by htpasswd -B
    passwords.write_text("ada:$2y$05$E1PtVCFA5In2OWd1GW87NOHLEuKtzGxzwZ8GtrtiMJLcLUmlPQIvW\n")
    workers = {}
    for name in ("one", "two"):
        target = Target(lab, name)
        page = f"<!doctype html><title>{name}</title><script src=piece.js></script>".encode()
        script = f"document.title += ' {name}'".encode()
        for path, kind, body in (("/", b"text/html", page), ("/piece.js", b"text/javascript", script)):
            target.heads[path] = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
                kind, len(body), body
            )  # fmt: skip
        workers[name] = stage.worker(
            "nas", target, f"domain={APP}&balance=cookie&auth=@{passwords}", state=name
        )
        workers[name].says("target mapped")
    browser = chromium(lab, f"--host-resolver-rules=MAP {APP} {LOOPBACK}")
    where = f"{APP}:{stage.mux.port}/"
    browser.get(f"http://{where}")
    assert browser.title == "", "it asks its user"
    browser.get(f"http://ada:right@{where}")
    titles = []
    for _ in range(6):
        browser.get(f"http://{where}")
        titles.append(browser.title)
    (title,) = set(titles)
    assert title in ("one one", "two two"), "page and piece came from the same worker, and all pages did"
    (cookie,) = browser.get_cookies()
    assert (cookie["name"], cookie["path"], cookie["httpOnly"]) == ("aero-way", "/", True)
    other = "two two" if title == "one one" else "one one"
    workers[title[:3]].stop()

    def moved() -> bool:
        browser.get(f"http://{where}")
        return browser.title == other

    poll("the other worker to have it", moved)
