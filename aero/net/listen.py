"""Listening and accepting: sockets by address, and one watcher for each. Knows nothing of what they lead to."""

from __future__ import annotations

import errno
import os
import socket
import stat
from time import monotonic
from typing import Any, Callable

from aero import logs
from aero.address import LOOPBACK, Address, UnixPath, is_localhost
from aero.errors import ListenError
from aero.net.faults import report
from aero.net.loop import READ, Loop, Watcher, stopped
from aero.net.pipe import prepare

log = logs.get("listener")

BACKLOG = 1024  # visitors that wait for one turn of the loop; the kernel cuts it to its own maximum
# How long all listeners together may accept in one turn of the loop, and how many each at the most: a flood of visitors
# must not keep the streams waiting, at both ends, since those who are accepted in one turn are opened in one record.
# Each listener takes one visitor a turn in any case. Some 30 fit into it: a burst of those that is opened together
# costs a tenth less.
ACCEPT_S = 0.005
ACCEPTS_A_TURN = 64
BUSY_S = 0.01  # how soon a door that is busy looks again: little beside the 100 ms that make it so
PAUSE_S = 0.5  # with no descriptor left, accepting again at once would only burn the processor
# A port that the system chose for one address may be taken on the next: so often another one is asked for.
ANY_PORT_TRIES = 5
_MAPPED = "::ffff:"  # IPv4, as a socket sees it that listens for both (RFC 4291, section 2.5.5.2)
_HERE = (LOOPBACK[0], 0)
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listen(ip: str, port: int) -> socket.socket:
    """A listening, non-blocking socket; ``::`` takes IPv4 too. Raises OSError."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if ip == "::" else 1)
        sock.setblocking(False)
        prepare(sock)
        sock.bind((ip, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def needed(ips: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some addresses that no other of them covers: ``::`` is every address, ``0.0.0.0`` every IPv4 one."""
    if "::" in ips:
        return ("::",)
    return tuple(ip for ip in ips if ip == "0.0.0.0" or ":" in ip or "0.0.0.0" not in ips)


def listen_all(ips: tuple[str, ...], port: int) -> list[socket.socket]:
    """One listening socket for each address, all on one port (0: the system's choice). Raises OSError."""
    socks: list[socket.socket] = []
    try:
        for ip in needed(ips):
            socks.append(listen(ip, port))
            port = socks[0].getsockname()[1]
    except OSError:
        close_all(socks)
        raise
    return socks


def listen_or_explain(ips: tuple[str, ...], port: int, option: str) -> list[socket.socket]:
    """As ``listen_all``; raises ListenError that names the option which changes it."""
    try:
        return listen_all(ips, port)
    except OSError as error:
        where = ", ".join(ips)
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {where} is taken by another program; choose another one with {option}"
        elif error.errno == errno.EACCES:
            text = f"port {port} on {where} is for root only, as all below 1024; choose another one with {option}"
        elif error.errno == errno.EADDRNOTAVAIL and option == "--port":
            text = f"{where} is no address of this machine; choose another one with --ip"
        else:
            text = f"cannot listen on {where} port {port}: {error.strerror or error}; see {option}"
        raise ListenError(text) from error


