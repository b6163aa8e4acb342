"""`aero users check` and `aero users add`: for who writes the file of a server's users.

Writes no file: what is to be added is printed, and put there by people. Functions return what is to be printed.
"""

from __future__ import annotations

import secrets
from time import time

from aero.config import filed, values
from aero.config.roles import UsersConfig
from aero.core.spake2plus import Verifier
from aero.core.stretch import stretch
from aero.errors import ConfigError
from aero.server.policy import users

_CODE_BYTES = 18  # 144 bits: nobody guesses it from a stolen verifier


def checked(path: str) -> tuple[str, bool]:
    """What there is to say about a users' file, a line each, and whether a server would take it.

    Raises SourceError where it cannot be read.
    """
    found, complaints = users.read(users.content(path), time())
    lines = [f"{path}: {'' if each.fatal else 'warning: '}{each}" for each in complaints]
    for user, proof in found.proofs.items():
        line = found.lines.get(user, 0)
        try:
            if proof.verifier:
                Verifier.read(proof.verifier)
            elif proof.file:
                exposed = filed.auth_code("@" + proof.file).warnings
                lines += [f"{path}: warning: line {line}: {each}" for each in exposed]
        except ConfigError as error:
            lines.append(f"{path}: line {line}: [user.{user}]: auth: {error}")
            return "\n".join(lines) + "\n", False
        except ValueError:
            lines.append(
                f"{path}: line {line}: [user.{user}]: verifier: that is none, a part of it was changed"
            )
            return "\n".join(lines) + "\n", False
    good = not any(each.fatal for each in complaints)
    if good:
        default = "with" if found.default is not None else "without"
        lines.append(f"{path}: good, {len(found.rules)} users, {default} [default]")
    return "\n".join(lines) + "\n", good


def added(name: str, config: UsersConfig) -> tuple[str, str]:
    """The lines for the file, and what only the person may see who asked: the code, where it is a new one."""
    user = values.tunnel_user(name)
    code = config.auth or secrets.token_urlsafe(_CODE_BYTES)
    verifier = Verifier.of(*stretch(code, user)).text
    shown = "" if config.auth else f"the code, which stands nowhere else: {code}\n"
    return (
        f'\n[user.{user}]\nverifier = "{verifier}"\n',
        f"{shown}for a worker: aero client --user {user} --auth @FILE ..., with the code in FILE\n",
    )
