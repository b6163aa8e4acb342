"""Leases: which port belongs to whom, also after a restart. Holds the table and finds in it, and knows no rules.

Every question that a peer can cause is answered without a search: each lease stands in an index by port, by owner, by
identity and by address, and those whose owners are away in one by age.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count, islice
from time import monotonic, time
from typing import Callable, NamedTuple, TypeVar

from aero import logs
from aero.address import TCP
from aero.server.store.database import Change, Database, Row, statements
from aero.server.store.spans import Spans

log = logs.get("store")

#: Somebody whose lease was in use for less than this, in seconds, has hardly told its port to anybody.
BRIEF_S = 3600
#: Of the time before a start at most so many seconds count.
AWAY_S = 86_400
_LATEST = 1 << 40  # the year 36,812
# A row of another owner with this port goes: the port is unique.
_SQL = statements(
    "lease",
    "user, tag, host, name, proto, slot, port, identity, address, used_at, held_s, ports, wait_s",
    "proto, port",
)


class Owner(NamedTuple):
    """To whom a port belongs: the same worker's same target, by one protocol."""

    user: str
    tag: str
    host: str
    name: str
    proto: str = TCP


class Lease(NamedTuple):
    """One remembered port, or ``ports`` of them in a row, of which ``port`` is the first.

    ``slot`` tells clones apart, which share an owner. ``identity`` and ``address`` are those of the worker that had the
    port last. ``used_at`` (Unix seconds) is when it was last known to be in use, ``held_s`` for how long it was in all.
    While the worker is away, visitors wait ``wait_s`` seconds; 0: they do not.
    """

    owner: Owner
    slot: int
    port: int
    identity: str
    address: str
    used_at: int
    held_s: int
    ports: int = 1
    wait_s: int = 0

    @property
    def key(self) -> Key:
        """What no two leases share."""
        return self.owner.proto, self.port

    @property
    def row(self) -> Row:
        """The lease as the file has it."""
        return (*self.owner, *self[1:])

    def used_until(self, now: int) -> Lease:
        """The same lease after it was in use from ``used_at`` to ``now``."""
        return self._replace(used_at=now, held_s=self.held_s + max(now - self.used_at, 0))


Key = tuple[str, int]  # protocol and port
N = TypeVar("N", Owner, str)


def _lease(row: Row) -> Lease | None:
    """What a row of the file says; None where it was damaged: SQLite checks pages, not what is in them."""
    lease = Lease(Owner(*row[:5]), *row[5:])
    texts = (*lease.owner, lease.identity, lease.address)
    numbers = (lease.slot, lease.port, lease.used_at, lease.held_s, lease.ports, lease.wait_s)
    good = all(isinstance(each, str) for each in texts) and all(isinstance(each, int) for each in numbers)
    good = good and 0 < lease.port <= 0xFFFF and 0 <= lease.used_at < _LATEST
    good = good and 0 < lease.ports <= 0x10000 - lease.port and lease.wait_s >= 0
    return lease if good else None


def steady_clock(last: int, wall: Callable[[], float], steady: Callable[[], float]) -> Callable[[], float]:
    """A clock for leases, in Unix seconds; ``last``: the latest time that a former run put down, 0 for none.

    The system's clock may be wrong by years until something sets it, and whoever would be gone for 30 days by that
    would lose his port. So it is looked at once, and time goes on from there by ``steady``; and however long ago
    ``last`` may seem, the time in which no server ran counts as a day at the most: nobody could use a lease then.
    """
    base, began = wall(), steady()
    if last:
        base = min(max(base, last), last + AWAY_S)
    return lambda: base + steady() - began


