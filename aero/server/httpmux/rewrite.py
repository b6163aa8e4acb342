"""Heads as they leave: the request for the target, the response for the visitor.

Pure, like head.py: what was read there is written here, in one canonical form. Knows prefixes and addresses as
bytes, not where they come from.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from aero.server.httpmux.head import CACHED_HEADS, CHUNKED, NO_BODY, Request, Response

_PATH = re.compile(rb"(/[0-9A-Za-z._~!$&'()*+,;=:@%-]+)+/?")
_HOST = re.compile(rb"(?:[0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_IP = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")
_PROTOCOLS = (b"http", b"https", b"ws", b"wss")
#: The fields that are extended, or written where nobody has said anything; others of their kind pass as they are.
_EXTENDED = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
    b"forwarded",
)
_AUTHORITY = re.compile(rb"(https?:)?//([^/?#]*)(.*)", re.I)
_COOKIE_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.I)
_COOKIE_DOMAIN = re.compile(rb";[ \t]*domain[ \t]*=[ \t]*([^;]*)", re.I)
_REFRESH = re.compile(rb"([ \t]*[0-9.]+[ \t]*[;,][ \t]*(?:url[ \t]*=[ \t]*)?[\"']?)([^\"']*)(.*)", re.I)
_BRACKETED = re.compile(rb"<([^<>]*)>")
#: What a browser may read as a way out of a folder.
_UPWARDS = re.compile(rb"(?:^|[/\\])(?:\.|%2e){2}(?:[/\\?#]|\Z)|\t", re.I)
_LOOPBACK = (b"localhost", b"127.0.0.1", b"[::1]")


class Peer(NamedTuple):
    """Who is connected: ``ip`` as text; ``trusted``: what it says of the visitors it speaks for is believed;
    ``protocol``: what it speaks, b"http" or b"https".
    """

    ip: bytes
    trusted: bool
    protocol: bytes = b"http"


class Place(NamedTuple):
    """Where a visitor has found a target. ``prefix``: what was taken off the path, as he wrote it, b"" by host name;
    ``host``: the name that he used; ``local``: the target's own address; ``called``: the Host that the target gets in
    place of that name, b"" where it gets that.
    """

    prefix: bytes
    host: bytes
    local: bytes
    called: bytes = b""


# ----------------------------------------------------------------------------
# To the target
# ----------------------------------------------------------------------------


def request_head(
    request: Request, path: bytes, host: bytes, local: bytes, peer: Peer, prefix: bytes, called: bytes = b""
) -> bytes:
    """The head that the target gets.

    ``path``: its request target; ``host``: who was asked, b"" when the visitor does not say: then ``local``, the
    target's address; ``prefix``: what was taken off the path; ``called``: what Host says all the same.
    """
    kept = request.kept
    if request.places and (prefix or called):
        kept = without_prefix(kept, Place(prefix, visited_host(request, peer), local, called))
    if request.length == CHUNKED:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif request.length >= 0:
        framing = b"Content-Length: %d\r\n" % request.length
    else:
        framing = b""
    if request.expects:
        framing += b"Expect: 100-continue\r\n"
    if request.upgrade:
        framing += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
    elif request.trailers:
        framing += b"Connection: TE\r\nTE: trailers\r\n"
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n" % (
        request.method,
        path,
        called or host or local,
        kept,
        framing,
        _forwarding(request, host, peer, prefix),
    )


def _forwarding(request: Request, host: bytes, peer: Peer, prefix: bytes) -> bytes:
    """For whom, by which protocol, under which host and prefix the request was made (RFC 7239, and the older names)."""
    if peer.trusted and request.forwarded:
        return _forwarded.__wrapped__(peer.ip, peer.protocol, host, prefix, request.forwarded)
    return _forwarded(peer.ip, peer.protocol, host, prefix, ())


@lru_cache(CACHED_HEADS)
def _forwarded(
    by: bytes, spoken: bytes, host: bytes, prefix: bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> bytes:
    """``by``: who is connected; ``spoken``: its protocol; ``fields``: what is believed of what it says."""
    said: dict[bytes, list[bytes]] = {}
    passed = b""
    for name, value in fields:
        low = name.lower()
        if low in _EXTENDED:
            said.setdefault(low, []).append(value)
        else:
            passed += b"%b: %b\r\n" % (name, value)
    host = _only(said.get(b"x-forwarded-host"), _HOST) or host
    before = _only(said.get(b"x-forwarded-prefix"), _PATH).rstrip(b"/")
    given = said.get(b"x-forwarded-proto", [b""])[0].lower()
    protocol = given if given in _PROTOCOLS else spoken
    chain = b", ".join([*said.get(b"x-forwarded-for", []), by])
    elements = said.get(b"forwarded") or [_element(ip, host, protocol) for ip in _ips(said)]
    elements = [*elements, _element(by, b"" if elements else host, b"" if elements else protocol)]
    lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (chain, protocol)
    if host:
        lines += b"X-Forwarded-Host: %b\r\n" % host
    if before or prefix:
        lines += b"X-Forwarded-Prefix: %b%b\r\n" % (before, prefix)
    return lines + b"Forwarded: %b\r\n%b" % (b", ".join(elements), passed)


def _only(values: list[bytes] | None, pattern: re.Pattern[bytes]) -> bytes:
    """The value, when there is exactly one and it is well formed."""
    return values[0] if values and len(values) == 1 and pattern.fullmatch(values[0]) else b""


def _ips(said: dict[bytes, list[bytes]]) -> list[bytes]:
    """The chain that a proxy gave in X-Forwarded-For alone, so that Forwarded does not say less."""
    return [ip.strip(b" \t") for value in said.get(b"x-forwarded-for", []) for ip in value.split(b",")]


def _element(ip: bytes, host: bytes, protocol: bytes) -> bytes:
    whom = ip if _IP.fullmatch(ip) else b"unknown"
    element = b'for="[%b]"' % whom if b":" in whom else b"for=%b" % whom
    if host:
        element += b';host="%b"' % host
    return element + b";proto=%b" % protocol if protocol else element


def visited_host(request: Request, peer: Peer) -> bytes:
    """The host that the visitor sees in his address bar: Host, or what a trusted proxy says that it was."""
    if peer.trusted:
        said = [value for name, value in request.forwarded if name.lower() == b"x-forwarded-host"]
        return _only(said, _HOST) or request.host
    return request.host


def without_prefix(kept: bytes, place: Place) -> bytes:
    """Header lines with the prefix taken off what WebDAV says of its own addresses: Destination and If."""
    lines = kept.split(b"\r\n")
    for at, line in enumerate(lines):
        name, _, value = line.partition(b": ")
        low = name.lower()
        if low == b"destination":
            lines[at] = b"%b: %b" % (name, _inside(value, place))
        elif low == b"if":
            lines[at] = b"%b: %b" % (name, _BRACKETED.sub(lambda m: b"<%b>" % _inside(m[1], place), value))
    return b"\r\n".join(lines)


def _inside(url: bytes, place: Place) -> bytes:
    """An address of the target as the target knows it; any other stays as it is."""
    match = _AUTHORITY.fullmatch(url)
    if match is not None and match[2].lower() != place.host.lower():
        return url
    start, path = (url[: match.start(3)], match[3]) if match is not None else (b"", url)
    if match is not None and place.called:
        start = b"%b//%b" % (match[1] or b"", place.called)
    if path != place.prefix and not path.startswith(place.prefix + b"/"):
        return url
    return start + (path[len(place.prefix) :] or b"/")


# ----------------------------------------------------------------------------
# To the visitor
# ----------------------------------------------------------------------------


def interim_head(response: Response, place: Place | None) -> bytes:
    """A 1xx other than 101."""
    kept = response.kept if place is None else with_prefix(response.kept, place)
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.reason, kept)


def response_head(
    response: Response, length: int, chunked: bool, connection: bytes, place: Place | None = None
) -> bytes:
    """The head that the visitor gets.

    ``length``: of the body, as head.body_length gives it; ``chunked``: it is sent in chunks; ``connection``: the
    value of Connection, b"" for none; ``place``: where the visitor has found the target, where ``response.places``.
    """
    kept = response.kept if place is None else with_prefix(response.kept, place)
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length >= 0 or (length == NO_BODY and response.length >= 0 and response.status not in (101, 204)):
        framing = b"Content-Length: %d\r\n" % (length if length >= 0 else response.length)
    else:
        framing = b""
    if connection:
        framing += b"Connection: %b\r\n" % connection
    if response.status == 101:
        framing += b"Upgrade: %b\r\n" % response.upgrade
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (response.status, response.reason, kept, framing)


def with_prefix(kept: bytes, place: Place) -> bytes:
    """Header lines with every address of the target's as the visitor has to use it, and nothing said for others.

    By host name only cookies are looked at: there a target's paths are the visitor's, and so is its name unless it gets
    another as Host.
    """
    lines = []
    for line in kept.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        rewrite = _REWRITES.get(name.lower())
        if rewrite is not None and (place.prefix or place.called or rewrite is _cookie):
            value = rewrite(value, place)
            if not value:
                continue
            line = b"%b: %b" % (name, value)
        lines.append(line)
    return b"\r\n".join(lines)


def _location(value: bytes, place: Place) -> bytes:
    """An address as the visitor has to see it: below the prefix, where it is the target's own."""
    match = _AUTHORITY.fullmatch(value)
    if match is not None:
        if match[2].lower() not in _own_names(place.host.lower(), place.local.lower(), place.called.lower()):
            return value
        value = match[3] if match[3].startswith(b"/") else b"/" + match[3]
    elif not value.startswith(b"/"):
        return value
    return under(value, place.prefix)


