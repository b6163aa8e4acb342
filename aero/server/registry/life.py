"""Proof of life: whether workers whose links seem to be up are there. One proof at a time for each worker.

A worker lives when it answers a ping that was sent after somebody asked, or when bytes of it are read in a later turn
of the loop. Who asks while a proof is under way shares it.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Callable, Protocol

from aero.limits import Limits
from aero.net.faults import report
from aero.net.loop import Loop, Watcher, stopped
from aero.server.registry.session import WorkerSession

Then = Callable[["list[WorkerSession]"], None]


class Mortal(Protocol):
    """A worker, as far as it can be asked for a sign of life."""

    cid: str
    sessions: list[WorkerSession]
    silent_at: float  # when none of its links gave a sign of life in time, on the monotonic clock


class Proofs:
    """Who is being asked now, and who has answered a moment ago."""

    def __init__(self, loop: Loop) -> None:
        """``loop``: for the time that an answer may take."""
        self._loop = loop
        self._under_way: dict[str, _Proof] = {}  # by cid

    def ask(self, worker: Mortal, then: Then) -> None:
        """Calls ``then`` once, later or at once, with those of its sessions whose links gave no sign of life."""
        proof = self._under_way.get(worker.cid)
        if proof is None:
            proof = self._under_way[worker.cid] = _Proof(self._loop, worker, self._under_way)
            proof.then.append(then)
            proof.begin()
        else:
            proof.then.append(then)


class _Proof:
    """One worker is asked over each of its links."""

    def __init__(self, loop: Loop, worker: Mortal, under_way: dict[str, _Proof]) -> None:
        self.then: list[Then] = []
        self._loop = loop
        self._worker = worker
        self._under_way = under_way
        self._timer: Watcher | None = None
        self._silent = {id(each): each for each in worker.sessions if each.alive}
        self._asked = len(self._silent)
        self._read: dict[int, int] = {}  # bytes that each had read one turn after the question

    def begin(self) -> None:
        """Asks."""
        for key, session in list(self._silent.items()):
            session.ping(partial(self._answered, key), fresh=True)
        if not self._silent:
            self._decide()
            return
        self._timer = self._loop.timer(Limits.PROOF_OF_LIFE_S)
        self._timer.start(self._decide)
        self._loop.run_callback(self._count)

    def _count(self) -> None:
        self._read = {key: each.received_bytes for key, each in self._silent.items()}

    def _answered(self, key: int, _: float) -> None:
        self._silent.pop(key, None)
        if not self._silent and self._timer is not None:
            self._decide()

    def _decide(self) -> None:
        stopped(self._timer)
        self._timer = None
        del self._under_way[self._worker.cid]
        now = monotonic()
        silent = []
        for key, session in self._silent.items():
            if session.alive and session.received_bytes > self._read.get(key, session.received_bytes):
                session.lived_at = now
            else:
                silent.append(session)
        if silent and len(silent) == self._asked:
            self._worker.silent_at = now
        for then in self.then:
            try:
                then(silent)
            except Exception as error:  # a fault of ours: the others wait for the same answer
                report(error)

    def faulted(self, error: Exception) -> None:
        """An error of this program (net/faults.py): whoever asked hears what is known."""
        if self._timer is not None:
            self._decide()
