"""Whose turn it is: of several ways to the same service, which one the next visitor takes. Pure; time is passed in.

One interface for whoever has a choice: candidates go in, one comes out, and what became of it comes back as an
outcome. A candidate that has just failed is passed over for a moment, unless all have.

    round-robin   in turn, as often as their weights say, evenly mixed
    least         the one with the fewest open streams for its weight
    random-two    two by lot, and of them the one with fewer: nearly as good as least, without a herd
    hash          the same one for the same visitor, for as long as it is there
    cookie        on the mux, the one that the visitor's cookie names; else round-robin

``hash`` is rendezvous hashing with weights (Thaler and Ravishankar, 1998): each pair of visitor and candidate has a
score, and the highest wins. So when one leaves only its visitors move, and they spread over all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Callable, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from random import Random

ROUND_ROBIN, LEAST, RANDOM_TWO, HASH, COOKIE = "round-robin", "least", "random-two", "hash", "cookie"
BALANCES = (ROUND_ROBIN, LEAST, RANDOM_TWO, HASH, COOKIE)
#: A candidate that has failed is chosen last for so long: a service that is started anew needs about as much.
FAILED_S = 1.0
#: Hashes of visitors and candidates that are remembered: some 150 bytes each.
_HASHES = 4096
_MASK = (1 << 64) - 1

_weight = attrgetter("weight")


class Candidate(Protocol):
    """One of the ways."""

    @property
    def key(self) -> str:
        """What it is called, here and after a restart: visitors are hashed to it."""

    @property
    def weight(self) -> int:
        """Its share, in proportion to the others': 1 or more."""

    @property
    def load(self) -> int:
        """Streams that are busy on it now."""


C = TypeVar("C", bound=Candidate)


class Balancer(Generic[C]):
    """The choices among the members of one pool."""

    def __init__(self, how: str = ROUND_ROBIN, seed: int | None = None) -> None:
        """``how``: one of `BALANCES`; ``seed``: of the lots, for tests."""
        self.how = how
        self._turn = 0
        self._due: dict[str, int] = {}  # by key: how much each is owed, where weights differ
        self._failed: dict[str, float] = {}  # by key: until when it is chosen last
        self._seed = seed
        choices = {LEAST: self._least, RANDOM_TWO: self._two, HASH: self._same}
        self._choose: Callable[[Sequence[C], str], C] = choices.get(how, self._next)

    def pick(self, candidates: Sequence[C], visitor: str, now: float) -> C:
        """The one whose turn it is, of at least one; ``visitor``: the address that ``hash`` goes by."""
        if self._failed:
            candidates = self._sound(candidates, now)
        return candidates[0] if len(candidates) == 1 else self._choose(candidates, visitor)

    def outcome(self, candidate: C, served: bool, now: float) -> None:
        """What became of a visitor: ``served``, or refused before anything of his was taken."""
        if served:
            self._failed.pop(candidate.key, None)
        else:
            self._failed[candidate.key] = now + FAILED_S

    def _sound(self, candidates: Sequence[C], now: float) -> Sequence[C]:
        """Those that have not failed a moment ago; all, where all have."""
        for key in [key for key, until in self._failed.items() if until <= now]:
            del self._failed[key]
        return [each for each in candidates if each.key not in self._failed] or candidates

    def _next(self, candidates: Sequence[C], _: str) -> C:
        """Smooth weighted round-robin, as nginx has it: everybody gains its weight, who has most pays for all."""
        total: int = sum(map(_weight, candidates))
        if total == len(candidates):
            self._turn += 1
            return candidates[self._turn % total]
        due = self._due
        if len(due) > 2 * len(candidates):
            keys = {each.key for each in candidates}
            due = self._due = {key: owed for key, owed in due.items() if key in keys}
        best, most = candidates[0], -math.inf
        for each in candidates:
            owed = due[each.key] = due.get(each.key, 0) + each.weight
            if owed > most:
                best, most = each, owed
        due[best.key] -= total
        return best

    def _least(self, candidates: Sequence[C], _: str) -> C:
        """The fewest for its weight, one more counted in; among equals in turn."""
        lowest = min((each.load + 1) / each.weight for each in candidates)
        equals = [each for each in candidates if (each.load + 1) / each.weight == lowest]
        return equals[0] if len(equals) == 1 else self._next(equals, "")

    @cached_property
    def _lots(self) -> Random:
        """Made for whoever draws lots: 2.5 KiB, and the first one's import 0.1 MB."""
        from random import Random

        return Random(self._seed)

    def _two(self, candidates: Sequence[C], _: str) -> C:
        """Two by lot, according to their weights; of two that are alike the first."""
        lots = self._lots
        weights, count = list(map(_weight, candidates)), len(candidates)
        if sum(weights) == count:
            first = int(lots.random() * count)
            second = (first + 1 + int(lots.random() * (count - 1))) % count
        else:
            first = lots.choices(range(count), weights)[0]
            weights[first] = 0
            second = lots.choices(range(count), weights)[0]
        one, other = candidates[first], candidates[second]
        return other if (other.load + 1) * one.weight < (one.load + 1) * other.weight else one

    def _same(self, candidates: Sequence[C], visitor: str) -> C:
        """The one with the highest score; of equal weights the highest hash is that."""
        name = _hash(visitor)
        hashes = [_mixed(_hash(each.key) ^ name) for each in candidates]
        if sum(map(_weight, candidates)) == len(candidates):
            return candidates[hashes.index(max(hashes))]
        scores = [_score(mixed, each.weight) for mixed, each in zip(hashes, candidates)]
        return candidates[scores.index(max(scores))]


def _score(mixed: int, weight: int) -> float:
    """-w / ln u, with u uniform between 0 and 1: the highest is a candidate's as often as its weight says."""
    return -weight / math.log(((mixed >> 11) + 0.5) / (1 << 53))


def _mixed(number: int) -> int:
    """64 bits of which each depends on each (the finalizer of SplitMix64, Steele, Lea and Flood 2014)."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _MASK
    return number ^ (number >> 31)


@lru_cache(_HASHES)
def _hash(text: str) -> int:
    """64 bits of a name, the same in every process."""
    from hashlib import blake2b

    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
