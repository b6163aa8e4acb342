"""One POST of JSON to somebody's URL, signed, by a greenlet: a deadline for all of it, an answer of bounded size."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, NamedTuple

import gevent
from gevent import socket

from aero.errors import DialError
from aero.net.dial import addresses_of
from aero.net.lookup import Names, at_port

#: What of an answer is read, and then no more.
ANSWER_BYTES = 64 * 1024


class Posted(NamedTuple):
    """The answer: its status, and what it says."""

    status: int
    body: bytes

    @property
    def thanks(self) -> bool:
        """Whether it was taken."""
        return 200 <= self.status < 300


def signature(secret: str, body: bytes) -> str:
    """What X-Aero-Signature says: HMAC-SHA256 over the body (docs/api.md, "Hooks")."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def without_secrets(url: str) -> str:
    """A URL for the log: some have a token in their query, or a password."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


class Poster:
    """Makes posts."""

    def __init__(self, names: Names, secret: str) -> None:
        """``secret``: "" for posts without a signature."""
        self._names = names
        self._secret = secret
        self._context: Any = None  # of TLS, made for the first https URL

    def post(self, url: str, body: bytes, timeout_s: float) -> Posted:
        """The answer to one POST of JSON; blocks the greenlet. Raises DialError, with one line that says why."""
        import http.client  # nobody pays for it who has no hook

        try:
            with gevent.Timeout(timeout_s, TimeoutError(f"no answer within {timeout_s:g} s")):
                return self._post(url, body, timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DialError(str(error) or type(error).__name__) from error

    def _post(self, url: str, body: bytes, timeout_s: float) -> Posted:
        import http.client
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(url)
        secure, host = parts.scheme == "https", parts.hostname or ""
        port = parts.port or (443 if secure else 80)
        headers = {"Content-Type": "application/json", "User-Agent": "AeRO-proxy"}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        if self._secret:
            headers["X-Aero-Signature"] = signature(self._secret, body)
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = 443 if secure else 80  # what a Host header leaves out
        try:
            connection.sock = self._connected(host, port, secure, timeout_s)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return Posted(answer.status, answer.read(ANSWER_BYTES))
        finally:
            connection.close()

    def _connected(self, host: str, port: int, secure: bool, timeout_s: float) -> Any:
        """A socket to one of the host's addresses, within TLS where that is asked for."""
        error: OSError = OSError(f"{host} has no address")
        for family, address in at_port(addresses_of(self._names, host, timeout_s), port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.connect(address)
                return self._wrapped(sock, host) if secure else sock
            except BaseException as why:
                sock.close()
                if not isinstance(why, OSError) or isinstance(why, TimeoutError):
                    raise
                error = why
        raise error

    def _wrapped(self, sock: Any, host: str) -> Any:
        from gevent import ssl

        if self._context is None:
            # Not create_default_context: that makes one of the standard library's, whose sockets would stop the loop.
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.load_default_certs()
        return self._context.wrap_socket(sock, server_hostname=host)
