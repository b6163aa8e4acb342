"""Takes samples: runs steps on peers, one peer after the other, and keeps every sample. What is measured is in
measures.py, what becomes of the figures in run.py and compare.py.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import host
import measures
import peers

STARTS_MAX = 2  # a peer that did not start twice running will not start a third time


class Bench:
    """Samples of several columns; a column is a peer, or the same peer started in several ways."""

    def __init__(self, settings: measures.Settings) -> None:
        self.settings = settings
        self.faults: list[str] = []
        self._samples: dict[
            tuple[int, str], dict[int, float]
        ] = {}  # column and row -> run's number -> figure
        self._failed_starts: dict[peers.Peer, int] = {}

    def run(self, groups: Sequence[measures.Group], tunnels: Sequence[peers.Peer]) -> None:
        """Take all samples of these groups; `tunnels` has one peer for each column, in the same order each time.

        The order turns round from run to run, so that a machine that grows slower favours nobody.
        """
        for group in groups:
            for step in group.steps:
                for number in range(min(self.settings.rounds, step.rounds_limit) * step.repeats):
                    columns = list(enumerate(tunnels))
                    for column, peer in reversed(columns) if number % 2 else columns:
                        self._sample(step, number, column, peer)

    def values(self, column: int, key: str) -> list[float]:
        return list(self._samples.get((column, key), {}).values())

    def median(self, column: int, key: str) -> float | None:
        found = self.values(column, key)
        return statistics.median(found) if found else None

    def ratios(self, column: int, base: int, key: str) -> list[float]:
        """Of each run that both columns made: the column's figure over the base's."""
        ours, theirs = self._samples.get((column, key), {}), self._samples.get((base, key), {})
        return [figure / theirs[number] for number, figure in ours.items() if theirs.get(number)]

    def _sample(self, step: measures.Step, number: int, column: int, peer: peers.Peer) -> None:
        if self._failed_starts.get(peer, 0) >= STARTS_MAX:
            return
        starting = not peer.running
        try:
            if starting:
                peer.stop()
                peer.start()
                starting = False
            self._failed_starts[peer] = 0
            values = step.sample(peer, self.settings)
        except host.BenchError as error:
            self._failed_starts[peer] = self._failed_starts.get(peer, 0) + starting
            fault = f"{peer.label}, {step.name}, run {number + 1}: {error}"
            if self._failed_starts[peer] == STARTS_MAX:
                fault = f"{peer.label} does not start and is left out from here on: {error}"
            self.faults.append(fault)
            say(f"FAILED {fault}")
            peer.stop()  # whatever state it is in, the next sample begins with a fresh one
            return
        for key, value in values.items():
            self._samples.setdefault((column, key), {})[number] = value
        figures = ", ".join(f"{key} {number_text(value)}" for key, value in values.items())
        say(f"{step.name}, run {number + 1}, {peer.label}: {figures or 'nothing to measure'}")


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is the table alone."""
    print(text, file=sys.stderr, flush=True)


def fault_text(fault: str) -> str:
    """What failed and the last thing that was said about it, on one line."""
    first, *more = fault.strip().splitlines()
    return f"{first} … {more[-1].strip()}" if more else first


def number_text(value: float | None) -> str:
    """Three significant digits, thousands separated; a dash for what was not measured."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
