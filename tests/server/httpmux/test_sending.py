"""What is written to a visitor: gathered into one send, kept where the socket takes no more, its credit given back."""

from __future__ import annotations

from aero.server.httpmux.sending import Sending
from tests.server.httpmux.scene import Sock, Watcher


class Writer:
    """The visitor, and its loop."""

    def __init__(self, stubborn: bool = False) -> None:
        self.sock = Sock(b"", 3, stubborn)
        self.said: list[str] = []
        self.credit = 0
        self.errors: list[Exception] = []
        self.watcher = Watcher()
        self.sending = Sending(self, self.sock, self)  # type: ignore[arg-type]

    def io(self, *_: int) -> Watcher:
        return self.watcher

    def consumed(self, count: int) -> None:
        self.credit += count

    def stalled(self) -> None:
        self.said.append("stalled")

    def drained(self) -> None:
        self.said.append("drained")

    def lost(self) -> None:
        self.said.append("lost")

    def broken(self, error: Exception) -> None:
        self.errors.append(error)


def test_a_whole_response_is_one_send() -> None:
    writer, sends = Writer(), []
    writer.sock.send = lambda data: sends.append(bytes(data)) or len(data)  # type: ignore[method-assign,func-returns-value]
    writer.sending.head(b"head ", chunked=True)
    writer.sending.body(b"body")
    writer.sending.end(b"T: u\r\n")
    writer.sending.flush(9)
    assert sends == [b"head 4\r\nbody\r\n0\r\nT: u\r\n\r\n"]
    assert writer.credit == 9 and not writer.said and not writer.sending.busy


def test_what_is_not_taken_is_kept_and_paid_for_as_it_leaves() -> None:
    writer = Writer(stubborn=True)
    writer.sending.head(b"0123456789", chunked=False)
    writer.sending.end(b"")
    writer.sending.flush(100)
    assert writer.sending.busy and writer.said == ["stalled"] and 0 <= writer.credit < 100
    while writer.watcher.active:
        writer.watcher.callback()
    assert writer.sock.taken == b"0123456789" and writer.credit == 100
    assert writer.said[-1] == "drained" and not writer.sending.busy


def test_a_broken_socket() -> None:
    writer = Writer()

    def broken(_: bytes) -> int:
        raise ConnectionResetError

    writer.sock.full = True
    writer.sending.body(b"x")
    writer.sending.flush(1)
    writer.sock.send = broken  # type: ignore[method-assign]
    writer.watcher.callback()
    assert writer.said == ["stalled", "lost"]
    writer.sending.stop()
    assert not writer.watcher.active and not writer.sending.busy
    writer.sending.body(b"x")
    writer.sending.flush(1)
    assert writer.said == ["stalled", "lost", "lost"]


def test_a_fault_of_our_own_is_handed_on() -> None:
    writer = Writer()
    writer.sock.full = True
    writer.sending.body(b"x")
    writer.sending.flush(1)
    writer.sock.send = lambda _: 1 // 0  # type: ignore[method-assign]
    writer.watcher.callback()
    assert [type(error) for error in writer.errors] == [ZeroDivisionError]


def test_nothing_to_write_still_gives_credit() -> None:
    writer = Writer()
    writer.sending.flush(5)
    assert writer.credit == 5 and not writer.sock.taken
