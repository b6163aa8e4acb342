"""The flag for what takes minutes, and the lab for what needs real processes."""

from __future__ import annotations

from tests.e2e.conftest import lab, pytest_runtest_makereport

__all__ = ["lab", "pytest_runtest_makereport"]
