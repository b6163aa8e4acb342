"""What a server reads of a target's options: what fits, what it does not know, and what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.core.control import Option
from aero.errors import ConfigError
from aero.server.registry import terms

VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.text(), max_size=3))


def test_only_what_is_known_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "HONOURED", {"door": terms.word("open", "shut"), "bell": terms.number(1, 9)})
    assert terms.read({"door": "shut", "later": True}) == {"door": "shut"}
    with pytest.raises(ConfigError, match=r"^door: 'ajar' is none of open, shut$"):
        terms.read({"door": "ajar"})
    with pytest.raises(ConfigError, match=r"^bell: True is not a number from 1 to 9$"):
        terms.read({"bell": True})


@given(VALUES)
def test_readers_return_what_fits_and_refuse_the_rest(value: Option) -> None:
    for reader, fits in (
        (terms.word("a", "b"), value in ("a", "b")),
        (terms.number(1, 9), type(value) is int and 1 <= value <= 9),
        (
            terms.text("[a-z]+", "letters"),
            isinstance(value, str) and value.isascii() and value.islower() and value.isalpha(),
        ),
    ):
        try:
            assert reader(value) == value
            assert fits
        except ConfigError as error:
            assert not fits
            assert len(str(error)) < 200


@given(st.dictionaries(st.sampled_from([*terms.HONOURED, "unknown"]), VALUES))
def test_whatever_comes_is_read_or_refused(options: dict[str, Option]) -> None:
    try:
        assert set(terms.read(options)) <= set(options)
    except ConfigError:
        pass


def test_options_belong_to_a_protocol() -> None:
    assert terms.read({"idle": 60, "amplify": 3, "balance": "least"}, "udp") == {"idle": 60, "amplify": 3}
    assert terms.read({"idle": 60, "balance": "least"}) == {"balance": "least"}
    with pytest.raises(ConfigError, match="idle: 1 is not a number from 5"):
        terms.read({"idle": 1}, "udp")
