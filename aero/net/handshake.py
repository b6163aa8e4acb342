"""The handshake over a connection: blocks its greenlet, has a deadline, and hands over keys or the reason why not."""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Protocol

import gevent

from aero.core import features, frames, handshake, record
from aero.core.aead.backend import Backend
from aero.core.codes import Close
from aero.core.record import RecordReader, RecordWriter
from aero.core.spake2plus import Password, Verifier
from aero.errors import AeroError, LinkClosed, NetworkError, RemoteProtocolError, SecurityError
from aero.net.transport import Transport, receive, send_all

# Four short messages: two round trips and three point multiplications, on the slowest path and host that we know of.
TIMEOUT_S = 10.0
_READ_BYTES = 4096  # a handshake's messages have 142 at most; what follows is the first record
_DRAIN_BYTES = 16 * 1024  # how much of a stranger's talk is read away so that our answer reaches it
_DRAIN_S = 1.0


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
    transport: Transport,
    password: Password,
    user: str,
    backend: Backend,
    join: Callable[[], bytes],
    offered: int = features.OFFERED,
) -> Keyed:
    """Worker's side on a new connection. ``join()`` gives the JOIN's payload, which travels with our proof.

    ``offered``: the bits of core/features.py that this end has.

    It is called when everything else is done, and may raise an AeroError where nobody wants the link any more.
    Raises RemoteProtocolError, SecurityError, Rejected, LinkClosed or NetworkError (time-out).
    """
    machine = handshake.WorkerHandshake(password, user, os.urandom(handshake.SCALAR_BYTES), offered)
    writer = None
    with _deadline("the server did not answer the handshake"):
        send_all(transport, machine.start())
        while machine.secrets is None:
            answer = machine.receive(receive(transport, _READ_BYTES))
            if machine.our_secret and writer is None:
                writer = RecordWriter(backend, machine.our_secret)
                payload = frames.pack(frames.JOIN, 0, join())
                out = bytearray(len(payload) + record.OVERHEAD_BYTES)
                writer.seal(record.LINK, memoryview(payload), memoryview(out))
                answer += out
            if answer:
                send_all(transport, answer)
    if writer is None:
        raise RemoteProtocolError(Close.STATE, "the handshake ended before it began")
    return Keyed(
        writer, RecordReader(backend, machine.secrets.theirs), machine.rest, user, machine.secrets.features
    )


class Watch(Protocol):
    """Who watches a guest of the server while it proves itself. Called in the guest's greenlet."""

    def hold(self) -> None:
        """The guest's HELLO is whole. May block: its answer is what costs arithmetic."""

    def answered(self) -> None:
        """The guest is about to get its answer: from here on it owes a proof, however it ends."""

    def failed(self) -> None:
        """The guest was answered, and ends without a proof."""


def greet_worker(
    transport: Transport,
    find_verifier: Callable[[str], Verifier],
    backend: Backend,
    watch: Watch,
    refusal: int = Close.AUTH,
    early: bytes = b"",
    offered: Callable[[int], int] = features.always,
) -> Keyed:
    """Server's side. ``refusal``: the close code for a wrong proof; ``early``: what the worker has said already;
    ``offered``: bits of core/features.py that the worker has -> those that this end has.

    Raises RemoteProtocolError, SecurityError, LinkClosed or NetworkError; the peer has been told why by then.
    """
    machine = handshake.ServerHandshake(find_verifier, os.urandom(handshake.SCALAR_BYTES), offered)
    data = early
    try:
        with _deadline("no handshake in time"):
            while machine.secrets is None:
                data, early = early or receive(transport, _READ_BYTES), b""
                if not machine.gather(data):
                    continue
                if not machine.begun:
                    watch.hold()
                answer = machine.answer()
                if machine.secrets is None:
                    watch.answered()
                if answer:
                    send_all(transport, answer)
    except AeroError as error:
        if machine.begun:
            watch.failed()
        if isinstance(error, RemoteProtocolError):
            say_goodbye(transport, handshake.fail(error.code, str(error)))
        elif isinstance(error, SecurityError):
            say_goodbye(transport, handshake.fail(refusal, str(error)))
        raise
    return Keyed(
        RecordWriter(backend, machine.secrets.ours),
        RecordReader(backend, machine.secrets.theirs),
        machine.rest,
        machine.user,
        machine.secrets.features,
    )


def say_goodbye(transport: Transport, words: bytes) -> None:
    """Sends last words and reads the rest away for a moment: closing over unread bytes would destroy them."""
    try:
        with gevent.Timeout(_DRAIN_S, False):
            transport.send(memoryview(words))
            transport.shut()
            drained = 0
            while drained < _DRAIN_BYTES:
                drained += len(receive(transport, _READ_BYTES))
    except (OSError, LinkClosed):
        return  # it has hung up already: nobody to tell


def _deadline(text: str) -> gevent.Timeout:
    return gevent.Timeout(TIMEOUT_S, NetworkError(f"{text} ({TIMEOUT_S:.0f} s)"))
