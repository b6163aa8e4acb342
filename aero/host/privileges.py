"""Becoming somebody else: a server that was started as root goes on as a user who may do little.

What that user can write, root must not open: he could have put a link there. So root makes ready what only root can
(a log in a folder of root's, the state's folder), through descriptors of folders and without following a link; what
lies in the user's own folders is opened afterwards, as him. The order is: bind, `prepare_log` and `prepare_state`,
`drop`, and then open both.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat

from aero.errors import ConfigError, HostError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_LOG = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
_STATE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW

#: Locks in the state's folder stay root's: root takes them at the next start.
_LOCKS = ".lock"


def user(name: str) -> pwd.struct_passwd:
    """A user of this host. Raises ConfigError where there is none of that name."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"--run-as: there is no user {name!r} on this host") from None


def prepare_log(path: str, who: pwd.struct_passwd) -> None:
    """Makes the log's file ready for a user, where its folder is root's; does nothing where it is the user's own.

    Raises ConfigError for a folder or file that others can write.
    """
    folder, name = os.path.split(path)
    try:
        descriptor = os.open(os.path.realpath(folder), _FOLDER)
        try:
            if _owner(descriptor, folder, who, "--log") == 0:
                _hand_over(name, _LOG, descriptor, who)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"--log: cannot write {path}: {error.strerror or error}") from None


def prepare_state(path: str, who: pwd.struct_passwd) -> None:
    """Makes the folder for what outlives a process ready for a user, where it is root's or not there yet.

    Left alone are a folder of root's that others may look into, which has another purpose, and one whose parent is
    missing or the user's own, which he makes himself. Raises ConfigError for a folder that others can write.
    """
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        return
    try:
        parent = os.open(os.path.realpath(above), _FOLDER)
        try:
            if _owner(parent, above, who, "--state", shared=True) != 0:
                return
            made = _make(os.path.basename(path), parent)
            descriptor = os.open(os.path.basename(path), _FOLDER, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            private = made or not stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077
            if _owner(descriptor, path, who, "--state") == 0 and private:
                for name in os.listdir(descriptor):
                    if not name.endswith(_LOCKS):
                        _hand_over(name, _STATE, descriptor, who)
                os.fchown(descriptor, who.pw_uid, who.pw_gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"--state: cannot prepare {path}: {error.strerror or error}") from None


def drop(name: str) -> None:
    """Becomes user ``name`` for good, with that user's groups. Harmless where we are that user already.

    Raises ConfigError for a user that there is not, HostError where we may not.
    """
    who = user(name)
    if os.geteuid() == who.pw_uid:
        return
    if os.geteuid() != 0:
        raise HostError(f"only root can become {name}: start as root, or as {name} without --run-as")
    try:
        os.initgroups(name, who.pw_gid)
        os.setgid(who.pw_gid)
        os.setuid(who.pw_uid)
    except OSError as error:
        raise HostError(f"cannot become {name}: {error.strerror or error}") from error
    if os.getuid() != who.pw_uid or os.geteuid() != who.pw_uid:
        raise HostError(f"this system did not let us become {name}")


def _owner(folder: int, path: str, who: pwd.struct_passwd, option: str, shared: bool = False) -> int:
    """The uid of a folder's owner: root or the user. ``shared``: a folder like /tmp will do.

    Raises ConfigError where others can write there.
    """
    status = os.fstat(folder)
    others = status.st_mode & stat.S_IWOTH and not (shared and status.st_mode & stat.S_ISVTX)
    if others or status.st_uid not in (0, who.pw_uid):
        whose = "others can write there" if others else f"it belongs to uid {status.st_uid}"
        raise ConfigError(
            f"{option}: with --run-as {who.pw_name}, the folder {path} must be root's or {who.pw_name}'s: {whose}"
        )
    return status.st_uid


def _make(name: str, parent: int) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _hand_over(name: str, flags: int, folder: int, who: pwd.struct_passwd) -> None:
    """Gives a file to the user, unless somebody else has put it there. Raises OSError."""
    try:
        descriptor = os.open(name, flags, 0o640, dir_fd=folder)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise OSError(None, f"{name}: {why}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return  # /dev/null, a folder
        if status.st_uid not in (0, who.pw_uid) or status.st_nlink > 1:
            raise OSError(None, f"{name}: it is not root's or {who.pw_name}'s alone")
        os.fchown(descriptor, who.pw_uid, who.pw_gid)
    finally:
        os.close(descriptor)
