"""What a server's answer leaves out of a target's options, and whether the target may be offered all the same."""

from __future__ import annotations

import pytest

from aero.address import Setting, Target
from aero.config import targetoptions, values
from aero.config.targetoptions import TargetOption
from aero.core.control import Options
from aero.worker.honoured import asked, guarded, judge

OPEN = Target("a", "h", 1, 0, "tcp", (Setting("bell", 3, "3"), Setting("names", ("x", "y"), "x+y")))
SHUT = OPEN._replace(settings=(*OPEN.settings, Setting("door", "shut", "shut"), Setting("mine", 1, "1")))


@pytest.fixture(autouse=True)
def options(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in (
        TargetOption("bell", "N", int, ""),
        TargetOption("names", "LIST", str, ""),
        TargetOption("door", "WORD", values.one_of(("shut",)), "", guards=True),
        TargetOption("mine", "N", int, "", local=True),
    ):
        monkeypatch.setitem(targetoptions.OPTIONS, option.name, option)


def test_what_is_the_workers_own_is_not_asked_for() -> None:
    assert asked(SHUT) == {"bell": 3, "names": ["x", "y"], "door": "shut"}
    assert guarded(SHUT)
    assert not guarded(OPEN)


@pytest.mark.parametrize(
    ("target", "answer", "ignored", "guards"),
    [
        (OPEN, {"bell": 3, "names": ["x", "y"]}, (), ()),
        (OPEN, {"bell": 3, "names": ["x", "y"], "more": True}, (), ()),
        (OPEN, {"bell": 2}, ("bell=3 (it takes 2)", "names=x+y"), ()),
        (SHUT, {"bell": 3, "names": ["x", "y"], "door": "shut"}, (), ()),
        (SHUT, {"bell": 3, "names": ["x", "y"]}, ("door=shut",), ("door=shut",)),
        (SHUT, {}, ("bell=3", "names=x+y", "door=shut"), ("door=shut",)),
    ],
)
def test_what_is_left_out(
    target: Target, answer: Options, ignored: tuple[str, ...], guards: tuple[str, ...]
) -> None:
    assert judge(target, answer) == (ignored, guards)
