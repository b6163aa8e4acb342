"""The text that Prometheus reads: names of peers cannot break a line, and buckets add up."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

from aero.server.api.metrics import Lag, lines
from aero.server.watch.counters import Counters, Histogram

LINE = re.compile(r'[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? \S+')


def written(counters: Counters, lag: Histogram | None = None) -> list[str]:
    ground = SimpleNamespace(
        registry=SimpleNamespace(workers={}, streams=0, flows=0),
        counters=counters,
        backend=SimpleNamespace(name="openssl"),
        birth=SimpleNamespace(at=1.0),
    )
    text = "".join(lines(cast(Any, ground), cast(Lag, SimpleNamespace(histogram=lag or Histogram((0.5,))))))
    assert text.endswith("\n")
    return text.splitlines()


def test_every_line_is_one_that_prometheus_reads() -> None:
    said = written(Counters())
    assert [line for line in said if not line.startswith("#") and not LINE.fullmatch(line)] == []
    declared = [line.split()[2] for line in said if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared)), "each metric is declared once"


def test_a_name_that_peers_chose_ends_no_line_and_no_label() -> None:
    counters = Counters()
    counters.tally('a"b', "c\\d\ne")
    named = [line for line in written(counters) if line.startswith("aero_target_streams_total{")]
    assert named == ['aero_target_streams_total{tag="a\\"b",target="c\\\\d\\ne"} 0']


def test_buckets_hold_all_that_is_smaller() -> None:
    lag = Histogram((0.1, 0.5))
    for late in (0.05, 0.2, 0.3, 9.0):
        lag.observe(late)
    said = [line for line in written(Counters(), lag) if line.startswith("aero_loop_lag_seconds")]
    assert said[:3] == [
        'aero_loop_lag_seconds_bucket{le="0.1"} 1',
        'aero_loop_lag_seconds_bucket{le="0.5"} 3',
        'aero_loop_lag_seconds_bucket{le="+Inf"} 4',
    ]
    assert said[4] == "aero_loop_lag_seconds_count 4"


def test_kinds_of_errors_are_words_without_blanks() -> None:
    counters = Counters()
    kinds = [line for line in written(counters) if line.startswith("aero_errors_total{")]
    assert kinds and not [line for line in kinds if " " in line.rpartition(" ")[0] or ": " in line]
