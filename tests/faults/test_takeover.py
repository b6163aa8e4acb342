"""A session goes over from link to link: nothing lost, doubled or reordered, whatever the moment of the cut."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from time import monotonic
from typing import Any

import gevent
import gevent.event
import pytest
from gevent import socket

from aero.address import Target
from aero.core import doubt
from aero.core import link as links
from aero.core.codes import Close
from aero.endpoint import Endpoints
from aero.limits import Limits
from aero.net import lookup
from aero.net.lookup import Found
from aero.server.app import Server
from aero.worker import dialling
from aero.worker.lane import Lane
from tests.faults.hostile import Hostile
from tests.faults.inside import (
    DEADLINE_S,
    ECHO,
    SEND,
    Inside,
    ask,
    digest_of,
    download,
    exchange,
    noise,
    pieces,
    until,
    upload,
)
from tests.faults.relay import LOOPBACK, Connection

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redials follow each other closely, and failed handshakes of ours are not held back: the rest is as it is."""
    monkeypatch.setattr(Limits, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(Limits, "RETRY_MAX_S", 0.05)
    monkeypatch.setattr("aero.server.policy.penalties.FREE", 1e9)


# Messages and records of a link, from its first: HELLO or SERVER_HELLO, CONFIRM, JOIN or JOINED, then the stream.
@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_at_every_boundary_and_inside(direction: str) -> None:
    places = [(unit, fraction) for unit in range(9) for fraction in (0.0, 0.4, 0.99, 1.0)]
    left = list(places)
    armed: list[Connection] = []

    def cut_next(connection: Connection) -> None:
        if connection.number > 1 and left:
            getattr(connection, direction).cut_in_unit = left.pop()
            armed.append(connection)

    with Inside(on_connection=cut_next) as lab:
        with ask(lab.port, ECHO) as visitor:
            exchange(visitor, b"before")
            lab.relay.cut()
            rounds = 0
            while left or any(not each.closed for each in armed):
                exchange(visitor, noise(1 + rounds % 3000))
                rounds += 1
                assert rounds < 100_000
            exchange(visitor, b"after")
            assert lab.relay.cuts == len(places)
        assert lab.announced == 1, "the worker kept its mapping all the time"


def test_bulk_both_ways_while_links_are_cut() -> None:
    with Inside() as lab:
        with pieces() as running:
            running.append(gevent.spawn(download, lab.port, 1, 64 * MIB))
            running.append(gevent.spawn(upload, lab.port, 2, 64 * MIB))
            cuts = 0
            while any(not each.dead for each in running):
                gevent.joinall(running, timeout=0.1)
                cuts += lab.relay.cut()
        assert cuts >= 3


def test_fifty_streams_of_random_sizes_while_links_are_cut() -> None:
    sizes = random.Random(50)
    with Inside(pool=2) as lab, pieces() as running:
        for number in range(50):
            transfer = download if number % 2 else upload
            size = int(10 ** sizes.uniform(0, 6.3))
            running.append(gevent.spawn(transfer, lab.port, number, size))
        while any(not each.dead for each in running):
            gevent.joinall(running, timeout=0.15)
            lab.relay.cut()


def test_half_closed_streams_end_cleanly_over_a_new_link() -> None:
    with Inside() as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"hello")
        lab.relay.cut()
        visitor.sendall(b"last words")
        visitor.shutdown(1)
        answer = b""
        while True:
            data = visitor.recv(100)
            if not data:
                break
            answer += data
        assert answer == b"last words"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_flipped_bit_costs_the_link_and_not_one_byte(direction: str) -> None:
    def damage(connection: Connection) -> None:
        if connection.number <= 4:
            getattr(connection, direction).flip_at = 100_000 * connection.number

    with Inside(on_connection=damage) as lab, pieces() as running:
        running.append(gevent.spawn(download, lab.port, 3, 4 * MIB))
        running.append(gevent.spawn(upload, lab.port, 4, 4 * MIB))
        gevent.joinall(running, raise_error=True)
        assert lab.relay.count == 5


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bits_flipped_in_the_handshake_cost_a_try_each(
    direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the damage is, the handshake fails, or the first record does; the next one has the session again."""
    monkeypatch.setattr(Limits, "RETRY_REFUSED_S", 0.02)  # a damaged proof is as good as a wrong code
    places = list(range(8, 240, 13))  # behind the first header: a length that is never filled takes its 10 s
    left = list(places)

    def damage(connection: Connection) -> None:
        if connection.number > 1 and left:
            getattr(connection, direction).flip_at = left.pop()

    with Inside(on_connection=damage) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"before")
        lab.relay.cut()
        exchange(visitor, b"after")
        assert not left and lab.relay.count >= 1 + len(places)
        assert lab.announced == 1, "the same session all the time"


def test_a_slow_visitor_gets_every_byte_and_stops_only_itself() -> None:
    """It takes a mebibyte, then others come and go, and so on: its system's buffers and its window are full by then."""
    size, others = 24 * MIB, 0
    with Inside() as lab, ask(lab.port, SEND, 5, size) as slow:
        digest, total = hashlib.sha256(), 0
        while True:
            data = slow.recv(MIB)
            if not data:
                break
            digest.update(data)
            total += len(data)
            if total >> 20 > others:
                others = total >> 20
                download(lab.port, others, MIB)
        assert (digest.hexdigest(), total) == (digest_of(5, size), size)


def test_a_link_that_was_held_up_cannot_take_the_session_back() -> None:
    with Inside() as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        (uplink,) = lab.server.sessions.uplinks.values()
        (lane,) = lab.worker.crew.lanes
        assert lane.session is not None
        stale = lane.session.takeover(60)  # never gets through; a later one does
        lab.relay.cut()
        until("the takeover", lambda: lab.resumed and uplink.link_number > stale.link)
        exchange(visitor, b"two")
        carrying = uplink.link
        with Hostile(lab.server.port, json.loads(stale.pack())) as late:
            assert late.close_code() == Close.REPLACED
        assert uplink.link is carrying
        exchange(visitor, b"three")


def test_the_answer_to_a_takeover_is_lost_again_and_again() -> None:
    """The server has taken the session over and the worker does not know: it asks again, at the same place."""

    def lose_joined(connection: Connection) -> None:
        if 1 < connection.number < 8:
            connection.down.cut_in_unit = (2, 0.5)

    with Inside(on_connection=lose_joined) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.relay.cut()
        for _ in range(20):
            exchange(visitor, noise(20_000))
        assert lab.relay.cuts == 6


def test_a_session_that_nobody_takes_over_ends_in_resets() -> None:
    with Inside(resume_s=1) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.relay.refusing = True
        lab.relay.cut()
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)  # not an end that looks complete
        until("the target's reset", lambda: lab.service.resets == 1)
        assert not lab.service.ends
        lab.relay.refusing = False
        until("a new session and its mapping", lambda: lab.announced == 2)
        download(lab.port, 1, 1000)


