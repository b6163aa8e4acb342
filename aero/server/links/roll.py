"""The roll: everybody who may log in, as the sources say now: the plain codes, and the users' file.

Reads the sources, and hands what they say to those who go by it: verifiers to `Codes`, rules to the registry. Nothing
has changed where reading fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import NamedTuple

import gevent

from aero.config.roles import ServerConfig
from aero.config.values import auth_code
from aero.core.codes import Close
from aero.errors import ConfigError, LinkClosed
from aero.server.links.codes import Basis, Codes, made, plain
from aero.server.links.sessions import Sessions
from aero.server.policy.rules import NO_USERS, Users
from aero.server.policy.users import load
from aero.server.registry.registry import Registry


class Reading(NamedTuple):
    """What the sources say: rules, and what is to be proved under which name; and lines for the log."""

    users: Users
    secrets: Mapping[str, Basis]
    warnings: tuple[str, ...] = ()


def read(config: ServerConfig) -> Reading:
    """Reads the users' file and the files with codes that it names. Raises ConfigError, SourceError."""
    shared = plain(config.auth, config.auth_next)
    if not config.users:
        return Reading(NO_USERS, shared)
    users = load(config.users, time())
    warnings: list[str] = []
    secrets: dict[str, Basis] = dict(shared) if users.default is not None else {}
    if users.default is None and config.auth:
        warnings.append(f"--auth counts for nobody: {config.users} has no [default]")
    for user, proof in users.proofs.items():
        if proof.verifier:
            secrets[user] = Basis(verifier=proof.verifier)
            continue
        try:
            code = auth_code("@" + proof.file)
        except ConfigError as error:
            where = f"--users: {config.users}: line {users.lines.get(user, 0)}: [user.{user}]: auth"
            raise type(error)(f"{where}: {error}") from None
        warnings += code.warnings
        secrets[user] = Basis(code.text, user)
    return Reading(users, secrets, tuple(warnings))


class Roll:
    """Who may log in to a server."""

    def __init__(self, reading: Reading) -> None:
        """Makes every verifier: 37 ms for a code, a millisecond for each other one. Raises ConfigError."""
        self.reading = reading
        try:
            self.codes = Codes(reading.secrets)
        except ValueError:
            raise _no_verifier(reading) from None

    def change(self, reading: Reading, sessions: Sessions, registry: Registry) -> bool:
        """Goes by another reading from now on; whether anything is different. What is not allowed any more ends.

        Verifiers are made on another thread. Raises ConfigError, and changes nothing.
        """
        if reading[:2] == self.reading[:2]:
            return False
        pool = gevent.get_hub().threadpool
        try:
            gone = self.codes.change(reading.secrets, lambda secrets: pool.apply(made, (secrets,)))
        except ValueError:
            raise _no_verifier(reading) from None
        self.reading = reading
        self._end(gone, sessions, registry)
        registry.change_users(reading.users)
        return True

    def _end(self, gone: set[str], sessions: Sessions, registry: Registry) -> None:
        """Ends who has proved what counts no more: a user's workers at once.

        With the plain code only the link ends: who knows the new one comes back at once and takes its session over.
        """
        for worker in list(registry.workers.values()):
            if worker.login in gone and worker.user:
                worker.end(Close.AUTH, f"user {worker.user} was removed, or has another code")
        for link, proved in list(sessions.links.items()):
            if not self.codes.counts(proved):
                link.abandon(LinkClosed("the auth code was changed"))


def _no_verifier(reading: Reading) -> ConfigError:
    """Which of the verifiers has the form and is none."""
    for user, secret in reading.secrets.items():
        try:
            made((secret,) if secret.verifier else ())
        except ValueError:
            line = reading.users.lines.get(user, 0)
            return ConfigError(
                f"--users: line {line}: [user.{user}]: verifier: that is none: a part of it is changed"
            )
    return ConfigError("--users: a verifier is none")
