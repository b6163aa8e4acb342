"""The registry that tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aero.core.codes import Close
from tests.server.registry.lab import Lab


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(monkeypatch)
    yield lab
    lab.registry.close(Close.DONE, "the test is over")
    assert not lab.registry.workers and not lab.memory.blocks.taken_bytes
