"""What the benchmarks conclude from their figures: changes between two checkouts, targets, and the picture."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


def module(name: str) -> Any:
    return importlib.import_module(name)


def row(more_is_better: bool = True, target: Any = None) -> Any:
    return module("measures").Row("key", "a row", "1/s", more_is_better, target)


@pytest.mark.parametrize(
    ("ratios", "more_is_better", "verdict"),
    [
        ([0.90, 0.91, 0.92, 0.93], True, "**worse**"),
        ([1.08, 1.09, 1.10, 1.11], True, "better"),
        ([0.90, 0.91, 0.92, 0.93], False, "better"),
        ([1.08, 1.09, 1.10, 1.11], False, "**worse**"),
        ([0.98, 0.98, 0.98, 0.98], True, ""),  # two runs of one checkout differ by as much
        ([0.60, 0.80, 0.95, 1.40], True, ""),  # the machine, not the change
        ([0.50, 0.60, 0.70], True, ""),  # too few to say
    ],
)
def test_a_change_is_named_when_it_is_notable_and_lies_on_one_side(
    ratios: list[float], more_is_better: bool, verdict: str
) -> None:
    change = module("compare").Change(row(more_is_better), 1.0, 1.0, ratios)
    assert change.verdict == verdict


def test_a_ratio_is_of_two_runs_that_both_were_made() -> None:
    rounds, measures = module("rounds"), module("measures")
    bench = rounds.Bench(measures.Settings(1, 3))
    bench._samples = {(0, "key"): {0: 10.0, 1: 20.0}, (1, "key"): {1: 30.0, 2: 40.0}}
    assert bench.ratios(1, 0, "key") == [1.5]
    assert bench.ratios(1, 0, "other") == []


def test_a_target_may_be_a_multiple_of_a_peer_of_the_best_or_a_figure() -> None:
    run, measures = module("run"), module("measures")
    medians = {"ssh -R, no delay": 100.0, "frp": 50.0, "two bare relays": 400.0}
    for target, expected in (
        (measures.Target(1.1, measures.SSH), 100.0),
        (measures.Target(1.0, measures.BEST), 100.0),  # a limit is nobody's rival
        (measures.Target(1.2, measures.RELAYS), 400.0),
        (measures.Target(24), 1.0),
        (measures.Target(1.0, "rathole"), None),  # was not measured
    ):
        assert run.base_of(target, row(target=target), medians) == expected
    assert run.base_of(measures.Target(1.0, measures.BEST), row(False), medians) == 50.0


@pytest.mark.parametrize(
    ("median", "aead", "met"),
    [(120.0, "openssl", True), (90.0, "openssl", False), (40.0, "pycryptodome", True)],
)
def test_what_was_reached_stands_beside_what_was_asked(median: float, aead: str, met: bool) -> None:
    run, measures = module("run"), module("measures")
    cell: dict[str, Any] = {"median": median}
    run.judged(row(target=measures.Target(1.1, measures.SSH)), cell, aead, {measures.SSH: 100.0})
    assert (cell["ratio"], cell["met"]) == (median / 100, met)


def test_the_picture_has_a_bar_for_every_tunnel_the_best_first() -> None:
    peers = [("aero, openssl", 200.0), ("frp", 300.0), ("direct", 900.0), ("bore", None)]
    cells = [{"peer": name, "median": median} for name, median in peers]
    lines, _ = module("plot").panel(
        {"title": "bulk <down>", "unit": "MB/s", "more_is_better": True, "peers": cells}, 0, 0, 400
    )
    drawn = "\n".join(lines)
    assert drawn.count("<rect") == 2
    assert drawn.index(">frp<") < drawn.index(">aero<")
    assert "bulk &lt;down&gt;" in drawn