@lru_cache(CACHED_HEADS)
def _own_names(host: bytes, local: bytes, called: bytes) -> frozenset[bytes]:
    """By which names a target may call itself: the visitor's, its address, the visitor's name with its port, and the
    one that it gets as Host.
    """
    at, port = _split(local)
    hosts = {_split(host)[0], at, *(_LOOPBACK if at in _LOOPBACK else ())}
    names = {host, local, *([called] if called else ()), *(b"%b:%b" % (each, port) for each in hosts)}
    return frozenset(names | hosts if port in (b"80", b"443") else names)


def _split(host: bytes) -> tuple[bytes, bytes]:
    """Name and port, b"" for none."""
    if host.endswith(b"]"):
        return host, b""
    name, colon, port = host.rpartition(b":")
    return (name, port) if colon else (host, b"")


def _refresh(value: bytes, place: Place) -> bytes:
    match = _REFRESH.fullmatch(value)
    return match[1] + _location(match[2], place) + match[3] if match is not None else value


def _link(value: bytes, place: Place) -> bytes:
    return _BRACKETED.sub(lambda m: b"<%b>" % _location(m[1], place), value)


def _cookie(value: bytes, place: Place) -> bytes:
    """A cookie for this target alone: without a Domain that is wider than it, and by path under the prefix."""
    if value[:7].lower() == b"__host-":  # such a name promises the path / and no Domain; browsers see to it
        return value
    own = b"" if place.prefix else _split(place.host.lower())[0]
    value = _COOKIE_DOMAIN.sub(
        lambda m: m[0] if own and m[1].strip(b" \t").lstrip(b".").lower() == own else b"", value
    )
    return _COOKIE_PATH.sub(lambda m: m[1] + under(m[2], place.prefix), value) if place.prefix else value


def _scope(value: bytes, place: Place) -> bytes:
    """How far a service worker may reach: not beyond the target."""
    return b"" if _UPWARDS.search(value) else _location(value, place)


_REWRITES = {
    b"location": _location,
    b"content-location": _location,
    b"refresh": _refresh,
    b"link": _link,
    b"set-cookie": _cookie,
    b"service-worker-allowed": _scope,
}


def under(path: bytes, prefix: bytes) -> bytes:
    """``path`` below ``prefix``; one that is there already (the target heeds X-Forwarded-Prefix) stays as it is."""
    if path == prefix or path.startswith((prefix + b"/", prefix + b"?")):
        return path
    return prefix + path
