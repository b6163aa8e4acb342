"""What has several ports in a row is found by any of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aero.server.store.spans import Spans


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), max_size=20),
    st.integers(1, 30),
    st.integers(1, 9),
)
def test_spans_against_a_dictionary(todo: list[tuple[int, int]], at: int, row: int) -> None:
    spans: Spans[int] = Spans()
    model: dict[int, int] = {}  # what has each port
    for number, (first, count) in enumerate(todo):
        for other in spans.begins(first, count):
            taken = spans.take(other)
            for port in range(other, other + taken):
                del model[port]
        spans.put(first, count, number)
        model.update(dict.fromkeys(range(first, first + count), number))
    assert all(spans.at(port) == model.get(port) and (port in spans) == (port in model) for port in range(40))
    expected = list(dict.fromkeys(model[port] for port in range(at, at + row) if port in model))
    assert spans.over(at, row) == expected


def test_what_is_not_there_is_taken_without_harm() -> None:
    spans: Spans[str] = Spans()
    assert spans.take(5) == 0 and spans.over(1, 65535) == []
    spans.put(65530, 6, "last")
    assert (
        spans.at(65535) == "last" and spans.take(65531) == 0 and spans.take(65530) == 6 and 65533 not in spans
    )
