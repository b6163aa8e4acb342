"""The text of a target: ``NAME@ADDRESS[/udp]?key=value&key=value``, and the table that stands for it in the file.

The address is ``HOST:PORT``, ``HOST:LO-HI`` for ports in a row, or ``unix:/PATH`` for a socket on the worker's machine.

``+`` joins the items of a list inside a value. There are no escapes: what does not fit on a command line goes into the
configuration file, as a table ``[client.targets.NAME]`` with ``address`` and the same keys. A secret is only ever given
as @FILE. The options are those of targetoptions.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aero.address import (
    TCP,
    UDP,
    LocalPlace,
    Setting,
    Target,
    UnixPath,
    check_name,
    row_text,
    socket_path,
)
from aero.config.hints import instead, shown
from aero.config.targetoptions import OPTIONS
from aero.errors import ConfigError
from aero.limits import Limits

_EXAMPLE = "web@127.0.0.1:80"
_EXAMPLE_UDP = "dns@127.0.0.1:53/udp"
_SUFFIXES = {f"/{proto}": proto for proto in (TCP, UDP)}


class TargetTable(NamedTuple):
    """A target as the configuration file has it: a table of its own, with texts for its keys."""

    name: str
    keys: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name}@{self.keys.get('address', '')}"


def target(text: str) -> Target:
    """A target as a command line has it; ``name:host:port`` is read like ``name@host:port``. Raises ConfigError."""
    main, question, query = text.partition("?")
    if "://" in main:
        raise ConfigError(f"{shown(text)!r} is a URL, write a name and where it is, as in {_EXAMPLE}")
    match = re.fullmatch(r"([^@:\[\]]*)[@:](.+:.+)", main)
    if match is None:
        raise ConfigError(f"{shown(text)!r} is not a target, write name@host:port, for example {_EXAMPLE}")
    try:
        return _target(match[1], match[2], _pairs(query) if question else ())
    except ConfigError as error:
        raise ConfigError(f"target {shown(text)!r}: {error}") from None


def from_table(table: TargetTable) -> Target:
    """A target as the configuration file has it. Raises ConfigError."""
    try:
        if "address" not in table.keys:
            raise ConfigError(f'write where it is, as in address = "{_EXAMPLE.partition("@")[2]}"')
        rest = ((key, value) for key, value in table.keys.items() if key != "address")
        return _target(table.name, table.keys["address"], rest)
    except ConfigError as error:
        raise ConfigError(f"[client.targets.{shown(table.name)}]: {error}") from None


def target_list(given: Iterable[str | TargetTable]) -> tuple[Target, ...]:
    """Targets from comma-separated lists and tables; each name, and each port asked for, once; of nothing, none."""
    targets: list[Target] = []
    for each in given:
        if isinstance(each, TargetTable):
            targets.append(from_table(each))
        else:
            targets += [target(part.strip()) for part in each.split(",") if part.strip()]
    if given and not targets:
        raise ConfigError(f"no target is given, write name@host:port, for example {_EXAMPLE}")
    if len(targets) > Limits.TARGETS_PER_WORKER:
        raise ConfigError(f"{len(targets)} targets are too many, write at most {Limits.TARGETS_PER_WORKER}")
    names: dict[tuple[str, str], Target] = {}
    asking: dict[str, list[Target]] = {TCP: [], UDP: []}
    for one in targets:
        name, others = (one.name, one.proto), asking[one.proto]
        if name in names:
            raise ConfigError(
                f"the name {one.name!r} stands for both {names[name]} and {one}, choose another"
            )
        for other in others:
            if one.remote and one.remote < other.remote + other.row and other.remote < one.remote + one.row:
                raise ConfigError(f"{other} and {one} ask for the same port")
        names[name] = one
        if one.remote:
            others.append(one)
    if sum(one.row for one in targets) > Limits.PORTS_PER_WORKER:
        raise ConfigError(f"the targets have more than {Limits.PORTS_PER_WORKER} ports, write shorter ranges")
    return tuple(targets)


def _target(name: str, address: str, options: Iterable[tuple[str, str]]) -> Target:
    called = check_name(name)
    sock = socket_path(address)
    main, slash, _ = address.rpartition("/") if sock is None else ("", "", "")
    proto = _SUFFIXES.get(address[len(main) :].lower(), "") if slash else TCP
    if not proto or "/" in main:
        raise ConfigError(
            f"{shown(address)!r} has a path: a target is a port, its paths are all reached through it"
            " (/udp stands for the protocol)"
        )
    place = LocalPlace.parse(main if slash else address)
    found: dict[str, Any] = {}
    for key, value in options:
        if key not in OPTIONS:
            raise ConfigError(f"unknown option {shown(key)!r}, {instead(key, OPTIONS)} (as in ?remote=15432)")
        if key in found:
            raise ConfigError(f"option {key!r} is given twice")
        if proto not in OPTIONS[key].protos:
            other = OPTIONS[key].protos[0]
            raise ConfigError(
                f"option {key!r} is for {other.upper()} targets only, leave it out"
                + (f" or write {_EXAMPLE_UDP}?{key}={OPTIONS[key].metavar}" if other == UDP else " or /udp")
            )
        try:
            found[key] = Setting(key, OPTIONS[key].parse(value), value)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None
    for key in found:
        needs = OPTIONS[key].needs
        if needs and needs not in found:
            raise ConfigError(f"{key} means nothing without {needs}, add {needs}={OPTIONS[needs].metavar}")
        excludes = OPTIONS[key].excludes
        if excludes in found:
            raise ConfigError(f"{key} and {excludes} do not go together, leave one of them out")
    remote = found.pop("remote", None)
    settings = tuple(found[key] for key in sorted(found))
    port = _remote(remote.value, place, address) if remote is not None else 0
    if isinstance(place.at, UnixPath):
        return Target(called, "", 0, port, proto, settings, place.at.path)
    if place.row > 1 and "access" in found and found["access"].value == "closed":
        raise ConfigError("access: ports in a row cannot be closed, leave it out or write one port")
    return Target(called, place.at.host, place.at.port, port, proto, settings, "", place.row)


def _remote(ports: tuple[int, int], place: LocalPlace, address: str) -> int:
    """The first of the ports that a target asks for, which are as many as it has."""
    port, row = ports
    if row != place.row:
        raise ConfigError(
            f"remote: {row_text(port, row)} has {_ports(row)} and {shown(address)} {_ports(place.row)}, write"
            f" remote={row_text(port, place.row)}"
        )
    return port


def _ports(row: int) -> str:
    return "1 port" if row == 1 else f"{row} ports"


def _pairs(query: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in query.split("&")]
    return [(key, value) for key, _, value in parts]


def with_default(targets: Iterable[Target], key: str, text: str) -> tuple[Target, ...]:
    """The targets, with an option for those which may have it and have none of their own."""
    option = OPTIONS[key]
    setting = Setting(key, option.parse(text), text)
    return tuple(
        each._replace(settings=tuple(sorted((*each.settings, setting))))
        if each.proto in option.protos and each.setting(key) is None
        else each
        for each in targets
    )
