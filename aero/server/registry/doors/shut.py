"""Doors where nothing listens: of a target with ``access=closed`` unless it is open, of one with ``auth=`` always.

The port is leased and held all the same: nobody else gets it, and it is free when a door opens.
"""

from __future__ import annotations

from time import monotonic
from typing import Callable

from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.access import Access
from aero.server.registry.mapping import Door


class NoDoor:
    """That of a target that only the mux leads to, for it asks visitors by HTTP who they are."""

    addresses: list[str] = []

    def close(self) -> None:
        """There is nothing to close."""


class ShutDoor:
    """A door that opens for a time."""

    def __init__(
        self, loop: Loop, access: Access, build: Callable[[], Door], closed: Callable[[], None]
    ) -> None:
        """``build()`` gives the door, listening, or raises PortError; ``closed()``: its time is over, it is shut.

        Nothing listens before ``apply``.
        """
        self._loop = loop
        self._access = access
        self._build = build
        self._closed = closed
        self._door: Door | None = None
        self._timer: Watcher | None = None

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for now: ``ip:port``."""
        return self._door.addresses if self._door is not None else []

    def apply(self) -> None:
        """Opens or shuts as the access is now. Raises PortError where its port is used by another program."""
        stopped(self._timer)
        self._timer = None
        left_s = self._access.until - monotonic()
        if left_s > 0:
            self._door = self._door or self._build()
            self._timer = self._loop.timer(left_s)
            self._timer.start(self._over)
        else:
            self._shut()

    def _over(self) -> None:
        if self._access.is_open(monotonic()):  # timers may be early by a little
            self.apply()
            return
        self.close()
        self._closed()

    def _shut(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.close()

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""
        stopped(self._timer)
        self._timer = None
        self._shut()

    def faulted(self, _: Exception) -> None:
        """Shuts after an error of this program in our timer (net/faults.py): what is unclear stays closed."""
        self._access.close()
        self.close()
