"""A mapping: the listening port that leads to one target of one worker, and its visitors' pipes."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any, Protocol

from aero import logs
from aero.core.codes import RESET_NAMES
from aero.core.stream import Receiver, Stream
from aero.errors import StreamError
from aero.net.listen import Listener
from aero.net.loop import Loop
from aero.net.pipe import Pipe, make_abrupt, refuse
from aero.server.registry.lobby import Lobby
from aero.server.registry.route import Route
from aero.server.watch.counters import Counters

log = logs.get("mapping")


class Provider(Protocol):
    """The worker that offers the target, as a mapping needs it (registry/worker.py)."""

    cid: str
    tag: str
    lobby: Lobby

    @property
    def links(self) -> int:
        """Links that are up."""

    def open_stream(self, receiver: Receiver, target_id: int, visitor: str) -> Stream:
        """A stream over one of its sessions. Raises StreamError when no session takes it."""

    def route(self, target_id: int) -> Route:
        """A way to a target over one of its sessions. Raises StreamError when all are leaving."""


class Mapping:
    """One target of one worker, as the server keeps it."""

    def __init__(
        self,
        loop: Loop,
        worker: Provider,
        target_id: int,
        name: str,
        local: str,
        socks: list[socket.socket],
        counters: Counters,
    ) -> None:
        """``local``: the target's address as the worker wrote it; ``socks``: listening, on one port."""
        self.worker = worker
        self.target_id = target_id
        self.name = name
        self.local = local
        self.port: int = socks[0].getsockname()[1]
        self._loop = loop
        self._counters = counters
        self._tally = counters.tally(worker.tag, name)
        for sock in socks:
            make_abrupt(sock)
        self._listeners = [Listener(loop, sock, self._on_visitor) for sock in socks]

    @property
    def addresses(self) -> list[str]:
        """Where visitors are listened for: ``ip:port``."""
        return [
            f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            for ip, port in (each.address for each in self._listeners)
        ]

    @property
    def streams(self) -> int:
        """Open streams."""
        return self._tally.streams

    @property
    def visitors(self) -> int:
        """Streams since the beginning."""
        return self._tally.visitors

    @property
    def bytes_in(self) -> int:
        """Bytes from visitors to the target."""
        return self._tally.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes from the target to visitors."""
        return self._tally.bytes_out

    def _on_visitor(self, sock: socket.socket, address: Any) -> None:
        visitor = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        if self.worker.links:
            self._serve(visitor, sock)
        else:
            self.worker.lobby.wait(sock, partial(self._serve, visitor))

    def _serve(self, visitor: str, sock: socket.socket) -> None:
        pipe = Pipe(self._loop, sock, self._on_end)
        try:
            stream = self.worker.open_stream(pipe, self.target_id, visitor)
        except StreamError as error:
            self._counters.error("visitor turned away")
            log.warning(
                "visitor turned away", target=self.name, cid=self.worker.cid, visitor=visitor, error=error
            )
            refuse(sock)
            return
        self.joined(stream)
        pipe.start(stream)
        if log.debugging:
            log.debug("< visitor", target=self.name, cid=self.worker.cid, visitor=visitor, stream=stream.id)

    def joined(self, stream: Stream) -> None:
        """Counts a stream to this target; ``left`` ends it."""
        self._tally.joined(stream)

    def left(self, stream: Stream) -> None:
        """A stream to this target is over."""
        self._tally.left(stream)

    def _on_end(self, pipe: Pipe, why: str) -> None:
        stream = pipe.stream
        self.left(stream)
        if why:
            self._counters.error(f"stream reset: {RESET_NAMES.get(pipe.reset_code, 'other')}")
        if log.debugging:
            log.debug("> visitor gone", target=self.name, cid=self.worker.cid, stream=stream.id, why=why)

    def close(self) -> None:
        """Takes no new visitors; open streams go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()  # they and the mapping hold each other, and with it the worker
        self._tally.close()
