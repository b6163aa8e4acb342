"""Who is who behind proxies."""

from __future__ import annotations

import random
from ipaddress import ip_network

import pytest

from aero.server.policy.proxies import MAX_HOPS, Origin, Trust, origin_of

TRUST = Trust((ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("2001:db8:1::/48")))


@pytest.mark.parametrize(
    ("chain", "visitor"),
    [
        ((b"192.0.2.7",), Origin("192.0.2.7")),
        ((b"192.0.2.7:4711",), Origin("192.0.2.7", 4711)),
        ((b"2001:db8::7",), Origin("2001:db8::7")),
        ((b"[2001:db8::7]",), Origin("2001:db8::7")),
        ((b"[2001:DB8::7]:80",), Origin("2001:db8::7", 80)),
        ((b"::ffff:192.0.2.7",), Origin("192.0.2.7")),
        # What a visitor says himself stands to the left of what proxies have found.
        ((b"6.6.6.6, 192.0.2.7",), Origin("192.0.2.7")),
        ((b"10.9.9.9, 192.0.2.7",), Origin("192.0.2.7")),
        ((b"6.6.6.6,192.0.2.7 ,\t10.0.0.2, 10.0.0.3",), Origin("192.0.2.7")),
        ((b"6.6.6.6", b"192.0.2.7, 2001:db8:1::2"), Origin("192.0.2.7")),
        # A visitor inside the trusted networks.
        ((b"10.0.0.9, 10.0.0.2",), Origin("10.0.0.9")),
        # A proxy that hides its visitor is the last of whom anything is known.
        ((b"unknown, 10.0.0.2",), Origin("10.0.0.2")),
        ((b"192.0.2.7, _hidden",), None),
        ((), None),
        ((b"",), None),
        ((b"192.0.2.7,",), None),
        ((b"192.0.2.07",), None),
        ((b"192.0.2",), None),
        ((b"192.0.2.7:",), Origin("192.0.2.7")),
        ((b"192.0.2.7:65536",), None),
        ((b"192.0.2.7:+1",), None),
        ((b"[::1",), Origin("::1")),
        ((b"[::1]8",), None),
        ((b"\xff",), None),
    ],
)
def test_whom_a_trusted_proxy_speaks_for(chain: tuple[bytes, ...], visitor: Origin | None) -> None:
    assert TRUST.visitor(chain) == visitor


def test_who_is_connected() -> None:
    assert origin_of(("::ffff:192.0.2.7", 80, 0, 0)) == ("192.0.2.7", 80)
    assert origin_of(("fe80::1%eth0", 80, 0, 2)) == ("fe80::1", 80)
    assert origin_of(("2001:DB8:0::1", 80)) == ("2001:db8::1", 80)
    assert str(origin_of(("2001:db8::1", 80))) == "[2001:db8::1]:80"
    assert TRUST.covers("10.1.2.3") and TRUST.covers("127.0.0.1") and not TRUST.covers("127.0.0.2")
    assert not Trust(()).covers("127.0.0.1")
    with pytest.raises(ValueError, match="is no IP address"):
        origin_of(("localhost", 80))


def test_an_endless_chain_is_looked_at_from_its_end_only() -> None:
    assert TRUST.visitor([b"192.0.2.7"] + [b"10.0.0.2,10.0.0.3"] * 10_000) == Origin("10.0.0.2")
    assert TRUST.visitor([b"192.0.2.7," + b"10.0.0.2," * (MAX_HOPS - 2) + b"10.0.0.1"]) == Origin("192.0.2.7")


def test_no_bytes_raise() -> None:
    chance = random.Random(20261126)
    for _ in range(20_000):
        chain = [
            bytes(chance.choices(b"0123456789abcdef.:[], %\x00\xff", k=chance.randrange(24)))
            for _ in range(3)
        ]
        found = TRUST.visitor(chain)
        assert found is None or (origin_of(found) == found and 0 <= found.port <= 65535)
