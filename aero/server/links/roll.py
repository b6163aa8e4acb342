"""The roll: everybody who may log in, as the sources say now: the plain codes, and the users' file.

Reads the sources, and hands what they say to those who go by it: verifiers to `Codes`, rules to the registry. Nothing
has changed where reading fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import NamedTuple

from aero import logs
from aero.config.filed import auth_code
from aero.config.roles import ServerConfig
from aero.core.codes import Close
from aero.core.spake2plus import Verifier
from aero.errors import ConfigError, LinkClosed
from aero.net.threads import apart
from aero.server.links.codes import Basis, Codes, made, plain
from aero.server.links.naming import is_credential
from aero.server.links.sessions import Sessions
from aero.server.policy.rules import NO_USERS, Users
from aero.server.registry.registry import Registry
from aero.server.store.credentials import CredentialTable

log = logs.get("server")


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
    from aero.server.policy.users import load

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
    """Who may log in to a server.

    Besides what the sources say these are ``credentials``, of users that the sources name, and invitations.
    """

    def __init__(self, reading: Reading) -> None:
        """Makes every verifier: 37 ms for a code, a millisecond for each other one. Raises ConfigError."""
        self.reading = reading
        self.credentials: CredentialTable
        self._sessions: Sessions
        self._registry: Registry
        self._invited: dict[str, Basis] = {}  # by the names under which invitations' codes are proved
        try:
            self.codes = Codes(reading.secrets)
        except ValueError:
            raise _no_verifier(reading) from None

    def open(self, credentials: CredentialTable, sessions: Sessions, registry: Registry) -> None:
        """The state can be read, and workers may come: makes the credentials' verifiers, a millisecond each."""
        self.credentials, self._sessions, self._registry = credentials, sessions, registry
        registry.tenants.credentials = credentials
        for each in credentials:
            secret = Basis(verifier=each.verifier)
            try:
                (verifier,) = made((secret,))
            except ValueError:
                log.warning("ignored a damaged credential", login=each.login)
                credentials.remove(each.login)
                continue
            if each.user in self.reading.users.rules:
                self.codes.add(each.login, secret, verifier)

    def admit(self, login: str, secret: Basis, verifier: Verifier) -> None:
        """One more name under which something can be proved: a credential's, or an invitation's."""
        if not is_credential(login):
            self._invited[login] = secret
        self.codes.add(login, secret, verifier)

    def dismiss(self, login: str, why: str) -> None:
        """A name less; who has proved something under it is sent away."""
        self._invited.pop(login, None)
        self.codes.remove(login)
        for worker in list(self._registry.workers.values()):
            if worker.login == login:
                worker.end(Close.AUTH, why)
        self._end_links()

    def why_not(self, user: str, tag: str) -> str:
        """Why a user's workers may not have a tag; "" where they may."""
        users = self.reading.users
        rule = users.rules.get(user)
        if rule is None:
            return f"there is no user {user}" if users.rules else "the server has no users: --users FILE"
        return self._registry.tenants.why_not(rule, tag)

    def _wanted(self, reading: Reading) -> dict[str, Basis]:
        """Everything that is to be proved, by the name under which it is."""
        given = {
            each.login: Basis(verifier=each.verifier)
            for each in self.credentials
            if each.user in reading.users.rules
        }
        return {**reading.secrets, **given, **self._invited}

    def change(self, reading: Reading) -> bool:
        """Goes by another reading from now on; whether anything is different. What is not allowed any more ends.

        Verifiers are made on another thread. Raises ConfigError, and changes nothing.
        """
        if reading[:2] == self.reading[:2]:
            return False
        try:
            gone = self.codes.change(self._wanted(reading), lambda secrets: apart(made, secrets))
        except ValueError:
            raise _no_verifier(reading) from None
        self.reading = reading
        self._end(gone)
        self._registry.change_users(reading.users)
        return True

    def _end(self, gone: set[str]) -> None:
        """Ends who has proved what counts no more: a user's workers at once.

        With the plain code only the link ends: who knows the new one comes back at once and takes its session over.
        """
        for worker in list(self._registry.workers.values()):
            if worker.login in gone and worker.user:
                worker.end(Close.AUTH, f"user {worker.user} was removed, or has another code")
        self._end_links()

    def _end_links(self) -> None:
        for link, proved in list(self._sessions.links.items()):
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
