"""Replays what the fuzzer has kept, and lets it go on: a moment in the normal suite, half an hour with ``--soak``."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.guided import changed, corpus, fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_and_some_changes_of_it(name: str) -> None:
    target, seeds, words = TARGETS[name]
    kept = [*corpus(name), *seeds]
    dice = random.Random(name)
    for data in kept:
        target(data)
    for _ in range(1000):
        target(changed(dice.choice(kept), kept, words, dice))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_half_an_hour() -> None:
    clean = [fuzz(name, *TARGETS[name], 1800.0 / len(TARGETS), random.randrange(1 << 32)) for name in TARGETS]
    assert all(clean)
