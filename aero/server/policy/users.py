"""The users' file: which users there are, how each proves itself, and their rules. Text in, `Users` or complaints out.

Every complaint has the line that it is about, and all of them are found, not the first alone. The file is written by
operators and read at the start and at reloads. Secrets are not read here: ``auth = "@FILE"`` stays a path.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from aero.config import filed, values
from aero.config.hints import instead
from aero.config.hints import shown as quoted
from aero.errors import ConfigError, SourceError
from aero.server.policy.keys import KEYS
from aero.server.policy.rules import Proof, Rule, Users

#: Codes that the server stretches itself at each start and change, 37 ms each; the others have verifiers.
CODES = 16
#: Each costs some kilobytes and a millisecond at the start.
USERS = 10_000
FILE_BYTES = 8 * 1024 * 1024
VERIFIER = re.compile(r"spake2plus\$[A-Za-z0-9_-]{130}")
_DEFAULT, _USER = "default", "user"


class Complaint(NamedTuple):
    """Something about the file. ``line`` is 0 where it is about the file as a whole; ``fatal``: it is not used so."""

    line: int
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return (f"line {self.line}: " if self.line else "") + self.text


def load(path: str, now: float) -> Users:
    """The users of a file. Raises SourceError where it cannot be read, ConfigError where it says what cannot be."""
    users, complaints = read(content(path), now)
    fatal = [each for each in complaints if each.fatal]
    if fatal:
        more = f" (and {len(fatal) - 1} more, aero users check tells all)" if len(fatal) > 1 else ""
        raise ConfigError(f"--users: {path}: {fatal[0]}{more}")
    return users


def content(path: str) -> bytes:
    """What a file has. Raises SourceError where it cannot be read, ConfigError where it is far too long."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"cannot read the users' file {path}: {getattr(error, 'strerror', error)}"
        ) from None
    if len(data) > FILE_BYTES:
        raise ConfigError(f"{path} is larger than {FILE_BYTES} bytes, this is no users' file")
    return data


def read(data: bytes, now: float) -> tuple[Users, list[Complaint]]:
    """Users, and everything that is wrong with the file, by line; ``now``: Unix seconds.

    Where a complaint is fatal the users are incomplete.
    """
    reader = _Reader(now)
    users = reader.read(data)
    return users, sorted(reader.complaints, key=lambda each: each.line)


