"""Shares: one address never holds everything, networks hold more than hosts, and what is given back is free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aero.server.policy.shares import Shares


def fill(shares: Shares, ip: str) -> int:
    """Takes all that the address may have; how many that are."""
    count = 0
    while shares.full(ip) is None:
        shares.take(ip)
        count += 1
    return count


def test_one_address_gets_a_third_of_an_empty_house_and_the_next_gets_its_part() -> None:
    shares = Shares(900, minimum=10)
    assert fill(shares, "192.0.2.1") == 300
    assert fill(shares, "192.0.2.2") == 200
    assert fill(shares, "192.0.2.3") == 133
    assert shares.full("192.0.2.4") is None


def test_a_few_places_are_everybodys_even_when_little_is_free() -> None:
    shares = Shares(100, minimum=10)
    for number in range(30):
        assert fill(shares, f"192.0.2.{number}") >= 10


def test_a_fixed_share_does_not_grow() -> None:
    assert fill(Shares(1000, minimum=32, of_free=0), "192.0.2.1") == 32


def test_a_household_and_a_site_get_more_than_a_host_but_not_all() -> None:
    shares = Shares(10_000, minimum=10, of_free=0)
    assert fill(shares, "2001:db8:0:1::1") == 10
    assert fill(shares, "2001:db8:0:2::1") == 10
    assert fill(shares, "2001:db8:0:3::1") == 0, "the household has its 20"
    assert fill(shares, "2001:db8:0:100::1") == 10
    assert fill(shares, "2001:db8:0:200::1") == 10
    assert fill(shares, "2001:db8:0:300::1") == 0, "the site has its 40"
    assert fill(shares, "2001:db8:1::1") == 10


def test_which_group_is_full() -> None:
    shares = Shares(100, minimum=1, of_free=0)
    shares.take("2001:db8::1")
    assert shares.full("2001:db8::2") == bytes.fromhex("20010db800000000")
    shares.take("2001:db8:0:1::1")
    assert shares.full("2001:db8:0:2::1") == bytes.fromhex("20010db8000000")


def test_nobodys_place_counts_for_the_house_only() -> None:
    shares = Shares(30, minimum=1)
    for _ in range(20):
        shares.take("")
    assert fill(shares, "192.0.2.1") == 3
    shares.give("")
    assert shares.taken == 22


addresses = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:9::1", ""])


@given(st.lists(addresses, max_size=60))
def test_what_was_taken_can_be_given_back_and_leaves_nothing(ips: list[str]) -> None:
    shares = Shares(40, minimum=3)
    taken = []
    for ip in ips:
        if not ip or shares.full(ip) is None:
            shares.take(ip)
            taken.append(ip)
    assert shares.taken == len(taken)
    for ip in taken:
        shares.give(ip)
    assert not shares.taken and not shares._held
