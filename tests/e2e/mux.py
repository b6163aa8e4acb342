"""What the tests of the HTTP mux share: a target that does as its paths say, and a visitor that speaks raw HTTP.

Neither uses an HTTP library: both see, and send, every byte.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.e2e.harness import DEADLINE_S, LOOPBACK, Lab, Server, Worker, connect, free_port, listening, poll
from tests.e2e.services import serve


class Message(NamedTuple):
    """One HTTP message as it stood on the wire: ``start`` is its first line, ``raw`` the body with its framing."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes
    raw: bytes

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def target(self) -> str:
        return self.start.split()[1]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} stands there {len(values)} times"
        return values[0] if values else None


class Wire:
    """One end of a connection that speaks HTTP/1."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def fill(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with ``mark``. Fails at the connection's end."""
        while mark not in self.buffer:
            assert self.fill(), f"the connection ended; before {mark!r} came {self.buffer[:300]!r}"
        taken, _, self.buffer = self.buffer.partition(mark)
        return taken + mark

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            assert self.fill(), f"{count - len(self.buffer)} bytes are missing"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def rest(self) -> bytes:
        """Everything until the other end ends its direction, or resets the connection."""
        try:
            while self.fill():
                pass
        except ConnectionResetError:
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def ended(self) -> bool:
        """Whether the other end ends the connection without another byte."""
        return self.rest() == b""

    def message(self, method: str = "GET", answer: bool = True) -> Message:
        """The next message; ``answer``: a response, to a request with ``method``."""
        lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        head = Message(lines[0], fields, b"", b"")
        status = head.status if answer else 0
        if answer and (method == "HEAD" or status < 200 or status in (204, 304)):
            return head
        if head.get("Transfer-Encoding"):
            body, raw = self._chunks()
        elif head.get("Content-Length") is not None:
            body = raw = self.exactly(int(head.get("Content-Length") or 0))
        else:
            body = raw = self.rest() if answer else b""
        return Message(lines[0], fields, body, raw)

    def _chunks(self) -> tuple[bytes, bytes]:
        body = raw = b""
        while True:
            line = self.until(b"\r\n")
            size = int(line, 16)
            raw += line
            if not size:
                break
            chunk = self.exactly(size + 2)
            body, raw = body + chunk[:-2], raw + chunk
        while line != b"\r\n":
            line = self.until(b"\r\n")
            raw += line
        return body, raw


Talk = Callable[[Wire, Message], bool]  # answers a request; False ends the connection


class Target:
    """A target. ``talks`` says what to do by the path before "?"; anything else is told what it asked for.

    ``requests`` are all that came; ``connections`` counts; ``heads`` are sent as they are.
    """

    def __init__(self, lab: Lab, name: str = "") -> None:
        self.name = name
        self.talks: dict[str, Talk] = {}
        self.heads: dict[str, bytes] = {}
        self.requests: list[Message] = []
        self.connections = 0
        self.port = serve(lab, self._serve)

    def _serve(self, sock: socket.socket) -> None:
        self.connections += 1
        wire = Wire(sock)
        while wire.buffer or wire.fill():
            request = self._request(wire)
            self.requests.append(request)
            path = request.target.partition("?")[0]
            if path in self.talks:
                if not self.talks[path](wire, request):
                    return
            elif path in self.heads:
                wire.send(self.heads[path])
            else:
                wire.send(told(request, self.name))

    def _request(self, wire: Wire) -> Message:
        head = wire.until(b"\r\n\r\n")
        wire.buffer = head + wire.buffer
        if b"100-continue" in head and b"/continue" in head:
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if re.match(rb"\S+ /early", head):  # answers before the body
            return Message(wire.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[0], [], b"", b"")
        return wire.message(answer=False)


def told(request: Message, name: str = "") -> bytes:
    """A response that says, as JSON, what was asked for."""
    said = {"start": request.start, "fields": request.fields, "body": request.body.decode("latin-1")}
    said.update(raw=request.raw.decode("latin-1"), name=name)
    body = b"" if request.start.startswith("HEAD ") else json.dumps(said).encode()
    length = len(json.dumps(said))
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        length,
        body,
    )


def heard(response: Message) -> Message:
    """The request that a target told of."""
    assert response.status == 200, response
    said = json.loads(response.body)
    fields = [(name, value) for name, value in said["fields"]]
    return Message(said["start"], fields, said["body"].encode("latin-1"), said["raw"].encode("latin-1"))


class Mux:
    """A server with its mux, and workers."""

    def __init__(self, lab: Lab, *options: str) -> None:
        self.lab = lab
        self.port = free_port()
        self.visits: list[Wire] = []
        if "--mux-host" not in options:  # the tests ask for mux.test
            options = ("--mux-host", "*", *options)
        self.server: Server = lab.server("--mux", f"{LOOPBACK}:{self.port}", *options)
        poll("the mux to listen", lambda: listening(self.port))

    def worker(self, tag: str = "t", **targets: Target | int) -> Worker:
        """A worker whose targets are registered."""
        ports = {name: to if isinstance(to, int) else to.port for name, to in targets.items()}
        worker = self.lab.worker(self.server, targets=ports, tag=tag)
        for name in ports:
            worker.port(name)
        return worker

    def url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.port}{path}"

    def visit(self) -> Wire:
        sock = connect(self.port)
        sock.settimeout(DEADLINE_S)
        self.visits.append(Wire(sock))
        return self.visits[-1]

    def leave(self) -> None:
        """Ends every visit."""
        for wire in self.visits:
            wire.sock.close()
        self.visits.clear()

    def ask(
        self, target: str, *fields: str, method: str = "GET", body: bytes = b"", host: str = "mux.test"
    ) -> Message:
        """One request on a connection of its own. ``fields``: header lines."""
        wire = self.visit()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        wire.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return wire.message(method)

    def cid(self) -> str:
        """The id of the worker that came last."""
        found = re.findall(r"worker up cid=(\w+)", self.server.stderr)
        return found[-1]


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    poll(what, condition)


def in_threads(count: int, do: Callable[[int], None]) -> None:
    """Does something many times at once; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            do(number)
        except BaseException as error:  # handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
