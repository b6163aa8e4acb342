"""What counts as one address."""

from __future__ import annotations

from aero.server.policy.origin import groups_of, is_near, key_of, network_of


def test_an_ipv4_address_is_itself_however_it_is_written() -> None:
    assert groups_of("192.0.2.1") == (b"\xc0\x00\x02\x01",) == groups_of("::ffff:192.0.2.1")


def test_an_ipv6_address_belongs_to_a_host_a_household_and_a_site() -> None:
    host, household, site = groups_of("2001:db8:1:203::1")
    assert host == bytes.fromhex("20010db800010203")
    assert household == bytes.fromhex("20010db8000102")
    assert site == bytes.fromhex("20010db80001")


def test_the_key_is_the_smallest_group() -> None:
    assert key_of("2001:db8:1:2::1") == key_of("2001:db8:1:2:ffff::9") != key_of("2001:db8:1:3::1")
    assert key_of("fe80::1%eth0") == key_of("fe80::2%eth1")


def test_the_network_that_an_address_is_counted_as() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network_of("nonsense") == "nonsense"


def test_what_is_this_machine() -> None:
    assert is_near("127.0.0.1") and is_near("127.9.9.9") and is_near("::1") and is_near("localhost")
    assert not is_near("192.0.2.1") and not is_near("::2") and not is_near("128.0.0.1")


def test_what_is_no_address_is_its_own_group() -> None:
    assert groups_of("nonsense:") == (b"nonsense:",)
    assert groups_of("unix\udc80") == (b"unix?",)
