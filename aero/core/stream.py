r"""A stream: one forwarded connection inside a session, and the credit of its two directions. Knows no sockets.

Each direction ends by itself. The state is which of the two have ended, and this table is the whole law; an
event that is missing from it is the protocol error:

    state \\ event     our fin        their fin      reset
    OPEN              OURS_ENDED     THEIRS_ENDED   CLOSED
    OURS_ENDED        -              CLOSED         CLOSED
    THEIRS_ENDED      CLOSED         -              CLOSED
    CLOSED            -              -              -
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aero.core import frames
from aero.core.codes import Close
from aero.errors import LocalProtocolError

if TYPE_CHECKING:
    from aero.core.buckets import Rates
    from aero.core.packing import Packing
    from aero.core.session import Session

OPEN = 0
OURS_ENDED = 1  # we sent FIN
THEIRS_ENDED = 2  # they sent FIN; from here on nothing more may come
CLOSED = 3
STATE_NAMES = ("open", "ours ended", "theirs ended", "closed")

OUR_FIN = "our fin"
THEIR_FIN = "their fin"
RESET = "reset"

# Names of this module's own, for what is looked up with every frame.
_DATA, _HEADER_BYTES, _pack_header = frames.DATA << 24, frames.HEADER_BYTES, frames.HEADER.pack_into
# The room at a block's end that is enough for a stream that may send more than this.
_ROOM_BYTES = 64 * 1024
_SHORT_ROOM_BYTES = 4 * 1024  # the same while memory runs short, when blocks are smaller (core/blocks.py)

# After so many messages in a row that were all it had, none of them larger, a stream is no bulk that has emptied its
# socket for a moment, or that others leave little to send.
LIGHT_MESSAGES, LIGHT_BYTES = 8, 16 * 1024

TRANSITIONS = {
    (OPEN, OUR_FIN): OURS_ENDED,
    (OPEN, THEIR_FIN): THEIRS_ENDED,
    (OPEN, RESET): CLOSED,
    (OURS_ENDED, THEIR_FIN): CLOSED,
    (OURS_ENDED, RESET): CLOSED,
    (THEIRS_ENDED, OUR_FIN): CLOSED,
    (THEIRS_ENDED, RESET): CLOSED,
}


class Receiver(Protocol):
    """Where a stream leads: a socket's pipe, an HTTP exchange, a test. Nothing here may raise or block."""

    def data(self, view: memoryview) -> None:
        """Bytes in order. ``view`` is valid during the call only; owes ``stream.consume`` for every byte."""

    def finished(self) -> None:
        """The other end sends no more."""

    def reset(self, code: int, text: str) -> None:
        """The stream is over, early (PROTOCOL.md, section "Reset codes")."""

    def resume(self) -> None:
        """There is credit and room again, after ``reserve`` gave None."""


class _Over:
    """Receiver of a stream whose own has ended: takes everything and does nothing."""

    def data(self, view: memoryview) -> None:
        """Nobody reads it."""

    def finished(self) -> None:
        """Nobody waits for it."""

    def reset(self, code: int, text: str) -> None:
        """Nobody asks why."""

    def resume(self) -> None:
        """Nothing is left to send."""


#: A receiver that has ended puts this in its place, so that stream and receiver do not keep each other in memory.
OVER = _Over()


