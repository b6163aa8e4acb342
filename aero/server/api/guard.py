"""Who may ask, and whether a request says what it may: host name, token, origin, parameters, body.

Everything here takes one request's words and raises Problem; it knows neither routes nor the registry.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from aero.address import Address, is_loopback
from aero.errors import Problem
from aero.server.api.replies import JSON

#: More than any route knows, and few enough to name in a message.
PARAMETERS = 16
SHOWN_CHARS = 60


def host_of(header: str) -> str:
    """The host name in a Host header, lower case, without port and brackets; "" for what is none."""
    try:
        parts = urlsplit(f"//{header}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return ""
        _ = parts.port  # raises for what is no port
        return (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""


class ApiKey(NamedTuple):
    """The secret that changes need; ``path``: the file that has it, "" where it is in memory only."""

    text: str
    path: str


class Guard:
    """The rules of one API."""

    def __init__(self, address: Address, token: str, key: ApiKey) -> None:
        """``address``: what --api says; ``token``: "" for none; ``key``: what changes need where there is no token."""
        self._own = address.host.lower().rstrip(".")
        self._everyone = not is_loopback(address.host)
        self._key = key
        self._token = _NO_TOKEN
        self.change_token(token)

    def change_token(self, token: str) -> bool:
        """From here on this one is right, "" for none. Whether it is another one than before."""
        before, self._token = self._token, _digest(token.encode("utf-8", "surrogateescape"))
        self._given_token = token
        return before != self._token

    @property
    def has_token(self) -> bool:
        """Whether everybody has to show a token."""
        return bool(self._given_token)

    @property
    def secret(self) -> str:
        """What opens everything: the token, or the key where there is none."""
        return self._given_token or self._key.text

    def check_host(self, header: str) -> None:
        """On loopback only names of loopback: another one is a foreign page that had its own name point here."""
        host = host_of(header)
        if not host:
            raise Problem(400, "the Host header is missing or no host name")
        if not self.is_ours(host):
            raise Problem(403, f"this API is not {_shown(host)}: ask for it as localhost")

    def is_ours(self, host: str) -> bool:
        """Whether a host name is one that this API answers to."""
        return bool(host) and (self._everyone or host == self._own or is_loopback(host))

    def check_origin(self, origin: str, host: str) -> None:
        """Calls that change something come from our own page or from no page at all."""
        try:
            own = not origin or urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            own = False
        if not own:
            raise Problem(403, "calls from other web sites are not taken")

    def check_token(self, header: str) -> bool:
        """Whether ``Authorization: Bearer TOKEN`` is right, or no token is asked for."""
        return not self._given_token or _is_bearer(header, self._token)

    def check_key(self, header: str) -> bool:
        """Whether ``Authorization: Bearer KEY`` may change something: the token where there is one, else the key."""
        return _is_bearer(header, self._token if self._given_token else _digest(self._key.text.encode()))

    def no_key(self) -> Problem:
        """What somebody hears who would change something and does not have the key."""
        if self._given_token:
            return no_token()
        where = (
            f"which aero kick and aero page find in {self._key.path}"
            if self._key.path
            else "which nobody has, as it keeps no state: start it with --state DIR, or with --api-token"
        )
        text = f"changing something needs this server's key (Authorization: Bearer KEY), {where}"
        return Problem(401, text, ("WWW-Authenticate", 'Bearer realm="aero"'))


def _is_bearer(header: str, digest: bytes) -> bool:
    """Whether a header carries the secret with this digest; takes the same time for every wrong one."""
    scheme, _, given = header.partition(" ")
    right = hmac.compare_digest(_digest(given.strip().encode("latin-1", "replace")), digest)
    return right and scheme.lower() == "bearer"


def _digest(words: bytes) -> bytes:
    return hashlib.sha256(words).digest()


_NO_TOKEN = _digest(b"")


def no_token() -> Problem:
    """What somebody without the right token hears."""
    text = "this API asks for its token: Authorization: Bearer TOKEN"
    return Problem(401, text, ("WWW-Authenticate", 'Bearer realm="aero"'))


def parameters(query: str, known: Iterable[str]) -> dict[str, str]:
    """The parameters of a query string. Raises Problem for unknown, repeated, empty or unreadable ones."""
    names = list(known)
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=PARAMETERS,
        )
    except ValueError:
        raise Problem(400, f"the query string cannot be read: {_shown(query)}") from None
    unknown = sorted({name for name, _ in pairs if name not in names})
    if unknown:
        takes = f"this call takes {', '.join(names)}" if names else "this call takes none"
        raise Problem(400, f"unknown parameter {', '.join(map(_shown, unknown))}: {takes}")
    for name, value in pairs:
        if sum(1 for other, _ in pairs if other == name) > 1:
            raise Problem(400, f"parameter {name} is given more than once")
        if not value:
            raise Problem(400, f"parameter {name} is empty")
    return dict(pairs)


def check_empty_json(content_type: str, body: bytes) -> None:
    """A call that changes something is JSON, which no foreign page can send unasked, and says nothing more."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise Problem(415, f"this call needs the header Content-Type: {JSON}")
    try:
        content: Any = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON; leave it empty or write {}") from None
    if not isinstance(content, dict):
        raise Problem(400, "the body is not a JSON object; leave it empty or write {}")
    if content:
        unknown = ", ".join(_shown(name) for name in sorted(content)[:PARAMETERS])
        raise Problem(400, f"unknown parameter {unknown}: this call takes none in its body")


def _shown(text: str) -> str:
    text = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."
    return text if text.isprintable() else ascii(text)
