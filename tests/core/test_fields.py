"""Fields: what no message may hold, whichever it is and wherever it stands."""

from __future__ import annotations

from typing import Any

import pytest

from aero.core import fields
from aero.core.codes import Close
from aero.core.control import Unknown, Unregister, parse_control
from aero.core.joining import JoinNew, parse_join
from aero.errors import ConfigError
from tests.core.joined import refused
from tests.core.payloads import changed, payload

NEW = JoinNew("1.0", 60.0, "i", "nas", "attic")


@pytest.mark.parametrize("half", ["\ud800", "web\udfff", "\udc80"])  # noqa: PT014 - three different halves
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(half: str) -> None:
    """It could be neither logged nor stored nor sent on."""
    for message, parse in ((NEW, parse_join), (Unregister(()), parse_control)):
        for more in ({"v": half}, {"x": [{"y": half}]}, {half: 1}, {"identity": half}):
            with refused(Close.FRAME, "is not JSON"):
                parse(changed(message, **more))
    whole = parse_control(payload({"do": "\U0001f600"}))
    assert whole == Unknown("\U0001f600"), "two halves that belong together are a character"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda data: fields.text("M", data, "x", 3), ["", "abc"], [None, 1, "abcd", ["a"]]),
        (lambda data: fields.token("M", data, "x"), ["a", "!" * 64], [None, "", "a b", "!" * 65, 1]),
        (lambda data: fields.count("M", data, "x", 1, 3), [1, 3], [None, 0, 4, 1.0, "1", True]),
        (lambda data: fields.seconds("M", data, "x", 9, 1, 3), [1, 2.5, 3], [None, 0.9, 3.1, "1", True]),
        (lambda data: fields.array("M", data, "x"), [[], [1, "a"]], [None, "a", {}]),
    ],
)
def test_what_fits_is_given_back_and_the_rest_is_refused_by_name(
    check: Any, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        assert check({"x": value}) == value
    for value in bad:
        with refused(Close.FRAME, "M: x is not"):
            check({"x": value})


def test_a_field_that_may_be_left_out_has_a_default() -> None:
    assert fields.text("M", {}, "x", 3) == ""
    assert fields.seconds("M", {}, "x", 2, 1, 3) == 2


def test_a_word_is_refused_with_what_its_check_says() -> None:
    def lower(word: str) -> str:
        if not word.isascii():
            raise ConfigError("not ASCII")
        return word.lower()

    assert fields.word("M", {"x": "ABC"}, "x", lower) == "abc"
    with refused(Close.DENIED, "M: x: not ASCII"):
        fields.word("M", {"x": "é"}, "x", lower)
    with refused(Close.FRAME, "M: x is not a text"):
        fields.word("M", {}, "x", lower)
