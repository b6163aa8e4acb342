"""The HTTP addresses of targets, as they can be typed."""

from __future__ import annotations

import pytest

from aero.address import Address
from aero.server.httpmux.urls import Face, target_url


@pytest.mark.parametrize(
    ("mux", "domain", "url"),
    [
        (Address("localhost", 4000), "", "http://localhost:4000/nas/web/"),
        (Address("127.0.0.1", 80), "", "http://127.0.0.1/nas/web/"),
        (Address("::1", 4000), "", "http://[::1]:4000/nas/web/"),
        (Address("0.0.0.0", 4000), "", "http://seen.example:4000/nas/web/"),
        (Address("::", 4000), "", "http://seen.example:4000/nas/web/"),
        (Address("0.0.0.0", 80), "aero.example.org", "http://nas.web.aero.example.org/"),
        (Address("localhost", 4000), "aero.example.org", "http://nas.web.aero.example.org:4000/"),
    ],
)
def test_addresses(mux: Address, domain: str, url: str) -> None:
    assert target_url(Face(mux), domain, "nas", "web", "seen.example") == url


def test_a_name_of_its_own() -> None:
    assert (
        target_url(Face(Address("::", 443), "https"), "d.org", "nas", "web", own="app.org")
        == "https://app.org/"
    )
    assert target_url(Face(Address("::", 81)), "", "nas", "web", "seen", "app.org") == "http://app.org:81/"


def test_a_server_that_was_reached_by_its_ipv6_address() -> None:
    assert (
        target_url(Face(Address("::", 4000)), "", "nas", "web", "2001:db8::1")
        == "http://[2001:db8::1]:4000/nas/web/"
    )


def test_https_has_a_port_of_its_own() -> None:
    assert target_url(Face(Address("::", 443), "https"), "a.org", "nas", "web") == "https://nas.web.a.org/"
    assert target_url(Face(Address("::1", 80), "https"), "", "nas", "web") == "https://[::1]:80/nas/web/"
