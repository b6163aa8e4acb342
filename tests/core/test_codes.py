"""The numbers of the wire have one meaning each, and names that people read."""

from __future__ import annotations

from aero.core import codes, features
from aero.core.codes import Close


def test_code_names_are_what_people_read() -> None:
    assert codes.CLOSE_NAMES[Close.NOT_AERO] == "not aero"
    assert codes.RESET_NAMES[codes.Reset.NO_TARGET] == "no target"
    assert sorted(codes.CLOSE_NAMES) == list(range(len(codes.CLOSE_NAMES)))
    assert sorted(codes.RESET_NAMES) == list(range(len(codes.RESET_NAMES)))


def test_features_are_bits_of_their_own_and_none_is_offered_before_it_has_a_meaning() -> None:
    bits = [features.DATAGRAMS, features.ZSTD, features.HEALTH, features.LARGE_WINDOWS]
    assert bits == [1, 2, 4, 8]
    assert features.OFFERED == features.DATAGRAMS | features.HEALTH | features.LARGE_WINDOWS
