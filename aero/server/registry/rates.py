"""How fast streams may be: the buckets of users, targets and visitors' addresses for what the server sends, and what is
told to workers, who have the buckets of the other direction (PROTOCOL.md, "Limits of rate").

A user's limit is one for all his workers. What the server sends debits one bucket; of what his workers send each gets a
share, looked at once a second: who uses less than its share leaves the rest to the others. A worker that does not keep
to what it was told, or is too old to be told, is held back by credit (arrears.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

from aero.core.buckets import Bucket, Rates
from aero.core.control import RateLimits
from aero.core.features import HEALTH
from aero.core.stream import Stream
from aero.net.loop import Loop, Watcher, stopped
from aero.net.throttle import Throttle
from aero.server.policy.origin import key_of
from aero.server.policy.rules import EVERYBODY, Rule
from aero.server.registry.arrears import Arrears, target_limit
from aero.server.registry.mapping import Mapping
from aero.server.registry.session import WorkerSession

#: Addresses of visitors with a bucket of their own, some 300 bytes each: those that came last.
VISITORS = 4096
#: How often a user's limit is shared out among his workers anew: control messages come once a second at the most.
SHARE_S = 1.0
#: Who used so much of its share wants more; who used less gets some more than it used, so that it can show.
_FULL, _GROWTH = 0.85, 1.5
#: What a worker without traffic may begin with, as a part of the limit.
_FIRST = 0.1
#: A share that is other by less is not worth a message.
_CHANGE = 0.03


class RatedWorker(Protocol):
    """A worker, as far as its rates go."""

    cid: str
    user: str
    mappings: dict[int, Mapping]
    sessions: list[WorkerSession]

    @property
    def rule(self) -> Rule:
        """What holds for its user now."""


def shared(limit: int, used: dict[str, float], before: dict[str, int]) -> dict[str, int]:
    """A limit shared out: who used less than his share keeps some more than that, the others share what is left.

    ``used``: bytes a second that each sent; ``before``: the shares that each had.
    """
    least = max(int(limit * _FIRST / max(len(used), 1)), 1)
    modest = {
        who: max(int(rate * _GROWTH), least)
        for who, rate in used.items()
        if who in before and rate < _FULL * before[who]
    }
    while True:
        left = limit - sum(modest.values())
        eager = [who for who in used if who not in modest]
        if not eager:
            # Nobody wants more: what is left is lent to all alike.
            return {who: share + max(left, 0) // max(len(modest), 1) for who, share in modest.items()}
        each = max(left // len(eager), least)
        asking = [who for who, share in modest.items() if share > each]
        if not asking:
            return {**modest, **dict.fromkeys(eager, each)}
        for who in asking:  # what it would keep is more than what the eager get: it is one of them
            del modest[who]


class ServerRates:
    """The rates of one server."""

    def __init__(self, loop: Loop) -> None:
        """Nothing is limited yet, and nothing costs anything."""
        self._loop = loop
        self._throttle = Throttle(loop)
        self._users: dict[str, Bucket] = {}
        self._workers: dict[str, Bucket] = {}  # by cid
        self._targets: dict[Mapping, Bucket] = {}
        self._visitors: OrderedDict[tuple[str, bytes], Bucket] = OrderedDict()
        self._untold: dict[str, RatedWorker] = {}  # by cid
        self._told: dict[str, RateLimits] = {}  # by cid
        self._limited: dict[str, dict[str, RatedWorker]] = {}  # workers by user, of those with a limit
        self._shares: dict[str, int] = {}  # by cid
        self._sent: dict[str, int] = {}  # bytes that each worker had sent at the last look, by cid
        self._looked_at = monotonic()
        self._timer: Watcher | None = None
        self._arrears = Arrears(loop)

    # For streams

    def of(self, worker: RatedWorker, target_id: int, visitor: str) -> Rates | None:
        """What holds for a stream that the server opens; None for nothing. ``visitor``: ip:port."""
        rule = worker.rule
        mapping = worker.mappings.get(target_id)
        if rule is EVERYBODY and (mapping is None or not mapping.limit):
            return None
        rate = target_limit(rule, mapping) if mapping is not None else 0
        if not (rate or rule.limit or rule.worker_limit or rule.visitor_limit):
            return None
        buckets = []
        if rule.limit:
            buckets.append(self._bucket(self._users, worker.user, rule.limit))
        if rule.worker_limit:
            buckets.append(self._bucket(self._workers, worker.cid, rule.worker_limit))
        if rate and mapping is not None:
            buckets.append(self._bucket(self._targets, mapping, rate))
        if rule.visitor_limit:
            key = worker.user, key_of(visitor.rpartition(":")[0].strip("[]"))
            buckets.append(self._bucket(self._visitors, key, rule.visitor_limit))
            self._visitors.move_to_end(key)
            if len(self._visitors) > VISITORS:
                self._visitors.popitem(last=False)
        inlet = self._arrears.inlet(worker, mapping) if mapping is not None else None
        return Rates(self._throttle, tuple(buckets), inlet)

    def _bucket(self, buckets: dict, key: object, rate: int) -> Bucket:  # type: ignore[type-arg]
        bucket: Bucket | None = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = Bucket(rate, monotonic())
        elif bucket.rate != rate:
            self._throttle.changed(bucket, rate)
        return bucket

    # What comes and goes

    def look_at(self, worker: RatedWorker) -> None:
        """A worker has come, has another target, or another rule: it is told what holds for it."""
        if not self._untold:
            self._loop.run_callback(self._tell)
        self._untold[worker.cid] = worker

    def gone(self, mapping: Mapping) -> None:
        """A mapping is closed; its open streams keep their buckets."""
        self._targets.pop(mapping, None)
        self._arrears.gone(mapping)

    def left(self, worker: RatedWorker) -> None:
        """A worker is gone."""
        for table in (self._told, self._untold, self._shares, self._sent, self._workers):
            table.pop(worker.cid, None)
        name = worker.user
        others = self._limited.get(name)
        if others is not None and others.pop(worker.cid, None) is not None and not others:
            del self._limited[name]
            self._users.pop(name, None)
        if others:
            self._share(others, worker.rule.limit, even=True)

    def changed(self, workers: Iterable[RatedWorker]) -> None:
        """Rules have changed: counts for open streams at once."""
        for worker in workers:
            for target_id, mapping in worker.mappings.items():
                for stream in mapping.tally.open:
                    if isinstance(stream, Stream):
                        stream.rates = self.of(worker, target_id, "")
            self.look_at(worker)

    # Telling

    def _tell(self) -> None:
        untold, self._untold = self._untold, {}
        for worker in untold.values():
            limit = worker.rule.limit
            mine = self._limited.get(worker.user, {})
            if limit and worker.cid not in mine:
                self._limited.setdefault(worker.user, mine)[worker.cid] = worker
                self._share(mine, limit, even=True)
            elif not limit and mine.pop(worker.cid, None) is not None:
                self._shares.pop(worker.cid, None)
            elif limit and sum(self._shares.get(cid, 0) for cid in mine) != limit:
                self._share(mine, limit, even=True)
            self._say(worker)

    def _say(self, worker: RatedWorker) -> None:
        rule = worker.rule
        targets = {
            number: rate
            for number, mapping in worker.mappings.items()
            for rate in (target_limit(rule, mapping),)
            if rate
        }
        share = self._shares.get(worker.cid, 0)
        mine = min(share or rule.worker_limit, rule.worker_limit or share)
        limits = RateLimits(mine, rule.visitor_limit, targets)
        if self._told.get(worker.cid, RateLimits()) == limits:
            return
        for each in worker.sessions:
            if each.session.features & HEALTH and not each.session.ended:
                self._told[worker.cid] = limits
                each.session.control(limits)
                return

    def _share(self, workers: dict[str, RatedWorker], limit: int, even: bool = False) -> None:
        """Shares a user's limit out; ``even``: to all alike, because somebody has come or gone."""
        now = monotonic()
        elapsed_s = max(now - self._looked_at, 0.1)
        used: dict[str, float] = {}
        for cid, worker in workers.items():
            sent = sum(mapping.bytes_out for mapping in worker.mappings.values())
            used[cid] = (sent - self._sent.get(cid, sent)) / elapsed_s
            self._sent[cid] = sent
        before = {} if even or len(workers) == 1 else {cid: self._shares.get(cid, 0) for cid in workers}
        for cid, share in shared(limit, used, before).items():
            if abs(share - self._shares.get(cid, 0)) > _CHANGE * limit or even:
                self._shares[cid] = share
                self._say(workers[cid])
        if len(workers) > 1 and self._timer is None:
            self._timer = self._loop.timer(SHARE_S, SHARE_S)
            self._timer.start(self._look)

    def _look(self) -> None:
        several = [each for each in self._limited.values() if len(each) > 1]
        if not several:
            stopped(self._timer)
            self._timer = None
        for workers in several:
            limit = next(iter(workers.values())).rule.limit
            if limit:
                self._share(workers, limit)
        self._looked_at = monotonic()

    def close(self) -> None:
        """Nothing is served or told any more."""
        stopped(self._timer)
        self._timer = None
        self._throttle.close()
        self._arrears.close()
