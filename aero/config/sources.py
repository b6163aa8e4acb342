"""Command line, environment and file: three sources of the same options, merged into one set of raw values.

This module knows where values come from and how each source writes them; it must not know what they mean: that is
for the parsers in aero.config.table. Everything wrong is a ConfigError with one line that says what to write instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from aero.config.filed import FILE_BYTES, path, visible
from aero.config.hints import instead, nearest, shown
from aero.config.option import Config, Option
from aero.config.targets import TargetTable
from aero.errors import ConfigError, SourceError

#: A raw value: the items of a list are texts, or tables of a file.
Value = Union[str, bool, list[Any]]

#: These make no sense in the environment or a file; --config names the file itself.
ARGV_ONLY = ("help", "version", "config")
#: Tables below a table of the file, a name each, and the option that they are further items of.
TABLES = {"targets": "target"}
SWITCH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class Given(NamedTuple):
    """An option's raw value and how messages call it: ``--port``, ``AERO_PORT``, ``FILE [server] port``."""

    value: Value
    place: str


def wants(argv: Iterable[str], name: str) -> bool:
    """Whether ``--name`` (``-name``, or the first letter for help) stands anywhere in ``argv``."""
    return any(word in (f"--{name}", f"-{name}") or (name == "help" and word == "-h") for word in argv)


def from_argv(
    argv: Sequence[str], command: str, kind: type[Config], elsewhere: Mapping[str, str]
) -> tuple[dict[str, Given], list[str]]:
    """The options and the other arguments of a command line; ``-name`` means the same as ``--name``.

    ``elsewhere`` tells which command knows an option that this one does not.
    """
    known = kind.known()
    given: dict[str, Given] = {}
    others: list[str] = []
    left = list(argv)
    while left:
        word = left.pop(0)
        dashed, equals, value = word.partition("=")
        if len(word) < 2 or not word.startswith("-"):
            others.append(word)
            continue
        name = _bare(dashed)
        place = f"--{name}"
        if name not in known:
            _check_moved(kind, name, place)
            if name in elsewhere:
                where = ": write it before that word" if elsewhere[name] == "service" else ""
                raise ConfigError(
                    f"{place} is an option of aero {elsewhere[name]}, not of aero {command}{where}"
                )
            meant = nearest(name, {**elsewhere, **known})
            whose = "" if meant in known else f", an option of aero {elsewhere.get(meant)}"
            hint = f"did you mean --{meant}{whose}?" if meant else f"aero {command} --help lists them"
            raise ConfigError(f"unknown option {shown(dashed)}: {hint}")
        option = known[name]
        if not option.metavar:
            if equals:
                raise ConfigError(f"{place} takes no value, write {place} alone")
            given[name] = Given(True, place)
            continue
        alone = option.optional and not equals and not (left and not left[0].startswith("-"))
        if not equals and not alone:
            if not left or (left[0].startswith("-") and _bare(left[0].partition("=")[0]) in known):
                raise ConfigError(f"{place} needs a value, write {place} {option.metavar}")
            value = left.pop(0)
        if not value and not alone:
            raise ConfigError(f"{place} is empty, write {place} {option.metavar} or leave it out")
        earlier = given[name].value if name in given else []
        if not isinstance(earlier, list):
            raise ConfigError(f"{place} is given twice, write it once")
        given[name] = Given([*earlier, value] if option.repeats else value, place)
    return given, others


def _check_moved(kind: type[Config], name: str, place: str) -> None:
    if name in kind.MOVED:
        raise ConfigError(f"{place}: {kind.MOVED[name]}")


def variable(name: str) -> str:
    """The environment's name for an option: ``AERO_LOG_SIZE``."""
    return "AERO_" + name.upper().replace("-", "_")


def from_environment(
    environ: Mapping[str, str], kind: type[Config]
) -> tuple[dict[str, Given], list[str], tuple[str, ...]]:
    """Options that the environment sets, as ``AERO_`` and the name in capitals; warnings and notes for the log."""
    given: dict[str, Given] = {}
    warnings: list[str] = []
    notes: tuple[str, ...] = ()
    for name in kind.MOVED:
        if variable(name) in environ:
            _check_moved(kind, name, variable(name))
    for option in kind.known().values():
        place = variable(option.name)
        value = environ.get(place)
        if value is None or option.name in ("help", "version"):
            continue
        plain, note = visible(
            os.fsencode(value), place
        )  # it may have come from a file: $(cat code), env_file
        value = os.fsdecode(plain)
        notes += note
        if place.endswith("_PORT") and value.startswith(("tcp://", "udp://")):
            # Kubernetes and Docker links set it so for a service whose name is aero.
            warnings.append(f"{place}={shown(value)} is not for us but tells where a service is: ignored")
            continue
        if not value:
            raise ConfigError(f"{place} is empty, give it a value or unset it")
        switch = SWITCH.get(value.lower()) if option.optional or not option.metavar else None
        if switch is not None:
            given[option.name] = Given("" if switch and option.optional else switch, place)
        elif option.metavar:
            given[option.name] = Given([value] if option.repeats else value, place)
        else:
            raise ConfigError(f"{place}: {shown(value)} is neither on nor off, write 1 or 0")
    return given, warnings, notes


