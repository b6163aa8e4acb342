#!/usr/bin/env python3
"""What the ways to a target cost, each beside the plain one: balancing, health checks, PROXY headers, passwords, names.

One server, three workers, one nginx behind all of them. Columns take turns, in the other order every second time, so
each round gives a ratio of runs that met the same machine. Prints a table as Markdown; progress goes to stderr. See
ways.md.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import secrets
import statistics
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import backends
import host
import measures
from rounds import say

WORKERS = 3
ROOT = Path(__file__).resolve().parent.parent
BALANCES = ("round-robin", "least", "random-two", "hash", "cookie")
USER, PASSWORD = "ada", "right"
#: bcrypt of PASSWORD, as htpasswd -B makes it.
HTPASSWD = f"{USER}:$2y$05$E1PtVCFA5In2OWd1GW87NOHLEuKtzGxzwZ8GtrtiMJLcLUmlPQIvW\n"
DOMAIN = "app.example.org"

#: As the backends' nginx, but that every connection begins with a PROXY header.
NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} proxy_protocol backlog=4096; location / {{ return 200 "{body}"; }} }}
    server {{ listen 127.0.0.1:{plain} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""


class Column(NamedTuple):
    """One way. ``url`` leads there; ``fields``: header lines; ``base``: whose figure its own is divided by."""

    title: str
    url: str
    fields: tuple[str, ...] = ()
    base: str = ""


class Stage:
    """Server and workers; ``ports``: of mappings, by target."""

    def __init__(self, lab: host.Lab, python: str) -> None:
        web = backends.Backends(lab).ports[backends.WEB]
        self.lab, self.ports = lab, dict[str, int]()
        self.link, self.mux, headed, plain = host.free_ports(4)
        self._nginx(headed, plain)
        folder = lab.folder("ways")
        passwords, key = folder / "htpasswd", folder / "key"
        passwords.write_text(HTPASSWD)
        key.write_text(secrets.token_hex(16))
        key.chmod(0o600)
        own = {each: f"127.0.0.1:{web}?balance={each}" for each in BALANCES}
        groups = {
            f"g-{each}": f"127.0.0.1:{web}?group={each}&group-key=@{key}&balance={each}"
            for each in BALANCES[:-1]
        }
        alone = {
            "plain": f"127.0.0.1:{web}",
            "checked": f"127.0.0.1:{web}?check=http:/small&every=1",
            "login": f"127.0.0.1:{web}?auth=@{passwords}",
            "named": f"127.0.0.1:{web}?domain={DOMAIN}",
            "no-header": f"127.0.0.1:{plain}",
            "header-v1": f"127.0.0.1:{headed}?proxy=v1",
            "header-v2": f"127.0.0.1:{headed}?proxy=v2",
        }
        aero = [python, str(ROOT / "aero.py")]
        code = secrets.token_hex(8)
        server = lab.spawn(
            "server",
            [*aero, "server", "--ip", host.LOOPBACK, "--port", str(self.link), "--auth", code, "--ports", "0",
             "--mux", f"{host.LOOPBACK}:{self.mux}", "--api", "off", "--state", str(lab.folder("server-state")),
             "--target-domains", DOMAIN],
        )  # fmt: skip
        host.wait_for("the server", lambda: host.listening([self.link, self.mux]), [server])
        self._programs = [server]
        for number in range(WORKERS):
            targets = {**own, **groups, **(alone if not number else {})}
            worker = lab.spawn(
                f"worker-{number}",
                [*aero, "client", "--server", f"{host.LOOPBACK}:{self.link}", "--auth", code, "--tag", "bench",
                 "--state", str(lab.folder(f"worker-state-{number}")),
                 *(word for name, to in targets.items() for word in ("--target", f"{name}@{to}"))],
            )  # fmt: skip
            self._programs.append(worker)
            host.wait_for("the targets", lambda: self._mapped(worker.output(), targets), [worker])  # noqa: B023

    def _mapped(self, output: str, targets: Mapping[str, str]) -> bool:
        for name, port in re.findall(r"^(\S+?)@\S+ -> \S+:(\d+)$", output, re.M):
            self.ports[name] = int(port)
        return len(re.findall(r"^\S+@\S+ -> ", output, re.M)) >= len(targets)

    def _nginx(self, headed: int, plain: int) -> None:
        folder = self.lab.folder("nginx-headed")
        config = folder / "nginx.conf"
        user = f"user {pwd.getpwuid(0).pw_name} root;" if os.geteuid() == 0 else ""
        body = "x" * backends.SMALL_FILE_BYTES
        config.write_text(NGINX.format(user=user, folder=folder, port=headed, plain=plain, body=body))
        process = self.lab.spawn("nginx-headed", [host.tool("nginx"), "-e", "stderr", "-c", str(config)])
        host.wait_for("nginx", lambda: host.listening([headed, plain]), [process])

    def cpu_s(self) -> float:
        """Seconds of processor that server and workers have used."""
        return host.cpu_seconds([each.pid for each in self._programs])

    def by_path(self, name: str) -> str:
        """A target at the mux."""
        return f"http://{host.LOOPBACK}:{self.mux}/bench/{name}/small"

    def by_port(self, name: str) -> str:
        """A target's mapping."""
        return f"http://{host.LOOPBACK}:{self.ports[name]}/small"


