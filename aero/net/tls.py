"""TLS between a link and its connection: an SSLObject and two memory BIOs, so that it lies on any transport and takes
bytes that were read before it was known that they are TLS.

An SSLSocket would read the kernel's bytes itself, with two calls for each record of 16 KiB, and only from a socket;
docs/PERFORMANCE.md, "Transports", has what both cost. This module is imported at the first TLS connection.
"""

from __future__ import annotations

import ssl
from typing import Any

from aero.net.loop import READ, WRITE
from aero.net.transport import Layer, Transport, wait

ALPN = ("http/1.1",)  # what browsers offer for a WebSocket
_FILL_BYTES = 128 * 1024  # one recv: some records, and a block that malloc need not map anew
# Sealed and sent in pieces of four TLS records: what the BIO gives is a new object, which should be small enough to
# come from memory that was used before.
_SEAL_BYTES = 64 * 1024

#: For which event of the connection to wait where the library asks for more. With memory BIOs writing never waits for
#: room; it waits for reading before the handshake is done, and where a peer of TLS 1.2 wants it anew.
_WAITS_FOR: dict[type[BaseException], int] = {ssl.SSLWantReadError: READ, ssl.SSLWantWriteError: WRITE}

_scratch = memoryview(bytearray(_FILL_BYTES))  # of the process: filled and emptied within one call


class TlsTransport(Layer):
    """A connection in TLS. Its certificates are the context's business, and its owner's."""

    kind = "tls"

    def __init__(
        self,
        under: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        name: str = "",
        early: bytes = b"",
    ) -> None:
        """``name``: of the server, for SNI and the check of its certificate; ``early``: bytes of the peer that were
        received before. ``handshake`` comes next.
        """
        super().__init__(under)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side, name or None)
        self._ended = False  # the peer sends no more
        self._in.write(early)

    def handshake(self) -> None:
        """Blocks the greenlet until both sides are ready. Raises OSError; ssl.SSLError, when the peer was told why."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill_soon()
            except ssl.SSLError:
                self._add(self._out.read())  # the alert
                raise
            else:
                self._flush()
                self.pending = self._in.pending
                return

    def _flush(self) -> None:
        """Sends all that the library has to say. Blocks the greenlet."""
        if self._out.pending:
            self._add(self._out.read())
        while self._unsent:
            wait(self, WRITE)
            self._clear()

    def _fill_soon(self) -> None:
        """Blocks the greenlet until the peer says more."""
        while True:
            try:
                self._fill()
                return
            except BlockingIOError:
                wait(self, self.under.receive_waits_for)

    def peer_certificate(self) -> bytes:
        """What the peer has shown, as DER; b"" for none."""
        return self._tls.getpeercert(True) or b""

    def receive_into(self, buffer: memoryview, /) -> int:
        """See Transport."""
        if self._unsent:
            self._clear()
        count = self._open(buffer) if self.pending else 0
        if not count and not self._ended:
            self._fill()
            count = self._open(buffer)
        if self._out.pending:  # an answer to a change of keys
            self._add(self._out.read())
        if not count and not self._ended:
            raise BlockingIOError
        return count

    def _fill(self) -> None:
        """Takes what has come from below. Raises BlockingIOError, OSError."""
        count = self.under.receive_into(_scratch)
        if count:
            self._in.write(_scratch[:count])
        else:
            self._in.write_eof()

    def _open(self, buffer: memoryview) -> int:
        """Opens the records that are here, as far as they fit."""
        count, size = 0, len(buffer)
        read: Any = self._tls.read  # given a buffer it returns a count, which its types do not say
        self.pending = 0
        try:
            while count < size:
                more: int = read(size - count, buffer[count:])
                if not more:
                    self._ended = True
                    break
                count += more
                if not self._in.pending and not self._tls.pending():
                    return (
                        count  # before the library says so by an exception, which costs as much as a record
                    )
        except ssl.SSLWantReadError:
            return count
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._ended = True
        # An end behind bytes is for the next call to say, which no event announces.
        self.pending = self._tls.pending() + self._in.pending + self._ended if count else 0
        return count

    def send(self, data: memoryview, /) -> int:
        """See Transport."""
        sent, size, write = self._begin_send(), len(data), self._tls.write
        while sent < size:
            piece = data[sent : sent + _SEAL_BYTES]
            done = 0
            try:
                while done < len(piece):
                    done += write(piece[done:])
            except tuple(_WAITS_FOR) as error:
                self.send_waits_for = _WAITS_FOR[type(error)]
                if sent or done:
                    break
                raise BlockingIOError from None
            self.send_waits_for = WRITE
            taken = self._pass_on(memoryview(self._out.read()), done)
            sent += taken
            if taken < done:
                break
        return sent

    def shut(self) -> None:
        """See Transport; the peer is told by an alert, too, as far as that fits."""
        try:
            self._tls.unwrap()
        except OSError:
            pass  # it waits for the peer's, or the connection is past that
        self._add(self._out.read())
        self.under.shut()
