"""Opening targets with ``access=closed``: for a time, from where, and what is left of that when a worker comes back."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Callable

from aero.errors import PortError
from aero.limits import Limits
from aero.net.loop import Loop
from aero.server.policy.access import Access
from aero.server.registry.doors.shut import ShutDoor
from aero.server.registry.mapping import Door, Mapping
from aero.server.store.leases import Owner
from aero.server.watch.events import Events


class Opening:
    """All closed targets, and what is open of them."""

    def __init__(self, loop: Loop, events: Events) -> None:
        """Begins with everything closed."""
        self._loop = loop
        self._events = events
        self._open: dict[Owner, Access] = {}  # also of targets whose worker is away

    def door(self, mapping: Mapping, build: Callable[[], Door]) -> Door:
        """The door of a closed target; it is open where it was when its worker left, and its time is not over.

        Raises PortError.
        """
        access = self._open.get(mapping.owner)
        if access is not None and access.is_open(monotonic()):
            mapping.access = access
        access = mapping.access = mapping.access or Access()
        door = ShutDoor(self._loop, access, build, partial(self._closed, mapping))
        door.apply()
        return door

    def open(self, mapping: Mapping, seconds: float, whence: str, cut: bool) -> None:
        """Opens a closed target for a time, or with 0 closes it. Raises PortError."""
        access, door = mapping.access, mapping.door
        if access is None or not isinstance(door, ShutDoor):
            return
        if not seconds:
            access.cuts = access.cuts or cut
            access.close()
            door.apply()
            self._closed(mapping)
            return
        access.open(monotonic() + seconds, whence, cut)
        try:
            door.apply()
        except PortError:
            access.close()
            raise
        now = monotonic()
        for owner in [owner for owner, each in self._open.items() if not each.is_open(now)]:
            del self._open[owner]
        if len(self._open) < Limits.OPENED_TARGETS:
            self._open[mapping.owner] = access
        self._events.emit(
            "target opened", cid=mapping.worker.cid, tag=mapping.worker.tag, target=mapping.name,
            seconds=round(seconds), whence=access.whence or "anywhere", cut=cut,
        )  # fmt: skip

    def _closed(self, mapping: Mapping) -> None:
        """It takes nobody any more."""
        self._open.pop(mapping.owner, None)
        if mapping.access is not None and mapping.access.cuts:
            mapping.cut()
        self._events.emit(
            "target closed", cid=mapping.worker.cid, tag=mapping.worker.tag, target=mapping.name
        )
