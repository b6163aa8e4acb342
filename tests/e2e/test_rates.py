"""Limits of rate between real processes: both directions hold, and small messages do not wait."""

from __future__ import annotations

import time

from tests.e2e import services
from tests.e2e.harness import Lab, connect, exchange

MB = 1_000_000


def moved(port: int, count: int, send: bool) -> float:
    """Seconds for so many bytes to the echo service and back, or from it alone."""
    began = time.monotonic()
    with connect(port) as visitor:
        assert exchange(visitor, b"x" * count)
    return time.monotonic() - began


def test_a_targets_limit_holds_in_both_directions(lab: Lab) -> None:
    server = lab.server()
    worker = lab.worker(server, targets={"echo": f"127.0.0.1:{services.echo(lab)}?limit=2MB"})
    port = worker.port("echo")
    with connect(port) as typing:
        assert exchange(typing, b"before")
        took_s = moved(port, 6 * MB, send=True)
        # Each direction by itself: 3 s, and at the beginning a tenth of a second's worth at once.
        assert 2.6 < took_s < 6
        assert exchange(typing, b"after")
