"""Cookies of the mux's own: with ``balance=cookie`` a visitor stays with the worker that answered him first.

The cookie names the worker by a hash that leads back to nobody, and is the mux's alone: targets do not see it. It says
nothing that needs keeping secret, and whoever writes another into it gets another worker of the same pool, or any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from aero.server.httpmux.head import Request, Response
from aero.server.registry.mapping import Mapping

NAME = b"aero-way"
_FIELD = re.compile(rb"^cookie: ([^\r\n]*)\r\n", re.I | re.M)
_PAIR = re.compile(rb"(?:^|;)[ \t]*" + NAME + rb"=([0-9a-f]{16})[ \t]*(?=;|\Z)")


def named(request: Request, members: Iterable[Mapping]) -> Mapping | None:
    """The member that the request's cookie names; None where it names none that is here."""
    for field in _FIELD.finditer(request.kept):
        for pair in _PAIR.finditer(field[1]):
            token = pair[1]
            return next((each for each in members if _token(each.key) == token), None)
    return None


def without(request: Request) -> Request:
    """The request as the target gets it."""
    if NAME not in request.kept:
        return request
    return request._replace(kept=_FIELD.sub(_others, request.kept))


def marked(response: Response, request: Request, mapping: Mapping, prefix: bytes) -> Response:
    """The response with a cookie for the mapping that gave it, where the request did not name that one.

    ``prefix``: the path under which the visitor has found the target, b"" by host name.
    """
    if named(request, (mapping,)) is mapping:
        return response
    line = b"Set-Cookie: %b=%b; Path=%b; HttpOnly; SameSite=Lax\r\n" % (
        NAME,
        _token(mapping.key),
        prefix or b"/",
    )
    return response._replace(kept=response.kept + line)


def _others(field: re.Match[bytes]) -> bytes:
    left = _PAIR.sub(b"", field[1]).lstrip(b"; \t")
    return b"%b: %b\r\n" % (field[0][:6], left) if left else b""


@lru_cache(4096)
def _token(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=8, person=b"aero way").hexdigest().encode()
