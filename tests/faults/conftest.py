"""The flag for what takes minutes, and the lab for what needs real processes."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import lab, pytest_runtest_makereport
from tests.e2e.harness import Lab

__all__ = ["lab", "pytest_runtest_makereport"]


@pytest.fixture
def even_memory(lab: Lab) -> None:
    """Programs load no larger AES-GCM with their first traffic (core/aead/growing.py): that is no leak."""
    lab.settings["AERO_AEAD"] = "openssl"
