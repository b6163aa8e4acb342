"""What holds for every test: no developer's environment leaks in, examples are the same everywhere."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Derandomized, so that a red run is red again; no deadline, since a loaded machine is not a bug.
settings.register_profile("aero", deadline=None, derandomize=True)
# For long runs by hand: pytest tests/core --hypothesis-profile=long
settings.register_profile(
    "long", deadline=None, max_examples=20_000, stateful_step_count=150, print_blob=True
)
settings.load_profile("aero")

# Every option of aero can come from the environment: a developer's own must not change a test.
for name in [name for name in os.environ if name.startswith("AERO_") and not name.startswith("AERO_TEST_")]:
    del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak`` runs what takes minutes: a gigabyte through cut links, ten thousand visitors, long fuzzing."""
    parser.addoption("--soak", action="store_true", help="run the long tests, and only them")


def pytest_configure(config: pytest.Config) -> None:
    """Name our marker."""
    config.addinivalue_line("markers", "soak(timeout): takes minutes; runs with --soak only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Either the long tests or all the others."""
    wanted = bool(config.getoption("--soak"))
    chosen = [item for item in items if bool(item.get_closest_marker("soak")) == wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
