"""Rates at the worker: which buckets a stream has after what the server has told."""

from __future__ import annotations

import gevent

from aero.core.control import RateLimits
from aero.worker import rates
from aero.worker.rates import SendingRates

MB = 1_000_000


def test_the_buckets_of_all_the_target_and_the_visitors_address() -> None:
    sending = SendingRates(gevent.get_hub().loop)
    sending.take(RateLimits(5 * MB, MB, {1: 2 * MB}))
    first, second, third = (
        sending.of(*each).buckets for each in ((1, "192.0.2.1:5"), (1, "192.0.2.1:6"), (2, "[2001:db8::1]:6"))
    )
    assert [bucket.rate for bucket in first] == [5 * MB, 2 * MB, MB]
    assert [bucket.rate for bucket in third] == [5 * MB, 0, MB]
    assert first[0] is third[0]
    assert first[1:] == second[1:] != third[1:]
    sending.take(RateLimits(0, 2 * MB, {2: 3 * MB}))
    assert [bucket.rate for bucket in first] == [0, 0, 2 * MB]
    assert [bucket.rate for bucket in third] == [0, 3 * MB, 2 * MB]


def test_visitors_are_remembered_up_to_a_bound(monkeypatch: object) -> None:
    sending = SendingRates(gevent.get_hub().loop)
    sending.take(RateLimits(0, MB))
    for number in range(rates.VISITORS + 10):
        sending.of(1, f"10.0.{number >> 8}.{number & 255}:9")
    assert len(sending._visitors) == rates.VISITORS