def from_file(
    file: str, table: str, tables: Mapping[str, type[Config]]
) -> tuple[dict[str, Given], tuple[str, ...]]:
    """Options from one table of a TOML file, and notes; ``tables`` holds what each table may set."""
    given: dict[str, Given] = {}
    tree, notes = _toml(file)
    for name, content in tree.items():
        if name not in tables:
            raise ConfigError(f"{file}: unknown table [{shown(name)}]: {instead(name, tables)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: {name} is not a table, write [{name}] and its options below")
        known = {key: option for key, option in tables[name].known().items() if key not in ARGV_ONLY}
        for key, value in content.items():
            place = f"{file} [{name}] {shown(key)}"
            option = known.get(TABLES.get(str(key), str(key)))
            if option is None:
                _check_moved(tables[name], str(key), place)
                raise ConfigError(f"{place}: unknown option, {instead(key, known)}")
            checked = _tables(place, value) if key in TABLES else _toml_value(place, option, value)
            if name == table:
                earlier = given.get(option.name)
                if earlier is not None and isinstance(earlier.value, list) and isinstance(checked, list):
                    checked = [*earlier.value, *checked]
                given[option.name] = Given(checked, place)
    return given, notes


def merge(known: Mapping[str, Option], *sources: Mapping[str, Given]) -> dict[str, Given]:
    """The options of all sources, the earlier one winning, in the table's order."""
    first = {name: [source[name] for source in sources if name in source] for name in known}
    return {name: found[0] for name, found in first.items() if found}


def canonical(given: Mapping[str, Given]) -> list[str]:
    """The same options as a command line in the one form that needs no interpretation."""
    argv: list[str] = []
    for name, (value, _) in given.items():
        if isinstance(value, bool):
            argv += [f"--{name}"] if value else []
        else:
            argv += [f"--{name}={each}" for each in ([value] if isinstance(value, str) else value)]
    return argv


def _bare(dashed: str) -> str:
    return "help" if dashed == "-h" else dashed[2:] if dashed.startswith("--") else dashed[1:]


def _toml(file: str) -> tuple[dict[str, object], tuple[str, ...]]:
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError:
        raise ConfigError(f"reading {file} needs Python 3.11 or newer, or the package tomli") from None
    try:
        with open(file, "rb") as opened:
            data = opened.read(FILE_BYTES + 1)
        if len(data) > FILE_BYTES:
            raise ConfigError(f"{file} is larger than {FILE_BYTES} bytes, this is no configuration file")
        plain, notes = visible(data, file)
        return tomllib.loads(plain.decode()), notes
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # tomllib's own error is one
        raise ConfigError(f"cannot read {file}: {error}") from None


def _toml_value(place: str, option: Option, value: object) -> Value:
    if not option.metavar:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{place}: write true or false")
    if option.optional:
        if isinstance(value, bool):
            return "" if value else False
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{place}: write true, false or a string")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value:
        return [value] if option.repeats else value
    if option.metavar == "LIST" or option.repeats:
        if isinstance(value, list) and value and all(isinstance(each, str) and each for each in value):
            return value if option.repeats else ",".join(value)
        raise ConfigError(f"{place}: write one string or a list of strings")
    raise ConfigError(f'{place}: write a string, for example {option.name} = "{option.metavar}"')


def _tables(place: str, value: object) -> list[TargetTable]:
    """Tables below a table: ``[client.targets.web]`` and the like."""
    if not isinstance(value, dict) or not all(isinstance(keys, dict) for keys in value.values()):
        raise ConfigError(f"{place}: write a table for each, for example [client.targets.web]")
    return [
        TargetTable(
            name, {key: _text(f"{place}.{shown(name)} {shown(key)}", each) for key, each in keys.items()}
        )
        for name, keys in value.items()
    ]


def _text(place: str, value: object) -> str:
    """A value as it would stand on a command line; the items of a list are joined by +."""
    if isinstance(value, list):
        return "+".join(_text(place, each) for each in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise ConfigError(f"{place}: write a string, a number, or a list of them")


def file_of(given: Mapping[str, Given]) -> str:
    """The configuration file that ``--config`` names, "" for none."""
    named = given.get("config")
    if named is None or not isinstance(named.value, str):
        return ""
    try:
        return path(named.value)
    except ConfigError as error:
        raise ConfigError(f"{named.place}: {error}") from None
