"""Addresses and names: what they are, and what is refused with a sentence."""

from __future__ import annotations

import re

import pytest

from aero.address import CID, Address, check_name, check_tag
from aero.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("example.org:8080", "example.org", 8080, "example.org:8080"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
        (":8080", "0.0.0.0", 8080, "0.0.0.0:8080"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
        ("my_container:1", "my_container", 1, "my_container:1"),
        ("example.org.:80", "example.org.", 80, "example.org.:80"),
    ],
)
def test_addresses(text: str, host: str, port: int, shown: str) -> None:
    address = Address.parse(text)
    assert address == (host, port)
    assert str(address) == shown
    assert Address.parse(shown) == address


def test_default_port() -> None:
    assert Address.parse("example.org", 8080) == ("example.org", 8080)
    assert Address.parse("[::1]", 8080) == ("::1", 8080)
    assert Address.parse("10.0.0.1", 8080) == ("10.0.0.1", 8080)


def test_port_0_only_to_listen() -> None:
    assert Address.parse(":0", listen=True).port == 0
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        Address.parse(":0")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "HOST:PORT"),
        ("localhost", "localhost:PORT"),
        ("8080", "write :8080 or localhost:8080"),
        ("::1:80", "[::1]:PORT for IPv6"),
        ("[::1", "[::1]:PORT for IPv6"),
        ("[::1]80", "[::1]:PORT for IPv6"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[1.2.3.4]:80", "not an IPv6 address"),
        ("a:b:c", "not an address"),
        ("http://a:80", "is a URL, write HOST:PORT alone"),
        ("a:http", "not a port"),
        ("a:", "not a port"),
        ("a:65536", "not a port"),
        ("a:-1", "not a port"),
        ("a:٣", "not a port"),
        ("256.1.1.1:80", "not a host name"),
        ("1.2.3:80", "not a host name"),
        ("a..b:80", "not a host name"),
        ("-a:80", "not a host name"),
        ("a b:80", "not a host name"),
        ("user@a:80", "not a host name"),
        ("a\n:80", "not a host name"),
        ("x" * 254 + ":80", "not a host name"),
    ],
)
def test_addresses_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)) as error:
        Address.parse(text)
    assert "\n" not in str(error.value)


def test_a_tag_cannot_pass_for_a_workers_id() -> None:
    cid = "c0123456789ab"
    assert CID.fullmatch(cid)
    for text in (cid, cid.upper()):
        with pytest.raises(ConfigError, match="looks like a worker's id"):
            check_tag(text)
    assert check_name(cid) == cid
    assert check_tag("c0123456789al") == "c0123456789al"  # no l in an id
    assert check_tag("NAS-2") == "nas-2"
