"""Becoming somebody else: a server that was started as root goes on as a user who may do little."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable

from aero.errors import ConfigError, HostError


def check(name: str) -> None:
    """Raises ConfigError for a user that there is not."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"--run-as: there is no user {name!r} on this host") from None


def drop(name: str, ours: Iterable[str]) -> None:
    """Becomes user ``name`` for good, with that user's groups. ``ours``: files that it has to be able to write.

    Call it when every port is bound. Harmless where we are that user already. Raises ConfigError for a user that
    there is not, HostError where we may not.
    """
    check(name)
    user = pwd.getpwnam(name)
    if os.geteuid() == user.pw_uid:
        return
    if os.geteuid() != 0:
        raise HostError(f"only root can become {name}: start as root, or as {name} without --run-as")
    try:
        for path in ours:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise HostError(f"cannot become {name}: {error.strerror or error}") from error
    if os.getuid() != user.pw_uid or os.geteuid() != user.pw_uid:
        raise HostError(f"this system did not let us become {name}")
