"""The API's HTTP server: gevent.pywsgi with limits on what a peer may cost. Knows sockets and WSGI, no routes."""

from __future__ import annotations

import os
import random
import re
import socket
from http.client import HTTPException
from io import BytesIO
from typing import Any, Callable

import gevent
from gevent.pool import Pool
from gevent.pywsgi import _REQUEST_TOO_LONG_RESPONSE, WSGIHandler

from aero import logs
from aero.address import Address, UnixPath, is_loopback
from aero.errors import Problem
from aero.limits import Limits
from aero.server.api.acceptor import Acceptor
from aero.server.api.replies import problem_reply
from aero.server.api.turns import Turns
from aero.server.policy.shares import Shares

log = logs.get("api")

_TOO_LONG = ("414", _REQUEST_TOO_LONG_RESPONSE)
# Greenlets beyond the connections that are served: those that are turned away, or end.
SPARE = 32
DRAIN_S = 1.0
DRAIN_BYTES = 256 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Head:
    """Reads the lines of a head. Raises Problem (431) beyond API_HEAD_BYTES."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = Limits.API_HEAD_BYTES

    def readline(self, size: int) -> bytes:
        """One line."""
        line: bytes = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise Problem(431, f"the head is longer than {Limits.API_HEAD_BYTES} bytes")
        return line


def refuse(sock: Any, why: str, address: str) -> None:
    """A 503 for somebody who has asked nothing yet; never waits."""
    log.debug("! turned away", address=address, why=why)
    try:
        sock.setblocking(False)
        sock.send(problem_reply(Problem(503, why, ("Retry-After", "10"))).whole())
    except OSError as error:
        log.debug("! turned away, and gone", address=address, error=error.strerror)


class Crowd:
    """All connections, by whether a whole request has come. Those that have asked nothing give way to newer ones."""

    def __init__(self, places: int) -> None:
        """``places``: how many there may be."""
        self._places = places
        self._waiting: set[Exchange] = set()
        self._working: set[Exchange] = set()

    def enter(self, handler: Exchange) -> bool:
        """One more. False where all places are held by connections that are being answered."""
        if len(self._waiting) + len(self._working) >= self._places:
            if not self._waiting:
                return False
            # By lot: an attacker cannot tell which of his own will make room, nor keep all others out.
            out = random.choice(tuple(self._waiting))
            self.leave(out)
            out.greenlet.kill(block=False)
        self._waiting.add(handler)
        return True

    def waits(self, handler: Exchange) -> None:
        """The next request has to come first."""
        self._working.discard(handler)
        self._waiting.add(handler)

    def works(self, handler: Exchange) -> None:
        """A whole request is there."""
        self._waiting.discard(handler)
        self._working.add(handler)

    def leave(self, handler: Exchange) -> None:
        """A connection ends."""
        self._waiting.discard(handler)
        self._working.discard(handler)


class Exchange(WSGIHandler):
    """One connection. Takes a whole request, head and body, before it hands it on."""

    greenlet: gevent.Greenlet
    _body = b""
    _deadline: gevent.Timeout

    def handle(self) -> None:
        """Serves request after request."""
        self.socket.settimeout(Limits.API_SEND_S)
        self.greenlet = gevent.getcurrent()
        if not self.server.crowd.enter(self):
            self._turn_away()
            return
        try:
            super().handle()
        finally:
            self.server.crowd.leave(self)

    def _turn_away(self) -> None:
        refuse(self.socket, "there are too many calls under way", self.client_address[0])
        self.socket.close()

    def handle_one_request(self) -> Any:
        """Reads a request within API_REQUEST_S, or ends the connection."""
        self.requestline = ""
        self.server.crowd.waits(self)
        self._deadline = gevent.Timeout.start_new(Limits.API_REQUEST_S)
        try:
            result = super().handle_one_request()
            if result != _TOO_LONG:
                return result
            self._refuse(Problem(414, "the path is too long"))
        except gevent.Timeout as timeout:
            if timeout is not self._deadline:
                raise
            if self.requestline:  # between two requests nobody waits for an answer
                self._refuse(Problem(408, "the request did not come in time"))
        finally:
            self._deadline.close()
        return None

    def handle_one_response(self) -> None:
        """The request is there: an answer may take its time."""
        self._deadline.close()
        self.server.crowd.works(self)
        super().handle_one_response()

    def MessageClass(self, file: Any, *more: Any) -> Any:
        """Reads the head's fields."""
        return super().MessageClass(_Head(file), *more)

    def read_request(self, raw_requestline: str) -> bool:
        """Parses the head, reads the body. Raises Problem for what is ambiguous or too much."""
        self.server.turns.take()
        if not super().read_request(raw_requestline):
            return False
        headers, self._body = self.headers, b""
        if self.request_version not in ("HTTP/1.0", "HTTP/1.1") or not self.path.startswith("/"):
            raise Problem(400, "this is not an HTTP/1.1 request for a path")
        if headers.get_all("transfer-encoding"):
            raise Problem(411, "send the body with a Content-Length")
        lengths = headers.get_all("content-length") or ["0"]
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip()):
            raise Problem(400, "Content-Length is not one number")
        if len(headers.get_all("host") or ()) > 1:
            raise Problem(400, "there is more than one Host header")
        length = int(lengths[0])
        if length > Limits.API_BODY_BYTES:
            raise Problem(413, f"the body is longer than {Limits.API_BODY_BYTES} bytes")
        if length:
            if headers.get("expect", "").lower() == "100-continue":
                self.socket.sendall(CONTINUE)
            self._body = self.rfile.read(length)
            if len(self._body) < length:
                raise Problem(400, "the body is shorter than its Content-Length")
        return True

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environment; its body has come already."""
        environ: dict[str, Any] = super().get_environ()
        environ["wsgi.input"] = BytesIO(self._body)
        self.wsgi_input.position = self.wsgi_input.content_length or 0  # nothing is left to be read away
        return environ

    def _handle_client_error(self, ex: BaseException) -> None:
        if isinstance(ex, HTTPException):  # http.client counts a head's fields
            ex = Problem(431, "the head has too many fields")
        self._refuse(ex if isinstance(ex, Problem) else Problem(400, "the request cannot be read"))

    def _refuse(self, problem: Problem) -> None:
        """Answers and ends the connection, but not over unread bytes, which would destroy the answer on its way."""
        log.debug("! request refused", address=self.client_address[0], why=problem)
        self.close_connection = True
        try:
            self.socket.sendall(problem_reply(problem).whole())
            self.socket.shutdown(socket.SHUT_WR)
            with gevent.Timeout(DRAIN_S, False):
                left = DRAIN_BYTES
                while left > 0 and (data := self.socket.recv(left)):
                    left -= len(data)
        except OSError as error:
            log.debug("! refused peer is gone", address=self.client_address[0], error=error.strerror)

    def handle_error(self, kind: Any, error: Any, traceback: Any) -> None:
        """The answer could not be sent, or the program has a fault: the connection ends."""
        self.close_connection = True
        if not isinstance(error, (OSError, gevent.GreenletExit)):
            log.error("an answer could not be sent whole", why=repr(error))


class _Server(Acceptor):
    """Serves one listening socket, and nobody so much that others go without."""

    turns: Turns
    crowd: Crowd
    shares: Shares  # connections from each, loopback's apart: those may be a proxy's, and anybody's

    def handle(self, sock: Any, address: Any) -> None:
        """One connection, until its end."""
        ip = address[0].removeprefix("::ffff:")
        if is_loopback(ip):
            super().handle(sock, address)
            return
        if self.shares.full(ip) is not None:
            refuse(sock, "there are too many connections from this address", ip)
            return
        self.shares.take(ip)
        try:
            super().handle(sock, address)
        finally:
            self.shares.give(ip)


class HttpServer:
    """Serves a WSGI application on listening sockets."""

    def __init__(self, socks: list[socket.socket], application: Callable[..., Any], turns: Turns) -> None:
        """``socks`` listen already; ``application`` speaks WSGI; ``turns``: whose turn it is."""
        self._pool = Pool(Limits.API_CONNECTIONS + SPARE)
        crowd = Crowd(Limits.API_CONNECTIONS)
        shares = Shares(Limits.API_CONNECTIONS, Limits.API_CONNECTIONS_PER_ADDRESS, of_free=0)
        # Else pywsgi asks a resolver for our own name, and nobody reads it.
        named = {"SERVER_NAME": "localhost"}
        settings = {
            "environ": named,
            "spawn": self._pool,
            "log": None,
            "error_log": _Faults(),
            "handler_class": Exchange,
        }
        self._servers = [_Server(sock, application, **settings) for sock in socks]
        for server in self._servers:
            server.turns, server.crowd, server.shares = turns, crowd, shares
            server.start()

    @property
    def address(self) -> Address | UnixPath:
        """Where it listens, the first of several."""
        where = self._servers[0].address
        return Address(*where[:2]) if isinstance(where, tuple) else UnixPath(where)

    def close(self) -> None:
        """Stops listening and ends every connection."""
        where = self.address
        for server in self._servers:
            server.close()
        if isinstance(where, UnixPath):
            try:
                os.unlink(where.path)
            except OSError as error:  # of a folder that is root's, perhaps; the next start replaces it
                log.debug("= the socket's file stays", path=where.path, error=error.strerror)
        self._pool.kill(block=False)


class _Faults:
    """Where pywsgi writes what it thinks worth a line."""

    def write(self, text: str) -> None:
        """One line of it."""
        log.debug("!", text=text.strip())

    def flush(self) -> None:
        """Lines are written at once."""
