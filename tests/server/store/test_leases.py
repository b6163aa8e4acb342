"""The table of leases: who is found by what, whose lease is the oldest, and what a restart keeps of it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from time import perf_counter

import pytest

from aero.server.registry.ports.ports import Ports
from aero.server.store.database import FILE, Database
from aero.server.store.leases import Lease, Leases, Owner, steady_clock
from tests.server.store.conftest import Clock, Opener, Store

WEB, SSH = Owner("", "nas", "box", "web"), Owner("", "nas", "box", "ssh")
DNS = Owner("", "nas", "box", "web", "udp")


def test_leases_outlive_the_process(open_store: Opener, clock: Clock, tmp_path: Path) -> None:
    first = open_store()
    first.save(WEB, 8001, "i1")
    first.save(SSH, 8002, "i1")
    second = open_store()  # the first one was killed: it has closed nothing
    assert list(second.of(WEB)) == [Lease(WEB, 0, 8001, "i1", "", 1_700_000_000, 0)]
    assert second.at(8002) == first.at(8002)
    assert second.at(8003) is None
    assert not second.of(Owner("", "nas", "box", "other"))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_clones_share_an_owner_and_have_a_slot_each(open_store: Opener) -> None:
    kept = open_store()
    for port, identity in ((8001, "i1"), (8002, "i2"), (8003, "i3")):
        kept.save(WEB, port, identity)
    assert [lease.slot for lease in kept.of(WEB)] == [0, 1, 2]
    kept.save(SSH, 8002, "i9")  # the second one's port is another's now
    kept.save(WEB, 8004, "i2")
    assert sorted((lease.slot, lease.port) for lease in kept.of(WEB)) == [(0, 8001), (1, 8004), (2, 8003)]
    again = open_store()
    assert sorted(again.of(WEB)) == sorted(kept.of(WEB))
    assert list(again.of(SSH)) == list(kept.of(SSH))


def test_a_number_belongs_to_each_protocol_apart(open_store: Opener) -> None:
    kept = open_store()
    kept.save(WEB, 8001, "tcp's")
    kept.save(DNS, 8001, "udp's")
    for store in (kept, open_store()):
        assert [lease.identity for lease in store.of(WEB)] == ["tcp's"]
        lease = store.at(8001, "udp")
        assert lease is not None
        assert lease.identity == "udp's"


def test_everything_is_found_by_owner_identity_and_address(open_store: Opener) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i1", "192.0.2.1")
    kept.keep(SSH, 8002, "i1", "192.0.2.2")
    kept.keep(SSH, 8003, "i2", "192.0.2.2")
    kept.keep(WEB, 8001, "i2", "192.0.2.2")  # a worker that came from elsewhere, with another identity
    kept.database.flush()
    for store in (kept, open_store()):
        assert sorted(lease.port for lease in store.of(SSH)) == [8002, 8003]
        assert sorted(lease.port for lease in store.of_identity("i2")) == [8001, 8003]
        assert len(store.of_identity("i1")) == 1
        assert len(store.of_address("192.0.2.2")) == 3
        assert not store.of_address("192.0.2.1")


def test_who_is_away_the_longest_comes_first(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    for port in (8001, 8002, 8003):
        kept.keep(WEB, port, "i")
    assert kept.ports == [], "nobody is away"
    for port in (8002, 8001):
        clock.wall += 10
        kept.release(port)
    assert kept.ports == [8002, 8001]
    kept.keep(WEB, 8002, "i")
    clock.wall += 10
    kept.release(8002)
    kept.release(8002)  # gone twice is gone once
    assert kept.ports == [8001, 8002]
    kept.database.flush()
    assert open_store().ports == [8003, 8001, 8002], "a killed server's workers were last seen when they came"


def test_how_long_a_port_was_in_use_adds_up(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    for _ in range(3):
        kept.keep(WEB, 8001, "i")
        clock.wall += 1200
        kept.release(8001)
        clock.wall += 86_400
    lease = kept.at(8001)
    assert lease is not None
    assert (lease.held_s, lease.used_at) == (3600, clock.wall - 86_400)
    assert kept.keep(SSH, 8001, "i").held_s == 0, "another owner begins anew"


def test_what_is_in_use_does_not_age(open_store: Opener, clock: Clock) -> None:
    """A server that is killed after a month knows until when its ports were in use, to the hour."""
    kept = open_store()
    for port in (8001, 8002, 8003):
        kept.keep(WEB, port, "i")
    clock.wall += 3599
    kept.refresh(3600, 9)
    assert {lease.used_at for lease in kept} == {1_700_000_000}
    clock.wall += 1
    kept.refresh(3600, 2)
    kept.refresh(3600, 2)
    kept.database.flush()
    assert {(lease.used_at, lease.held_s) for lease in open_store()} == {(1_700_003_600, 3600)}


def test_a_clock_that_was_set_back_loses_no_lease(open_store: Opener, clock: Clock) -> None:
    kept = open_store()
    kept.keep(WEB, 8001, "i")
    clock.wall -= 10 * 365 * 86_400
    kept.keep(SSH, 8002, "i")
    kept.refresh(3600, 9)
    kept.release(8001)
    kept.database.flush()
    assert {lease.held_s for lease in kept} == {0}
    assert sorted(lease.port for lease in open_store()) == [8001, 8002]


def test_a_lease_that_is_forgotten_is_gone(open_store: Opener) -> None:
    kept = open_store()
    kept.save(WEB, 8001)
    kept.save(SSH, 8002)
    kept.forget(8001)
    kept.forget(8001)
    kept.database.flush()
    for store in (kept, open_store()):
        assert store.at(8001) is None
        assert not store.of(WEB)
        assert [lease.port for lease in store] == [8002]


@pytest.mark.parametrize("bad", [Owner("", "nas", "box", "\ud800"), Owner("", "\udcff", "box", "web")])
def test_a_text_that_no_file_can_hold_changes_nothing(open_store: Opener, bad: Owner) -> None:
    kept = open_store()
    kept.save(WEB, 8001, "i")
    for owner, identity, address in ((bad, "i", ""), (WEB, "\ud800", ""), (WEB, "i", "\ud800")):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            kept.keep(owner, 8001, identity, address)
    kept.save(SSH, 8002, "i")
    assert {lease.owner for lease in open_store()} == {WEB, SSH}


def test_any_order_of_changes_gives_the_same_file(open_store: Opener, clock: Clock) -> None:
    """Owners swap ports, leave, come back and are forgotten; batches of any size reach the file."""
    chance = random.Random(1)
    kept = open_store()
    owners = [WEB, SSH, DNS, Owner("", "nas", "box", "c")]
    for _ in range(400):
        clock.wall += 1
        port, proto = chance.randrange(8000, 8006), chance.choice(("tcp", "udp"))
        act = chance.randrange(5)
        if act < 3:
            kept.keep(chance.choice(owners)._replace(proto=proto), port, f"i{chance.randrange(3)}")
        elif act == 3:
            kept.release(port, proto)
        else:
            kept.forget(port, proto)
        if not chance.randrange(10):
            kept.database.flush()
            again = open_store()
            assert sorted(again) == sorted(kept)
            again.database.close()


def test_no_question_searches_the_table(open_store: Opener) -> None:
    """With 40,000 leases a question costs about what it costs with 400."""

    def cost_s(store: Store) -> float:
        began = perf_counter()
        for number in range(200):
            owner = Owner("", "t", "h", f"n{number}")
            store.keep(owner, 20_000 + number, "i0")
            list(store.of(owner)), store.absent(1), len(store.of_identity("i0")), store.at(20_001)
            store.release(20_000 + number)
        return perf_counter() - began

    small, large = Store("", Clock(pytest.MonkeyPatch())), Store("", Clock(pytest.MonkeyPatch()))
    for number in range(40_000):
        large.keep(Owner("", "t", "h", f"o{number}"), 1 + number, f"i{number % 100}")
        large.release(1 + number)
    assert min(cost_s(large) for _ in range(3)) < 20 * min(cost_s(small) for _ in range(3))


def test_rows_that_make_no_sense_are_left_out(open_store: Opener, tmp_path: Path, said: list[str]) -> None:
    first = open_store()
    first.save(WEB, 8001, "i")
    first.database.close()
    bad = [
        ("", "t", "h", "a", "tcp", 0, 0, "i", "", 1, 0, 1, 0),
        ("", "t", "h", "b", "tcp", 0, "many", "i", "", 1, 0, 1, 0),
        ("", "t", "h", "c", "tcp", 0, 70_000, "i", "", 1, 0, 1, 0),
        ("", "t", "h", "d", "tcp", 0, 8004, "i", "", "once", 0, 1, 0),
        (b"\xff", "t", "h", "e", "tcp", 0, 8005, "i", "", 1, 0, 1, 0),
        ("", "t", "h", "f", "tcp", 0, 8006, "i", "", 1, 0.5, 1, 0),
        ("", "t", "h", "g", "tcp", 0, 65_530, "i", "", 1, 0, 7, 0),
        ("", "t", "h", "i", "tcp", 0, 7999, "i", "", 1, 0, 9, 0),
        ("", "t", "h", "j", "tcp", 0, 8010, "i", "", 1, 0, 1, -1),
    ]
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as db, db:
        db.executemany("INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", bad)
    assert [lease.port for lease in open_store()] == [8001]
    assert said == ["WARNING ignored damaged leases count=9"]


def test_memory_only_is_asked_for_and_silent(clock: Clock, said: list[str]) -> None:
    kept = Store("", clock)
    kept.save(WEB, 8001, "i")
    assert kept.at(8001)
    assert said == []
    kept.database.close()


DAY_S = 86_400


def test_a_clock_that_jumps_makes_nobody_absent_for_longer() -> None:
    wall, steady = 1_000_000_000.0, 50.0
    now = steady_clock(0, lambda: wall, lambda: steady)
    assert now() == 1_000_000_000
    wall, steady = wall + 30 * DAY_S, 60.0
    assert now() == 1_000_000_010
    wall = 0.0
    assert now() == 1_000_000_010


@pytest.mark.parametrize(
    ("wall", "now"),
    [(5 * DAY_S, 5 * DAY_S), (5.5 * DAY_S, 5.5 * DAY_S), (400 * DAY_S, 6 * DAY_S), (0, 5 * DAY_S)],
)
def test_the_time_without_a_server_is_a_day_at_the_most(wall: float, now: float) -> None:
    assert steady_clock(5 * DAY_S, lambda: wall, lambda: 7.0)() == now


def test_a_start_with_a_clock_that_is_wrong_by_years_voids_no_lease(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    first = Leases(database, lambda: 1000.0)
    first.keep(WEB, 8001, "i")
    first.release(8001)
    database.close()
    database = Database(str(tmp_path))
    second = Leases(database)  # by the system's clock, half a century later
    ports = Ports("tcp", lambda ips, port: [], ("127.0.0.1",), 8000, 8002, second, 30 * DAY_S)
    ports.look_after()
    assert second.at(8001) is not None
    database.close()
