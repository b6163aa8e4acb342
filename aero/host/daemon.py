"""What a process does to itself: leaves for the background, raises its limits, gives back memory.

Knows processes and descriptors, not what runs in them. Must run before gevent has a hub, since a hub does not
survive fork().
"""

from __future__ import annotations

import gc
import os
import sys

from aero import logs
from aero.errors import ConfigError, HostError

log = logs.get("host")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h


class Caller:
    """Whoever typed the command: waits until we are set up, and takes our exit code if we never are."""

    def __init__(self, pipe: int, log_file: str, stderr: int) -> None:
        """``pipe``, ``stderr``: descriptors that lead to the caller; ``log_file``: where lines go from then on."""
        self._pipe = pipe
        self._log_file = log_file
        self._stderr = stderr

    def release(self) -> None:
        """Tells the caller that all is well, and lets go of its terminal or pipes: stderr is the log from now on."""
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:  # None where its descriptor was closed when Python started
                    stream.flush()
            except OSError:
                pass  # the caller does not listen any more
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        try:
            stderr = self._stderr if self._stderr >= 0 else _open(self._log_file)
        except OSError:  # the log itself says so, and is opened again and again
            stderr = os.dup(nowhere)
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)
        self.answer(0)

    def answer(self, code: int) -> None:
        """Lets the caller end with this exit code; later answers go nowhere."""
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, bytes([code]))
        except BrokenPipeError:
            pass  # it did not want to wait
        os.close(self._pipe)
        self._pipe = -1


def detach(log_file: str, log_later: bool = False) -> Caller:
    """Goes on as a background process: own session, no terminal, no descriptor but standard streams and our own.

    The folder stays the caller's: relative paths of the command line are read again at a reload.

    Only the new process returns; it is to call `Caller.release` when it is set up, until when its messages still
    reach the caller's stderr. The old one stays until then, and ends with the exit code that it is told.

    ``log_later``: the file is not opened before `Caller.release`, by when the process may be another user.

    Raises ConfigError where ``log_file`` cannot be opened, HostError where no process can be started.
    """
    try:
        stderr = -1 if log_later else _open(log_file)
    except OSError as error:
        raise ConfigError(f"--log: cannot write {log_file}: {error.strerror}") from None
    ours, theirs = os.pipe()
    if _fork():
        os.close(theirs)
        _wait(ours)
    os.close(ours)
    os.setsid()
    if _fork():  # who leads a session could get a terminal by opening one
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    _close_inherited()
    return Caller(theirs, log_file, stderr)


def _open(log_file: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(log_file, flags, 0o640)


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        raise HostError(f"cannot start a background process: {error.strerror}") from None


def _wait(pipe: int) -> None:
    """Is the old process: ends as the new one says."""
    _, status = os.wait()
    if status:  # the process in between could not start the new one, and has said why
        os._exit(os.waitstatus_to_exitcode(status))
    code = os.read(pipe, 1)
    if not code:
        os.write(2, b"aero: the background process ended before it was set up\n")
    os._exit(code[0] if code else 1)


def _close_inherited() -> None:
    """Closes what came from the caller: all that an exec() would pass on, as Python's own are close-on-exec."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # no /proc in a container
        numbers = list(range(1024))
    for number in numbers:
        try:
            if number > 2 and os.get_inheritable(number):
                os.close(number)
        except OSError:
            pass  # the listing's own


def end_start() -> None:
    """Once a role is set up: what is there stays, so no collection has to walk through it, which would take 30 ms."""
    gc.freeze()
    gc.enable()
    trim_memory()


def trim_memory() -> None:
    """Gives the system back what only the start needed: 6 MB for life where the archive was unpacked just now."""
    try:
        import ctypes  # the handshake's library has loaded it already

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, AttributeError, OSError):
        pass  # a C library without it: musl, macOS


def bound_free_memory() -> None:
    """Has the C library give large buffers back when they are freed, and keep little for later.

    By itself glibc keeps more with each large buffer that it sees freed: up to 64 MiB. A process that once moved a
    gigabyte to somebody slow would stay 13 MB larger for life.
    """
    try:
        import ctypes  # the handshake's library has loaded it already

        libc = ctypes.CDLL(None)
        # What waits for a slow reader may be 16 MiB, and is not there often: it goes back when it is freed.
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        # Smaller buffers come and go all the time: their pages stay mapped, up to this.
        libc.mallopt(_M_TRIM_THRESHOLD, 4 << 20)
        # No heap of its own for a thread: ours wait for disks and names, not for each other's heaps.
        libc.mallopt(_M_ARENA_MAX, 1)
    except (ImportError, AttributeError, OSError):
        pass  # a C library without it: musl, macOS


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard one: every stream takes one, and cron gives 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS has a hidden limit of its own
        log.debug("= the limit of open files stays", limit=soft, error=error)
    else:
        log.debug("= raised the limit of open files", soft=soft, limit=hard)
