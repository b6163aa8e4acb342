"""Work on other threads: its outcome comes to the loop, its number is bounded, and it keeps nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import gevent
import pytest

from aero.net.threads import Threads, apart

PATIENCE_S = 10


@pytest.fixture
def threads() -> Threads:
    return Threads(2)


def test_the_loop_goes_on_while_a_thread_works(threads: Threads) -> None:
    go = threading.Event()
    result = threads.spawn(go.wait, PATIENCE_S)
    gevent.spawn_later(0, go.set)
    assert result.get(timeout=PATIENCE_S) is True


def test_what_a_greenlet_asks_for_is_returned_or_raised(threads: Threads) -> None:
    assert threads.apply(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        threads.apply(divmod, 7, 0)
    with pytest.raises(SystemExit):
        threads.apply(sys.exit, 3)
    assert threads.apply(divmod, 7, 2) == (3, 1)  # the thread is still there
    threads.close()


def test_what_is_done_is_told_by_a_callback(threads: Threads) -> None:
    heard: list[int] = []
    result = threads.spawn(int, "5")
    result.rawlink(lambda done: heard.append(done.get(block=False)))
    result.wait(PATIENCE_S)
    gevent.sleep(0)
    assert heard == [5]


def test_no_more_work_at_once_than_was_said_and_no_more_threads_than_work(threads: Threads) -> None:
    before = threading.active_count()
    assert [threads.apply(threading.get_native_id) for _ in range(5)] == [
        threads.apply(threading.get_native_id)
    ] * 5
    gate, inside, most = threading.Event(), [], []

    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        gate.wait(PATIENCE_S)
        inside.pop()

    results = [threads.spawn(work) for _ in range(6)]
    gevent.spawn_later(0, gate.set)
    gevent.joinall([gevent.spawn(result.get) for result in results], timeout=PATIENCE_S)
    assert all(result.ready() for result in results)
    assert max(most) <= 2
    assert (
        threading.active_count() == before
    )  # of those that the module threading has not made it knows nothing
    threads.close()


def test_where_the_system_gives_no_more_those_that_are_there_do_it(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    gate = threading.Event()
    first = threads.spawn(gate.wait, PATIENCE_S)
    monkeypatch.setattr("aero.net.threads.start_new_thread", refuse)
    second = threads.spawn(int)
    gate.set()
    assert first.get(timeout=PATIENCE_S) and second.get(timeout=PATIENCE_S) == 0
    with pytest.raises(RuntimeError, match="thread"):
        Threads(1).spawn(int)


def test_nothing_of_what_was_done_is_kept(threads: Threads) -> None:
    class Thing:
        def work(self) -> None: ...

    thing = Thing()
    gone = weakref.ref(thing)
    threads.apply(thing.work)
    threads.apply(int)  # behind it, as the thread may hold on to it until its next turn
    del thing
    gc.collect()
    assert gone() is None


def test_a_loop_ends_that_has_nothing_else_to_wait_for() -> None:
    code = "import gevent; from aero.net.threads import apart; apart(int); print(gevent.wait(timeout=None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


def test_the_processs_threads_are_shared() -> None:
    assert apart(sorted, [3, 1]) == [1, 3]
    assert apart(len, "four") == 4
