"""At most one of a kind: a lock that lives exactly as long as the process that holds it.

Knows files and flock, not what is locked: the name comes from the configuration. It runs before anything native
is imported, as every minute's start under cron ends here. A killed process leaves a file, but never a lock;
nobody ever removes the file, since then two processes could each hold "the" lock.

Whoever can read a file can lock it. So the file is ours and only we can read it, or it is no lock: another user of
the host could otherwise keep us from starting, or have us write into a file of his choice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import NamedTuple

from aero.errors import Busy, ConfigError, HostError

# Where the lock goes when the state folder cannot be written. First what nobody cleans while the host is up; tmp
# cleaners spare young files only, and /dev/shm is emptied when its user logs out for good (RemoveIPC of logind).
FALLBACKS = ("/run/lock", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - our file there must be ours, no symlink


class Held(NamedTuple):
    """A lock of ours, until `release` or the end of the process. A forked child holds it too."""

    path: str
    descriptor: int

    def sign(self) -> None:
        """Writes the process id into the file. It is there for people; the lock holds without it."""
        self.note(f"{os.getpid()}\n")

    def note(self, text: str) -> None:
        """Keeps ``text`` in the file for whoever holds the lock next."""
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, text.encode(), 0)
        except OSError:
            pass  # a full disk

    def noted(self, count: int) -> str:
        """What the last holder kept there; ``count`` bytes of it at the most."""
        return os.pread(self.descriptor, count, 0).decode("utf-8", "replace")

    def release(self) -> None:
        """Lets the next start have it."""
        os.close(self.descriptor)


def take(file: str, name: str, state: str) -> Held:
    """Locks ``file``, or with "" a file called after ``name``, in the folder ``state`` ("" for none) if possible.

    Raises Busy; ConfigError where ``file`` cannot be used; HostError where no folder can hold a lock.
    """
    return _take_file(file) if file else _take_first(places(name, state))


def places(name: str, state: str) -> list[str]:
    """The files that can stand for one name, the best first."""
    own = [os.path.join(state, f"{name}.lock")] if state else []
    return own + [f"{folder}/aero-{os.geteuid()}-{name}.lock" for folder in FALLBACKS]


def _take_file(path: str) -> Held:
    try:
        return _lock(path, os.O_CREAT)
    except OSError as error:
        raise ConfigError(f"--lock: cannot lock {path}: {_reason(error)}") from None


def _take_first(paths: list[str]) -> Held:
    """Locks the first that can be made, unless any is held: its folder may have been full when that one began."""
    held: Held | None = None
    reasons: list[str] = []
    for path in paths:
        try:
            if held is None:
                if path == paths[0]:
                    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                held = _lock(path, os.O_CREAT)
            else:
                _lock(path, 0).release()
        except Busy:
            if held is not None:
                held.release()
            raise
        except OSError as error:
            reasons.append(f"{os.path.dirname(path)}: {_reason(error)}")
    if held is None:
        raise HostError(f"no folder here can hold a lock, name a file: --lock FILE ({'; '.join(reasons)})")
    return held


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


def _lock(path: str, flags: int) -> Held:
    """Raises OSError, Busy."""
    flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(None, "it is not a regular file")
            if status.st_uid != os.geteuid():
                raise OSError(None, f"the file there belongs to uid {status.st_uid}")
            if status.st_nlink > 1:
                raise OSError(None, "the file there has another name, too")
            if status.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)  # one of ours from an earlier version
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                raise Busy(f"process {pid or 'unknown'} holds {path}") from None
            if os.path.samestat(status, os.stat(path)):
                return Held(path, descriptor)
        except FileNotFoundError:
            pass  # removed by hand just now: what we have locked is not the file of this name any more
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
