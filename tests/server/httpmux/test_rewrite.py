"""Heads as they leave: what a target hears of whom a request is for, and addresses with and without the prefix."""

from __future__ import annotations

import pytest

from aero.server.httpmux import rewrite
from aero.server.httpmux.head import parse_request, parse_response
from aero.server.httpmux.rewrite import Peer, Place

STRANGER, PROXY = Peer(b"192.0.2.1", False), Peer(b"10.0.0.1", True)
BY_PATH = Place(b"/Nas/web", b"aero.test:4000", b"127.0.0.1:8080")
BY_HOST = Place(b"", b"nas.web.aero.test:4000", b"127.0.0.1:8080")


def seen(place: Place, line: str) -> str:
    """A response's line as the visitor gets it, "" when he does not."""
    response = parse_response(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode(), 9)
    assert response.places
    head = rewrite.response_head(response, 0, False, b"", place)
    return head.split(b"\r\n")[1].decode() if head.count(b"\r\n") > 3 else ""


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ("Location: /a", "Location: /Nas/web/a"),
        ("Location: /Nas/web/a", "Location: /Nas/web/a"),
        ("Location: /nas/web/a", "Location: /Nas/web/nas/web/a"),
        ("Location: http://aero.test:4000/a", "Location: /Nas/web/a"),
        ("Location: //AERO.test:4000/a", "Location: /Nas/web/a"),
        ("Location: http://aero.test:8080/a", "Location: /Nas/web/a"),
        ("Location: https://localhost:8080", "Location: /Nas/web/"),
        ("Location: http://[::1]:8080/a?b", "Location: /Nas/web/a?b"),
        ("Location: http://aero.test/a", "Location: http://aero.test/a"),
        ("Location: //other.test/a", "Location: //other.test/a"),
        ("Location: http://localhost:80/a", "Location: http://localhost:80/a"),
        ("Content-Location: /a.en", "Content-Location: /Nas/web/a.en"),
        ("Refresh: 5; url=/a", "Refresh: 5; url=/Nas/web/a"),
        ("Refresh: 0;URL='/a'", "Refresh: 0;URL='/Nas/web/a'"),
        ("Refresh: 5", "Refresh: 5"),
        ('Link: </a>; y="/z", <b>, <http://x.test/c>', 'Link: </Nas/web/a>; y="/z", <b>, <http://x.test/c>'),
        ("Set-Cookie: a=b; Path=/", "Set-Cookie: a=b; Path=/Nas/web/"),
        ("Set-Cookie: a=b; Domain=.test; Path=/c; Secure", "Set-Cookie: a=b; Path=/Nas/web/c; Secure"),
        ("Set-Cookie: a=b; domain = 127.0.0.1", "Set-Cookie: a=b"),
        ("Set-Cookie: __Host-a=b; Path=/; Secure", "Set-Cookie: __Host-a=b; Path=/; Secure"),
        ("Service-Worker-Allowed: /", "Service-Worker-Allowed: /Nas/web/"),
        ("Service-Worker-Allowed: /Nas/web/../x", ""),
        ("Service-Worker-Allowed: /.%2E/x", ""),
        ("Service-Worker-Allowed: /..\\x", ""),
    ],
)  # fmt: skip
def test_by_path_every_address_of_the_target_s_gets_the_prefix(sent: str, got: str) -> None:
    assert seen(BY_PATH, sent) == got


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ("Location: /a", "Location: /a"),
        ("Service-Worker-Allowed: /", "Service-Worker-Allowed: /"),
        ("Set-Cookie: a=b; Path=/; Domain=nas.web.aero.test", "Set-Cookie: a=b; Path=/; Domain=nas.web.aero.test"),
        ("Set-Cookie: a=b; Domain=.NAS.web.aero.test", "Set-Cookie: a=b; Domain=.NAS.web.aero.test"),
        ("Set-Cookie: a=b; Domain=web.aero.test; Path=/", "Set-Cookie: a=b; Path=/"),
        ("Set-Cookie: a=b; Domain=aero.test", "Set-Cookie: a=b"),
        ("Set-Cookie: a=b; Domain=x.nas.web.aero.test", "Set-Cookie: a=b"),
        ("Set-Cookie: a=b; Domain=nas.local", "Set-Cookie: a=b"),
    ],
)  # fmt: skip
def test_by_host_a_cookie_is_for_its_target_alone(sent: str, got: str) -> None:
    assert seen(BY_HOST, sent) == got


