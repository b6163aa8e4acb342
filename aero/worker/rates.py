"""How fast our targets may send, as the server has told (PROTOCOL.md, "Limits of rate"). Loaded when it tells any."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from time import monotonic

from aero.core.buckets import Bucket, Rates
from aero.core.control import RateLimits
from aero.net.loop import Loop
from aero.net.throttle import Throttle

#: Addresses of visitors with a bucket of their own, some 300 bytes each: those that came last.
VISITORS = 4096


class SendingRates:
    """The buckets of one worker process: of all that it sends, of each target, of each visitor's address."""

    def __init__(self, loop: Loop) -> None:
        """Nothing is limited yet."""
        self._throttle = Throttle(loop)
        self._all = Bucket(0, monotonic())
        self._targets: dict[int, Bucket] = {}
        self._visitors: OrderedDict[str, Bucket] = OrderedDict()
        self._visitor_rate = 0

    def take(self, limits: RateLimits) -> None:
        """These count from now on, for open streams too."""
        if limits.all != self._all.rate:
            self._throttle.changed(self._all, limits.all)
        for number in {*self._targets, *limits.targets}:
            rate = limits.targets.get(number, 0)
            if number not in self._targets:
                self._targets[number] = Bucket(rate, monotonic())
            elif rate != self._targets[number].rate:
                self._throttle.changed(self._targets[number], rate)
        if limits.visitor != self._visitor_rate:
            self._visitor_rate = limits.visitor
            for bucket in self._visitors.values():
                self._throttle.changed(bucket, limits.visitor)

    def forget(self, targets: Iterable[int]) -> None:
        """These targets are gone."""
        for number in targets:
            self._targets.pop(number, None)

    def of(self, target_id: int, visitor: str) -> Rates:
        """What holds for a stream of ``visitor`` (ip:port; "" for one of whom that is not known any more)."""
        now = monotonic()
        target = self._targets.get(target_id)
        if target is None:
            target = self._targets[target_id] = Bucket(0, now)
        buckets = [self._all, target]
        ip = visitor.rpartition(":")[0]
        if ip and self._visitor_rate:
            bucket = self._visitors.get(ip)
            if bucket is None:
                bucket = self._visitors[ip] = Bucket(self._visitor_rate, now)
                if len(self._visitors) > VISITORS:
                    self._visitors.popitem(last=False)
            else:
                self._visitors.move_to_end(ip)
            buckets.append(bucket)
        return Rates(self._throttle, tuple(buckets))
