"""A wall clock that jumps, as clocks do: it is for people's eyes and for the order of leases, never for waiting."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import services
from tests.e2e.harness import (
    DEADLINE_S,
    LOOPBACK,
    Lab,
    Server,
    Worker,
    connect,
    echoes,
    exchange,
    free_port,
    free_ports,
    listening,
    poll,
)
from tests.faults.outside import relay_to

PACKAGE = Path(__file__).resolve().parents[2] / "aero"

# Whatever tells the time of day. `loop.now()` is libev's, which is the wall clock too.
WALL = {
    "time": {
        "time",
        "time_ns",
        "gmtime",
        "localtime",
        "ctime",
        "asctime",
        "strftime",
        "mktime",
        "clock_gettime",
    },
    "datetime": {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"},
    "date": {"today", "fromtimestamp"},
}
ALLOWED = {
    "cli.console.listed": "a table's column: since when",
    "logs.Line.__init__": "a log line's time stamp",
    "logs.timestamp": "the same, as text",
    "net.listen._Turn.until": "names the turn of the loop: compared for being the same, never waited for",
    "server.api.app.Api.get_ping": "when a ping was sent, for its reader",
    "server.api.opening.opened": "until when a target is open, for its reader",
    "server.api.times.rfc3339": "times as the API writes them",
    "server.watch.counters.Birth.now": "since when the server runs, for the API",
    "server.watch.events.Events._tell": "when something happened, for the API and the page",
    "server.api.adding._shown": "until when a target stays, for its reader",
    "server.links.invitations.Invitation.__init__": "until when it is good, for its reader",
    "server.links.invitations.Invitations.accept": "since when a credential is there, for its reader",
    "server.registry.asking.AskedHook.ask": "when somebody was asked, for its reader",
    "server.store.rhythms.Rhythms.__init__": "the rhythm of those who come and go by the clock, over restarts",
    "server.watch.hooks.rfc3339": "times as hooks tell them",
    "server.store.leases.Leases.__init__": "which lease is the oldest, also after a restart",
    "server.api.app.Api.get_history": "the present, where an answer about the past ends",
    "server.api.history._at": "times as the API writes them",
    "server.registry.quotas.Quotas.__init__": "the day and the month of a quota",
    "server.httpmux.note.Note.write": "when a request was over, for its line of the access log",
    "server.watch.access.AccessLog.add": "a line's time stamp",
    "server.watch.access.combined_lines": "the same",
    "server.watch.access.json_lines": "the same",
    "server.store.usage.Calendar.end": "hours, days and months of the calendar",
    "server.store.usage.Calendar.local": "the same",
    "server.store.usage.Calendar.starts": "the same",
    "server.store.usage.Calendar.when": "the same",
    "server.store.usage.Usage.__init__": "into which hour, day and month something is counted",
    "cli.users.checked": "whether a user's time is over, by the calendar",
    "server.links.roll.read": "the same",
    "server.registry.tenants.Tenants.__init__": "the same",
    "server.registry.tenants.Tenants.why_not": "the same, in words",
    "server.registry.worker.Worker.__init__": "since when a worker is here, for the API and the page",
}


class _Finder(ast.NodeVisitor):
    """Names every function of a module that looks at the wall clock."""

    def __init__(self, module: str) -> None:
        self.found: set[str] = set()
        self._place = [module]
        self._names: dict[str, str] = {}  # a local name for a function of the module time

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "time":
            for alias in node.names:
                if alias.name in WALL["time"]:
                    self._names[alias.asname or alias.name] = alias.name

    def _inside(self, node: Any) -> None:
        self._place.append(node.name)
        self.generic_visit(node)
        self._place.pop()

    visit_FunctionDef = visit_ClassDef = _inside

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._names:
            self.found.add(".".join(self._place))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
        owner = owner.lstrip("_")
        if node.attr in WALL.get(owner, ()) or (owner == "loop" and node.attr == "now"):
            self.found.add(".".join(self._place))
        self.generic_visit(node)


def test_only_monotonic_time_is_waited_for() -> None:
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        finder = _Finder(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
        finder.visit(ast.parse(path.read_text()))
        found |= finder.found
    assert found - ALLOWED.keys() == set(), "a deadline is for time.monotonic; see ALLOWED for the rest"
    assert ALLOWED.keys() - found == set(), "ALLOWED names what is not there any more"


def test_the_finder_finds() -> None:
    finder = _Finder("m")
    finder.visit(
        ast.parse(
            "from time import time as clock, monotonic\nimport time, datetime\n"
            "def a(): return clock()\ndef b(): return time.time()\ndef c(): return datetime.datetime.now()\n"
            "class K:\n def d(self): return self.loop.now()\n def e(self): return monotonic() + self.now\n"
            "def f(): return time.monotonic()\n"
        )
    )
    assert finder.found == {"m.a", "m.b", "m.c", "m.K.d"}


_SHIFTED = """
import os, time
real = time.time
def shifted():
    with open(os.environ["CLOCK_SHIFT"]) as file:
        return real() + float(file.read())
