"""Numbers with units: sizes, rates and times as people write them."""

from __future__ import annotations

import pytest

from aero.config import units
from aero.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("65536", 65536), ("512K", 512 << 10), ("10M", 10 << 20), ("1G", 1 << 30), ("2KiB", 2048),
        ("3MiB", 3 << 20), ("1GiB", 1 << 30), ("2KB", 2000), ("3MB", 3_000_000), ("1GB", 10**9),
        ("8kbit", 1000), ("8mbit", 10**6), ("1gbit", 125_000_000),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    parse = units.size(1, 1 << 40)
    assert parse(text) == count
    assert parse(units.size_text(count)) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "1.5M",
        "-1",
        "10m",
        "10k",
        "10Kb",
        "10kB",
        "1 K",
        "10B",
        "10T",
        "8Mbit",
        "\u0663K",
        "9" * 5000,
    ],
)
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"K M G or KiB MiB GiB .1024-based., KB MB GB .1000-based., kbit mbit gbit"
    ):
        units.size(1, 1 << 40)(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30", 30), ("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604800)]
)
def test_durations(text: str, seconds: int) -> None:
    parse = units.duration(0, 30 * 86400)
    assert parse(text) == seconds
    assert parse(units.duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "m", "1.5h", "-1", "10 m", "10min", "10M", "1w", "\u0663", "9" * 5000])
def test_durations_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="seconds, or with a unit, as in 30, 30s, 10m, 2h or 7d"):
        units.duration(0, 60)(text)


@pytest.mark.parametrize(("text", "hint"), [("0", "too short"), ("2h", "too long"), ("3601", "too long")])
def test_durations_out_of_bounds(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{hint}, write 1s to 1h"):
        units.duration(1, 3600)(text)


def test_integers_take_digits_only() -> None:
    parse = units.integer(1, 3600, "seconds")
    assert parse("3600") == 3600
    for text in ("0", "3601", "1_0", " 1", "1.0", "٣", "9" * 5000):
        with pytest.raises(ConfigError, match="from 1 to 3600 seconds"):
            parse(text)
