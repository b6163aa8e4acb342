"""Times as the API writes them."""

from __future__ import annotations

import pytest

from aero.server.api.times import rfc3339


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_763_820_900.5, "2025-11-22T14:15:00.500000Z"),
        (1_763_820_900.000001, "2025-11-22T14:15:00.000001Z"),
    ],
)
def test_microseconds_stand_there_even_where_they_are_none(at: float, text: str) -> None:
    assert rfc3339(at) == text