class Stream:
    """One stream as one end sees it. Made by Session.open or by the peer's OPEN."""

    __slots__ = (
        "__weakref__",
        "_announced",
        "accepted",
        "announced_at",
        "consumed",
        "heavy",
        "held",
        "id",
        "limit",
        "messages",
        "packing",
        "rates",
        "receiver",
        "received",
        "refused",
        "send_limit",
        "sent",
        "session",
        "starved",
        "state",
        "waiting",
        "window",
    )

    def __init__(
        self, session: Session, stream_id: int, receiver: Receiver, window: int, send_limit: int, now: float
    ) -> None:
        """``window`` and ``send_limit`` in bytes: what the peer, and what we may send at first; ``now`` in seconds."""
        self.session = session
        self.id = stream_id
        self.receiver = receiver
        self.state = OPEN
        self.accepted = False  # the peer has sent a WINDOW: what we send may have been handed on
        self.refused = False  # the peer has reset it without having accepted it: nothing was handed on
        self.sent = 0  # bytes of data, since the beginning
        self.send_limit = send_limit  # up to which position we may send
        self.received = 0
        self.consumed = 0
        self.window = window
        self.limit = window  # up to which position they may send
        self._announced = 0  # what was consumed when we last said so
        self.announced_at = (
            now  # when we said so: of two that hold much, the one with the older time is stuck
        )
        self.heavy = False  # it used all that it might send last time, so it probably has more
        self.messages = 0  # small ones since it sent more at once, counted up to LIGHT_MESSAGES
        self.starved = False  # waits for credit, or stands in a bucket's line
        self.held = False  # stands in a bucket's line (core/buckets.py)
        self.rates: Rates | None = None  # how fast it may send; None: as fast as it can
        self.packing: Packing | None = None  # which of its data is compressed; None: nothing is
        self.waiting = False  # stands in the session's queue

    def consume(self, count: int, now: float) -> None:
        """``count`` received bytes have left for good; gives credit back when half a window has."""
        self.consumed = consumed = self.consumed + count
        used = consumed - self._announced
        if used >= self.window >> 1 and self.state < THEIRS_ENDED:
            rates = self.rates
            if rates is not None and rates.inlet is not None and rates.inlet.holds(self, used):
                return
            # The receiver holds next to nothing, and the sender used half a window or more in each round trip: so the
            # window is what limits the stream. (Where a whole window comes in one piece, that takes one round trip and
            # a bit.) A receiver that lags holds more, and its window stays as it is.
            if (
                self.received - consumed <= self.window >> 2
                and self.window * (now - self.announced_at) < 2 * used * self.session.round_trip_s
            ):
                self.window += self.session.grow(self.window)
            self.window -= self.session.shrink(self.window)
            self.announce(now)

    def announce(self, now: float) -> None:
        """Tells the peer what was consumed and how far it may go."""
        self._announced = self.consumed
        self.announced_at = now
        self.limit = self.consumed + self.window
        self.session.put(frames.WINDOW, self.id, frames.pack_window(self.consumed, self.window))

    def let_on(self, now: float) -> None:
        """Gives credit that was held back (core/buckets.py, Inlet)."""
        if self.state < THEIRS_ENDED:
            self.announce(now)

    # From a socket into the session: every byte of data that this end sends goes through ``reserve`` and ``commit``,
    # whoever it comes from. So this is the place where a rate or a quota says how much, and where bytes are compressed.

    def reserve(self, maximum: int = frames.LENGTH_MASK) -> memoryview | None:
        """Memory to receive up to ``maximum`` of the stream's next bytes into, as many as it may send now.

        Valid until anything else is sent on the session, so: receive at once, then ``commit``, or drop it. None: stop
        receiving, the receiver's ``resume`` will be called.
        """
        session = self.session
        want = session.allowance(self)
        if not want:
            return None
        if self.packing is None and self.rates is None:  # nearly all
            if maximum < want:
                want = maximum
        else:
            want = self._rated(want, maximum)
            if not want:
                return None
        block = session.outbox.tail
        at = block.end + _HEADER_BYTES
        left = block.size - at
        # A quarter block at least, so that bulk is not chopped up at a block's end; less when less is wanted.
        if left < _ROOM_BYTES and left < want:
            if session.full:
                session.wait_turn(self)
                return None
            pool = session.pool
            room = _ROOM_BYTES if pool.taken_bytes < pool.half_bytes else _SHORT_ROOM_BYTES
            block = session.outbox.room(_HEADER_BYTES + (want if want < room else room))
            at = block.end + _HEADER_BYTES
        packing = self.packing
        if packing is not None and packing.lent:
            return packing.room[:want]
        return block.view[at : at + want]

    def _rated(self, want: int, maximum: int) -> int:
        """How much of ``want``, at most ``maximum``, it may send by its rates, as plain bytes where they are packed."""
        packing = self.packing
        if packing is not None:
            want = packing.want(self.sent, want, self.send_limit - self.sent, self.session.pool)
        if maximum < want:
            want = maximum
        allowed = self.rates.allowed(self) if self.rates is not None else want
        return allowed if allowed < want else want

    def commit(self, count: int, more: bool) -> None:
        """Sends the first ``count`` bytes, one at least, of what ``reserve`` gave; ``more``: there are more waiting."""
        session = self.session
        outbox = session.outbox
        packing = self.packing
        if packing is not None and packing.lent:
            size = packing.frame(outbox, self.id, self.sent, count)
            more = more or count >= packing.allowed
            block = outbox.tail
        else:
            size = count + _HEADER_BYTES
            block = outbox.tail
            _pack_header(block.data, block.end, _DATA | count, self.id)
        self.sent += count
        if self.rates is not None:
            self.rates.spend(count)
        block.end += size  # Outbox.wrote, without the call
        outbox.written += size
        if more:
            self.heavy = session.sends_bulk = True
            self.messages = 0
            if not session.dirty:
                session.dirty = True
                session.on_output()
            return
        self.heavy = False
        if count > LIGHT_BYTES:
            self.messages = 0
        elif self.messages < LIGHT_MESSAGES:
            self.messages += 1
        else:
            session.flight.shared = True
        if not session.dirty:
            session.dirty = True
            session.on_message()

    def pack(self, mode: str) -> None:
        """Compresses what is sent from here on, where both ends can; ``mode``: AUTO or ON of core/packing.py."""
        packer = self.session.packer
        if packer is not None:
            from aero.core.packing import Packing

            self.packing = Packing(packer, mode)

    def send(self, data: bytes | memoryview) -> int:
        """Puts as much of ``data`` as is allowed now into the outbox; returns how many bytes that was.

        When not all: the receiver's ``resume`` will say when to go on. What is sent after a reset is lost, as with TCP.
        Raises LocalProtocolError after our FIN.
        """
        if self.state == CLOSED:
            return len(data)
        if self.state == OURS_ENDED:  # the peer would have to take it for an attack, and end the session
            raise LocalProtocolError(Close.STATE, f"data after our fin on stream {self.id}")
        done, size = 0, len(data)
        while done < size:
            room = self.reserve(size - done)
            if room is None:
                break
            count = len(room)
            room[:] = data if count == size else data[done : done + count]
            done += count
            self.commit(count, done < size)
        return done

    def finish(self) -> None:
        """We send no more."""
        self.session.stream_event(self, OUR_FIN)
        self.session.put(frames.FIN, self.id, b"")

    def abort(self, code: int, text: str = "") -> None:
        """Ends both directions at once; nothing more will be called on the receiver. Harmless when over already."""
        if self.state != CLOSED:
            self.session.stream_event(self, RESET)
            self.receiver = OVER
            self.session.put(frames.RESET, self.id, frames.pack_reason(code, text))
