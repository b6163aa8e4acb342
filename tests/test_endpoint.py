"""Ways to a server: what ``--server`` may say, and what is refused with a sentence."""

from __future__ import annotations

import re

import pytest

from aero.endpoint import MAX_ENDPOINTS, Endpoint, Endpoints
from aero.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "way", "shown"),
    [
        ("example.org:9000", ("tcp", "example.org", 9000, ""), "example.org:9000"),
        ("example.org", ("tcp", "example.org", 8080, ""), "example.org:8080"),
        ("[::1]", ("tcp", "::1", 8080, ""), "[::1]:8080"),
        ("tcp://example.org", ("tcp", "example.org", 8080, ""), "example.org:8080"),
        ("tls://example.org", ("tls", "example.org", 443, ""), "tls://example.org:443"),
        ("TLS://[::1]:8443/", ("tls", "::1", 8443, ""), "tls://[::1]:8443"),
        ("ws://example.org", ("ws", "example.org", 80, ""), "ws://example.org:80"),
        ("wss://example.org/", ("wss", "example.org", 443, ""), "wss://example.org:443"),
        ("wss://h:1/a/b?token=x", ("wss", "h", 1, "/a/b?token=x"), "wss://h:1/a/b?token=x"),
    ],
)
def test_a_way(text: str, way: tuple[str, str, int, str], shown: str) -> None:
    endpoints = Endpoints.parse(text)
    assert endpoints.ways == (way,)
    assert str(endpoints) == shown
    assert Endpoints.parse(shown) == endpoints


def test_a_list_keeps_its_order_and_leaves_out_what_comes_twice() -> None:
    endpoints = Endpoints.parse("wss://a/x, b:1,wss://a/x")
    assert endpoints.ways == (Endpoint("wss", "a", 443, "/x"), Endpoint("tcp", "b", 1))


def test_auto_is_every_transport_at_its_usual_port() -> None:
    endpoints = Endpoints.parse("auto://example.org")
    assert [str(way) for way in endpoints.ways] == [
        "example.org:8080",
        "tls://example.org:443",
        "wss://example.org:443",
        "ws://example.org:80",
    ]
    assert str(endpoints) == "auto://example.org"
    assert Endpoints.parse(str(endpoints)) == endpoints
    paths = [way.path for way in Endpoints.parse("auto://[::1]/gate").ways]
    assert paths == ["", "", "/gate", "/gate"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://example.org", "write wss:// for WebSocket"),
        ("http://example.org", "write ws:// for WebSocket"),
        (
            "quic://example.org",
            "quic:// is unknown, write HOST:PORT, tcp://, tls://, ws://, wss:// or auto://",
        ),
        ("wss://user:secret@example.org", "no user or password in it"),
        ("tls://example.org/path", "which only ws:// and wss:// can ask for"),
        ("wss://example.org/a b", "a path that no request can ask for"),
        ("wss://example.org/a\r\nX: y", "a path that no request can ask for"),
        ("wss://example.org/#x", "a path that no request can ask for"),
        ("wss://example.org/" + "x" * 1100, "a path that no request can ask for"),
        ("wss://", "is not an address"),
        ("auto://", "is not an address"),
        ("auto://example.org:443", "each way has its own; write auto://example.org"),
        ("auto://[::1]:8080", "each way has its own"),
        ("a:1,,b:1", "nothing between two commas"),
        ("wss://example.org:0", "is not a port"),
        (",".join(f"h:{port}" for port in range(1, MAX_ENDPOINTS + 2)), "too many"),
    ],
)
def test_what_is_no_way(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)) as refusal:
        Endpoints.parse(text)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
