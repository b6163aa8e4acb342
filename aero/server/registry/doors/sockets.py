"""Mappings as sockets in the file system, too (``--listen-unix DIR``): ``DIR/TAG.NAME`` leads to the targets of that
tag and name, of which the pool chooses, as it does for the mux.

Who may open the file (0660, and whatever the folder's mode and group say) may visit. A visitor there has no address: to
all rules it comes from this machine, 127.0.0.1, port 0.
"""

from __future__ import annotations

import contextlib
import os

from aero import logs
from aero.address import SOCKET_PATH_CHARS, UnixPath
from aero.errors import ListenError
from aero.net.listen import listen_unix
from aero.server.registry.doors.tcp import House, TcpDoor
from aero.server.registry.gradually import at_once
from aero.server.registry.mapping import Mapping
from aero.server.registry.pool import Pool

log = logs.get("mapping")

_MODE = 0o660
_OPTION = "--listen-unix"


def prepare(folder: str) -> None:
    """Makes the folder where there is none. Raises ListenError where we cannot have sockets in it."""
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
    except OSError as error:
        raise ListenError(f"cannot make {folder}: {error.strerror}; see {_OPTION}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ListenError(f"cannot write to {folder}; see {_OPTION}")


class _Within:
    """What is behind a socket: whichever of a pool's mappings is to have the visitor."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of the door."""
        return self._pool.rushed

    def choose(self, visitor: str) -> Mapping | None:
        """The mapping that a visitor gets; None where none works, or lets in who comes from here."""
        mapping = self._pool.choose(visitor)
        return mapping.choose(visitor) if mapping is not None else None

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away."""
        self._pool.members[0].refuse(reason)


class Sockets:
    """All of them, by tag and name."""

    def __init__(self, folder: str) -> None:
        """``folder``: prepared."""
        self._folder = folder
        self._doors: dict[str, TcpDoor] = {}  # by path

    def path(self, tag: str, name: str) -> str:
        """Where the targets of a tag and name are."""
        return os.path.join(self._folder, f"{tag}.{name}")

    def open(self, house: House, tag: str, name: str, pool: Pool) -> None:
        """Listens for the first of a pool's members. What cannot be is said; its port is there all the same."""
        path = self.path(tag, name)
        try:
            if len(os.fsencode(path)) > SOCKET_PATH_CHARS:
                raise ListenError(
                    f"{path} is longer than the {SOCKET_PATH_CHARS} bytes that its path may have"
                )
            sock = listen_unix(UnixPath(path), _OPTION, _MODE)
        except ListenError as error:
            log.warning("no socket for a target", tag=tag, target=name, why=error)
            return
        door = self._doors[path] = TcpDoor(house, _Within(pool))
        at_once(door.listen([sock]))
        log.info("target has a socket", tag=tag, target=name, at=UnixPath(path))

    def close(self, tag: str, name: str) -> None:
        """The last member is gone. Harmless where nothing listens."""
        path = self.path(tag, name)
        door = self._doors.pop(path, None)
        if door is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)
            door.close()
