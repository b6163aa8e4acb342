"""A tree of unpacked parts inside a folder that is already known to be safe: made once, checked at every start.

A tree appears by one rename, so it is whole or not there. Who uses one holds a shared flock on its folder for life;
what nobody holds may be removed. systemd's cleaner of /tmp and /var/tmp leaves a locked folder alone, too.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import stat

from aero.boot.folders import WRITABLE_BY_OTHERS, Refused
from aero.boot.parts import Part, Parts

# The first attempt finds a damaged tree, the second loses a race against a cleaner, the third must do.
ATTEMPTS = 3

# A tree in use, one being made, one being removed. Whatever else lies in the folder is not ours to touch.
TREE, FRESH, GONE = "aero-", ".aero-new-", ".aero-gone-"
OURS = re.compile(r"aero-[0-9a-f]{16}-|\.aero-(new|gone)-[0-9a-f]{16}$")

# Names the boot after which every file was last compared with its digest. A power loss can leave a file with
# its right size and without its content; making every file durable would cost each first start far more.
STAMP = ".checked-in-boot"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def provide(folder: str, parts: Parts) -> tuple[str, int]:
    """Return the path of a good tree in ``folder``, and the descriptor whose flock keeps it.

    Raises Refused or OSError where the folder cannot hold one.
    """
    tree = os.path.join(folder, TREE + parts.name)
    files = parts.files()
    for _ in range(ATTEMPTS):
        lock = hold(tree)
        if lock >= 0:
            if is_whole(tree, files) and survived(tree, files):
                check_executable(tree, files)
                remove_unused(folder, TREE + parts.name.split("-")[0])
                return tree, lock
            discard(tree, lock)
        unpack(tree, parts)
    raise Refused("something keeps damaging the cache")


def hold(tree: str) -> int:
    """Return a descriptor of the tree with a shared flock, or -1 where there is no tree."""
    try:
        lock = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        pass  # a file system without locks: another version may remove the tree, and the next start makes it anew
    if is_at(lock, tree):
        return lock
    os.close(lock)  # removed while we waited for the lock
    return -1


def is_at(descriptor: int, path: str) -> bool:
    """Tell whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def is_whole(tree: str, files: list[Part]) -> bool:
    """Tell whether every file is there, of its size, ours, and not writable by others."""
    uid = os.geteuid()
    try:
        if os.lstat(tree).st_mode & WRITABLE_BY_OTHERS:
            return False
        for part in files:
            found = os.lstat(f"{tree}/{part.path}")
            if found.st_size != part.size or found.st_uid != uid:
                return False
            if found.st_mode & WRITABLE_BY_OTHERS or not stat.S_ISREG(found.st_mode):
                return False
    except OSError:
        return False
    return True


def survived(tree: str, files: list[Part]) -> bool:
    """Tell whether the files have their digests, if the machine was started since somebody last looked."""
    boot = boot_id()
    try:
        with open(f"{tree}/{STAMP}") as stamp:
            if stamp.read() == boot:
                return True
    except (OSError, UnicodeDecodeError):
        pass
    from hashlib import sha256

    for part in files:
        with open(f"{tree}/{part.path}", "rb") as file:
            if sha256(file.read()).hexdigest() != part.sha256:
                return False
    try:
        write_stamp(tree, boot)
    except OSError:  # read-only by now: the next start looks again
        pass
    return True


def boot_id() -> str:
    """Return what the kernel calls the time since the machine's start, or "" where it does not say."""
    try:
        with open(BOOT_ID) as file:
            return file.read()
    except OSError:
        return ""


def write_stamp(tree: str, boot: str) -> None:
    """Remember that the tree's files have their digests."""
    with open(f"{tree}/{STAMP}", "w") as file:
        file.write(boot)


def distrust(tree: str) -> None:
    """Make the next start compare every file with its digest."""
    try:
        os.unlink(f"{tree}/{STAMP}")
    except OSError:
        pass


def check_executable(tree: str, files: list[Part]) -> None:
    """Raise Refused where a library may not be mapped for execution."""
    library = next((part.path for part in files if part.path.endswith(".so")), None)
    if library is None:
        return
    with open(f"{tree}/{library}", "rb") as file:
        try:
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
        except PermissionError:
            raise Refused("may not hold executable code") from None


def unpack(tree: str, parts: Parts) -> None:
    """Put a fresh tree into place, or leave the winner's if another process was faster."""
    fresh = beside(tree, FRESH)
    os.mkdir(fresh, 0o700)
    lock = hold(fresh)  # tells cleaners that somebody is at work
    try:
        made = set()
        for part, content in parts.contents():
            path = f"{fresh}/{part.path}"
            parent = os.path.dirname(path)
            if parent not in made:
                os.makedirs(parent, 0o700, exist_ok=True)
                made.add(parent)
            with open(path, "xb") as file:
                file.write(content)
        write_stamp(fresh, boot_id())
        os.rename(fresh, tree)
    except OSError:
        # A cleaner may have taken it before the lock was on it; then the next attempt may do better.
        taken = not os.path.isdir(fresh)
        remove(fresh)
        if not taken and not os.path.isdir(tree):  # with a tree there the race is lost, and all is well
            raise
    except BaseException:
        remove(fresh)
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def beside(tree: str, prefix: str) -> str:
    """Return a new name in the tree's folder that nobody can foresee."""
    return os.path.join(os.path.dirname(tree), prefix + os.urandom(8).hex())


def discard(tree: str, lock: int) -> None:
    """Take away the damaged tree that ``lock`` is a descriptor of, unless a fresh one has taken its place."""
    folder = os.open(os.path.dirname(tree), os.O_RDONLY | os.O_DIRECTORY)
    gone = beside(tree, GONE)
    try:
        fcntl.flock(
            folder, fcntl.LOCK_EX
        )  # one at a time: the next one must not take the first one's fresh tree
        if is_at(lock, tree):
            os.rename(tree, gone)
    finally:
        os.close(folder)
        os.close(lock)
    remove(gone)


def remove_unused(folder: str, current: str) -> None:
    """Remove the trees of other builds that no process holds, and what killed processes left behind."""
    for name in os.listdir(folder):
        if not OURS.match(name) or name.startswith(current):
            continue
        path = os.path.join(folder, name)
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use
            continue
        else:
            remove(path)
        finally:
            os.close(lock)


def remove(tree: str) -> None:
    """Remove a tree as far as that is possible."""
    from shutil import rmtree

    rmtree(tree, ignore_errors=True)
