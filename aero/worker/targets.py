"""The worker's targets: which there are, which port each got, and connecting a stream to one."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Callable

from aero import logs
from aero.address import Target
from aero.core.codes import Reset
from aero.core.messages import TAKEN, Answer, Register, Unregister, Wanted
from aero.core.stream import Stream
from aero.limits import Limits
from aero.net.lookup import Names
from aero.net.loop import Loop
from aero.net.pipe import Pipe, make_abrupt, prepare
from aero.worker.reach import Approach, Places, Way

log = logs.get("target")

_LAST_ID = 0xFFFF  # target ids are 16 bits wide
_REMEMBERED = 64  # retired ids that are told again: the server's answers to them may be on their way
_MOST_RETIRED = 4096  # what one message holds, should targets come and go while no link is up


class Service:
    """One target of this worker and how it is reached."""

    def __init__(self, way: Way, target_id: int, target: Target) -> None:
        """``target_id``: what the server calls it in OPEN."""
        self.id = target_id
        self.target = target
        self.port = 0  # the mapping's, once registered
        self.had = 0  # the last one that it had
        self.streams: set[Stream] = set()
        self._loop = way.loop
        self._way = way

    def connect(self, stream: Stream) -> None:
        """Connects ``stream`` to the target; resets it where that cannot be done."""
        self.streams.add(stream)
        approach = Approach(self._way, partial(self._arrived, stream))
        approach.start()
        if not approach.over:
            stream.session.when_reset(stream, partial(self._left, stream, approach))

    def _left(self, stream: Stream, approach: Approach) -> None:
        """The visitor has gone before the target answered."""
        approach.cancel()
        self.streams.discard(stream)

    def _arrived(self, stream: Stream, sock: socket.socket | None, code: int, why: str) -> None:
        if sock is not None:
            self._join(stream, sock)
        else:
            self._failed(stream, code, why)

    def _join(self, stream: Stream, sock: socket.socket) -> None:
        try:
            prepare(sock)
            make_abrupt(sock)
        except OSError as error:
            sock.close()
            self._failed(stream, Reset.REFUSED, error.strerror or str(error))
            return
        pipe = Pipe(self._loop, sock, self._on_end)
        pipe.start(stream)
        stream.session.accept(stream, pipe, monotonic())

    def _failed(self, stream: Stream, code: int, text: str) -> None:
        self.streams.discard(stream)
        log.warning("target does not answer", target=self.target, why=text)
        stream.abort(code, f"target {self.target.name}: {text}")

    def _on_end(self, pipe: Pipe, why: str) -> None:
        self.streams.discard(pipe.stream)
        if log.debugging:
            log.debug("> stream over", target=self.target.name, stream=pipe.stream.id, why=why)


class Services:
    """All targets of this worker, and what the server said of each."""

    def __init__(
        self, loop: Loop, targets: tuple[Target, ...], announce: Callable[[Target, int], None]
    ) -> None:
        """``announce(target, port)``: a target has a mapping, or another one than before."""
        self._announce = announce
        self._loop = loop
        self._names = Names(loop, Limits.NAME_THREADS)
        self._places = Places(loop, Limits.CONNECTS, Limits.CONNECTS_A_TARGET)
        self._last_id = 0
        self._by_id: dict[int, Service] = {}
        self._retired: list[int] = []  # ids that the server may still have a mapping for
        for target in targets:
            self._add(target)

    def __iter__(self) -> Iterator[Service]:
        return iter(self._by_id.values())

    def _add(self, target: Target) -> None:
        # In turn: a visitor on his way to a target that is gone must not reach the one that came in its place.
        self._last_id = next(
            number
            for number in (1 + (self._last_id + step) % _LAST_ID for step in range(_LAST_ID))
            if number not in self._by_id
        )
        way = Way(self._loop, self._names, self._places, target.host, target.port)
        self._by_id[self._last_id] = Service(way, self._last_id, target)

    def replace(self, targets: tuple[Target, ...]) -> None:
        """These are the targets from now on. What stays the same is not touched; streams that are open go on."""
        wanted = set(targets)
        for number, service in list(self._by_id.items()):
            if service.target in wanted:
                wanted.discard(service.target)
            else:
                del self._by_id[number]
                self._retired.append(number)
        del self._retired[:-_MOST_RETIRED]
        for target in targets:
            if target in wanted:
                self._add(target)

    def connect(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor came."""
        service = self._by_id.get(target_id)
        if service is None:
            stream.abort(Reset.NO_TARGET, f"there is no target {target_id}")
            return
        if log.debugging:
            log.debug("< visitor", target=service.target.name, visitor=visitor, stream=stream.id)
        service.connect(stream)

    def messages(self) -> list[Register | Unregister]:
        """What the server has to hear: which targets are gone, and which have no mapping yet."""
        said: list[Register | Unregister] = []
        if self._retired:
            said.append(Unregister(tuple(self._retired)))
            del self._retired[:-_REMEMBERED]
        missing = [
            Wanted(each.id, each.target.name, str(each.target.address), each.target.remote, each.had)
            for each in self._by_id.values()
            if not each.port
        ]
        if missing:
            said.append(Register(tuple(missing)))
        return said

    def forget_mappings(self) -> None:
        """The session that they were registered in is gone."""
        self._retired.clear()
        for service in self._by_id.values():
            service.port = 0

    def registered(self, answers: Iterable[Answer]) -> bool:
        """Takes the server's answers; False when some target may be had later."""
        complete = True
        for answer in answers:
            service = self._by_id.get(answer.id)
            if service is None:
                if answer.id not in self._retired:
                    log.error("the server refused a target", target=answer.name, why=answer.text)
            elif answer.port:
                if service.port != answer.port:
                    service.port = service.had = answer.port
                    self._announce(service.target, answer.port)
            else:
                service.port = 0  # it may have had one: another worker that is the same got it
                log.error("the server refused a target", target=service.target, why=answer.text)
                complete = complete and answer.error != TAKEN
        return complete
