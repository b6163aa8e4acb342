"""A path in virtual time: a rate, a delay, a queue, loss; and links that send bulk over it, bounded by core/flight.py.

What is below a link is reliable and keeps order, as TCP does: what the queue has no room for, or what is lost, arrives
a round trip later, and everything behind it waits for it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Sequence
from typing import Callable

from aero.core.flight import BULK_BYTES, Acks, Flight

MOST_RECORD_BYTES = 256 * 1024


class Time:
    """A clock and what is to happen when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._count = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._count), what))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until


class Path:
    """One direction of a path, which several links may share; acknowledgements come back after the delay alone."""

    def __init__(
        self,
        time: Time,
        rate: float,
        round_trip_s: float,
        queue_s: float = 10.0,
        loss: float = 0.0,
        jitter_s: float = 0.0,
    ) -> None:
        """``rate``: bytes a second; ``queue_s``: of so much time it holds the bytes; ``loss``: of records, 0 to 1."""
        self.time = time
        self.rate = rate
        self.round_trip_s = round_trip_s
        self.queue_s = queue_s
        self.loss = loss
        self.jitter_s = jitter_s
        self.turn_s = 0.0  # the receiver has a core only once in so long
        self.lost = 0
        self._free_at = time.now
        self._random = random.Random(1)

    @property
    def waits_s(self) -> float:
        """How long a message that comes now would wait."""
        return max(0.0, self._free_at - self.time.now)

    def arrival(self, count: int) -> float:
        """When ``count`` bytes that leave now are there."""
        late = self._random.expovariate(1 / self.jitter_s) if self.jitter_s else 0.0
        if self.waits_s > self.queue_s or self._random.random() < self.loss:
            self.lost += 1
            late += self.round_trip_s
        self._free_at = self.time.now + self.waits_s + count / self.rate
        there = self._free_at + self.round_trip_s / 2 + late
        return math.ceil(there / self.turn_s) * self.turn_s if self.turn_s else there


class Bulk:
    """A link that has always more to send, and its receiver."""

    def __init__(self, path: Path, after_s: float = 0.0) -> None:
        self.path = path
        self.time = path.time
        self.flight = Flight(self.time.now + after_s, path.round_trip_s)
        self.acks = Acks()
        self.paused = False
        self.shared = False  # light streams send on it as well
        self.sent = self.acked = self.received = 0
        self._last_arrival = 0.0
        self.time.at(self.time.now + after_s, self.send)

    def send(self) -> None:
        """As much as the bound allows."""
        flight = self.flight
        while not self.paused:
            free = flight.bound_bytes - (self.sent - self.acked)
            if free < flight.step_bytes:
                flight.held_back = True
                return
            count = min(free, 2 * flight.step_bytes, MOST_RECORD_BYTES)
            self.sent += count
            flight.shared = self.shared
            if count >= BULK_BYTES:
                flight.sent(self.sent, self.acked, self.time.now)
            self._last_arrival = max(self._last_arrival, self.path.arrival(count))
            self.time.at(self._last_arrival, lambda count=count: self._receive(count))  # type: ignore[misc]

    def pause(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        self.paused = False
        self.send()

    def _receive(self, count: int) -> None:
        self.received += count
        if self.acks.received(self.received, count >= BULK_BYTES, self.shared, self.time.now):
            self._acknowledge()
        else:
            self.time.at(self.acks.at, self._on_time)

    def _on_time(self) -> None:
        if self.acks.at and self.time.now >= self.acks.at:
            self._acknowledge()

    def _acknowledge(self) -> None:
        position = self.received
        self.acks.said(position, self.time.now)
        self.time.at(self.time.now + self.path.round_trip_s / 2, lambda: self._acknowledged(position))

    def _acknowledged(self, position: int) -> None:
        self.acked = position
        self.flight.acknowledged(position, self.sent, self.time.now)
        self.send()


def run(links: Sequence[Bulk], seconds: float) -> tuple[list[float], float]:
    """Of so many seconds: each link's share of the path, and the longest wait of a message, in seconds."""
    path, time = links[0].path, links[0].time
    before = [link.received for link in links]
    longest = 0.0
    for _ in range(round(seconds * 1000)):
        time.run(0.001)
        longest = max(longest, path.waits_s)
    return [(link.received - was) / seconds / path.rate for link, was in zip(links, before)], longest
