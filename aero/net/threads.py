"""Threads for what blocks: look-ups of names, writes to disks, hashes on purpose slow. Their outcomes come to the loop.

In place of gevent.threadpool, which does the same and imports pprint, dataclasses, inspect, concurrent.futures and
more: 2 MB of a process that looks up one name.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections import deque
from queue import SimpleQueue
from typing import Any, Callable, NamedTuple, TypeVar

from gevent.event import AsyncResult

from aero.net.loop import event_loop

_T = TypeVar("_T")
_SHARED = 10  # threads of `apart`: what asks for one is rare, and each stays


class _Job(NamedTuple):
    """What a thread is to do, and what is to be told of it."""

    result: AsyncResult[Any]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


class Threads:
    """Up to so many threads, each made when there is work and no thread waits for any. They end with the process.

    Belongs to the thread whose hub was there when the first work came; must be made after any fork.
    """

    __slots__ = ("_done", "_jobs", "_most", "_open", "_threads", "_wake")

    def __init__(self, most: int) -> None:
        """``most``: how many pieces of work may be done at once; those beyond wait in a row."""
        self._most = most
        self._threads = 0
        self._open = 0  # pieces whose outcome has not come yet
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[AsyncResult[Any], Any, BaseException | None]] = deque()
        self._wake = event_loop().async_()

    def spawn(self, work: Callable[..., _T], *arguments: Any) -> AsyncResult[_T]:
        """Has a thread call ``work(*arguments)``; what that returns or raises. RuntimeError: not one can be had."""
        result: AsyncResult[_T] = AsyncResult()
        if self._open >= self._threads < self._most:
            try:
                start_new_thread(_run, (self._jobs, self._done, self._wake.send))
                self._threads += 1
            except RuntimeError:  # the system gives no more: those that are there do it, later
                if not self._threads:
                    raise
        if not self._open:
            self._wake.start(self._deliver)
        self._open += 1
        self._jobs.put(_Job(result, work, arguments))
        return result

    def apply(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """The same for a greenlet, which this blocks: what ``work`` returns. Raises what it raises."""
        value: _T = self.spawn(work, *arguments).get()
        return value

    def _deliver(self) -> None:
        while self._done:
            result, value, error = self._done.popleft()
            self._open -= 1
            if error is None:
                result.set(value)
            else:
                result.set_exception(error)
        if not self._open:
            self._wake.stop()  # so that a loop can end which has nothing else to wait for

    def faulted(self, error: Exception) -> None:
        """An error of this program in `_deliver` (net/faults.py): it was said, and what else is done comes later."""
        self._wake.send()

    def close(self) -> None:
        """Lets every thread end that has nothing to do any more. Nothing may be spawned afterwards."""
        for _ in range(self._threads):
            self._jobs.put(None)


def _run(
    jobs: SimpleQueue[_Job | None],
    done: deque[tuple[AsyncResult[Any], Any, BaseException | None]],
    wake: Callable[[], None],
) -> None:
    """A thread's life. It knows the Threads' queues, not the Threads: nothing of the loop's is its to touch."""
    while True:
        job = jobs.get()
        if job is None:
            return
        try:
            outcome: tuple[Any, BaseException | None] = job.work(*job.arguments), None
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            outcome = None, error
        done.append((job.result, *outcome))
        del job, outcome  # not kept while it waits for the next one
        wake()


_shared: Threads | None = None


def apart(work: Callable[..., _T], *arguments: Any) -> _T:
    """What ``work(*arguments)`` returns, called by one of the process's threads; blocks the greenlet, not the loop."""
    global _shared
    if _shared is None:
        _shared = Threads(_SHARED)
    return _shared.apply(work, *arguments)
