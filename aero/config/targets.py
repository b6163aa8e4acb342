"""The text of a target: ``NAME@ADDRESS[/udp]?key=value&key=value``, and the table of its options.

``+`` joins the items of a list inside a value. There are no escapes: what does not fit on a command line goes into the
configuration file, as a table ``[client.targets.NAME]`` with ``address`` and the same keys. A secret is only ever given
as @FILE. To add an option of targets, add a field to `Target` and a line to `OPTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple

from aero.address import Address, Target, check_name, port_number
from aero.config.hints import instead, shown
from aero.errors import ConfigError
from aero.limits import Limits

#: What stands behind a target's ?, and how each is read. The name is the field of `Target`.
OPTIONS: dict[str, Callable[[str], Any]] = {"remote": port_number}
_EXAMPLE = "web@127.0.0.1:80"
_UDP = "/udp"


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
    """Targets from comma-separated lists and tables; each name, and each port asked for, once."""
    targets: list[Target] = []
    for each in given:
        if isinstance(each, TargetTable):
            targets.append(from_table(each))
        else:
            targets += [target(part.strip()) for part in each.split(",") if part.strip()]
    if not targets:
        raise ConfigError(f"no target is given, write name@host:port, for example {_EXAMPLE}")
    if len(targets) > Limits.TARGETS_PER_WORKER:
        raise ConfigError(f"{len(targets)} targets are too many, write at most {Limits.TARGETS_PER_WORKER}")
    names: dict[str, Target] = {}
    remotes: dict[int, Target] = {}
    for one in targets:
        if one.name in names:
            raise ConfigError(
                f"the name {one.name!r} stands for both {names[one.name]} and {one}, choose another"
            )
        if one.remote and one.remote in remotes:
            raise ConfigError(f"{remotes[one.remote]} and {one} ask for the same port")
        names[one.name] = remotes[one.remote] = one
    return tuple(targets)


def _target(name: str, address: str, options: Iterable[tuple[str, str]]) -> Target:
    called = check_name(name)
    if address.endswith(_UDP):
        raise ConfigError("UDP targets are not offered yet, leave out /udp for TCP")
    if "/" in address:
        raise ConfigError(
            f"{shown(address)!r} has a path: a target is a port, its paths are all reached through it"
        )
    where = Address.parse(address)
    found: dict[str, Any] = {}
    for key, value in options:
        if key not in OPTIONS:
            raise ConfigError(f"unknown option {shown(key)!r}, {instead(key, OPTIONS)} (as in ?remote=15432)")
        if key in found:
            raise ConfigError(f"option {key!r} is given twice")
        try:
            found[key] = OPTIONS[key](value)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None
    return Target(called, where.host, where.port, **found)


def _pairs(query: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in query.split("&")]
    return [(key, value) for key, _, value in parts]
