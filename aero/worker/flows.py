"""The worker's end of flows: one connected socket a flow, so that a target tells visitors apart.

A connected socket also hears what the network says of the target: refused ends the flow, and the other end hears why.
The server says when a flow is over; a worker keeps it FLOW_MARGIN_S longer and no more. Imported with the first UDP
target's first visitor.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import OrderedDict
from time import monotonic
from typing import Any

from aero import logs
from aero.address import Target
from aero.core import datagrams
from aero.core.buckets import Rates
from aero.core.codes import Reset
from aero.core.datagrams import Drops
from aero.core.flows import Flow
from aero.host.facts import descriptor_line
from aero.limits import Limits
from aero.net.datagrams import GONE, connected, read, unread
from aero.net.lookup import Found, Question, SockAddr
from aero.net.loop import READ, Loop, Watcher, stopped
from aero.worker.reach import Way

log = logs.get("target")

_DEFAULT_IDLE_S = 60
_LOOK_S = 5.0  # how often those that are silent are looked for
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_SAY_AGAIN_S = (
    60.0  # how often the log says that a target does not answer: a visitor may ask a thousand times a second
)


class FlowPlaces:
    """How many flows all targets of a worker have, and from which descriptor on there is no place."""

    def __init__(self) -> None:
        """With none."""
        self.taken = 0
        self.line = descriptor_line()


class Conversations:
    """The flows of one UDP target, the least recently used first."""

    def __init__(self, loop: Loop, places: FlowPlaces, target: Target) -> None:
        """``places``: shared by all targets of the worker."""
        self._loop = loop
        self.target = target
        self.places = places
        self.drops = Drops()
        self.rates: Rates | None = None  # how fast it may send; None: at any
        self._idle_s = float(str(target.setting("idle") or _DEFAULT_IDLE_S)) + Limits.FLOW_MARGIN_S
        self._all: OrderedDict[Conversation, None] = OrderedDict()
        self._timer: Watcher | None = None
        self._said_at = float("-inf")

    def __len__(self) -> int:
        return len(self._all)

    def add(self, flow: Flow, way: Way) -> None:
        """The server opened a flow: goes its way to the target, or ends it."""
        flow.drops = self.drops
        if self.places.taken >= Limits.FLOWS_PER_WORKER and not self._give_place():
            flow.end(Reset.LIMIT, "the worker has all the flows that it may have")
            return
        conversation = Conversation(self, flow, way)
        self.places.taken += 1
        self._all[conversation] = None
        if self._timer is None:
            self._timer = self._loop.timer(_LOOK_S, _LOOK_S)
            self._timer.start(self._look)
        conversation.start()

    def _give_place(self) -> bool:
        """Ends the flow that was used the longest ago; False where there is none."""
        oldest = next(iter(self._all), None)
        if oldest is not None:
            oldest.fail(Reset.LIMIT, "its place was needed")
        return oldest is not None

    def socket(self, family: int, address: Any) -> socket.socket:
        """A socket for a flow. Raises OSError."""
        try:
            sock = connected(family, address)
            if sock.fileno() < self.places.line:
                return sock
            sock.close()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
        if len(self._all) > 1:
            self._give_place()
        return connected(family, address)

    def touch(self, conversation: Conversation, now: float) -> None:
        """A datagram went either way."""
        conversation.used_at = now
        self._all.move_to_end(conversation)

    def failed(self, why: str) -> None:
        """The target cannot be reached: says so, now and then."""
        now = monotonic()
        if now - self._said_at >= _SAY_AGAIN_S:
            self._said_at = now
            log.warning("target does not answer", target=self.target, why=why)

    def forget(self, conversation: Conversation) -> None:
        """A flow is over."""
        del self._all[conversation]
        self.places.taken -= 1
        if not self._all:
            stopped(self._timer)
            self._timer = None

    def _look(self) -> None:
        before = monotonic() - self._idle_s
        for conversation in list(self._all):
            if conversation.used_at >= before:
                break
            conversation.fail(Reset.TIMEOUT, "nobody used it")


class Conversation:
    """One flow and its socket."""

    __slots__ = (
        "_all",
        "_early",
        "_flow",
        "_others",
        "_question",
        "_read_at",
        "_reading",
        "_sock",
        "_way",
        "used_at",
    )

    def __init__(self, conversations: Conversations, flow: Flow, way: Way) -> None:
        """Begins without a socket."""
        self._all = conversations
        self._way = way
        self._flow = flow
        self._sock: socket.socket | None = None
        self._reading: Watcher | None = None
        self._question: Question | None = None  # the target's name is being looked up
        # What came before there was a socket; and, while other addresses may have to be tried, the latest datagram.
        self._early: list[bytes] | None = None
        self._others: tuple[SockAddr, ...] = ()
        self._read_at = 0.0
        self.used_at = monotonic()
        flow.receiver = self

    def start(self) -> None:
        """Sets out for the target."""
        way = self._way
        if way.barred:
            self.fail(Reset.UNREACHABLE, "its address is not allowed here: --allow", True)
        elif way.fixed:
            self._connect(way.fixed)
        else:
            self._early = []
            self._question = way.names.ask(way.host, self._found, Limits.NAME_KEPT_S)

    def _found(self, found: Found) -> None:
        self._question = None
        where = self._way.at(found.addresses)
        if where:
            self._connect(where)
        else:
            self.fail(Reset.UNREACHABLE, self._way.nowhere(found), True)

    def _connect(self, where: tuple[SockAddr, ...]) -> None:
        (family, address), self._others = where[0], where[1:]
        try:
            self._sock = self._all.socket(family, address)
        except OSError as error:
            self._lost(error)
            return
        self._reading = self._way.loop.io(self._sock.fileno(), READ)
        self._reading.start(self._on_readable)
        early, self._early = self._early, None
        for data in early or ():
            self._send(data)

    # From the visitor

    def datagram(self, view: memoryview) -> None:
        """To the target; waits where its name is still being looked up."""
        self._all.touch(self, monotonic())
        if self._sock is not None:
            self._send(view)
        elif self._early is not None and len(self._early) < Limits.FLOW_EARLY:
            self._early.append(bytes(view))
        else:
            self._flow.drops.add(datagrams.FULL)

    def _send(self, data: bytes | memoryview) -> None:
        sock = self._sock
        if sock is None:
            return  # the one before has failed
        if self._others:
            self._early = [bytes(data)]
        try:
            sock.send(data)
        except BlockingIOError:
            self._flow.drops.add(datagrams.SOCKET)
        except OSError as error:
            if error.errno in GONE:
                self._lost(error)
            else:
                self._flow.drops.add(datagrams.LARGE if error.errno == errno.EMSGSIZE else datagrams.SOCKET)

    # From the target

    def _on_readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            self._read_at = read(sock, self._answered, self._read_at)
        except OSError as error:
            self._lost(error)

    def _answered(self, data: bytes, now: float, alone: bool) -> None:
        self._others, self._early = (), None
        self._all.touch(self, now)
        rates = self._all.rates
        if rates is None or rates.admit(len(data)):
            self._flow.send(data, now, alone)
        else:
            self._flow.drops.add(datagrams.RATE)

    # Ends

    def _lost(self, error: OSError) -> None:
        """The network says that the target is not there: another address of it may do, else the flow is over."""
        others = self._others
        if others:
            self._close_socket()
            self._connect(others)
            return
        code = Reset.REFUSED if GONE.get(error.errno or 0) else Reset.UNREACHABLE
        if error.errno in _NO_DESCRIPTORS:
            code = Reset.LIMIT
        self.fail(code, os.strerror(error.errno or errno.EIO), True)

    def fail(self, code: int, why: str, say: bool = False) -> None:
        """Ends the flow, and tells the server why; ``say``: the log, too."""
        if self._flow.ended:
            return
        if say:
            self._all.failed(why)
        self._flow.end(code, f"target {self._all.target.name}: {why}")
        self._over()

    def flow_ended(self, code: int, text: str) -> None:
        """The server has ended it, or the session is over."""
        self._over()

    def faulted(self, error: Exception) -> None:
        """Ends the flow after an error of this program (net/faults.py)."""
        self.fail(Reset.INTERNAL, "an error of the program")

    def _over(self) -> None:
        if self._question is not None:
            self._question.cancel()
            self._question = None
        self._close_socket()
        self._all.forget(self)

    def _close_socket(self) -> None:
        stopped(self._reading)
        self._reading = None
        if self._sock is not None:
            self._flow.drops.add(datagrams.UNREAD, unread(self._sock))
            self._sock.close()
            self._sock = None
