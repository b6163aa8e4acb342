"""Gives every end-to-end test its lab, and shows the processes' logs when the test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import Lab

_labs: dict[str, Lab] = {}


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A folder and processes that end with the test."""
    lab = _labs[request.node.nodeid] = Lab()
    try:
        yield lab
    finally:
        del _labs[request.node.nodeid]
        lab.close()


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """One server for all tests that leave it as it was, with a worker `stay`."""
    lab = Lab()
    try:
        server = ApiServer(lab)
        lab.worker(server.link_port, tag="stay", targets={"echo": services.echo(lab)})
        server.worker("stay")
        yield server
    finally:
        lab.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the processes' logs to the report of a failed test, while they are still there."""
    report = yield
    if report.failed and item.nodeid in _labs:
        report.sections.append(("processes", _labs[item.nodeid].report()))
    return report
