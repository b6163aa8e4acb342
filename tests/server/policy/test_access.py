"""Who gets into a target that opens for a time only."""

from __future__ import annotations

import pytest

from aero.errors import ConfigError
from aero.server.policy.access import Access


def test_it_is_closed_until_it_is_opened_and_closes_by_itself() -> None:
    access = Access()
    assert not access.is_open(0.0) and not access.lets_in("192.0.2.1", 0.0)
    access.open(100.0, "", cuts=True)
    assert access.lets_in("192.0.2.1", 99.9) and access.cuts
    assert not access.lets_in("192.0.2.1", 100.0) and not access.is_open(100.0)
    access.open(200.0, "", cuts=False)
    access.close()
    assert not access.is_open(150.0)


def test_it_may_be_open_for_some_only() -> None:
    access = Access()
    access.open(100.0, "192.0.2.0/24", cuts=False)
    assert access.lets_in("192.0.2.9", 0.0)
    assert access.whence == "192.0.2.0/24"
    for stranger in ("192.0.3.1", "2001:db8::1", "", "nobody"):
        assert not access.lets_in(stranger, 0.0)


@pytest.mark.parametrize("whence", ["me", "10.0.0.1/8", "h", "1.2.3.4/33"])
def test_what_is_no_network_opens_nothing(whence: str) -> None:
    access = Access()
    with pytest.raises(ConfigError, match="is no address or network"):
        access.open(100.0, whence, cuts=False)
    assert not access.is_open(0.0)
