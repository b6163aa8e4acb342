"""The key to a server's API: a file in its state folder that its own user and root can read, and nobody else.

The server makes it, `aero kick` and `aero page` find it there. Whoever can read the file may change things; whoever
can only connect may not.
"""

from __future__ import annotations

import os
import re
import secrets
import stat

from aero.errors import HostError

FILE = "api-key"
_BYTES = 24  # of randomness: beyond guessing, and short enough for an address line
_KEY = re.compile(r"[A-Za-z0-9_-]{32}")
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK


def new_key() -> str:
    """32 random characters that need no quoting anywhere."""
    return secrets.token_urlsafe(_BYTES)


def path_in(folder: str) -> str:
    """Where the key of a server with this state folder is."""
    return os.path.join(folder, FILE)


def make(folder: str) -> str:
    """The key that is kept in a folder; a new one where there is none, or where others could have read it.

    Raises OSError where it cannot be kept.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = path_in(folder)
    try:
        key, status = _read(path)
    except (
        OSError
    ):  # not there, or not ours to follow: where no new one can be put in its place, that is said
        key, status = "", None
    if key and status and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return key
    key = new_key()
    fresh = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(key + "\n")
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    return key


def find(folder: str) -> str:
    """The key of the server that keeps its state in this folder. Raises HostError, which says where it looked."""
    path = path_in(folder)
    if not folder:
        raise HostError("this user has no state folder: say where the server keeps its state, --state DIR")
    try:
        key, _ = _read(path)
    except OSError as error:
        raise HostError(
            f"cannot read the server's key in {path}: {error.strerror}; run this as the server's user or as root,"
            " and name its state folder with --state DIR if it is another"
        ) from None
    if not key:
        raise HostError(f"there is no key in {path}; the server makes a new one when it starts")
    return key


def _read(path: str) -> tuple[str, os.stat_result]:
    """The key in a file, "" where there is none in it, and whose file it is. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return "", status
        text = file.read(256).decode("ascii", "replace").strip()
    return text if _KEY.fullmatch(text) else "", status
