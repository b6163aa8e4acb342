"""Doubt in virtual time: which silences count, and that a slow path is not a dead one."""

from __future__ import annotations

import pytest

from aero.core import doubt
from aero.core.doubt import DOUBT_S, DOUBTED, LOOK_S, SUSPECT_S, SUSPECTED, TRUSTED, Doubt
from aero.core.link import ACTIVE_S, LATE_S, QUIET_S
from tests.core.joined import Joined


class Path:
    """A link to a peer: what we give it drains at ``rate`` bytes a second; the clock moves by looks."""

    def __init__(self, rate: float) -> None:
        self.now = 100.0
        self.doubt = Doubt(self.now)
        self.heard_at = self.now
        self.rate = rate
        self.sent = self.delivered = 0
        self.states: list[int] = []

    def look(self, waits: bool = True, late: bool = False) -> int:
        self.now += LOOK_S
        self.delivered = min(self.delivered + int(self.rate * LOOK_S), self.sent)
        self.doubt.look(self.now, self.heard_at, waits, self.delivered, late)
        self.states.append(self.doubt.state(self.heard_at))
        return self.states[-1]

    def looks(self, seconds: float) -> list[int]:
        return [self.look() for _ in range(int(seconds / LOOK_S))]


def test_the_picture_has_every_state() -> None:
    assert doubt.__doc__ is not None
    rows = [line.split()[0] for line in doubt.__doc__.splitlines() if line.startswith("    ")]
    assert rows[1:] == [name.upper() for name in doubt.STATE_NAMES]


def test_a_dead_path_is_suspected_and_then_doubted() -> None:
    path = Path(rate=0)
    path.sent = 1000
    states = path.looks(10)
    assert states.index(SUSPECTED) * LOOK_S <= SUSPECT_S + LOOK_S
    assert DOUBT_S - 2 * LOOK_S <= states.index(DOUBTED) * LOOK_S <= DOUBT_S + LOOK_S
    assert states == sorted(states)


def test_while_nothing_waits_silence_means_nothing() -> None:
    path = Path(rate=0)
    assert [path.look(waits=False) for _ in range(100)] == [TRUSTED] * 100


def test_a_slow_path_that_drains_is_never_doubted() -> None:
    """256 KiB at 64 kbit/s: half a minute until the record is whole and can be acknowledged."""
    path = Path(rate=8000)
    path.sent = 256 * 1024
    while path.delivered < path.sent:
        assert path.look() == TRUSTED
    assert path.now > 130


def test_a_slow_path_that_is_kept_full_is_never_doubted() -> None:
    """What the kernel has taken stays the same; what has left it grows."""
    path = Path(rate=8000)
    for _ in range(60):
        path.sent = path.delivered + 65536
        assert path.look() == TRUSTED


def test_a_byte_from_the_peer_ends_doubt_at_once() -> None:
    path = Path(rate=0)
    path.looks(10)
    path.heard_at = path.now + 0.1
    assert path.doubt.state(path.heard_at) == TRUSTED  # no look is needed
    assert path.look() == TRUSTED
    assert path.looks(10)[-1] == DOUBTED  # and silence counts anew


def test_who_was_away_itself_does_not_blame_the_peer() -> None:
    path = Path(rate=0)
    path.looks(DOUBT_S - 1)
    path.now += 60.0
    assert path.look(late=True) == TRUSTED
    assert path.look() != DOUBTED


def test_waiting_counts_from_when_it_began() -> None:
    path = Path(rate=0)
    for _ in range(30):
        path.look(waits=False)
    assert [path.look() for _ in range(2)] == [TRUSTED, SUSPECTED]


# At a link


def looked(joined: Joined, seconds: float, delivered: int = 0) -> list[int]:
    """The worker's trust at each look, while seconds pass and nothing arrives."""
    machine, trust = joined.worker.machine, []
    end = joined.now + seconds
    while machine.look_at and machine.look_at <= end:
        joined.now = machine.look_at
        machine.look(joined.now, delivered)
        joined.worker.write()
        trust.append(machine.trust)
    joined.now = end
    return trust


@pytest.fixture
def active() -> Joined:
    """A worker that has just received something, over a path that then dies."""
    joined = Joined(ping_s=60.0)
    near, far = joined.pair()
    near.push(bytes(1000))
    for _ in range(8):
        joined.settle()
    assert len(far.got) == 1000
    joined.worker.machine.eager = True
    joined.worker.machine.heard_at = joined.now
    joined.worker.machine.sent(joined.now)
    joined.server.out.stalled = joined.worker.out.stalled = True
    return joined


def test_a_worker_that_only_receives_asks_and_then_doubts(active: Joined) -> None:
    began = active.now
    pings = active.worker.machine._next_ping
    trust = looked(active, 2 * QUIET_S)
    assert active.worker.machine._next_ping == pings + 1
    doubted = (trust.index(DOUBTED) + 1) * LOOK_S
    assert QUIET_S + DOUBT_S - LOOK_S <= doubted <= QUIET_S + DOUBT_S + 2 * LOOK_S
    assert active.now - began >= doubted
    assert active.worker.machine.silent_s >= DOUBT_S


def test_a_worker_that_sends_doubts_without_asking(active: Joined) -> None:
    pings = active.worker.machine._next_ping
    active.worker.open(first=b"unacknowledged")
    active.worker.write()
    trust = looked(active, DOUBT_S + 2 * LOOK_S)
    assert DOUBTED in trust
    assert active.worker.machine._next_ping == pings


def test_a_server_does_not_ask(active: Joined) -> None:
    active.worker.machine.eager = False
    assert looked(active, 60.0) == [TRUSTED]
    assert not active.worker.machine.look_at


def test_whose_streams_have_been_idle_goes_by_its_interval(active: Joined) -> None:
    machine, began = active.worker.machine, active.now
    active.server.out.stalled = active.worker.out.stalled = False
    while active.now < began + 2 * ACTIVE_S and machine.look_at:
        looked(active, LOOK_S)
        active.run()
        machine.heard_at = active.now
    assert not machine.look_at
    assert ACTIVE_S <= active.now - began <= ACTIVE_S + 5


def test_a_look_that_comes_late_starts_anew(active: Joined) -> None:
    active.worker.open(first=b"unacknowledged")
    active.worker.write()
    looked(active, DOUBT_S - 2 * LOOK_S)
    machine = active.worker.machine
    active.now = machine.look_at + LATE_S + 30.0
    machine.look(active.now, 0)
    assert machine.trust == TRUSTED
