"""Groups: targets of several workers that share one port (``group=NAME``).

A group belongs to one user; without users, to whoever knows its key, which goes over the link as a digest. It has the
port and its lease, and each member a mapping of its own without a door: streams, tally and page show them apart.
"""

from __future__ import annotations

from typing import Callable

from aero.core.control import Wanted
from aero.errors import ConfigError, PortError
from aero.server.registry.life import Mortal
from aero.server.registry.mapping import Door, Mapping
from aero.server.registry.pool import Pool
from aero.server.registry.ports.claims import Holder
from aero.server.store.leases import Owner

#: What is in the place of a worker's tag and host in a lease of a group's.
_NOBODY = ""


class Seat:
    """A member's place: what it has instead of a door."""

    def __init__(self, group: TargetGroup) -> None:
        """``group``: has the door."""
        self.group = group

    @property
    def addresses(self) -> list[str]:
        """Where the group's visitors are listened for: ``ip:port``."""
        return self.group.door.addresses

    def close(self) -> None:
        """The group's door stays while it has members; the registry closes it after the last."""


class TargetGroup:
    """One port of several workers; the holder of its port."""

    def __init__(
        self, owner: Owner, port: int, identity: str, drop: Callable[[Mapping], None], row: int
    ) -> None:
        """``drop(mapping)``: takes a member away for another's sake. Whoever makes it owes it its ``door``.

        ``row``: it has so many ports from ``port`` on.
        """
        self.row = row
        self.owner = owner
        self.port = port
        self.identity = identity
        self.pool = Pool()
        self.door: Door
        self._drop = drop

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of the door: every member's worker has enough to open."""
        return self.pool.rushed

    def choose(self, visitor: str) -> Mapping | None:
        """The member that a visitor from an address gets; None where none works."""
        return self.pool.choose(visitor)

    def refuse(self, reason: str) -> None:
        """Counts somebody who was turned away: at the first member, for all."""
        self.pool.members[0].refuse(reason)

    def close(self) -> None:
        """Listens no more; open streams go on."""
        self.door.close()
        del self.door  # the two hold each other

    # As the holder of a port (ports/grants.py)

    @property
    def worker(self) -> Mortal:
        """Who is asked for a sign of life: a member's worker with a link, if one has any."""
        workers = [each.worker for each in self.pool.members]
        return next((each for each in workers if each.linked), workers[0])

    def holder(self) -> Holder:
        """How the likeliest to live of its members is."""
        holders = [each.holder() for each in self.pool.members]
        return Holder(any(each.linked for each in holders), any(each.alive for each in holders))

    def give_way(self) -> None:
        """Stops listening at once: the port is another's."""
        for each in list(self.pool.members):
            self._drop(each)


class TargetGroups:
    """All groups, by whose they are."""

    def __init__(self) -> None:
        """Begins with none."""
        self._groups: dict[tuple[str, str, str], TargetGroup] = {}  # by user, name and protocol

    def find(self, user: str, wanted: Wanted) -> TargetGroup | None:
        """The group that a target is to be a member of; None where it would be the first.

        Raises ConfigError where it may not, PortError where it asks for another port than the group has.
        """
        name = str(wanted.options["group"])
        if not user and "group-key" not in wanted.options:
            raise ConfigError(f"group {name} needs a key, the same at all its workers: write group-key=@FILE")
        group = self._groups.get((user, name, wanted.proto))
        if group is None:
            return None
        if group.identity != _identity(user, wanted):
            raise ConfigError(f"group {name} has another key")
        if wanted.row != group.row:
            raise ConfigError(f"group {name} has {group.row} ports, not {wanted.row}")
        if wanted.remote and wanted.remote != group.port:
            raise PortError(f"group {name} has port {group.port}, not {wanted.remote}", final=False)
        return group

    def begin(self, user: str, wanted: Wanted, port: int, drop: Callable[[Mapping], None]) -> TargetGroup:
        """A group with its first member to come."""
        owner, identity = claimed_as(user, wanted)
        group = self._groups[user, owner.name, wanted.proto] = TargetGroup(
            owner, port, identity, drop, wanted.row
        )
        return group

    def end(self, group: TargetGroup) -> None:
        """The last member is gone."""
        self._groups.pop((group.owner.user, group.owner.name, group.owner.proto), None)


def claimed_as(user: str, wanted: Wanted) -> tuple[Owner, str]:
    """As whom a group claims its port, and by which identity: one with another key is another group."""
    identity = _identity(user, wanted)
    return Owner(user, _NOBODY, identity, str(wanted.options["group"]), wanted.proto), identity


def _identity(user: str, wanted: Wanted) -> str:
    return f"group {wanted.options.get('group-key', user)}"
