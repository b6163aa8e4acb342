"""Which folders may hold the cache, in which order, and whether one can be trusted. Unpacks nothing.

Whoever can write to our libraries runs code as us. So a folder is ours alone, and nobody but root and we can put
another one in its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Refused(Exception):
    """This folder will not do; the text says why, in a few words."""


def candidates(archive: str) -> Iterator[tuple[str, str]]:
    """Yield the folders that may hold the cache, the best first, each with the folder that must exist already."""
    chosen = os.environ.get("AERO_CACHE")
    if chosen:
        yield chosen, "/"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the specification says to ignore any other
        yield os.path.join(xdg, "aero"), "/"
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        yield os.path.join(home, ".cache", "aero"), home
    beside = os.path.dirname(os.path.abspath(archive))
    yield os.path.join(beside, ".aero-cache"), beside
    for shared in ("/var/tmp", "/tmp", "/dev/shm"):  # noqa: S108 - our folder there is checked like any other
        yield os.path.join(shared, f"aero-{os.geteuid()}"), shared


def secured(folder: str, base: str) -> str:
    """Make the folder where it is missing below ``base``; return its real path. Raises Refused or OSError."""
    if not os.path.isdir(base):
        raise Refused(f"{base} does not exist")
    parent, name = os.path.split(os.path.abspath(folder))
    make(parent)
    real = os.path.join(os.path.realpath(parent), name)
    check_ancestors(real)
    make(real)
    check_ours(real)
    if os.statvfs(real).f_flag & os.ST_NOEXEC:
        raise Refused("is mounted noexec")
    return real


def make(path: str) -> None:
    """Make a folder, and those above it that are missing, for us alone whatever our umask. Raises OSError."""
    if os.path.isdir(path):
        return
    make(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another start made it, or it is no folder: whoever looks next sees that


def check_ours(path: str) -> None:
    """Raise Refused unless the path is a folder, not a symlink, of ours, that nobody else can write to."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise Refused("is a symlink")
    if not stat.S_ISDIR(found.st_mode):
        raise Refused("is not a folder")
    if found.st_uid != os.geteuid():
        raise Refused(f"belongs to uid {found.st_uid}, not to us (uid {os.geteuid()})")
    if found.st_mode & WRITABLE_BY_OTHERS:
        raise Refused(f"is writable by others (mode {stat.S_IMODE(found.st_mode):o})")


def check_ancestors(real: str) -> None:
    """Raise Refused if somebody could rename an ancestor of this real path and put another in its place."""
    above = os.path.dirname(real)
    while True:
        found = os.stat(above)
        if found.st_uid not in (0, os.geteuid()):
            raise Refused(f"{above} belongs to uid {found.st_uid}, who could swap it")
        # In a sticky folder only its owner can rename an entry, and each entry of our path is root's or ours.
        if found.st_mode & WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
            raise Refused(f"{above} is writable by others, who could swap it")
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)