def test_a_target_on_port_80_needs_no_port() -> None:
    place = Place(b"/t/web", b"aero.test:4000", b"nas.lan:80")
    for name in ("aero.test", "nas.lan", "nas.lan:80", "aero.test:80", "aero.test:4000"):
        assert seen(place, f"Location: http://{name}/a") == "Location: /t/web/a"
    assert seen(place, "Location: http://localhost/a") == "Location: http://localhost/a"
    loopback = Place(b"/t/web", b"[::1]", b"127.0.0.1:80")
    for name in ("localhost", "[::1]", "127.0.0.1"):
        assert seen(loopback, f"Location: http://{name}/a") == "Location: /t/web/a"


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ("Destination: http://aero.test:4000/Nas/web/b%20c", "Destination: http://aero.test:4000/b%20c"),
        ("Destination: https://aero.test:4000/Nas/web", "Destination: https://aero.test:4000/"),
        ("Destination: /Nas/web/b", "Destination: /b"),
        ("Destination: /nas/dav/b", "Destination: /nas/dav/b"),
        ("Destination: http://other.test/Nas/web/b", "Destination: http://other.test/Nas/web/b"),
        (
            "If: <http://aero.test:4000/Nas/web/a> (<urn:uuid:1> [W/\"x\"]) </Nas/web/b> (Not <DAV:no-lock>)",
            "If: <http://aero.test:4000/a> (<urn:uuid:1> [W/\"x\"]) </b> (Not <DAV:no-lock>)",
        ),
    ],
)  # fmt: skip
def test_what_webdav_says_of_its_own_addresses_loses_the_prefix(sent: str, got: str) -> None:
    head = f"MOVE /Nas/web/a HTTP/1.1\r\nHost: aero.test:4000\r\n{sent}\r\n\r\n".encode()
    request = parse_request(head, 9)
    assert request.places
    out = rewrite.request_head(request, b"/a", request.host, b"127.0.0.1:8080", STRANGER, b"/Nas/web")
    assert got.encode() in out.split(b"\r\n")


PASSED = (
    b"X-Forwarded-Port: 443\r\nX-Forwarded-User: alice\r\nX-Real-IP: 203.0.113.9\r\nTrue-Client-IP: 203.0.113.9\r\n"
    b"CF-Connecting-IP: 203.0.113.9\r\nX-Auth-Request-Email: a@b.c\r\nRemote-User: alice\r\nX-Original-URL: /a\r\n"
)
CHAIN = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: a.test\r\nX-Forwarded-Proto: https\r\n"


def heard(peer: Peer, lines: bytes) -> bytes:
    request = parse_request(b"GET /a HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n", 99)
    return rewrite.request_head(request, b"/a", b"h", b"", peer, b"/t/web")


def test_what_a_trusted_proxy_says_of_its_visitor_passes() -> None:
    out = heard(PROXY, CHAIN + PASSED)
    assert PASSED in out
    assert (
        b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.test\r\n"
        in out
    )
    assert b"X-Forwarded-Prefix: /t/web\r\n" in out and out.count(b"X-Forwarded-For") == 1


def test_what_anybody_else_says_of_himself_does_not() -> None:
    out = heard(STRANGER, CHAIN + PASSED)
    assert b"203.0.113.9" not in out and b"alice" not in out and b"a@b.c" not in out and b"443" not in out
    assert b"X-Forwarded-For: 192.0.2.1\r\n" in out


@pytest.mark.parametrize("peer", [STRANGER, PROXY])
@pytest.mark.parametrize(
    "name",
    ["X.Forwarded.For", "X~Real!IP", "x_forwarded_user", "X-Forwarded_For", "Remote.User", "X|Auth-Request-User",
     "Transfer.Encoding", "Content~Length", "Proxy", "Pro_xy.", "Cf!Connecting!Ip", "Ho.st", "Upgrade"],
)  # fmt: skip
def test_names_that_some_servers_fold_to_another_do_not_pass(peer: Peer, name: str) -> None:
    out = heard(peer, f"{name}: evil\r\nKept.Too: 1\r\n".encode())
    assert b"Kept.Too: 1\r\n" in out
    if name not in ("Pro_xy.", "Ho.st"):  # those fold to nothing that is known
        assert b"evil" not in out


def test_connection_cannot_take_away_what_a_proxy_says() -> None:
    out = heard(PROXY, b"Connection: x-real-ip, x-forwarded-for\r\n" + PASSED + CHAIN)
    assert b"X-Real-IP: 203.0.113.9" in out and b"X-Forwarded-For: 203.0.113.9, 10.0.0.1" in out


def test_the_host_that_the_visitor_sees() -> None:
    head = b"GET /a HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Host: a.test\r\n\r\n"
    request = parse_request(head, 9)
    assert rewrite.visited_host(request, PROXY) == b"a.test"
    assert rewrite.visited_host(request, STRANGER) == b"inner"


@pytest.mark.parametrize("place", [BY_PATH, BY_HOST])
def test_a_target_that_is_called_otherwise_sends_nobody_to_that_name(place: Place) -> None:
    called = place._replace(called=b"app.internal")
    assert seen(called, "Location: https://APP.internal/a") == f"Location: {place.prefix.decode()}/a"
    assert seen(called, "Location: http://other.test/a") == "Location: http://other.test/a"
    assert "Domain" not in seen(called, "Set-Cookie: a=b; Domain=app.internal; Path=/")


def test_host_is_what_the_target_wants_and_forwarded_what_the_visitor_wrote() -> None:
    asked = parse_request(b"MOVE /a HTTP/1.1\r\nHost: x.test\r\nDestination: http://x.test/b\r\n\r\n", 9)
    head = rewrite.request_head(asked, b"/a", asked.host, b"h:1", STRANGER, b"", b"app.internal")
    assert b"\r\nHost: app.internal\r\n" in head
    assert b"\r\nDestination: http://app.internal/b\r\n" in head
    assert b"\r\nX-Forwarded-Host: x.test\r\n" in head
