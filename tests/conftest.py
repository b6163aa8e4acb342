"""What holds for every test: no developer's environment leaks in, examples are the same everywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from aero import logs

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


@pytest.fixture(autouse=True)
def log_for_pytest() -> Iterator[None]:
    """What aero logs is what pytest shows, and its fixture caplog has."""

    def hear(line: logs.Line) -> None:
        logging.getLogger(f"aero.{line.part}").log(line.level, "%s", line.text)

    logs.hearers.append(hear)
    yield
    logs.hearers.remove(hear)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: what takes minutes, a gigabyte through cut links, ten thousand visitors, long fuzzing.

    ``--programs``: what every real program does; without it there is one of each kind.
    """
    parser.addoption("--soak", action="store_true", help="run the long tests, and only them")
    parser.addoption("--programs", action="store_true", help="run the tests of every real program, too")


def pytest_configure(config: pytest.Config) -> None:
    """Names our markers."""
    config.addinivalue_line("markers", "soak: takes minutes; runs with --soak only")
    config.addinivalue_line(
        "markers", "programs: a further real program of its kind; runs with --programs only"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Either the long tests or all the others; of these, further programs only where they are asked for."""
    soak, programs = bool(config.getoption("--soak")), bool(config.getoption("--programs"))
    chosen = [
        item
        for item in items
        if bool(item.get_closest_marker("soak")) == soak
        and (programs or soak or not item.get_closest_marker("programs"))
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
