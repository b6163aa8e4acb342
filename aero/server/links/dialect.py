"""A connection's first bytes: what somebody speaks who came to the server's port. Bytes in, a word out; no I/O.

The kinds differ within their first few bytes, so that nobody has to say much to be understood, and nothing that has
begun as one of them can turn into another.
"""

from __future__ import annotations

import re

from aero.core.handshake import MAGIC

# Words of watch/counters.py's OPENINGS.
LINK, TLS, HTTP, HTTP2, OTHER = "link", "tls", "http", "http/2", "unknown"
WEBSOCKET, NO_TLS = "websocket", "tls failed"  # known later: at a request's end, at a handshake's

_HANDSHAKE, _MAJOR = 0x16, 0x03  # a TLS record that begins a connection (RFC 8446, section 5.1)
_MAX_METHOD = 20  # the longest that is registered with IANA has 17 letters
_METHOD = re.compile(rb"[A-Z]+(?:-[A-Z]*)*( )?")
_PRI = b"PRI"  # the method of HTTP/2's preface, which no request has (RFC 9113, section 3.4)


def kind_of(data: bytes) -> str:
    """What begins with ``data``: one of the first five; "" where more has to come before it is known."""
    if MAGIC.startswith(data[: len(MAGIC)]):
        return LINK if len(data) >= len(MAGIC) else ""
    if data[0] == _HANDSHAKE:
        return "" if len(data) < 2 else TLS if data[1] == _MAJOR else OTHER
    method = _METHOD.match(data[: _MAX_METHOD + 1])
    if method is None:
        return OTHER
    if method[1]:
        return HTTP2 if method[0].rstrip() == _PRI else HTTP
    return "" if method.end() == len(data) <= _MAX_METHOD else OTHER


def asks_for(path: bytes, data: bytes) -> bool | None:
    """Whether an HTTP request that begins with ``data`` is a GET of ``path``; None while that is not known yet."""
    wanted = b"GET " + path
    if len(data) <= len(wanted):
        return None if wanted.startswith(data) else False
    return data.startswith(wanted) and data[len(wanted)] in b" ?"