def test_without_resume_streams_end_with_their_link() -> None:
    with Inside(resume_s=0) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.relay.cut()
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)
        until("a new session", lambda: lab.announced == 2)
        until("the target's reset", lambda: lab.service.resets == 1)


def cut_off(lab: Inside) -> None:
    """No link, and none to come; the server knows that."""
    lab.relay.holding = True
    lab.relay.cut()
    until(
        "the server to notice",
        lambda: not any(each.alive for each in lab.server.sessions.uplinks.values()),
    )


def test_visitors_that_come_while_the_link_is_down_wait_for_it() -> None:
    with Inside() as lab:
        cut_off(lab)
        with pieces() as running:
            for number in range(20):
                running.append(gevent.spawn(download, lab.port, number, 10_000))
            (worker,) = lab.server.registry.workers.values()
            until("them to wait", lambda: len(worker.lobby) == 20)
            lab.relay.release()


def test_visitors_that_wait_in_vain_get_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "VISITOR_WAIT_S", 0.1)
    monkeypatch.setattr(Limits, "WAITING_VISITORS", 3)
    with Inside() as lab:
        cut_off(lab)
        with pieces() as running:
            running += [gevent.spawn(_wait_in_vain, lab.port) for _ in range(5)]
        lab.relay.release()
        until("the link", lambda: lab.resumed)


def _wait_in_vain(port: int) -> None:
    with socket.socket() as visitor, pytest.raises(ConnectionError):
        visitor.connect((LOOPBACK, port))
        visitor.recv(1)


