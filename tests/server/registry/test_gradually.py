"""Work by slices: others have their turn in between, and nothing is left out."""

from __future__ import annotations

import pytest

from aero.server.registry import gradually
from aero.server.registry.gradually import Gradual, at_once, close_gradually
from tests.faults.inside import until


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7, 10])
def test_the_first_slice_is_closed_at_once_and_the_others_in_turns(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(gradually, "SLICE", 3)
    things = [Thing() for _ in range(count)]
    close_gradually(things)
    assert sum(each.closed for each in things) == min(count, 3)
    until("all to be closed", lambda: all(each.closed for each in things))
    assert [each.closed for each in things] == [1] * count


def test_all_of_it_at_once() -> None:
    def work(fails: bool) -> Gradual[int]:
        yield
        yield
        if fails:
            raise ValueError("in the middle")
        return 7

    assert at_once(work(False)) == 7
    with pytest.raises(ValueError, match="in the middle"):
        at_once(work(True))
