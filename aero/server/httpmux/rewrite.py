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
_COOKIE_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.I)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.I)


class Peer(NamedTuple):
    """Who is connected: ``ip`` as text; ``trusted``: what it says of the visitors it speaks for is believed;
    ``counted``: among whose connections it counts, b"" for nobody's."""

    ip: bytes
    trusted: bool
    counted: bytes = b""


# ----------------------------------------------------------------------------
# To the target
# ----------------------------------------------------------------------------


def request_head(
    request: Request, path: bytes, host: bytes, local: bytes, peer: Peer, prefix: bytes
) -> bytes:
    """The head that the target gets.

    ``path``: its request target; ``host``: who was asked, b"" when the visitor does not say: then ``local``, the
    target's address; ``prefix``: what was taken off the path.
    """
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
        host or local,
        request.kept,
        framing,
        _forwarding(request, host, peer, prefix),
    )


def _forwarding(request: Request, host: bytes, peer: Peer, prefix: bytes) -> bytes:
    """For whom, by which protocol, under which host and prefix the request was made (RFC 7239, and the older names)."""
    if peer.trusted and request.forwarded:
        return _forwarded.__wrapped__(peer.ip, host, prefix, request.forwarded)
    return _forwarded(peer.ip, host, prefix, ())


@lru_cache(CACHED_HEADS)
def _forwarded(by: bytes, host: bytes, prefix: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """``by``: who is connected; ``fields``: what is believed of what it says."""
    said: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        said.setdefault(name, []).append(value)
    host = _only(said.get(b"x-forwarded-host"), _HOST) or host
    before = _only(said.get(b"x-forwarded-prefix"), _PATH).rstrip(b"/")
    given = said.get(b"x-forwarded-proto", [b""])[0].lower()
    protocol = given if given in _PROTOCOLS else b"http"
    chain = b", ".join([*said.get(b"x-forwarded-for", []), by])
    elements = said.get(b"forwarded") or [_element(ip, host, protocol) for ip in _ips(said)]
    elements = [*elements, _element(by, b"" if elements else host, b"" if elements else protocol)]
    lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (chain, protocol)
    if host:
        lines += b"X-Forwarded-Host: %b\r\n" % host
    if before or prefix:
        lines += b"X-Forwarded-Prefix: %b%b\r\n" % (before, prefix)
    return lines + b"Forwarded: %b\r\n" % b", ".join(elements)


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


# ----------------------------------------------------------------------------
# To the visitor
# ----------------------------------------------------------------------------


def interim_head(response: Response) -> bytes:
    """A 1xx other than 101."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.reason, response.kept)


def response_head(
    response: Response, length: int, chunked: bool, connection: bytes, prefix: bytes, hosts: tuple[bytes, ...]
) -> bytes:
    """The head that the visitor gets.

    ``length``: of the body, as head.body_length gives it; ``chunked``: it is sent in chunks; ``connection``: the
    value of Connection, b"" for none; ``prefix``: what was taken off the path; ``hosts``: by which names the
    target may call itself.
    """
    kept = rooted(response.kept, prefix, hosts) if response.rooted and prefix else response.kept
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


def rooted(kept: bytes, prefix: bytes, hosts: tuple[bytes, ...]) -> bytes:
    """Header lines with the prefix put before every Location and cookie Path under the target's root."""
    lines = kept.split(b"\r\n")
    for at, line in enumerate(lines):
        name, _, value = line.partition(b": ")
        low = name.lower()
        if low == b"location":
            lines[at] = b"%b: %b" % (name, location(value, prefix, hosts))
        elif low == b"set-cookie" and not value.startswith(b"__Host-"):  # those have to have the path /
            lines[at] = b"%b: %b" % (name, _COOKIE_PATH.sub(lambda m: m[1] + under(m[2], prefix), value))
    return b"\r\n".join(lines)


def location(value: bytes, prefix: bytes, hosts: tuple[bytes, ...]) -> bytes:
    """A Location as the visitor has to see it."""
    match = _ABSOLUTE.fullmatch(value)
    if match is not None:
        if match[1].lower() not in hosts:
            return value
        value = match[2] if match[2].startswith(b"/") else b"/" + match[2]
    elif not value.startswith(b"/") or value.startswith(b"//"):
        return value
    return under(value, prefix)


def under(path: bytes, prefix: bytes) -> bytes:
    """``path`` below ``prefix``; one that is there already (the target heeds X-Forwarded-Prefix) stays as it is."""
    if path == prefix or path.startswith((prefix + b"/", prefix + b"?")):
        return path
    return prefix + path
