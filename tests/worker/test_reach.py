"""Approaches: what visitors leave behind when they go, what a slow target costs the others, and targets that move."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from aero.allow import allow
from aero.core.codes import Reset
from aero.limits import Limits
from aero.net import lookup
from aero.net.lookup import Found, Names
from aero.net.loop import event_loop
from aero.worker import reach
from aero.worker.reach import Approach, Places, Way

LOOPBACK = "127.0.0.1"
ELSEWHERE = "127.0.0.2"


class Visitor:
    """Somebody who wants to reach a target."""

    def __init__(self, way: Way) -> None:
        self.sock: socket.socket | None = None
        self.code = -1
        self.why = ""
        self.approach = Approach(way, self._done)
        self.approach.start()

    def _done(self, sock: socket.socket | None, code: int, why: str) -> None:
        assert self.sock is None and self.code == -1, "told twice"
        self.sock, self.code, self.why = sock, code, why
        if sock is not None:
            sock.close()


def until(what: str, condition: object) -> None:
    with gevent.Timeout(30, AssertionError(f"waited in vain for {what}")):
        while not condition():  # type: ignore[operator]
            gevent.sleep(0.002)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def answers(visitor: Visitor) -> Visitor:
    until("the end of an approach", lambda: visitor.approach.over)
    return visitor


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0), backlog=2048) as sock:
        yield sock


@pytest.fixture
def slow() -> Iterator[int]:
    """The port of a target that accepts nobody, and whose queue is full."""
    with socket.socket() as full:
        full.bind((LOOPBACK, 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(3)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]
        for sock in crowd:
            sock.close()


@pytest.fixture
def places() -> Places:
    return Places(event_loop(), 8, 4)


def way(places: Places, port: int, host: str = LOOPBACK) -> Way:
    return Way(event_loop(), Names(event_loop(), 2), places, host, port)


def idle(places: Places) -> bool:
    return not places._all and not places._taken and not places._lines


def test_visitors_who_leave_take_their_connects_along(places: Places, slow: int) -> None:
    before = descriptors()
    target = way(places, slow)
    visitors = [Visitor(target) for _ in range(500)]
    assert descriptors() == before + 4, "connects under way are bounded"
    for visitor in visitors:
        visitor.approach.cancel()
    until("the connects' end", lambda: idle(places))
    assert descriptors() == before
    assert all(visitor.code == -1 for visitor in visitors), "nobody is left to be told"


def test_a_target_on_this_machine_is_connected_at_once_and_holds_no_place(
    places: Places, listener: socket.socket, slow: int, tmp_path: Path
) -> None:
    port = listener.getsockname()[1]
    sock = way(places, port).at_once()
    assert sock is not None and sock.getpeername() == (LOOPBACK, port) and sock.gettimeout() == 0
    sock.close()
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "s"))
        there.listen()
        by_path = Way(event_loop(), Names(event_loop(), 1), places, "", 0, path=str(tmp_path / "s")).at_once()
        assert by_path is not None
        by_path.close()
    assert idle(places)


def test_what_is_not_there_at_once_is_left_to_an_approach(
    places: Places, listener: socket.socket, slow: int, tmp_path: Path
) -> None:
    before, port = descriptors(), listener.getsockname()[1]
    with socket.socket() as nobody:
        nobody.bind((LOOPBACK, 0))
        assert way(places, nobody.getsockname()[1]).at_once() is None, "refused"
    assert way(places, slow).at_once() is None, "its queue is full"
    assert way(places, port, "192.0.2.1").at_once() is None, "elsewhere: that takes a while"
    assert way(places, port, "a-name.example").at_once() is None, "a name has to be looked up"
    names, only = Names(event_loop(), 1), allow(f"{LOOPBACK}:1")
    assert Way(event_loop(), names, places, LOOPBACK, port, only).at_once() is None, "not allowed"
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "s"))
        there.listen()
        assert Way(event_loop(), names, places, "", 0, only, str(tmp_path / "s")).at_once() is None
    target = way(places, port)
    assert places.enter(Approach(target, lambda *_: None))
    assert target.at_once() is None, "somebody is on his way there, and comes first"
    places.leave(target)
    assert descriptors() == before


def test_a_slow_target_leaves_places_for_the_others(
    places: Places, slow: int, listener: socket.socket
) -> None:
    stuck = way(places, slow)
    waiting = [Visitor(stuck) for _ in range(50)]
    assert answers(Visitor(way(places, listener.getsockname()[1]))).code == 0
    for visitor in waiting:
        visitor.approach.cancel()


def test_lines_take_turns_where_all_places_are_taken(slow: int) -> None:
    places = Places(event_loop(), 2, 2)
    stuck = [Visitor(way(places, slow)) for _ in range(2)]
    first, second = way(places, slow), way(places, slow)
    line = [Visitor(target) for target in (first, first, first, second)]
    for visitor in stuck:
        visitor.approach.cancel()
    until("two to begin", lambda: places._all == 2)
    assert set(places._taken) == {first, second}
    for visitor in line:
        visitor.approach.cancel()
    until("the end", lambda: idle(places))


def test_a_long_line_at_a_target_that_refuses_ends_well(places: Places, slow: int) -> None:
    """Each refusal lets the next one in: ten thousand of them must not stand on one stack."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port = sock.getsockname()[1]
    places._each = 0
    target = way(places, port)
    visitors = [Visitor(target) for _ in range(3000)]
    places._each = 4
    places._admit()
    until("all refusals", lambda: all(visitor.approach.over for visitor in visitors))
    assert {visitor.code for visitor in visitors} == {Reset.REFUSED} and idle(places)


