"""A visitor's connection to the mux, with nothing real but itself and the session: what happens when is up to the test.

At its end every byte of the target's has to be accounted for, and nothing may be left.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from aero.core import frames
from aero.core.codes import Reset
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import CLOSED, Stream
from aero.server.httpmux import head, routing
from aero.server.httpmux.body import Transfer
from aero.server.httpmux.kept import KeptConnections
from aero.server.httpmux.pages import Page
from aero.server.httpmux.rewrite import Peer, Place
from aero.server.httpmux.visitor import Visitor
from aero.server.registry.route import LocalRoute

PEER = Peer(b"192.0.2.1", True)
PLACE = Place(b"/t/web", b"a", b"127.0.0.1:80")
HEAD_BYTES = 64 * 1024
MAX_TURNS = 20_000
STAYS, FINISHES, RESETS = range(3)  # what a target does after its first answer


class Watcher:
    def __init__(self) -> None:
        self.active = False
        self.callback: Callable[[], None] = lambda: None

    def start(self, callback: Callable[[], None]) -> None:
        self.active, self.callback = True, callback

    def stop(self) -> None:
        self.active = False

    def close(self) -> None:
        self.active = False


class Sock:
    """The visitor's socket: gives ``data`` in pieces, then its end if ``ends``; takes what comes in pieces, or not."""

    def __init__(self, data: bytes, step: int, stubborn: bool) -> None:
        self.data, self.step, self.stubborn = data, step, stubborn
        self.taken = b""
        self.ends = True
        self.full = False  # takes nothing
        self.closed = False
        self.ended = False
        self.reset = False

    @property
    def readable(self) -> bool:
        # One whose end was read stays so, but nobody may ask again.
        return bool(self.data) or (self.ends and not self.ended)

    @property
    def writable(self) -> bool:
        return self.stubborn or not self.full

    def fileno(self) -> int:
        return 0

    def recv(self, most: int) -> bytes:
        assert not self.closed
        if not self.readable:
            raise BlockingIOError
        count = min(most, self.step)
        piece, self.data = self.data[:count], self.data[count:]
        self.ended = self.ended or not piece
        return piece

    def recv_into(self, view: memoryview) -> int:
        piece = self.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def send(self, data: bytes) -> int:
        assert not self.closed and len(data)
        if self.stubborn:
            self.full = not self.full
            data = data[: self.step]
        if self.full:
            raise BlockingIOError
        self.taken += bytes(data)
        return len(data)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.reset = any(value)

    def shutdown(self, _: int) -> None: ...

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Scene:
    """Loop, mux, mapping, worker and session handler at once, and a target that answers every request alike."""

    def __init__(
        self, request: bytes, answer: bytes, step: int = 1 << 16, stubborn: bool = False, ends: int = STAYS
    ) -> None:
        """``step``: the size of the pieces in which all comes; ``stubborn``: the visitor takes little;
        ``ends``: how the target ends after its first answer."""
        self.sock = Sock(request, step, stubborn)
        self.answer, self.step, self.ends = answer, step, ends
        self.watchers: list[Watcher] = []
        self.callbacks: list[Callable[[], None]] = []
        self.memory = Memory(64 << 20)
        self.session = Session(self, SERVER_FIRST_ID, self.memory, SessionLimits(max_streams=8), 0.0)
        self.open: list[Stream] = []
        self.got: dict[int, bytes] = {}  # by stream: what the target got
        self.asked: dict[int, int] = {}  # how many requests it has found in that
        self.said: dict[int, int] = {}  # and how many of its bytes it has sent
        self.over: set[int] = set()
        self.requests = 0
        self.counted: list[str] = []  # the mux's own answers
        self.found = [self]
        self.halls: list[Any] = []  # where to wait for a link
        # As a mux, a mapping and a worker are used
        self.loop = self.router = self.worker = self
        self.alteration = self.logins = None
        self.sticky, self.idle, self.keeps = False, 0, True
        self.options: dict[str, Any] = {}
        self.announces: Any = None
        self.outcomes: list[bool] = []  # of streams to the target
        self.head_bytes = HEAD_BYTES
        self.idle_s, self.closed = float("inf"), False
        self.broke: list[Exception] = []
        self.access: Any = None
        self.unwelcome: Any = None  # why the target does not let visitors in
        self.refused: list[str] = []
        self.refuse = self.refused.append
        self.tally = SimpleNamespace(requests=0)  # what the target has answered
        self.crowded = False  # whoever a proxy speaks for has too many requests under way
        self.draining, self.authority, self.target_id = False, b"127.0.0.1:80", 1
        self.kept = KeptConnections(HEAD_BYTES)
        self.carried = SimpleNamespace(session=self.session, alive=True)
        self.visitor = Visitor(self, self.sock, "192.0.2.1:1", PEER)  # type: ignore[arg-type]

    # What the visitor's connection asks of others

    def io(self, _: int, __: int) -> Watcher:
        self.watchers.append(Watcher())
        return self.watchers[-1]

    def run_callback(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def wanted(self, request: head.Request, vouched: bool) -> Any:
        self.requests += 1
        return routing._by_path(request.target, request.host, False, None) or Page(
            "no address", {"expected": "/"}
        )

    def alone(self, _: Any) -> Any:
        asked = self.logins is not None or self.unwelcome is not None
        return None if asked or self.found != [self] else self

    def mappings(self, *_: Any) -> Any:
        return self.found if isinstance(self.found, Page) else self.found[:]

    def lobbies(self, _: Any) -> tuple[list[Any], float]:
        return self.halls, 5.0

    def timer(self, *_: float) -> Watcher:
        return Watcher()

    def route(self, target_id: int) -> LocalRoute:
        return LocalRoute(self.carried, target_id)

    unguarded = False

    def why_not(self, _: str, by: str) -> Any:
        return self.unwelcome

    def joined(self, stream: Stream) -> None:
        self.open.append(stream)

    def left(self, stream: Stream) -> None:
        self.open.remove(stream)

    def outcome(self, served: bool) -> None:
        self.outcomes.append(served)

    def grew(self, count: int) -> None:
        self.memory.incoming.left -= count

    def introduce(self, visitor: Visitor, said: Sequence[bytes]) -> bool:
        visitor.address = str(said[-1])
        return not self.crowded

    def rested(self, visitor: Visitor) -> None:
        visitor.address = visitor.connected

    def gone(self, _: Visitor) -> None: ...

    def broken(self, error: Exception) -> None:
        self.broke.append(error)

    def count(self, answer: Page) -> None:
        self.counted.append(answer.kind)

    # What happens

    def turn(self) -> bool:
        """One turn of the loop; False when nothing happens any more."""
        happened = False
        for number, watcher in enumerate(self.watchers):
            if watcher.active and (self.sock.writable if number else self.sock.readable):
                watcher.callback()
                happened = True
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()
        if self.session.waiting:
            self.session.resume_waiting()
        return self._carry() or happened or bool(callbacks)

    def run(self) -> None:
        """Turns until nothing happens any more."""
        for _ in range(MAX_TURNS):
            if not self.turn():
                return
        raise AssertionError("it goes on and on")

    def _carry(self) -> bool:
        happened = False
        while True:
            piece = self.session.next_piece()
            if piece is None:
                break
            happened = True
            for kind, stream_id, payload in frames.split(memoryview(bytes(piece))):
                if kind == frames.DATA:
                    self.got[stream_id] = self.got.get(stream_id, b"") + bytes(payload)
                    self.asked[stream_id] = len(self._seen(stream_id))
            self.session.acknowledged(self.session.outbox.sent)
        for stream in list(self.session.streams.values()):
            happened = self._say(stream.id, self.asked.get(stream.id, 0)) or happened
        return happened

    def _say(self, number: int, requests: int) -> bool:
        """The target's next piece, as far as it was asked; its end after the first answer where the flags say so."""
        at = self.said.get(number, 0)
        if number in self.over or (
            at >= requests * len(self.answer) and not (requests and self.ends != STAYS)
        ):
            return False
        if at < requests * len(self.answer):
            at %= len(self.answer)
            piece = self.answer[at : at + self.step]
            self.said[number] = self.said.get(number, 0) + len(piece)
            frame = frames.pack(frames.DATA, number, piece)
        else:
            self.over.add(number)
            frame = (
                frames.pack(frames.FIN, number)
                if self.ends == FINISHES
                else frames.pack(frames.RESET, number, frames.pack_reason(Reset.CANCELLED, ""))
            )
        self.session.receive(memoryview(frame), 0.0)
        return True

    def _seen(self, number: int) -> list[bytes]:
        """The requests that the target has found in what it got: every whole head, each after a whole body."""
        data, found = self.got.get(number, b""), []
        while b"\r\n\r\n" in data:
            block, _, data = data.partition(b"\r\n\r\n")
            request = head.parse_request(block + b"\r\n\r\n", 200)
            found.append(block)
            if request.upgrade:
                break
            transfer = Transfer(request.length)
            if not transfer.done:
                _, used = transfer.feed(data)
                data = data[used:]
                if not transfer.done:
                    break
        return found

    # How it has to end

    def finish(self) -> None:
        for _ in range(4):
            if not self.visitor.closed:
                self.visitor._until = 0.0
                self.visitor.expired()
                self.run()
        assert self.visitor.closed and self.sock.closed and not self.broke
        for number in self.got:
            assert len(self._seen(number)) <= self.requests, "the target saw a request that was not made"
        for stream in self.open:
            assert stream.state != CLOSED, "a stream is over and nobody was told"
            assert stream.consumed == stream.received, "the target's bytes are not all accounted for"
        self.kept.close()
        assert not self.open and not self.session.streams
        self.session.end(0, "over")
        assert not self.memory.blocks.taken_bytes
