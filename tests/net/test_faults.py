"""An error of this program in a callback of the loop: a line in the log, the end of one connection, and no more."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from aero.core import frames, joining, record
from aero.core.aead.choose import choose
from aero.core.codes import Close, Reset
from aero.core.record import RecordReader, RecordWriter
from aero.errors import AeroError, LocalProtocolError
from aero.net.dial import Connector
from aero.net.link import Link
from aero.net.listen import Listener
from aero.net.loop import event_loop
from aero.net.pipe import Pipe
from aero.net.transport import TcpTransport
from tests.faults.inside import until

BACKEND = choose("")
UP, DOWN = b"u" * 32, b"d" * 32
JOIN = joining.JoinNew("", 60, "i", "t", "h")


class Owner:
    """A role with an error in it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.errors: list[AeroError] = []
        self.joined = 0

    def joining(self, message: joining.Join | joining.Joined) -> None:
        self.joined += 1
        if self.where == "joining":
            raise KeyError("a slip of ours")

    def link_ended(self, link: Link, error: AeroError) -> None:
        self.errors.append(error)
        if self.where == "end":
            raise KeyError("a slip of ours")


class Peer:
    """The other end of a link."""

    def __init__(self, owner: Owner, early: bytes = b"") -> None:
        near, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.writer, self.reader = RecordWriter(BACKEND, UP), RecordReader(BACKEND, DOWN)
        if early:
            early = self.sealed(early)
        self.link = Link(
            TcpTransport(near),
            owner,  # type: ignore[arg-type]
            RecordWriter(BACKEND, DOWN),
            RecordReader(BACKEND, UP),
            60.0,
            early,
        )
        self.link.start()

    def sealed(self, frame: bytes) -> bytes:
        out = bytearray(len(frame) + record.OVERHEAD_BYTES)
        self.writer.seal(record.LINK, memoryview(frame), memoryview(out))
        return bytes(out)

    def say(self, frame: bytes) -> None:
        self.sock.send(self.sealed(frame))

    def reason(self) -> tuple[int, str]:
        """What the link's CLOSE says."""
        data = b""
        while True:
            gevent.sleep(0.001)
            try:
                more = self.sock.recv(4096)
            except BlockingIOError:
                continue
            data += more
            if not more:
                break
        plain = memoryview(bytearray(len(data)))
        size = record.record_bytes(memoryview(data), 0)[1]
        count = self.reader.open(memoryview(data)[:size], plain)
        kind, _, payload = list(frames.split(plain[:count]))[-1]
        assert kind == frames.CLOSE
        return frames.unpack_reason(payload, kind)


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """The errors in the log."""
    event_loop()
    caplog.set_level(logging.ERROR)

    def found() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]

    yield found
    gevent.get_hub().__dict__.pop("print_exception", None)


def said(lines: Any) -> list[str]:
    return [line.split(" error=")[0] for line in lines()]


@pytest.mark.parametrize("early", [False, True], ids=["from the loop", "with the handshake"])
def test_a_link_ends_with_a_code_and_the_others_go_on(lines: Any, early: bool) -> None:
    broken, sound = Owner("joining"), Owner("")
    other = Peer(sound)
    join = frames.pack(frames.JOIN, 0, JOIN.pack())
    peer = Peer(broken, join if early else b"")
    if not early:
        peer.say(join)
    assert peer.reason() == (Close.INTERNAL, "an error of the program")
    peer.sock.close()
    until("the link's end", lambda: broken.errors)
    (error,) = broken.errors
    assert isinstance(error, LocalProtocolError) and error.code == Close.INTERNAL
    assert said(lines) == ["an error of this program; please report it"]
    assert "KeyError('a slip of ours')" in lines()[0] and "tests.net.test_faults:" in lines()[0]
    other.say(join)
    until("the other link", lambda: sound.joined)
    assert other.link.open and not sound.errors
    other.link.abandon(AeroError("the test is over"))
    other.sock.close()


