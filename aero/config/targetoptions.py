"""The options of a target, each once: what may stand behind its ?, or in its table of the configuration file.

To add one: an entry in `OPTIONS` here, whose parser gives the value that goes to the server, and one in `HONOURED` of
aero.server.registry.terms, which reads that value there. Whoever needs it asks ``target.setting(key)`` at the worker
and ``mapping.options`` at the server. Grammar, help and what is told of options that a server does not honour follow
from the entry.
"""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple

from aero.address import (
    TCP,
    UDP,
    check_name,
    port_row,
)
from aero.config import filed, units, values
from aero.config.hints import shown
from aero.config.option import entry
from aero.errors import ConfigError
from aero.limits import Limits


class TargetOption(NamedTuple):
    """One option of targets.

    ``parse`` gives the value as the wire has it: a text, a number, True, or a tuple of texts; it raises ConfigError.
    ``needs``: another option without which this one means nothing; ``excludes``: one beside which it cannot stand.
    ``guards``: it keeps somebody out, or a target relies on it to tell who comes: where a server does not honour it,
    the target is not offered at all. ``local``: the worker's own affair, which no server has to honour. ``protos``: of
    which targets.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    needs: str = ""
    excludes: str = ""
    guards: bool = False
    local: bool = False
    protos: tuple[str, ...] = (TCP,)

    def help_lines(self) -> str:
        """The option as ``aero client --help`` shows it."""
        return entry(f"{self.name}={self.metavar}", self.help)


def check(text: str) -> str:
    """How a worker looks at a target: ``tcp`` or ``http:/PATH``."""
    if text != "tcp" and not re.fullmatch(r"http:/[!-~]{0,255}", text):
        raise ConfigError(
            f"{shown(text)!r} is no way to look, write tcp or http:/path, as in check=http:/health"
        )
    return text


def group_key(text: str) -> str:
    """The digest of a key that stands in ``@FILE``: who is let into a group has to know the key, nobody to see it."""
    if not text.startswith("@"):
        raise ConfigError("write @FILE: others on this host could read a key that stands here")
    from hashlib import blake2b

    key = filed.auth_code(text).text.encode()
    return blake2b(key, digest_size=16, person=b"aero group").hexdigest()


def visiting_networks(text: str) -> tuple[str, ...]:
    """Networks or addresses, joined by +."""
    return tuple(str(each) for each in values.networks(text.replace("+", ",")))


def header_host(text: str) -> str:
    """What the mux writes as Host."""
    from aero.headers import check_host

    return check_host(text)


def domains(text: str) -> tuple[str, ...]:
    """Host names, joined by +."""
    from aero.domains import check_domain

    return _some([check_domain(each) for each in text.split("+")], Limits.TARGET_DOMAINS)


def header_lines(text: str) -> tuple[str, ...]:
    """``NAME:VALUE`` joined by +, or in ``@FILE`` one a line, where values may be secrets or have a + in them."""
    from aero.headers import check_line

    lines = filed.secret_lines(text[1:]) if text.startswith("@") else text.split("+")
    return _some([check_line(each) for each in lines])


def logins(text: str) -> tuple[str, ...]:
    """The lines of ``@FILE``, as htpasswd writes them: names with hashes of passwords."""
    if not text.startswith("@"):
        raise ConfigError("write @FILE, a file of lines USER:HASH, as htpasswd makes them")
    from aero.htpasswd import check_line

    said = [each for each in filed.secret_lines(text[1:]) if not each.startswith("#")]
    if not said:
        raise ConfigError("the file has no line, write USER:HASH, as htpasswd -B makes it")
    lines = _some([check_line(each) for each in said], Limits.TARGET_LOGINS)
    users = [each.partition(":")[0] for each in lines]
    for user in users:
        if users.count(user) > 1:
            raise ConfigError(f"user {user} stands there more than once")
    return lines


def header_names(text: str) -> tuple[str, ...]:
    """Names of header fields, joined by +."""
    from aero.headers import check_field

    return _some([check_field(each) for each in text.split("+")])


def _some(items: list[str], most: int = Limits.TARGET_HEADERS) -> tuple[str, ...]:
    if not 1 <= len(items) <= most:
        raise ConfigError(f"{len(items)} are given, write 1 to {most}")
    return tuple(items)


#: How a visitor's way is chosen, in the words of aero.server.policy.balance.
BALANCES = ("round-robin", "least", "random-two", "hash", "cookie")
#: Whether streams are compressed, in the words of aero.core.packing.
ZSTD = ("off", "auto", "on")
#: What may stand behind a target's ?, by name.
OPTIONS: dict[str, TargetOption] = {
    each.name: each
    for each in (
        TargetOption(
            "remote",
            "PORT",
            port_row,
            "The port of the server that it asks for, or as many in a row as it has: 30000-30100",
            protos=(TCP, UDP),
        ),
        TargetOption(
            "access",
            "WHO",
            values.one_of(("public", "closed")),
            "closed: nobody gets in until somebody opens it for a time, with aero open or on the page"
            " (default: public)",
            guards=True,
        ),
        TargetOption(
            "auth",
            "@FILE",
            logins,
            "The mux asks visitors for a name and a password of the file, which has lines USER:HASH as htpasswd -B and"
            " openssl passwd -6 make them; nothing else leads to the target then",
            guards=True,
            excludes="group",
        ),
        TargetOption(
            "balance",
            "HOW",
            values.one_of(BALANCES),
            "Whose turn it is in a group, and on the mux among targets of one tag and name: round-robin (default),"
            " least (open streams), random-two, hash (of the visitor's address) or, on the mux, cookie. The first"
            " worker's counts.",
        ),
        TargetOption(
            "check",
            "HOW",
            check,
            "Look whether it works: tcp (it takes a connection) or http:/PATH (status 200 to 399). While it does not,"
            " visitors go to others of its group or tag, or are told so.",
        ),
        TargetOption(
            "every", "SECONDS", units.duration(1, 3600), "Between two looks (default: 10s)", needs="check"
        ),
        TargetOption(
            "timeout", "SECONDS", units.duration(1, 60), "For one look (default: 3s)", needs="check"
        ),
        TargetOption(
            "fails",
            "N",
            units.integer(1, 20),
            "Failed looks in a row to be down (default: 3)",
            needs="check",
        ),
        TargetOption(
            "passes",
            "N",
            units.integer(1, 20),
            "Good ones in a row to be up (default: 2)",
            needs="check",
        ),
        TargetOption(
            "group",
            "NAME",
            check_name,
            "One port for this target and those of other workers with the same group",
        ),
        TargetOption(
            "group-key",
            "@FILE",
            group_key,
            "The group's key, the same at all its workers; needed where the server knows no users",
            needs="group",
        ),
        TargetOption(
            "domain",
            "NAMES",
            domains,
            "Host names, joined by +, under which the mux serves this target and nothing else, as far as the server"
            " lets it have them",
        ),
        TargetOption("host", "NAME", header_host, "The mux writes this Host, in place of the visitor's"),
        TargetOption(
            "header-set",
            "NAME:VALUE",
            header_lines,
            "The mux puts these fields into requests, joined by +, in place of the visitor's; @FILE: one a line",
            guards=True,
        ),
        TargetOption(
            "header-remove",
            "NAMES",
            header_names,
            "The mux takes these fields out of requests, joined by +",
            guards=True,
        ),
        TargetOption(
            "proxy",
            "VERSION",
            values.one_of(("v1", "v2")),
            "Send it a PROXY header first, with the visitor's address: v1 (text) or v2 (binary)",
            guards=True,
        ),
        TargetOption(
            "limit",
            "RATE",
            units.size(1024, units.MAX_RATE),
            "How many bytes a second it may send and get, each direction by itself: 2MB, 500KiB, 8mbit",
            protos=(TCP, UDP),
        ),
        TargetOption(
            "new-streams",
            "N",
            units.integer(1, 100_000, "streams"),
            "So many new streams a second at the most",
        ),
        TargetOption(
            "visitor-streams",
            "N",
            units.integer(1, 100_000, "streams"),
            "So many open streams of one visitor's address at the most",
        ),
        TargetOption(
            "visitors",
            "NETS",
            visiting_networks,
            "The networks that visitors may come from, as in 10.0.0.0/8+192.0.2.7",
            guards=True,
            protos=(TCP, UDP),
        ),
        TargetOption(
            "zstd",
            "WHEN",
            values.one_of(ZSTD),
            "Compress between worker and server: auto (leaves alone what does not shrink), on or off (default: as"
            " --zstd says, off). What an attacker can add words to and measure must not be (docs/compression.md).",
        ),
        TargetOption(
            "wait",
            "SECONDS",
            units.duration(*Limits.AWAY_WAIT_S),
            "Visitors wait so long while this worker is away, in place of a reset or 503",
        ),
        TargetOption("weight", "N", units.integer(1, 100), "Its share among them, 1 to 100 (default: 1)"),
        TargetOption(
            "idle",
            "TIME",
            units.duration(*Limits.FLOW_IDLE_S),
            "UDP: a visitor's flow is over after so much silence (60)",
            protos=(UDP,),
        ),
        TargetOption(
            "amplify",
            "N",
            units.integer(*Limits.AMPLIFY),
            "UDP: answers to a visitor are at most N times what it sent, always",
            guards=True,
            protos=(UDP,),
        ),
    )
}