def listen_at(address: Address, option: str) -> list[socket.socket]:
    """Listens on every address that a host name has here, all on one port. Raises ListenError, naming ``option``."""
    ips = LOOPBACK if is_localhost(address.host) else _resolved(address, option)
    for _ in range(ANY_PORT_TRIES - 1 if address.port == 0 else 0):
        try:
            return _listen_here(ips, address.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _explained(error, address, option) from None
    try:
        return _listen_here(ips, address.port)
    except OSError as error:
        raise _explained(error, address, option) from None


def listen_unix(where: UnixPath, option: str, mode: int = 0o600) -> socket.socket:
    """Listens at a path, by default for this user alone (and root). What a killed server left there is replaced.

    Raises ListenError, naming ``option``.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        _remove_dead(where.path)
        sock.setblocking(False)
        sock.bind(where.path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        why = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ListenError(f"cannot listen on {where}: {why}; choose another path with {option}") from None
    finally:
        os.umask(before)
    return sock


def _remove_dead(path: str) -> None:
    """Removes a socket that nobody listens at any more, and nothing else. Raises OSError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except (FileNotFoundError, BlockingIOError):
        return  # none there, or one that is alive and busy


def _listen_here(ips: tuple[str, ...], port: int) -> list[socket.socket]:
    """Listens on those addresses that this host has, at least one, all on one port. Raises OSError."""
    socks: list[socket.socket] = []
    missing: OSError | None = None
    for ip in ips:
        try:
            socks.append(listen(ip, port))
            port = socks[0].getsockname()[1]
        except OSError as error:
            if error.errno not in _NOT_HERE:
                close_all(socks)
                raise
            missing = error  # a name for IPv6, say, and no IPv6 on this host
    if not socks and missing is not None:
        raise missing
    return socks


def _resolved(address: Address, option: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"cannot find the address of {address.host}: {error}; see {option}") from None
    # IPv4 first: where port 0 asks for any, it is the one that people type.
    return tuple(dict.fromkeys(str(each[4][0]) for each in sorted(found, key=lambda each: each[0])))


def _explained(error: OSError, address: Address, option: str) -> ListenError:
    taken = error.errno == errno.EADDRINUSE
    why = "it is taken by another program" if taken else error.strerror or str(error)
    return ListenError(f"cannot listen on {address}: {why}; choose another address with {option}")


def close_all(socks: list[socket.socket]) -> None:
    """Closes sockets."""
    for sock in socks:
        sock.close()


# What socket.accept() calls itself, before it looks up the names of three numbers: 3 us of each visitor. Every CPython
# from 3.9 to 3.13 has it, and none has promised to.
_HAS_RAW_ACCEPT = hasattr(socket.socket, "_accept")


def _never() -> bool:
    """A door that is never busy."""
    return False


class _Turn:
    """How long the listeners of a process may still accept in this turn of the loop."""

    def __init__(self) -> None:
        self._began = self._until = 0.0

    def until(self, loop: Loop) -> float:
        """The end of this turn's accepting, on the monotonic clock."""
        began = loop.now()  # the loop's own clock stands still for the length of a turn
        if began != self._began:
            self._began, self._until = began, monotonic() + ACCEPT_S
        return self._until


def _named(address: Any) -> Any:
    """Who comes over IPv6, or over a socket in the file system: this machine, where nobody has an address."""
    if not address:
        return _HERE
    ip = address[0]
    return (ip[len(_MAPPED) :], *address[1:]) if ip.startswith(_MAPPED) else address


class Listener:
    """Accepts on one socket and hands every connection to ``on_connection(sock, address)``."""

    _turn = _Turn()

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_connection: Callable[[socket.socket, Any], None],
        busy: Callable[[], bool] = _never,
    ) -> None:
        """``sock`` listens already. ``on_connection`` gets each connection and its address, on the loop's thread;
        ``busy()`` is asked before each of them: while it is true, visitors wait in the kernel's queue.
        """
        self.address = sock.getsockname()[:2]
        self._loop = loop
        self._sock = sock
        self._kind = (int(sock.family), int(sock.type), sock.proto)
        self._named = sock.family == socket.AF_INET  # accept() gives addresses as we want them
        self._on_connection = on_connection
        self._busy = busy
        self._timer: Watcher | None = None
        self._watcher = loop.io(sock.fileno(), READ)
        self._watcher.start(self._on_readable)

    def _on_readable(self) -> None:
        until = self._turn.until(self._loop)
        for _ in range(ACCEPTS_A_TURN):
            if self._busy():
                self._rest(BUSY_S)
                return
            try:
                if _HAS_RAW_ACCEPT:
                    fd, address = self._sock._accept()  # type: ignore[attr-defined]
                    sock = socket.socket(*self._kind, fileno=fd)
                else:
                    sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # this visitor left before we came: the next one, please
            if not self._named:
                address = _named(address)
            try:
                self._on_connection(sock, address)
            except Exception as error:  # this one is turned away, those behind it are not
                report(error)
                sock.close()
            if monotonic() >= until:
                return  # the kernel keeps the others for the next turn

    def _pause(self, error: OSError) -> None:
        """No descriptors left: those who wait stay in the kernel's queue until some are free again."""
        log.warning(
            "cannot accept for now; raise the limit of open files (ulimit -n)",
            listen=Address(*self.address),
            error=error.strerror,
        )
        self._rest(PAUSE_S)

    def _rest(self, seconds: float) -> None:
        self._watcher.stop()
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._go_on)

    def _go_on(self) -> None:
        stopped(self._timer)
        self._timer = None
        self._watcher.start(self._on_readable)

    def faulted(self, error: Exception) -> None:
        """Goes on after an error of this program: the loop has taken the watcher away (net/faults.py)."""
        if self._sock.fileno() >= 0:
            stopped(self._timer)
            self._rest(BUSY_S)

    def release(self) -> socket.socket:
        """Gives its socket back, which goes on listening: who comes meanwhile waits in the kernel's queue."""
        stopped(self._timer)
        self._timer = None
        stopped(self._watcher)
        return self._sock

    def close(self) -> None:
        """Stops listening."""
        self.release().close()