class Leases:
    """The table. It stays in memory; the database is told what changed."""

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        """Takes over what the database has; ``clock`` gives Unix seconds, by default one that does not jump."""
        self._database = database
        self._leases: dict[Key, Lease] = {}
        self._wide: dict[str, Spans[Lease]] = {}  # those of several ports, by protocol
        # Each lease stands in one of these two, those that were used the longest ago first.
        self._held: dict[Key, Lease] = {}
        self._absent: dict[Key, Lease] = {}
        self._brief: dict[Key, Lease] = {}  # of those, which were in use for less than BRIEF_S in all
        self._by_owner: dict[Owner, dict[Key, Lease]] = {}
        self._by_identity: dict[str, dict[Key, Lease]] = {}
        self._by_address: dict[str, dict[Key, Lease]] = {}
        read = [_lease(row) for row in database.attach(self, _SQL.read)]
        found = sorted((lease for lease in read if lease), key=lambda lease: lease.used_at)
        self.clock = clock or steady_clock(found[-1].used_at if found else 0, time, monotonic)
        for lease in found:
            for older in self.over(lease.port, lease.owner.proto, lease.ports):
                self._take(older)
            self._put(lease, self._absent)
        if len(self) < len(read):
            log.warning("ignored damaged leases", count=len(read) - len(self))

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def changes(self, keys: Collection[Key] | None) -> list[Change]:
        """The leases of these keys, or all, as changes to the file."""
        if keys is None:
            leases = list(self._leases.values())
            return [Change(_SQL.delete_all, [()]), Change(_SQL.write, (lease.row for lease in leases))]
        gone = [key for key in keys if key not in self._leases]
        rows = [self._leases[key].row for key in keys if key in self._leases]
        return [Change(_SQL.delete, gone), Change(_SQL.write, rows)]

    # Finding

    def at(self, port: int, proto: str = TCP) -> Lease | None:
        """The lease of a port."""
        lease = self._leases.get((proto, port))
        if lease is None and self._wide:
            wide = self._wide.get(proto)
            lease = wide.at(port) if wide is not None else None
        return lease

    def over(self, port: int, proto: str, ports: int) -> list[Lease]:
        """The leases of ``ports`` ports from ``port`` on, each once, in the order of their ports."""
        end = port + ports
        if len(self._leases) < ports:
            all_of = (each for each in self._leases.values() if each.owner.proto == proto)
            near = (each for each in all_of if each.port < end and port < each.port + each.ports)
            return sorted(near, key=lambda lease: lease.port)
        found: list[Lease] = []
        each = port
        while each < end:
            lease = self.at(each, proto)
            if lease is not None:
                found.append(lease)
            each = lease.port + lease.ports if lease is not None else each + 1
        return found

    def of(self, owner: Owner) -> Collection[Lease]:
        """All leases of an owner. A view, as the next two: copy it before you change leases."""
        return self._by_owner.get(owner, {}).values()

    def of_identity(self, identity: str) -> Collection[Lease]:
        """All leases that a worker with this identity had last."""
        return self._by_identity.get(identity, {}).values()

    def of_address(self, address: str) -> Collection[Lease]:
        """All leases that a worker from this address had last."""
        return self._by_address.get(address, {}).values()

    def absent(self, limit: int) -> list[Lease]:
        """Leases whose owners are away, at most ``limit``; those who have been away the longest first."""
        return list(islice(self._absent.values(), limit))

    def brief(self, limit: int) -> list[Lease]:
        """As ``absent``, but only leases that were in use for less than BRIEF_S in all."""
        return list(islice(self._brief.values(), limit))

    # Changing

    def keep(
        self, owner: Owner, port: int, identity: str, address: str = "", ports: int = 1, wait_s: int = 0
    ) -> Lease:
        """Remembers that ``port``, or ``ports`` from there on, is the owner's and in use from now on; whose any of them
        was before loses all of his lease.

        Raises ValueError (UnicodeEncodeError) for a text that no file can hold, and changes nothing then.
        """
        for text in (*owner, identity, address):
            text.encode()
        formers = self.over(port, owner.proto, ports)
        mine = next((former for former in formers if former.owner == owner), None)
        if mine is not None:
            slot, held_s = mine.slot, mine.held_s
        else:
            taken = {lease.slot for lease in self.of(owner)}
            slot, held_s = next(number for number in count() if number not in taken), 0
        for former in formers:
            self._take(former)
            self._database.changed(self, former.key)
        lease = Lease(owner, slot, port, identity, address, int(self.clock()), held_s, ports, wait_s)
        self._put(lease, self._held)
        self._database.changed(self, lease.key)
        return lease

    def release(self, port: int, proto: str = TCP) -> None:
        """The owner of a port is away from now on; the lease stays."""
        lease = self._held.get((proto, port))
        if lease is not None:
            self._take(lease)
            self._put(lease.used_until(int(self.clock())), self._absent)
            self._database.changed(self, lease.key)

    def refresh(self, after_s: int, limit: int) -> None:
        """Puts down that leases in use are in use, where that was put down ``after_s`` ago, for at most ``limit``.

        Called now and then: else a server that is killed after a month would find all of them unused for a month.
        """
        now = int(self.clock())
        for lease in list(islice(self._held.values(), limit)):
            if 0 <= now - lease.used_at < after_s:
                break
            self._take(lease)
            self._put(lease.used_until(now), self._held)
            self._database.changed(self, lease.key)

    def forget(self, port: int, proto: str = TCP) -> None:
        """Nobody has a claim to a port any more."""
        lease = self.at(port, proto)
        if lease is not None:
            self._take(lease)
            self._database.changed(self, lease.key)

    def _put(self, lease: Lease, by_age: dict[Key, Lease]) -> None:
        key = lease.key
        self._leases[key] = by_age[key] = lease
        if lease.ports > 1:
            self._wide.setdefault(lease.owner.proto, Spans()).put(lease.port, lease.ports, lease)
        if by_age is self._absent and lease.held_s < BRIEF_S:
            self._brief[key] = lease
        self._by_owner.setdefault(lease.owner, {})[key] = lease
        self._by_identity.setdefault(lease.identity, {})[key] = lease
        self._by_address.setdefault(lease.address, {})[key] = lease

    def _take(self, lease: Lease) -> None:
        key = lease.key
        del self._leases[key]
        if lease.ports > 1:
            self._wide[lease.owner.proto].take(lease.port)
        self._held.pop(key, None)
        self._absent.pop(key, None)
        self._brief.pop(key, None)
        _drop(self._by_owner, lease.owner, key)
        _drop(self._by_identity, lease.identity, key)
        _drop(self._by_address, lease.address, key)


def _drop(index: dict[N, dict[Key, Lease]], name: N, key: Key) -> None:
    del index[name][key]
    if not index[name]:
        del index[name]
