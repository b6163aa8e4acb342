"""The handshake over a socket: blocks its greenlet, has a deadline, and hands over keys or the reason why not."""

from __future__ import annotations

import os
import socket
from typing import Callable, NamedTuple

import gevent
from gevent.socket import wait_read

from aero.core import frames, handshake, record
from aero.core.codes import Close
from aero.core.record import RecordReader, RecordWriter
from aero.core.spake2 import Password
from aero.errors import AeroError, LinkClosed, NetworkError, RemoteProtocolError, SecurityError

# Four short messages: two round trips and two point multiplications, on the slowest path and host that we know of.
TIMEOUT_S = 10.0
_READ_BYTES = 4096  # a handshake's messages have 134 at most; what follows is the first record
_DRAIN_BYTES = 16 * 1024  # how much of a stranger's talk is read away so that our answer reaches it
_DRAIN_S = 1.0

_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
_HTTP_TEXT = (
    b"This port is for AeRO-proxy workers (aero client), not for HTTP.\n"
    b"Visitors use the address that the worker printed for its target.\n"
)


class Keyed(NamedTuple):
    """What a finished handshake leaves: both directions' records, the first bytes behind it, who it was, and the bits
    of core/features.py that both ends agreed on.
    """

    writer: RecordWriter
    reader: RecordReader
    early: bytes
    user: str
    features: int


def greet_server(
    sock: socket.socket, password: Password, user: str, backend: record.Backend, join: bytes
) -> Keyed:
    """Worker's side on a connected, non-blocking socket; the JOIN, of which ``join`` is the payload, travels with
    our proof.

    Raises RemoteProtocolError, SecurityError, Rejected, LinkClosed or NetworkError (time-out).
    """
    machine = handshake.WorkerHandshake(password, user, os.urandom(handshake.SCALAR_BYTES))
    writer = None
    with _deadline("the server did not answer the handshake"):
        _send(sock, machine.start())
        while machine.secrets is None:
            answer = machine.receive(_receive(sock))
            if machine.our_secret and writer is None:
                writer = RecordWriter(backend, machine.our_secret)
                payload = frames.pack(frames.JOIN, 0, join)
                out = bytearray(len(payload) + record.OVERHEAD_BYTES)
                writer.seal(record.LINK, memoryview(payload), memoryview(out))
                answer += out
            if answer:
                _send(sock, answer)
    if writer is None:
        raise RemoteProtocolError(Close.STATE, "the handshake ended before it began")
    return Keyed(
        writer, RecordReader(backend, machine.secrets.theirs), machine.rest, user, machine.secrets.features
    )


def greet_worker(
    sock: socket.socket,
    find_password: Callable[[str], Password],
    backend: record.Backend,
    hold: Callable[[], None],
    failed: Callable[[bool], None],
) -> Keyed:
    """Server's side. ``hold`` may block before the peer gets its first answer, which is what costs arithmetic;
    ``failed`` is called when somebody who got that answer fails, with True where the proof was wrong.

    Raises RemoteProtocolError, SecurityError, LinkClosed or NetworkError; the peer has been told why by then.
    """
    machine = handshake.ServerHandshake(find_password, os.urandom(handshake.SCALAR_BYTES))
    try:
        with _deadline("no handshake in time"):
            data = _receive(sock)
            if handshake.MAGIC.startswith(data[: len(handshake.MAGIC)]):
                hold()
            while True:
                answer = machine.receive(data)
                if answer:
                    _send(sock, answer)
                if machine.secrets is not None:
                    break
                data = _receive(sock)
    except AeroError as error:
        if machine.begun:
            failed(isinstance(error, SecurityError))
        if isinstance(error, RemoteProtocolError) and handshake.describe(data) == "HTTP":
            say_goodbye(sock, _HTTP_ANSWER % (len(_HTTP_TEXT), _HTTP_TEXT))
        elif isinstance(error, RemoteProtocolError):
            say_goodbye(sock, handshake.fail(error.code, str(error)))
        elif isinstance(error, SecurityError):
            say_goodbye(sock, handshake.fail(Close.AUTH, str(error)))
        raise
    return Keyed(
        RecordWriter(backend, machine.secrets.ours),
        RecordReader(backend, machine.secrets.theirs),
        machine.rest,
        machine.user,
        machine.secrets.features,
    )


def say_goodbye(sock: socket.socket, words: bytes) -> None:
    """Sends last words and reads the rest away for a moment: closing over unread bytes would destroy them."""
    try:
        with gevent.Timeout(_DRAIN_S, False):
            sock.send(words)
            sock.shutdown(socket.SHUT_WR)
            drained = 0
            while drained < _DRAIN_BYTES:
                drained += len(_receive(sock))
    except (OSError, LinkClosed):
        return  # it has hung up already: nobody to tell


def _deadline(text: str) -> gevent.Timeout:
    return gevent.Timeout(TIMEOUT_S, NetworkError(f"{text} ({TIMEOUT_S:.0f} s)"))


def _receive(sock: socket.socket) -> bytes:
    while True:
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            wait_read(sock.fileno())
            continue
        except OSError as error:
            raise LinkClosed(f"the connection broke in the handshake: {error.strerror or error}") from error
        if not data:
            raise LinkClosed("the peer hung up in the handshake")
        return data


def _send(sock: socket.socket, data: bytes) -> None:
    """A handshake message fits into a fresh socket's buffer; one that does not is a peer that reads nothing."""
    try:
        count = sock.send(data)
    except OSError as error:
        raise LinkClosed(f"the connection broke in the handshake: {error.strerror or error}") from error
    if count != len(data):
        raise LinkClosed("the peer takes nothing in the handshake")
