"""What the server counts never goes back, whatever peers do with their targets' names and lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core.stream import Stream
from aero.limits import Limits
from aero.server.httpmux.pages import TEXTS
from aero.server.watch.counters import ERRORS, OTHERS, Counters, Histogram, TargetName


class FakeStream:
    """Two numbers that grow."""

    def __init__(self) -> None:
        self.sent = self.received = 0


def stream() -> Stream:
    return cast(Stream, FakeStream())


def test_every_kind_of_error_stands_in_the_documentation() -> None:
    told = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
    for kind in ERRORS:
        first, _, of = kind.partition(": ")
        assert f"`{first.replace(' ', '_')}{'_…' if of else ''}`" in told, kind
    for kind, text in TEXTS.items():
        assert (f"`{kind.replace(' ', '_')}`" in told) == (text.status >= 400), kind


def test_a_stream_that_outlives_its_mapping_is_counted_to_its_end() -> None:
    counters = Counters()
    tally = counters.tally("nas", "web")
    (total,) = counters.totals.values()
    moved = stream()
    tally.joined(moved)
    moved.sent, moved.received = 10, 20
    tally.close()
    assert (total.bytes_in, total.bytes_out, total.visitors) == (10, 20, 1)
    moved.sent = 30
    assert total.bytes_in == 30
    tally.left(moved)
    tally.left(moved)
    assert (total.bytes_in, total.bytes_out, total.visitors) == (30, 20, 1)


@given(st.lists(st.tuples(st.sampled_from(["new", "join", "move", "leave", "close"]), st.integers(0, 3))))
def test_totals_never_go_back(steps: list[tuple[str, int]]) -> None:
    counters = Counters()
    tallies: list[Any] = []
    streams: list[tuple[Any, Stream]] = []
    moved = 0
    for what, which in steps:
        if what == "new":
            tallies.append(counters.tally("t", "n"))
        elif what == "join" and which < len(tallies):
            streams.append((tallies[which], stream()))
            tallies[which].joined(streams[-1][1])
        elif what == "move" and which < len(streams):
            streams[which][1].sent += 7
            moved += 7
        elif what == "leave" and which < len(streams):
            tally, gone = streams.pop(which)
            tally.left(gone)
        elif what == "close" and which < len(tallies):
            # A closed mapping takes no new streams.
            tallies.pop(which).close()
        assert sum(total.bytes_in for total in counters.totals.values()) == moved


def test_names_beyond_the_limit_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "COUNTED_TARGETS", 2)
    counters = Counters()
    for number in range(10):
        counters.tally("t", f"n{number}").close()
    assert len(counters.totals) == 3
    assert OTHERS in counters.totals
    counters.tally("t", "n0")
    assert len(counters.totals) == 3


def test_only_what_has_or_had_streams_or_was_refused_wants_a_look() -> None:
    counters = Counters()
    quiet, busy = counters.tally("t", "quiet"), counters.tally("t", "busy")
    total = counters.totals[TargetName("t", "busy")]
    stream = cast(Stream, FakeStream())
    busy.joined(stream)
    assert busy.stirred and total.stirred and not quiet.stirred
    for _ in range(2):  # bytes move while it is open, and nobody says so
        busy.settle()
        total.settle()
        assert busy.stirred and total.stirred
    busy.left(stream)
    assert busy.stirred and total.stirred, "its last bytes"
    busy.settle()
    total.settle()
    assert not busy.stirred and not total.stirred
    busy.refuse("full")
    assert total.stirred and not counters.totals[TargetName("t", "quiet")].stirred


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.5, 1.0, 2.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == pytest.approx(3.6)
