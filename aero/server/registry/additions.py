"""Targets that an operator adds to workers which run: by tag, or to one by its cid; for a time, or for good.

What is for good and of a tag is kept in the database, and asked of every worker with that tag that comes. The worker
decides (its --allow), and registers what it takes as its own, so all rules of its user hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from time import monotonic
from typing import Callable, NamedTuple, Protocol

from aero import logs
from aero.core.control import Added, AddedTargets
from aero.errors import PortError
from aero.net.loop import Loop, Watcher, stopped
from aero.server.registry.session import WorkerSession
from aero.server.store.database import Change, Database, Row, statements

log = logs.get("store")

#: For one tag or worker, and in all; a worker may have 128 targets, its own included.
PER_PLACE, ALL = 64, 4096
_SQL = statements("addition", "tag, name, proto, local, remote", "tag, name, proto")


class Addition(NamedTuple):
    """A target that was added. ``where``: a tag, or a cid and "@"; ``until``: on the monotonic clock, 0 for good."""

    where: str
    target: Added
    until: float = 0.0

    @property
    def key(self) -> Key:
        """What no two of them share."""
        return self.where, self.target.name, self.target.proto

    @property
    def kept(self) -> bool:
        """Whether it outlives the process."""
        return not self.until and not self.where.endswith("@")


Key = tuple[str, str, str]  # where, name, protocol


class Host(Protocol):
    """A worker, as it is asked here (registry/worker.py)."""

    cid: str
    tag: str
    sessions: list[WorkerSession]


class Additions:
    """All of them."""

    def __init__(
        self,
        loop: Loop,
        workers: Callable[[str], Iterable[Host]],
        database: Database | None = None,
    ) -> None:
        """Takes over what the database has. ``workers``: those of a tag, or the one of "CID@"."""
        self._loop = loop
        self._workers = workers
        self._database = database if database is not None else Database("")
        self._by_place: dict[str, dict[Key, Addition]] = {}
        self._asked: set[str] = set()  # cids of workers that were asked for something
        self._timer: Watcher | None = None
        damaged = 0
        for row in self._database.attach(self, _SQL.read):
            addition = _addition(row)
            if addition is None or self.full(addition.where):
                damaged += 1
            else:
                self._by_place.setdefault(addition.where, {})[addition.key] = addition
        if damaged:
            log.warning("ignored damaged targets", count=damaged)

    def __iter__(self) -> Iterator[Addition]:
        """All of them."""
        return iter([each for place in self._by_place.values() for each in place.values()])

    def get(self, where: str, name: str, proto: str) -> Addition | None:
        """The one with these names."""
        return self._by_place.get(where, {}).get((where, name, proto))

    def full(self, where: str) -> str:
        """Why there may be no further one there; "" where there may."""
        if len(self._by_place.get(where, ())) >= PER_PLACE:
            return f"{PER_PLACE} targets were added to {where}, the most there may be"
        if sum(map(len, self._by_place.values())) >= ALL:
            return f"{ALL} targets were added, the most there may be"
        return ""

    def add(self, addition: Addition) -> None:
        """Asks the workers for one more target. Raises PortError where there may be no further one."""
        if self.get(*addition.key) is None:
            full = self.full(addition.where)
            if full:
                raise PortError(full, final=True)
        self._by_place.setdefault(addition.where, {})[addition.key] = addition
        self._changed(addition)

    def remove(self, addition: Addition) -> None:
        """Asks for one less. Harmless where it is gone."""
        place = self._by_place.get(addition.where, {})
        if place.pop(addition.key, None) is not None:
            if not place:
                del self._by_place[addition.where]
            self._changed(addition)

    def _changed(self, addition: Addition) -> None:
        if not addition.where.endswith("@"):
            self._database.changed(self, addition.key)
        self._wait()
        for worker in list(self._workers(addition.where)):
            self.greet(worker)

    def greet(self, worker: Host) -> None:
        """Tells a worker what it is asked for, where that is anything or was."""
        targets = tuple(
            each.target
            for where in (worker.tag, worker.cid + "@")
            for each in self._by_place.get(where, {}).values()
        )
        if (targets or worker.cid in self._asked) and worker.sessions:
            worker.sessions[0].session.control(AddedTargets(targets))
            self._asked.add(worker.cid)

    def left(self, worker: Host) -> None:
        """A worker is gone, and with it what was added to it alone."""
        self._asked.discard(worker.cid)
        if self._by_place.pop(worker.cid + "@", None) is not None:
            self._wait()

    # Time

    def _wait(self) -> None:
        stopped(self._timer)
        self._timer = None
        due = min((each.until for each in self if each.until), default=0.0)
        if due:
            self._timer = self._loop.timer(max(due - monotonic(), 0.0))
            self._timer.start(self._expire)

    def _expire(self) -> None:
        now = monotonic()
        for each in self:
            if each.until and now >= each.until:
                self.remove(each)
        self._wait()

    def faulted(self, error: Exception) -> None:
        """An error of this program as time was up (net/faults.py): the next change looks again."""

    def close(self) -> None:
        """Waits for nothing more."""
        stopped(self._timer)
        self._timer = None

    # The database

    def changes(self, keys: Collection[Key] | None) -> list[Change]:
        """For the database."""
        kept = {each.key: each for each in self if each.kept}
        if keys is None:
            return [Change(_SQL.delete_all, [()]), Change(_SQL.write, list(map(_row, kept.values())))]
        gone = [key for key in keys if key not in kept]
        return [
            Change(_SQL.delete, gone),
            Change(_SQL.write, [_row(kept[key]) for key in keys if key in kept]),
        ]


def _row(addition: Addition) -> Row:
    target = addition.target
    return (*addition.key, target.local, target.remote)


def _addition(row: Row) -> Addition | None:
    """What a row of the file says; None where it was damaged."""
    tag, name, proto, local, remote = row
    good = all(isinstance(each, str) for each in row[:4]) and isinstance(remote, int)
    return Addition(tag, Added(name, local, proto, remote)) if good else None