def test_a_target_that_never_answers_is_given_up(
    places: Places, slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "TARGET_CONNECT_S", 0.05)
    visitor = answers(Visitor(way(places, slow)))
    assert (visitor.code, visitor.why) == (Reset.TIMEOUT, "Connection timed out")
    until("its place", lambda: idle(places))


def test_a_slip_of_ours_on_the_way_is_told_the_visitor(
    places: Places, slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slip(code: int) -> str:
        raise ValueError("a slip of ours")

    monkeypatch.setattr(Limits, "TARGET_CONNECT_S", 0.01)
    monkeypatch.setattr(reach.os, "strerror", slip)
    visitor = answers(Visitor(way(places, slow)))
    assert (visitor.code, visitor.why) == (Reset.INTERNAL, "an error of the program")
    until("its place", lambda: idle(places))


def test_a_name_that_nobody_answers_for_is_given_up(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    speak = threading.Event()
    monkeypatch.setattr(Limits, "TARGET_CONNECT_S", 0.05)
    monkeypatch.setattr(lookup, "resolve", lambda host: speak.wait(30) and Found(()))
    visitor = answers(Visitor(way(places, 80, "dead.test")))
    speak.set()
    assert visitor.code == Reset.UNREACHABLE
    assert "dead.test does not resolve: no answer" in visitor.why


def test_a_target_that_has_moved_is_found_before_the_visitor_is_refused(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "NAME_FRESH_S", -1.0)
    homes = [LOOPBACK]
    monkeypatch.setattr(lookup, "resolve", lambda _: Found(((socket.AF_INET, (homes[0], 0)),)))
    old = socket.create_server((LOOPBACK, 0))
    target = way(places, old.getsockname()[1], "svc.test")
    with socket.create_server((ELSEWHERE, old.getsockname()[1])):
        assert answers(Visitor(target)).code == 0
        old.close()
        assert answers(Visitor(target)).code == Reset.REFUSED, "it is nowhere else"
        homes[0] = ELSEWHERE
        assert answers(Visitor(target)).code == 0
    assert answers(Visitor(target)).why == "Connection refused", "the new one is gone as well"
    assert idle(places)


def test_several_addresses_are_all_named_when_none_answers(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tuple((socket.AF_INET, (ip, 0)) for ip in (LOOPBACK, ELSEWHERE))
    monkeypatch.setattr(lookup, "resolve", lambda _: Found(both))
    with socket.socket() as sock:
        sock.bind(("", 0))
        port = sock.getsockname()[1]
    visitor = answers(Visitor(way(places, port, "svc.test")))
    assert visitor.code == Reset.REFUSED
    assert visitor.why == f"{LOOPBACK}: Connection refused, {ELSEWHERE}: Connection refused"


def test_a_newcomer_does_not_overtake_the_line(places: Places, slow: int) -> None:
    target = way(places, slow)
    crowd = [Visitor(target) for _ in range(5)]
    crowd[0].approach.cancel()  # a place is free, and the fifth has not been told yet
    late = Visitor(target)
    assert list(places._lines[target]) == [crowd[4].approach, late.approach]
    until("the fifth to begin", lambda: list(places._lines[target]) == [late.approach])
    for visitor in [*crowd, late]:
        visitor.approach.cancel()
    until("the end", lambda: idle(places))


def socket_way(path: object, allowed: str = "") -> Way:
    loop = event_loop()
    return Way(
        loop, Names(loop, 2), Places(loop, 8, 8), "", 0, allow(allowed) if allowed else None, str(path)
    )


def test_a_socket_in_the_file_system_is_connected_to(tmp_path: Path) -> None:
    path, none = tmp_path / "s", tmp_path / "none"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        refused = answers(Visitor(socket_way(path)))
        assert (refused.sock, refused.code) == (None, Reset.REFUSED), "nobody listens"
        sock.listen(1)
        assert answers(Visitor(socket_way(path))).sock is not None
    gone = answers(Visitor(socket_way(none)))
    assert (gone.sock, gone.code, gone.why) == (None, Reset.REFUSED, "No such file or directory")
    assert answers(Visitor(socket_way(none, f"unix:{tmp_path}/"))).code == Reset.REFUSED
    assert answers(Visitor(socket_way(path, "unix:/srv/"))).why == "its address is not allowed here: --allow"


def test_a_full_queue_of_a_socket_in_the_file_system_is_waited_for(tmp_path: Path) -> None:
    """The system says EAGAIN there at once, where it lets a TCP connect wait."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(0)
        visitors = [Visitor(socket_way(path)) for _ in range(3)]
        waiting = [each for each in visitors if not each.approach.over]
        assert waiting, "the queue is full"
        gone = Visitor(socket_way(path))
        gone.approach.cancel()
        for _ in range(3):
            until("the next one", lambda: select.select([sock], [], [], 0)[0])
            sock.accept()[0].close()
        assert all(answers(each).sock is not None for each in visitors) and gone.sock is None
