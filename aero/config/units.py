"""Numbers with units: sizes, rates and times as people write them, and back."""

from __future__ import annotations

import re
from typing import Callable

from aero.errors import ConfigError

#: Units of sizes, in bits. K, M and G are what memory and disks are counted in, KB what links are sold in; small
#: letters alone are no unit, as b could be bits: those are written out.
SIZES = {"": 8, "kbit": 1000, "mbit": 1000**2, "gbit": 1000**3}
SIZES.update({f"{unit}{end}": 8 * 1024**power for power, unit in enumerate("KMG", 1) for end in ("", "iB")})
SIZES.update({f"{unit}B": 8 * 1000**power for power, unit in enumerate("KMG", 1)})
SIZE_UNITS = (
    "bytes, or K M G or KiB MiB GiB (1024-based), KB MB GB (1000-based), kbit mbit gbit: for example 10M"
)
#: Units of durations, in seconds.
DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION_UNITS = "seconds, or with a unit, as in 30, 30s, 10m, 2h or 7d"
#: Bytes a second that a limit may say: 8 Tbit.
MAX_RATE = (1 << 40) - 1


def integer(lowest: int, highest: int, unit: str = "") -> Callable[[str], int]:
    """A parser for whole numbers from ``lowest`` to ``highest``."""

    def parse(text: str) -> int:
        # int() alone would take "1_000", " 7 " and other scripts' digits; 12 digits stop huge numbers early.
        if not re.fullmatch(r"[0-9]{1,12}", text) or not lowest <= int(text) <= highest:
            raise ConfigError(f"{text!r} is not a number from {lowest} to {highest}{unit and ' ' + unit}")
        return int(text)

    return parse


def size(lowest: int, highest: int) -> Callable[[str], int]:
    """A parser for numbers of bytes: ``65536``, ``512K``, ``10MiB``, ``1GB``, ``8mbit``."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12})([A-Za-z]*)", text)
        unit = SIZES.get(match[2]) if match else None
        if match is None or unit is None:
            raise ConfigError(f"{text!r} is not a size, write {SIZE_UNITS}")
        count = int(match[1]) * unit // 8
        if not lowest <= count <= highest:
            small = count < lowest
            raise ConfigError(
                f"{text!r} is too {'small' if small else 'large'}, write {size_text(lowest)} to {size_text(highest)}"
            )
        return count

    return parse


def size_text(count: int) -> str:
    """The shortest text that `size` reads back as ``count``."""
    for power, unit in ((3, "G"), (2, "M"), (1, "K")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)


def duration(lowest: int, highest: int) -> Callable[[str], int]:
    """A parser for whole seconds: ``30``, ``30s``, ``10m``, ``2h``, ``7d``."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
        if match is None:
            raise ConfigError(f"{text!r} is not a time, write {DURATION_UNITS}")
        seconds = int(match[1]) * DURATIONS[match[2]]
        if not lowest <= seconds <= highest:
            short = seconds < lowest
            raise ConfigError(
                f"{text!r} is too {'short' if short else 'long'},"
                f" write {duration_text(lowest)} to {duration_text(highest)}"
            )
        return seconds

    return parse


def duration_text(seconds: int) -> str:
    """The shortest text that `duration` reads back as ``seconds``."""
    for unit in "dhm":
        if seconds and seconds % DURATIONS[unit] == 0:
            return f"{seconds // DURATIONS[unit]}{unit}"
    return f"{seconds}s"