time.time = shifted
"""


class Clock:
    """The wall clock of the processes that get ``environment``."""

    def __init__(self, folder: Path, system: bool) -> None:
        self._shift = folder / "shift"
        self.jump(0)
        if system:  # every clock but the monotonic one, for the interpreter and for libev below it
            self.environment = {
                "LD_PRELOAD": _LIBFAKETIME[0],
                "FAKETIME_TIMESTAMP_FILE": str(self._shift),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        else:
            (folder / "sitecustomize.py").write_text(_SHIFTED)
            self.environment = {"PYTHONPATH": str(folder), "CLOCK_SHIFT": str(self._shift)}

    def jump(self, seconds: int) -> None:
        """Shows, from here on, so many seconds more than it is."""
        fresh = self._shift.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}")
        os.replace(fresh, self._shift)


_LIBFAKETIME = glob("/usr/lib/*/faketime/libfaketimeMT.so.1")


@pytest.fixture(
    params=[
        "interpreter",
        pytest.param(
            "system", marks=pytest.mark.skipif(not _LIBFAKETIME, reason="needs Debian's libfaketime")
        ),
    ]
)
def clock(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Clock]:
    return Clock(lab.new_folder("clock"), request.param == "system")


DAY_S = 86_400


def test_a_clock_that_jumps_disturbs_nothing(lab: Lab, clock: Clock) -> None:
    """Neither the link nor its pings, a takeover, the API, nor the ports that come back to their owners."""
    link_port, api, ports = free_port(), free_port(), free_ports(20)

    def start_server() -> Server:
        folder, options = lab.folder / "server-state", ("--api", f"localhost:{api}")
        return lab.server(
            *options, port=link_port, ports=f"{ports[0]}-{ports[-1]}", state=folder, env=clock.environment
        )

    server = start_server()
    relay = relay_to(lab, server)
    targets = {"echo": services.echo(lab)}

    def start_worker() -> Worker:
        folder = lab.folder / "worker-state"
        return lab.worker(relay.port, targets=targets, ping=1, state=folder, env=clock.environment)

    worker = start_worker()
    port = worker.port("echo")
    year = _ping(api)[:4]
    with connect(port) as visitor:
        assert exchange(visitor)
        for days in (400, -400):
            clock.jump(days * DAY_S)
            assert _ping(api)[:4] != year, "the server's clock has jumped"
            pings = _pings(api)
            poll("some pings", lambda: _pings(api) >= pings + 3)  # noqa: B023
            assert exchange(visitor)
            relay.cut()
            assert exchange(visitor), "the session outlives its link and the jump"
            assert echoes(port)
    assert worker.stderr.count("link up") == 1, "one session all the time"
    for days in (400, -400):
        clock.jump(days * DAY_S)
        worker.stop()
        worker = start_worker()
        assert worker.port("echo") == port and echoes(port), "a new worker gets its port"
        server.stop()
        server = start_server()
        poll("the same port", lambda: listening(port) and echoes(port))


def _get(api: int, path: str) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, api, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, text
        return text
    finally:
        connection.close()


def _ping(api: int) -> str:
    """Pings the worker; when, as the server's wall clock has it."""
    cid = poll("the worker", lambda: [each["cid"] for each in json.loads(_get(api, "/list"))["workers"]])[0]
    return str(json.loads(_get(api, f"/ping?cid={cid}"))["sent_at"])


def _pings(api: int) -> int:
    """Round trips that the server has measured."""
    found = re.search(r"^aero_ping_seconds_count (\d+)", _get(api, "/metrics"), re.MULTILINE)
    assert found, "no such number"
    return int(found[1])
