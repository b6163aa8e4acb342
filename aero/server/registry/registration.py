"""Registering: a worker's targets become mappings, a few a turn of the loop, in the order in which it asked.

A greenlet for each worker that has asked, for as long as there is something to do. All of them together work for a few
milliseconds a turn, so that streams never wait for somebody's hundred targets. A target whose port somebody else seems
to have, or another program, is put back until the holder was asked for a sign of life, or the port was tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Callable, NamedTuple, Protocol, Union

import gevent
from gevent.event import Event

from aero.core.codes import Close
from aero.core.control import Answer, Wanted
from aero.errors import RemoteProtocolError
from aero.limits import Limits
from aero.net.faults import report
from aero.net.semaphore import Semaphore
from aero.server.registry.gradually import Gradual
from aero.server.registry.life import Mortal, Proofs
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports.grants import Wait

_PAUSE_S = 0.001  # until the next turn: long enough for the loop to look at its sockets
_BUSY_RETRY_S = 0.5
_ASK_AT_ONCE = 16  # targets of one worker that a hook is asked for at once: half of what all may ask

Reply = Callable[[Iterable[Answer]], None]


class _Register(NamedTuple):
    targets: tuple[Wanted | Answer, ...]
    reply: Reply


class _Unregister(NamedTuple):
    ids: tuple[int, ...]


class Allowed(NamedTuple):
    """A target of which the operator's hook was asked, and that may be let in."""

    wanted: Wanted


class Unasked(NamedTuple):
    """A target of which the operator's hook is to be asked first."""

    wanted: Wanted


_Request = Union[Wanted, Answer, Allowed]


class Asking(Protocol):
    """The worker whose targets they are."""

    mappings: dict[int, Mapping]

    def registering(self, wanted: _Request, last: bool) -> Gradual[Answer | Wait | Unasked]:
        """One target's answer, or what to wait for; ``last``: not to be waited for any more."""

    def ask(self, wanted: Wanted) -> Answer | Allowed:
        """What the operator's hook says of a target; blocks the greenlet."""

    def told(self, answers: Iterable[Answer]) -> None:
        """These answers are on their way to the worker."""

    def unregister_one(self, target_id: int) -> None:
        """A target is gone."""

    def end(self, code: int, text: str) -> None:
        """Ends every session."""


class Registrar:
    """What all registrations share: whose turn it is, and who is asked for a sign of life."""

    def __init__(self, proofs: Proofs) -> None:
        """``proofs``: of workers whose ports others claim."""
        self.proofs = proofs
        self._turnstile = Semaphore(1)

    def do(self, steps: Iterable[Callable[[], object]]) -> None:
        """Takes steps, as many a turn as the loop can bear; blocks the greenlet between turns.

        A step that gives True is not done: it is taken again before the next.
        """
        todo = deque(steps)
        while todo:
            with self._turnstile:
                until = monotonic() + Limits.REGISTER_TURN_S
                while todo:
                    if todo[0]() is not True:
                        todo.popleft()
                    if monotonic() >= until:
                        break
                gevent.sleep(_PAUSE_S)


class Registration:
    """What one worker has asked for and did not get an answer to.

    It is handed the worker with each question: if it held it, a worker that is gone would wait for the collector.
    """

    def __init__(self, registrar: Registrar) -> None:
        """``registrar``: shared with all other workers."""
        self._registrar = registrar
        self._asked: deque[_Register | _Unregister] = deque()
        self._waiting = 0  # targets in ``_asked``
        self._running = False
        self._over = False

    def register(self, worker: Asking, targets: Iterable[Wanted | Answer], reply: Reply) -> None:
        """Begins to register; answers go to ``reply``, all or some at a time.

        Raises RemoteProtocolError where more waits than anybody needs.
        """
        asked = _Register(tuple(targets), reply)
        self._add(worker, asked, len(asked.targets))

    def unregister(self, worker: Asking, ids: Iterable[int]) -> None:
        """Begins to take targets away. Raises RemoteProtocolError as ``register``."""
        asked = _Unregister(tuple(ids))
        self._add(worker, asked, min(len(asked.ids), Limits.TARGETS_PER_WORKER))

    def close(self) -> None:
        """The worker is gone: nothing more is done for it."""
        self._over = True
        self._asked.clear()

    def _add(self, worker: Asking, asked: _Register | _Unregister, count: int) -> None:
        if self._waiting + count > Limits.WAITING_TARGETS:
            raise RemoteProtocolError(
                Close.OVERLOAD, f"more than {Limits.WAITING_TARGETS} targets are waiting"
            )
        self._waiting += count
        self._asked.append(asked)
        if not self._running:
            self._running = True
            gevent.spawn(self._run, worker)

    def _run(self, worker: Asking) -> None:
        try:
            while self._asked:
                asked = self._asked.popleft()
                if isinstance(asked, _Register):
                    self._register(worker, asked)
                    self._waiting -= len(asked.targets)
                else:
                    self._unregister(worker, asked.ids)
                    self._waiting -= min(len(asked.ids), Limits.TARGETS_PER_WORKER)
        except Exception as error:  # a fault of ours: it must not leave the worker waiting
            report(error)
            worker.end(Close.INTERNAL, "an error of the program")
        finally:
            self._running = False

    def _unregister(self, worker: Asking, ids: tuple[int, ...]) -> None:
        def gone(target_id: int) -> Callable[[], bool]:
            def step() -> bool:
                if not self._over:
                    worker.unregister_one(target_id)
                return False

            return step

        self._registrar.do(gone(each) for each in dict.fromkeys(ids) if each in worker.mappings)

    def _register(self, worker: Asking, asked: _Register) -> None:
        until = monotonic() + Limits.LEASE_BUSY_S
        left: list[_Request] = list(asked.targets)
        while left and not self._over:
            last = monotonic() >= until
            answers: list[Answer] = []
            waits: list[tuple[_Request, Wait]] = []
            unasked: list[Wanted] = []
            self._registrar.do(self._step(worker, each, last, answers, waits, unasked) for each in left)
            if answers:
                asked.reply(answers)
                worker.told(answers)
            left = [wanted for wanted, _ in waits]
            if unasked:
                questions = [gevent.spawn(worker.ask, each) for each in unasked[:_ASK_AT_ONCE]]
                gevent.joinall(questions)
                left += [*(each.get() for each in questions), *unasked[_ASK_AT_ONCE:]]
                until = monotonic() + Limits.LEASE_BUSY_S
                continue
            workers = {each.worker.cid: each.worker for _, wait in waits for each in wait.holders}
            if workers:
                self._prove(list(workers.values()))
            elif left:
                gevent.sleep(_BUSY_RETRY_S)

    def _step(
        self,
        worker: Asking,
        wanted: _Request,
        last: bool,
        answers: list[Answer],
        waits: list[tuple[_Request, Wait]],
        unasked: list[Wanted],
    ) -> Callable[[], bool]:
        work: Gradual[Answer | Wait | Unasked] = worker.registering(wanted, last)

        def step() -> bool:
            if self._over:
                work.close()
                return False
            try:
                next(work)
                return True
            except StopIteration as end:
                outcome: Answer | Wait | Unasked = end.value
            if isinstance(outcome, Wait):
                waits.append((wanted, outcome))
            elif isinstance(outcome, Unasked):
                unasked.append(outcome.wanted)
            else:
                answers.append(outcome)
            return False

        return step

    def _prove(self, workers: list[Mortal]) -> None:
        """Returns when all of them have answered or have not in time."""
        left, done = len(workers), Event()

        def proved(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        for worker in workers:
            self._registrar.proofs.ask(worker, proved)
        done.wait()
