"""Real proxies for the end-to-end tests, each on a port and in a folder of its own, with a login or without."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from tests.e2e.harness import LOOPBACK, Lab, Program, free_port, listening, poll
from tests.e2e.services import find

USER, PASSWORD = "eva", "ge-heim.7"  # of no other characters, for tinyproxy's sake
#: The same as a URL has them.
LOGIN = "eva:ge%2Dheim.7@"


class RealProxy(NamedTuple):
    """A proxy that runs: ``program`` to end or stop it, ``port`` where it listens."""

    program: Program
    port: int

    def url(self, scheme: str = "http", login: str = LOGIN) -> str:
        return f"{scheme}://{login}{LOOPBACK}:{self.port}"


def _started(lab: Lab, argv: list[str], name: str, port: int) -> RealProxy:
    program = lab.start(argv, name=name)
    poll(f"{name} to listen", lambda: listening(port) or not program.running)
    assert program.running, f"{name} ended with {program.popen.returncode}"
    return RealProxy(program, port)


def tinyproxy(lab: Lab, *lines: str, login: bool = False, port: int = 0) -> RealProxy:
    """``lines`` go into its configuration."""
    port = port or free_port()
    file = lab.path("tinyproxy.conf")
    words = [f"Port {port}", f"Listen {LOOPBACK}", "Timeout 600", "MaxClients 100", "LogLevel Info", *lines]
    words += [f"BasicAuth {USER} {PASSWORD}"] if login else []
    file.write_text("".join(f"{line}\n" for line in words))
    return _started(lab, [find("tinyproxy"), "-d", "-c", str(file)], "tinyproxy", port)


def microsocks(lab: Lab, login: bool = False) -> RealProxy:
    port = free_port()
    words = ["-u", USER, "-P", PASSWORD] if login else []
    return _started(lab, [find("microsocks"), "-i", LOOPBACK, "-p", str(port), *words], "microsocks", port)


def squid(lab: Lab, rules: str = "http_access allow in") -> RealProxy:
    """Asks for a login, and lets whoever has one through by ``rules``."""
    port = free_port()
    folder = lab.new_folder("squid")
    folder.chmod(0o777)  # it becomes a user of its own
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / "users").write_text(f"{USER}:{hashed}\n")
    (folder / "conf").write_text(
        f"http_port {LOOPBACK}:{port}\n"
        f"pid_filename {folder}/pid\n"
        f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users\n"
        "auth_param basic children 1\n"
        "acl in proxy_auth REQUIRED\n"
        f"{rules}\n"
        "http_access deny all\n"
        "cache deny all\n"
        f"cache_log {folder}/cache.log\naccess_log none\ncoredump_dir {folder}\n"
        "shutdown_lifetime 0 seconds\n"
        "max_filedescriptors 1024\n"
    )
    return _started(lab, [find("squid"), "-N", "-f", str(folder / "conf")], "squid", port)


def dante(lab: Lab) -> RealProxy:
    """SOCKS5 without a login: its users are the system's."""
    port = free_port()
    file = lab.path("danted.conf")
    file.write_text(
        f"internal: {LOOPBACK} port = {port}\nexternal: lo\nsocksmethod: none\nclientmethod: none\n"
        "client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }\n"
        "socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 command: connect }\n"
    )
    return _started(lab, [find("danted"), "-f", str(file)], "danted", port)