def test_a_server_that_starts_anew_gets_new_sessions_and_old_streams_are_reset() -> None:
    with Inside(pool=3) as lab:
        with ask(lab.port, ECHO) as visitor:
            exchange(visitor, b"one")
            port = lab.server.port
            lab.server.close()
            with pytest.raises(ConnectionResetError):
                visitor.recv(1)
        lab.server = Server(lab.server_config(60, port))
        until("the worker", lambda: lab.announced == 2 and len(lab.server.sessions.uplinks) == 3)
        until("the target's reset", lambda: lab.service.resets == 1)
        assert len(lab.server.registry.workers) == 1
        download(lab.port, 1, 1000)


def test_a_server_that_was_killed_and_is_back_is_joined_anew() -> None:
    """Nobody said goodbye: every lane asks for a session that is gone."""
    with Inside(pool=3) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.server.sessions.uplinks.clear()  # it does not know them any more
        lab.relay.cut()
        until("the worker", lambda: lab.announced == 2)
        until("the target's reset", lambda: lab.service.resets == 1)
        until("its lanes", lambda: len(lab.server.sessions.uplinks) == 3)
        download(lab.port, 1, 1000)
        for worker in list(lab.server.registry.workers.values())[:-1]:
            worker.end(Close.DONE, "the test's own leftovers")


def test_connections_that_come_in_another_order() -> None:
    with Inside(pool=4) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.relay.holding = True
        lab.relay.cut()
        until("four dials", lambda: lab.relay.held == 4)
        lab.relay.release(newest_first=True)
        exchange(visitor, b"two")
        until("all links", lambda: lab.resumed)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_half_dead_path_is_found_within_two_intervals(direction: str) -> None:
    with Inside(ping_s=1) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        until("pings", lambda: next(iter(lab.server.registry.workers.values())).ping_s)

        def lose(connection: Connection) -> None:
            getattr(connection, direction).lost = True

        began = monotonic()
        lab.relay.change(lose)
        exchange(visitor, b"two")  # over a new link: this one is dead
        # Two intervals, and what a machine with other work takes; TCP alone would take a quarter of an hour.
        assert monotonic() - began < 2 * 1 + 8
        assert lab.relay.count == 2


def test_a_stalled_path_is_found_too() -> None:
    def stall(connection: Connection) -> None:
        connection.up.stalled = connection.down.stalled = True

    with Inside(ping_s=1) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"one")
        lab.relay.change(stall)
        exchange(visitor, noise(300_000))
        assert lab.relay.count == 2


def test_a_long_path_with_cuts() -> None:
    with Inside() as lab:
        lab.relay.delay_s = 0.02
        lab.relay.cut()
        with pieces() as running:
            running.append(gevent.spawn(download, lab.port, 1, 4 * MIB))
            running.append(gevent.spawn(upload, lab.port, 2, 4 * MIB))
            while any(not each.dead for each in running):
                gevent.joinall(running, timeout=0.3)
                lab.relay.cut()


def test_names_that_do_not_resolve_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's name for the worker, a target's name for its visitors: both come back by themselves."""
    known = {"aero.test": False, "svc.test": False}

    def look_up(host: str) -> Found:
        if not known[host]:
            return Found((), "Temporary failure in name resolution")
        return Found(((socket.AF_INET, (LOOPBACK, 0)),))

    monkeypatch.setattr(lookup, "resolve", look_up)
    monkeypatch.setattr(Limits, "NAME_KEPT_S", 0.05)
    monkeypatch.setattr(Limits, "NAME_FRESH_S", 0.05)
    with Inside(start=False) as lab:
        target = Target("svc", "svc.test", lab.service.port)
        lab.config = lab.config.replace(server=Endpoints.at("aero.test", lab.relay.port), targets=(target,))
        lab.worker = lab.new_worker()
        lab.worker.start()
        (lane,) = lab.worker.crew.lanes
        until("some tries", lambda: lane.patience.failures > 3)
        known["aero.test"] = True
        until("the mapping", lambda: lab.port)
        with pytest.raises(ConnectionResetError), ask(lab.port, ECHO) as visitor:
            visitor.recv(1)
        known["svc.test"] = True
        gevent.sleep(0.1)  # what was not found is kept so long
        download(lab.port, 1, 1000)


def test_a_session_that_ends_here_while_its_takeover_is_under_way() -> None:
    """The worker gives up in the very moment in which the server says yes: both forget it and begin anew."""
    with Inside() as lab:
        with ask(lab.port, ECHO) as visitor:
            exchange(visitor, b"one")
            (lane,) = lab.worker.crew.lanes
            assert lane.session is not None
            old = lane.session.id
            lab.relay.holding = True
            lab.relay.cut()
            until("a dial", lambda: lab.relay.held)
            lane.end_session("the test lost patience")
            lab.relay.release()
            with pytest.raises(ConnectionResetError):
                visitor.recv(1)
        until("a new session", lambda: lab.announced == 2 and lab.resumed)
        assert old not in lab.server.sessions.uplinks
        download(lab.port, 1, 1000)


@pytest.fixture
def quick_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubt comes ten times as fast."""
    monkeypatch.setattr(doubt, "LOOK_S", 0.1)
    monkeypatch.setattr(links, "LOOK_S", 0.1)
    monkeypatch.setattr(doubt, "SUSPECT_S", 0.1)
    monkeypatch.setattr(doubt, "DOUBT_S", 0.5)
    monkeypatch.setattr(links, "QUIET_S", 1.0)
    monkeypatch.setattr(Limits, "DOUBT_JITTER_S", 0.1)


