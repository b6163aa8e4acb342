"""Finds a way to import the archive's native libraries: a folder of the cache, else memory, else the host's own."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import aero
from aero.boot import cache, folders, parts

# What a host must have of its own where the archive has nothing for it.
NEEDED = {"gevent": "gevent", "Crypto": "pycryptodome", "docopt": "docopt-ng", "bottle": "bottle"}

# The smallest of our libraries: what forbids this one forbids all.
TOUCHSTONE = "greenlet"


class NoWay(Exception):
    """This host cannot run the archive; the text says why, for every attempt."""


def launch(archive: str) -> None:
    """Make `aero` and its libraries importable. Raises NoWay."""
    umask = os.umask(0o077)  # what we unpack is for us alone, whatever the user's files are
    try:
        find_way(archive)
    except parts.Unusable as error:
        raise NoWay(str(error)) from None
    finally:
        os.umask(umask)


def find_way(archive: str) -> None:
    """Try every folder, then memory. Raises NoWay or Unusable."""
    try:
        mine = parts.read(archive)
    except parts.NoParts as error:
        mine = beside_the_hosts(archive, str(error))
    reasons = []
    for folder, base in folders.candidates(archive):
        try:
            use_folder(archive, folders.secured(folder, base), mine)
            return
        except (folders.Refused, OSError, ImportError) as error:
            reasons.append(f"{folder}: {reason_of(error)}")
    try:
        adopt_memory(mine)
    except (OSError, ImportError) as error:
        reasons.append(f"memory: {reason_of(error)}")
        listed = "\n  ".join(reasons)
        raise NoWay(f"found no place for its libraries; AERO_CACHE can name a folder\n  {listed}") from None


def reason_of(error: Exception) -> str:
    """Return one line without what the reader knows."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def use_folder(archive: str, folder: str, mine: parts.Parts) -> None:
    """Import from a tree in ``folder`` from now on. Raises Refused, OSError, ImportError, Unusable, NoWay."""
    for last in (False, True):
        tree, lock = cache.provide(folder, mine)
        try:
            adopt(archive, tree)
        except ImportError as error:
            os.close(lock)
            if tree not in str(error):  # not about our file, so no other folder can help
                raise NoWay(f"this system lacks a library that every Linux has: {error}") from None
            # The kernel forbids it, or the file is damaged in a way that its size does not show.
            cache.distrust(tree)
            if last:
                raise
        else:
            return  # and never close the lock: it ends with the process


def adopt(archive: str, tree: str) -> None:
    """Import from ``tree`` from now on. Raises ImportError where its libraries cannot be loaded."""
    before = sys.path[:], list(aero.__path__)
    sys.path[:] = [
        tree,
        *(path for path in sys.path if path != archive and not path.startswith(archive + "/")),
    ]
    aero.__path__[:] = [f"{tree}/aero"]
    try:
        import_module(TOUCHSTONE)
    except ImportError:
        sys.path[:], aero.__path__[:] = before
        raise


def adopt_memory(mine: parts.Parts) -> None:
    """Import from memory from now on. Raises OSError or ImportError where that cannot be."""
    from aero.boot.memory import Importer

    memory = Importer(mine)
    sys.meta_path.insert(0, memory)
    try:
        import_module(TOUCHSTONE)
    except ImportError:
        sys.meta_path.remove(memory)
        raise


def beside_the_hosts(archive: str, reason: str) -> parts.Parts:
    """Return aero alone, for a Python that has all libraries of its own. Raises NoWay where it lacks one."""
    from importlib.util import find_spec

    missing = [project for module, project in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise NoWay(
            f"{reason}. It would run with this Python's own libraries, but there is no {', '.join(missing)}"
        )
    return parts.read_source(archive)