def columns(stage: Stage) -> dict[str, list[Column]]:
    """What is measured beside each other, by group."""
    first = BALANCES[0]
    login = f"Authorization: Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
    close = ("Connection: close",)
    mux = [Column(f"mux, {each}", stage.by_path(each), base=f"mux, {first}") for each in BALANCES]
    with urllib.request.urlopen(stage.by_path("cookie")) as answer:
        cookie = f"Cookie: {answer.headers['Set-Cookie'].partition(';')[0]}"
    mux.append(Column("mux, cookie, who has it", stage.by_path("cookie"), (cookie,), f"mux, {first}"))
    ports = [
        Column(
            f"group, {each}, new connections",
            stage.by_port(f"g-{each}"),
            close,
            f"group, {first}, new connections",
        )
        for each in BALANCES[:-1]
    ]
    checks = [
        Column("mapping", stage.by_port("plain")),
        Column("mapping, check=http every second", stage.by_port("checked"), base="mapping"),
    ]
    headers = [
        Column("mapping, new connections", stage.by_port("no-header"), close),
        *(
            Column(f"mapping, proxy={each}, new connections", stage.by_port(f"header-{each}"), close,
                   "mapping, new connections")
            for each in ("v1", "v2")
        ),
    ]  # fmt: skip
    doors = [
        Column("mux by path", stage.by_path("plain")),
        Column("mux, auth=", stage.by_path("login"), (login,), "mux by path"),
        Column(
            "mux, domain=", f"http://{host.LOOPBACK}:{stage.mux}/small", (f"Host: {DOMAIN}",), "mux by path"
        ),
    ]
    return {"balance": mux, "groups": ports, "health": checks, "proxy": headers, "mux": doors}


def measured(stage: Stage, some: Sequence[Column], rounds: int, seconds: int) -> list[str]:
    """Lines of the table."""
    rates: dict[str, list[float]] = {each.title: [] for each in some}
    costs: dict[str, list[float]] = {each.title: [] for each in some}
    for number in range(rounds):
        for each in reversed(some) if number % 2 else some:
            before = stage.cpu_s()
            rate = measures.wrk(each.url, seconds, *each.fields)
            costs[each.title].append((stage.cpu_s() - before) / (rate * seconds))
            rates[each.title].append(rate)
            say(
                f"{each.title}, run {number + 1}: {rate:,.0f}/s, {1e6 * costs[each.title][-1]:.0f} us of CPU each"
            )
    lines = []
    for each in some:
        cells = [each.title, f"{statistics.median(rates[each.title]):,.0f}"]
        for figures in (rates, costs):
            found = (
                beside(figures[each.title], figures[each.base]) if each.base not in ("", each.title) else []
            )
            cells += [f"{statistics.median(found):.3f}", f"{middle(found)}"] if found else ["1", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def beside(own: Sequence[float], base: Sequence[float]) -> list[float]:
    """Ratios of runs that were neighbours."""
    return [one / other for one, other in zip(own, base)]


def middle(ratios: Sequence[float]) -> str:
    """The middle half of them."""
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return f"{low:.2f} – {high:.2f}"


def main() -> int:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description="What the ways to a target cost; the table goes to stdout.")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter for aero")
    parser.add_argument("--only", default="balance,groups,health,proxy,mux", help="groups of rows")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="runs of each column")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="length of one run")
    arguments = parser.parse_args()
    host.require(measures.PACKAGES)
    with host.Lab() as lab:
        stage = Stage(lab, arguments.python)
        found = columns(stage)
        print("| way | requests/s | beside the first | middle half | CPU a request | middle half |")
        print("|---|--:|--:|--:|--:|--:|")
        for name in arguments.only.split(","):
            print("\n".join(measured(stage, found[name], arguments.rounds, arguments.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    host.script(main, "bench")