class _Reader:
    """One reading of one file."""

    def __init__(self, now: float) -> None:
        self.complaints: list[Complaint] = []
        self._now = now
        self._lines: dict[tuple[str, ...], int] = {}

    def _complain(self, where: tuple[str, ...], text: str, fatal: bool = True) -> None:
        line = next((self._lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self._lines), 0)
        self.complaints.append(Complaint(line, text, fatal))

    def read(self, data: bytes) -> Users:
        tree = self._tree(data)
        if tree is None:
            return Users(None)
        for name, table in tree.items():
            if name not in (_DEFAULT, _USER):
                hint = (
                    f"write [user.{quoted(name)}]"
                    if _like_user(table)
                    else instead(name, (_DEFAULT, "user.NAME"))
                )
                self._complain((name,), f"unknown table [{quoted(name)}]: {hint}")
        default: Rule | None = None
        rules: dict[str, Rule] = {}
        proofs: dict[str, Proof] = {}
        lines: dict[str, int] = {}
        if _DEFAULT in tree:
            if isinstance(tree[_DEFAULT], dict):
                default = self._rule((_DEFAULT,), "", tree[_DEFAULT])
            else:
                self._complain((_DEFAULT,), "default is not a table, write [default] and its keys below")
        named = tree.get(_USER, {})
        if not isinstance(named, dict):
            self._complain((_USER,), "user is not a table, write [user.NAME] for each user")
            named = {}
        if len(named) > USERS:
            self._complain((_USER,), f"{len(named)} users are too many, there may be {USERS}")
        for name, table in named.items():
            where = (_USER, name)
            user = self._user(where, name, table, lines)
            if user:
                lines[user] = self._lines.get(where, 0)
                rules[user] = self._rule(where, user, table)
                proofs[user] = self._proof(where, user, table)
        self._compare(proofs)
        if default is None and not rules and not self.complaints:
            self.complaints.append(
                Complaint(0, "it has no users: write [user.NAME], or [default] for the plain code")
            )
        return Users(default, rules, proofs, lines)

    def _tree(self, data: bytes) -> dict[str, Any] | None:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            try:
                import tomli as tomllib
            except ImportError:
                raise ConfigError(
                    "reading the users needs Python 3.11 or newer, or the package tomli"
                ) from None
        plain, _ = filed.visible(data, "the users' file")
        try:
            text = plain.decode()
        except UnicodeDecodeError as error:
            line = plain.count(b"\n", 0, error.start) + 1
            self.complaints.append(Complaint(line, "it is not UTF-8 text"))
            return None
        try:
            tree: dict[str, Any] = tomllib.loads(text)
        except ValueError as error:
            self.complaints.append(_slip(text, str(error)))
            return None
        except RecursionError:
            self.complaints.append(Complaint(0, "its brackets are nested too deeply"))
            return None
        self._lines = lines_of(text)
        return tree

    def _user(self, where: tuple[str, ...], name: str, table: Any, before: Mapping[str, int]) -> str:
        """The user's name; "" where there is no sense in looking at the rest."""
        if not isinstance(table, dict):
            hint = f"write [user.NAME] above it, or [user.{quoted(name)}] in its place"
            self._complain(where, f"user.{quoted(name)} is not a table: {hint}")
            return ""
        try:
            user = values.tunnel_user(name)
        except ConfigError as error:
            self._complain(where, f"[user.{quoted(name)}]: {error}")
            return ""
        if user in before:
            self._complain(
                where, f"[user.{quoted(name)}] and the user in line {before[user]} are the same one"
            )
            return ""
        return user

    def _rule(self, where: tuple[str, ...], user: str, table: Mapping[str, Any]) -> Rule:
        given: dict[str, Any] = {}
        for key, value in table.items():
            at = (*where, key)
            if key in ("verifier", "auth") and user:
                continue
            if key not in KEYS:
                said = "" if key not in ("verifier", "auth") else ": the code of [default] is --auth"
                self._complain(
                    at, f"{_called(where)}: unknown key {quoted(key)}{said or ', ' + _meant(key, user)}"
                )
                continue
            try:
                given[key.replace("-", "_")] = KEYS[key](value)
            except ConfigError as error:
                self._complain(at, f"{_called(where)}: {key}: {error}")
        if user and "tags" not in given:
            given["tags"] = (user, f"{user}-*")
        rule = Rule(user, **given)
        if rule.expired(self._now):
            self._complain(
                (*where, "expires"), f"{_called(where)}: expires: that is past, nobody is let in", fatal=False
            )
        both = [str(each) for each in rule.visitors if each in rule.deny_visitors]
        if both:
            self._complain((*where, "deny-visitors"), f"{_called(where)}: {both[0]} is allowed and denied")
        return rule

    def _proof(self, where: tuple[str, ...], user: str, table: Mapping[str, Any]) -> Proof:
        verifier, auth = table.get("verifier"), table.get("auth")
        if verifier is None and auth is None:
            hint = f"aero users add {user} makes one"
            self._complain(
                where, f"{_called(where)}: it has neither verifier nor auth, so nobody can be it; {hint}"
            )
        elif verifier is not None and auth is not None:
            self._complain((*where, "auth"), f"{_called(where)}: write verifier or auth, not both")
        elif verifier is not None and (not isinstance(verifier, str) or not VERIFIER.fullmatch(verifier)):
            hint = f"aero users add {user} writes one"
            self._complain((*where, "verifier"), f"{_called(where)}: verifier: that is none, {hint}")
        elif auth is not None and (not isinstance(auth, str) or not auth.startswith("@") or len(auth) < 2):
            hint = f'write auth = "@FILE" to read it from a file, or a verifier (aero users add {user})'
            self._complain(
                (*where, "auth"), f"{_called(where)}: auth: a code does not stand here itself, {hint}"
            )
        else:
            return Proof(verifier or "", auth[1:] if auth else "")
        return Proof()

    def _compare(self, proofs: Mapping[str, Proof]) -> None:
        """Two users with one verifier: a line that was copied, whose code would prove neither or both."""
        seen: dict[str, str] = {}
        for user, proof in proofs.items():
            if proof.verifier and seen.setdefault(proof.verifier, user) != user:
                self._complain(
                    (_USER, user, "verifier"),
                    f"user {user} and user {seen[proof.verifier]} have the same verifier",
                )
        files = [user for user, proof in proofs.items() if proof.file]
        if len(files) > CODES:
            text = f'{len(files)} users have auth = "@FILE", {CODES} may: a code costs each start 37 ms, a verifier 1'
            self._complain((_USER, files[CODES], "auth"), text)


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table and key, by its path, as far as a look at each line by itself tells it."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        head = re.match(r"\s*\[\s*([^\]\[]+?)\s*\]\s*(?:#.*)?$", line)
        key = (
            None
            if head
            else re.match(
                r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line
            )
        )
        if head is not None:
            table = _path(head[1])
        path = table if head is not None else (*table, *_path(key[1])) if key is not None else ()
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return found


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))


def _slip(text: str, error: str) -> Complaint:
    """What TOML's own reader has against a text."""
    match = re.fullmatch(r"(.*?) \(at (?:line (\d+), column \d+|end of document)\)", error)
    if match is None:
        return Complaint(0, error)
    line = int(match[2] or text.count("\n") + 1)
    if "twice" in match[1]:  # the reader says it of the second, and means the two
        return Complaint(line, f"{match[1]}: two tables of one user, put them together")
    return Complaint(line, f"this is not TOML: {match[1]}")


def _like_user(table: Any) -> bool:
    return isinstance(table, dict) and bool({"verifier", "auth", "tags"} & table.keys())


def _called(where: tuple[str, ...]) -> str:
    return f"[{'.'.join(map(quoted, where))}]"


def _meant(key: str, user: str) -> str:
    return instead(key, (*KEYS, "verifier", "auth") if user else KEYS)