def test_an_error_at_the_end_is_a_line_and_no_more(lines: Any) -> None:
    owner = Owner("end")
    peer = Peer(owner)
    peer.sock.close()
    until("the end", lambda: owner.errors)
    until("its line", lambda: said(lines) == ["an error of this program; please report it"])
    assert peer.link.ended


class Stream:
    """What a pipe takes for a stream, with an error in it."""

    state, starved, heavy = 0, False, False

    def __init__(self) -> None:
        self.aborted: list[int] = []
        self.receiver: Any = None

    def reserve(self) -> memoryview:
        raise IndexError("a slip of ours")

    def abort(self, code: int, text: str) -> None:
        self.aborted.append(code)


def test_a_pipe_ends_its_stream_and_its_socket(lines: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    ends: list[str] = []
    pipe = Pipe(event_loop(), near, lambda pipe, why: ends.append(why))
    stream: Any = Stream()
    pipe.start(stream)
    far.send(b"hello")
    until("the end", lambda: ends)
    assert stream.aborted == [Reset.INTERNAL] and pipe.reset_code == Reset.INTERNAL
    assert said(lines) == ["an error of this program; please report it"]
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    far.close()
    listener.close()


def test_a_listener_turns_one_visitor_away_and_takes_the_next(lines: Any) -> None:
    taken: list[socket.socket] = []

    def on_connection(sock: socket.socket, address: Any) -> None:
        taken.append(sock)
        if len(taken) == 1:
            raise ValueError("a slip of ours")

    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    listener = Listener(event_loop(), sock, on_connection)
    visitors = [socket.create_connection(address) for _ in range(3)]
    until("all three", lambda: len(taken) == 3)
    assert taken[0].fileno() == -1 and all(each.fileno() > 0 for each in taken[1:])
    assert said(lines) == ["an error of this program; please report it"]
    for each in (*visitors, *taken):
        each.close()
    listener.close()


def test_a_listener_goes_on_after_a_slip_of_its_own(lines: Any) -> None:
    slips = [True]

    def busy() -> bool:
        if slips:
            slips.clear()
            raise ValueError("a slip of ours")
        return False

    taken: list[socket.socket] = []
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    listener = Listener(event_loop(), sock, lambda sock, _: taken.append(sock), busy)
    visitors = [socket.create_connection(address) for _ in range(2)]
    until("both", lambda: len(taken) == 2)
    assert said(lines) == ["an error of this program; please report it"]
    for each in (*visitors, *taken):
        each.close()
    listener.close()


@pytest.mark.parametrize("slips", [False, True])
def test_a_connect_that_slips_is_one_that_failed(
    lines: Any, monkeypatch: pytest.MonkeyPatch, slips: bool
) -> None:
    heard: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as service:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(service.getsockname())

        def done(sock: socket.socket | None, code: int) -> None:
            heard.append(code)
            if len(heard) == 1 and slips:
                raise ValueError("a slip of ours")

        connector = Connector(event_loop(), sock, done)
        if not slips:
            monkeypatch.setattr(Connector, "_stop", Slip(Connector._stop))
        until("an answer", lambda: bool(heard) and heard[-1] == errno.EIO)
        assert heard == ([0, errno.EIO] if slips else [errno.EIO])
        connector.cancel()
        sock.close()


class Slip:
    """A method that raises the first time."""

    def __init__(self, method: Any) -> None:
        self.method, self.slipped = method, False

    def __get__(self, owner: Any, _: Any) -> Any:
        if not self.slipped:
            self.slipped = True
            raise ValueError("a slip of ours")
        return lambda: self.method(owner)


def test_what_belongs_to_nobody_is_a_line_and_no_traceback(
    lines: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def slip() -> None:
        raise RuntimeError("a slip of ours\n\x1b[2J")

    event_loop().run_callback(slip)
    timer = event_loop().timer(0)
    timer.start(slip)
    gevent.spawn(slip)
    until("three lines", lambda: len(lines()) == 3)
    assert all("\x1b" not in line and "\n" not in line for line in lines())
    assert capsys.readouterr().err == ""


def test_leaving_is_no_error(lines: Any) -> None:
    gevent.spawn(gevent.sleep, 10).kill()
    assert lines() == []
