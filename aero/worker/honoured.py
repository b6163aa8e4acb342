"""Whether a server honours what a target asks for, and whether the target may be offered where it does not."""

from __future__ import annotations

from typing import NamedTuple

from aero.address import Target
from aero.config.targetoptions import OPTIONS
from aero.core.control import Option, Options


class Shortfall(NamedTuple):
    """``ignored``: options that the server does not honour as they were asked for, as ``key=text``, with what counts in
    their place; ``guards``: those of them without which the target must not be offered.
    """

    ignored: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()


def asked(target: Target) -> Options:
    """What a target's registration asks the server for."""
    return {
        each.key: list(each.value) if isinstance(each.value, tuple) else each.value
        for each in target.settings
        if not OPTIONS[each.key].local
    }


def guarded(target: Target) -> bool:
    """Whether the target must not be reached before the server has said that it keeps to its options."""
    return any(OPTIONS[each.key].guards for each in target.settings)


def judge(target: Target, honoured: Options) -> Shortfall:
    """What a server's answer leaves out of what was asked for."""
    ignored: list[str] = []
    guards: list[str] = []
    for key, value in asked(target).items():
        if honoured.get(key) == value:
            continue
        ignored.append(_said(target, key, honoured.get(key)))
        if OPTIONS[key].guards:
            guards.append(ignored[-1])
    return Shortfall(tuple(ignored), tuple(guards))


def _said(target: Target, key: str, instead: Option | None) -> str:
    text = next(each.text for each in target.settings if each.key == key)
    return f"{key}={text}" + (f" (it takes {instead})" if isinstance(instead, (str, int)) else "")


def packs(target: Target) -> str:
    """How a target's streams are compressed, in the words of core/packing.py; "" where they are not."""
    mode = target.setting("zstd")
    return str(mode) if mode not in (None, "off") else ""