def lose(connection: Connection) -> None:
    for way in connection.ways:
        way.lost = True


@pytest.mark.parametrize("fault", ["lost", "stalled"])
@pytest.mark.usefixtures("quick_doubt")
def test_a_path_that_dies_while_a_visitor_sends_is_replaced_long_before_the_pings_find_it(fault: str) -> None:
    with Inside(ping_s=60) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"before")
        (uplink,) = lab.server.sessions.uplinks.values()
        first = uplink.link

        def change(connection: Connection) -> None:
            for way in connection.ways:
                setattr(way, fault, True)

        lab.relay.change(change)
        began = monotonic()
        exchange(visitor, b"meanwhile")
        assert uplink.link is not first
        assert monotonic() - began < 10
        exchange(visitor, b"after")


@pytest.mark.usefixtures("quick_doubt")
def test_a_path_that_speaks_again_before_our_proof_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new link's dial hangs; meanwhile the first one is heard: it stays, and the new one goes."""
    with Inside(ping_s=60) as lab, ask(lab.port, ECHO) as visitor:
        exchange(visitor, b"before")
        (lane,) = lab.worker.crew.lanes
        link = lane.link
        assert link is not None
        dialled = gevent.event.Event()
        go_on = gevent.event.Event()
        connect = dialling.connect

        def slow(*arguments: Any) -> Any:
            dialled.set()
            go_on.wait()
            return connect(*arguments)

        monkeypatch.setattr(dialling, "connect", slow)
        (connection,) = lab.relay.connections
        lab.relay.change(lambda each: [setattr(way, "delay_s", 3600.0) for way in each.ways])
        visitor.sendall(b"meanwhile")
        assert dialled.wait(DEADLINE_S)
        link.machine.heard_at = monotonic()  # as a byte would have it
        go_on.set()
        until("the new link to go", lambda: lab.relay.connections == [connection])
        assert lane.link is link and not link.ended
        lab.relay.change(lose)


@pytest.mark.usefixtures("quick_doubt")
def test_new_visitors_avoid_a_link_that_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "SUSPECT_S", 0.4)
    replaced: list[bool] = []
    may_replace = Lane._may_replace
    monkeypatch.setattr(Lane, "_may_replace", lambda lane, link: bool(replaced) and may_replace(lane, link))
    with Inside(ping_s=60, pool=4) as lab, contextlib.ExitStack() as visitors:
        first = lab.relay.connections[0]
        lab.relay.change(lambda each: lose(each) if each is first else None)

        def doubtful() -> int:
            return sum(each.doubtful for each in lab.server.sessions.uplinks.values())

        waiting = [visitors.enter_context(ask(lab.port, ECHO)) for _ in range(8)]
        until("one to be suspected", lambda: doubtful() == 1)
        for _ in range(40):
            visitor = visitors.enter_context(ask(lab.port, ECHO, timeout_s=5))
            exchange(visitor, b"at once")
        replaced.append(True)
        for visitor in waiting:
            exchange(visitor, b"in the end")
