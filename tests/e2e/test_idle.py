"""What an idle server and an idle worker have not imported: each of these was megabytes or milliseconds once.

Figures depend on the machine, lists of modules do not. Who needs one of these imports it in the function that needs it,
with a line for a server that gives up root's rights in aero/server/late.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.harness import PROJECT, Lab, poll

#: Writes the names of all modules at the process's end.
TELLING = """
import atexit, os, sys
base = set(sys.modules)
def tell():
    with open(os.environ["MODULES"], "w") as file:
        file.write("\\n".join(sorted(set(sys.modules) - base)))
atexit.register(tell)
"""
#: Neither needs these before there is traffic, or somebody asks.
NEITHER = {
    "_hashlib",  # libcrypto: 4 MB
    "_ssl",
    "ast",
    "base64",
    "bottle",
    "calendar",
    "cffi",
    "concurrent.futures",
    "cryptography",
    "ctypes.util",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "dis",
    "docopt",
    "email",
    "gevent.lock",
    "gevent.monkey",
    "gevent.pywsgi",
    "gevent.queue",
    "gevent.resolver",
    "gevent.ssl",
    "gevent.threadpool",
    "hashlib",
    "hmac",
    "html",
    "http",
    "inspect",
    "ipaddress",
    "logging",
    "lzma",
    "pprint",
    "random",
    "secrets",
    "shutil",
    "ssl",
    "string",
    "subprocess",
    "tempfile",
    "tomli",
    "tomllib",
    "unicodedata",
    "urllib",
    "zlib",
    "aero.allow",
    "aero.cli.commands",
    "aero.core.aead.cryptography",
    "aero.core.aead.openssl",
    "aero.core.packing",
    "aero.core.zstd",
    "aero.net.proxy",
    "aero.net.tls",
    "aero.net.trust",
    "aero.net.websocket",
    "aero.proxies",
}
NOT_SERVER = {
    "aero.server.api",
    "aero.server.late",
    "aero.server.links.selfmade",
    "aero.server.links.words",
    "aero.server.policy.keys",
    "aero.server.policy.users",
    "aero.server.registry.asking",
    "aero.server.stepdown",
    "aero.server.watch.hooks",
    "aero.server.watch.posting",
    "aero.worker",
    "sqlite3",  # of which _sqlite3 does
}
NOT_WORKER = {
    "_sqlite3",
    "sqlite3",
    "aero.server",
    "aero.worker.attempt",
    "aero.worker.checks",
    "aero.worker.networks",
}


@pytest.fixture
def told(lab: Lab) -> dict[str, set[str]]:
    """What a server and its worker have imported, once a target is registered, until both have ended."""
    folder = lab.new_folder("telling")
    Path(folder, "sitecustomize.py").write_text(TELLING)
    lists = {role: Path(folder, role) for role in ("server", "worker")}
    env = {role: {"PYTHONPATH": str(folder), "MODULES": str(at)} for role, at in lists.items()}
    # From the checkout in any case: an archive's first start has imported what unpacks it.
    run = [sys.executable, str(PROJECT / "aero.py")]
    server = lab.server("--api", "off", "--mux", "off", env=env["server"], command=[*run, "server"])
    worker = lab.worker(server, targets={"web": 9}, env=env["worker"], command=[*run, "client"])
    poll("the target's port", lambda: "target mapped" in worker.stderr)
    assert worker.stop() == 0 and server.stop() == 0
    return {role: set(at.read_text().split()) for role, at in lists.items()}


def carried(modules: set[str], unwanted: set[str]) -> list[str]:
    """The unwanted ones, and what lies in them."""
    return sorted(
        name for name in modules if any(name == each or name.startswith(f"{each}.") for each in unwanted)
    )


def test_an_idle_server_and_an_idle_worker_carry_nothing_for_later(told: dict[str, set[str]]) -> None:
    assert "aero.server.app" in told["server"] and "aero.worker.app" in told["worker"]
    assert carried(told["server"], NEITHER | NOT_SERVER) == []
    assert carried(told["worker"], NEITHER | NOT_WORKER) == []
