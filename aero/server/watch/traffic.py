"""The last ten minutes of throughput, in memory: of all targets together, of every worker, of every target.

Looks at the workers' byte counts now and then; the data path knows nothing of it. A target that was quiet all
the time costs no memory, and of each look a glance.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple, Protocol

from aero.limits import Limits
from aero.server.watch.counters import Tally

STEP_S = 2.0  # as often as a person looks at a line that moves
POINTS = 300  # ten minutes
_ZEROES = array("I", [0]) * POINTS
# The largest 32-bit sample, 4 GB/s; higher rates are clipped.
_MAX = (1 << 8 * _ZEROES.itemsize) - 1


#: Bytes a second, "in" and "out".
Rates = dict[str, "array[int]"]
_NOTHING = array("I")


class Counted(Protocol):
    """A mapping, as far as it is sampled."""

    @property
    def called(self) -> str:
        """The target as people call it."""

    @property
    def tally(self) -> Tally:
        """Its bytes since it began."""


class Source(Protocol):
    """A worker, as far as it is sampled."""

    @property
    def mappings(self) -> Mapping[int, Counted]:
        """Its mappings by target id."""


class Scope(NamedTuple):
    """What a series is of: everything ("", 0), a worker (its cid, 0), or a target of it (its cid, its id)."""

    cid: str = ""
    target_id: int = 0


class Series:
    """Whole bytes a second in both directions: a ring of POINTS samples, all zero at first."""

    def __init__(self) -> None:
        """Begins with a quiet past."""
        self._rates = {"in": array("I", _ZEROES), "out": array("I", _ZEROES)}
        self._quiet = 0  # samples since the last that was not zero

    def put(self, number: int, rate_in: float, rate_out: float) -> bool:
        """Takes sample ``number``; False when nothing but zeroes is left."""
        for rates, rate in zip(self._rates.values(), (rate_in, rate_out)):
            rates[number % POINTS] = min(round(rate), _MAX)
        self._quiet = 0 if rate_in or rate_out else self._quiet + 1
        return self._quiet < POINTS

    def last(self, number: int, count: int) -> Rates:
        """The ``count`` samples up to ``number``, oldest first."""
        end = number % POINTS + 1
        start = end - count
        if start >= 0:
            return {name: rates[start:end] for name, rates in self._rates.items()}
        return {name: rates[start:] + rates[:end] for name, rates in self._rates.items()}


class Throughput:
    """Samples of all series as they were when they were asked for; slow to write, so it is written piece by piece."""

    def __init__(self, last: int, everything: Rates) -> None:
        """``last``: the number of the last sample."""
        self.step_s = STEP_S
        self.last = last
        self._all = everything
        self._workers: dict[str, Rates] = {}
        self._targets: dict[str, list[tuple[str, Rates]]] = {}

    def add(self, cid: str, target: str, rates: Rates) -> None:
        """Takes a series: a target's by its name, the worker's own by ""."""
        if target:
            self._workers.setdefault(cid, {"in": _NOTHING, "out": _NOTHING})
            self._targets.setdefault(cid, []).append((target, rates))
        else:
            self._workers[cid] = rates

    def all(self) -> dict[str, list[int]]:
        """Everything together."""
        return _lists(self._all)

    def workers(
        self,
    ) -> Iterator[tuple[str, dict[str, list[int]], Iterator[tuple[str, dict[str, list[int]]]]]]:
        """Each worker's cid, its rates, and each of its targets' names and rates."""
        for cid, rates in self._workers.items():
            targets = ((name, _lists(each)) for name, each in self._targets.get(cid, ()))
            yield cid, _lists(rates), targets


def _lists(rates: Rates) -> dict[str, list[int]]:
    return {name: each.tolist() for name, each in rates.items()}


class Traffic:
    """Samples all mappings every STEP_S."""

    def __init__(self, loop: Any, workers: Mapping[str, Source]) -> None:
        """``workers``: those that are here now, by cid."""
        self.number = 0  # of the last sample
        self._workers = workers
        self._series: dict[Scope, Series] = {Scope(): Series()}
        self._at = monotonic()
        self._timer = loop.timer(STEP_S, STEP_S)
        self._timer.start(self.sample)

    def close(self) -> None:
        """Ends the sampling."""
        self._timer.stop()
        self._timer.close()

    def sample(self) -> None:
        """Takes one sample of everything."""
        now = monotonic()
        elapsed_s, self._at = max(now - self._at, 1e-3), now
        self.number += 1
        rates: dict[Scope, tuple[float, float]] = {Scope(): (0.0, 0.0)}
        for cid, worker in self._workers.items():
            for target_id, mapping in worker.mappings.items():
                tally = mapping.tally
                if not tally.stirred:
                    continue
                before, tally.seen = tally.seen, (tally.bytes_in, tally.bytes_out)
                tally.settle()
                if tally.seen == before:
                    continue
                rate = [(after - earlier) / elapsed_s for after, earlier in zip(tally.seen, before)]
                for each in (Scope(cid, target_id), Scope(cid), Scope()):
                    sums = rates.get(each, (0.0, 0.0))
                    rates[each] = (sums[0] + rate[0], sums[1] + rate[1])
        self._keep(rates)

    def _keep(self, rates: dict[Scope, tuple[float, float]]) -> None:
        for key, series in list(self._series.items()):
            told = self._gone(key) or not series.put(self.number, *rates.pop(key, (0.0, 0.0)))
            if told and key != Scope():
                del self._series[key]
        for key, (rate_in, rate_out) in rates.items():
            if len(self._series) < Limits.TRAFFIC_SERIES:
                self._series[key] = series = Series()
                series.put(self.number, rate_in, rate_out)

    def _gone(self, key: Scope) -> bool:
        """Its worker is not here any more, or its mapping."""
        worker = self._workers.get(key.cid)
        if worker is None:
            return bool(key.cid)
        return bool(key.target_id) and key.target_id not in worker.mappings

    def since(self, number: int | None) -> Throughput:
        """All samples after sample ``number``; the last POINTS for None, or where that is too long ago or to come."""
        known = number is not None and max(0, self.number - POINTS) <= number <= self.number
        count = self.number - number if number is not None and known else POINTS
        found = Throughput(self.number, self._series[Scope()].last(self.number, count))
        for key, series in self._series.items():
            if key.target_id:
                worker = self._workers.get(key.cid)
                mapping = worker.mappings.get(key.target_id) if worker is not None else None
                if mapping is not None:
                    found.add(key.cid, mapping.called, series.last(self.number, count))
            elif key.cid:
                found.add(key.cid, "", series.last(self.number, count))
        return found
