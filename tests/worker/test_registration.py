"""Registration in virtual time: the server knows what we have, and is never told more often than it allows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Callable

import gevent
import pytest

from aero import address
from aero.address import Setting, Target
from aero.config.targetoptions import OPTIONS, TargetOption
from aero.core import control, frames
from aero.core.budget import Budget
from aero.core.codes import Reset
from aero.core.control import OUT_OF_RANGE, TAKEN, Answer, Register, Unregister
from aero.limits import Limits
from aero.worker import registration
from aero.worker.registration import ASKED, LATER, MAPPED, REFUSED, STATE_NAMES, TRANSITIONS, Registration
from aero.worker.targets import Services

A, B, C = (Target(name, "127.0.0.1", port) for name, port in (("a", 1), ("b", 2), ("c", 3)))


class Timer:
    """A timer of the world's time."""

    def __init__(self, world: World, after_s: float) -> None:
        self.world, self.at = world, world.now + after_s
        self.call: Callable[[], Any] | None = None

    def start(self, call: Callable[[], Any]) -> None:
        self.call = call

    def stop(self) -> None:
        self.call = None

    def close(self) -> None:
        self.call = None


class World:
    """Time, a path to the server, and a server that counts what it is told and knows what it was told."""

    def __init__(self, *targets: Target, delay_s: float = 0.0) -> None:
        self.now = 1000.0
        self.delay_s = delay_s
        self.up = True
        self.timers: list[Timer] = []
        self.under_way: list[tuple[float, Register | Unregister]] = []
        self.told: list[Register | Unregister] = []
        self.refuse: dict[str, str] = {}  # by name: the error
        self.honours: set[str] = set()  # options
        self.known: dict[int, str] = {}  # at the server: id and name
        self.budget = Budget(Limits.CONTROL_BURST, Limits.CONTROL_PER_S, self.now)
        self.announced: list[tuple[str, int]] = []
        self.services = Services(gevent.get_hub().loop, targets)
        self.registration = Registration(self, self.services, self.announce)  # type: ignore[arg-type]
        self.registration.speaker = lambda: self if self.up else None
        self.registration.worker_begun()

    def announce(self, target: Target, port: int) -> None:
        self.announced.append((target.name, port))

    def timer(self, after_s: float) -> Timer:
        self.timers.append(Timer(self, after_s))
        return self.timers[-1]

    carries_datagrams = True

    def say(self, said: Iterable[Register | Unregister]) -> Receipt:
        messages = list(said)
        self.under_way += [(self.now + self.delay_s, message) for message in messages]
        self.told += messages
        return Receipt(self, len(self.told))

    def receive(self) -> None:
        while self.up and self.under_way and self.under_way[0][0] <= self.now:
            message = self.under_way.pop(0)[1]
            assert self.budget.spend(self.now), "control messages come faster than the server allows"
            if isinstance(message, Unregister):
                for number in message.ids:
                    self.known.pop(number, None)
            else:
                self.registration.answered(tuple(map(self.answer, message.targets)))

    def answer(self, wanted: Any) -> Answer:
        if wanted.name in self.refuse:
            return Answer(
                wanted.id, wanted.name, error=self.refuse[wanted.name], text=self.refuse[wanted.name]
            )
        self.known[wanted.id] = wanted.name
        honoured = {key: value for key, value in wanted.options.items() if key in self.honours}
        return Answer(wanted.id, wanted.name, port=10_000 + wanted.id, options=honoured)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while True:
            self.receive()
            self.timers = [timer for timer in self.timers if timer.call is not None]
            nexts = [timer.at for timer in self.timers] + [at for at, _ in self.under_way if self.up]
            at = min(nexts, default=end)
            if at > end:
                break
            self.now = max(self.now, at)
            for timer in [timer for timer in self.timers if timer.at <= self.now]:
                call, timer.call = timer.call, None
                if call is not None:
                    call()
            if at >= end:
                self.receive()
                break
        self.now = end

    @property
    def agrees(self) -> bool:
        return self.known == {each.id: each.target.name for each in self.services}

    def states(self) -> dict[str, str]:
        return {each.target.name: STATE_NAMES[self.registration.state(each)] for each in self.services}


class Receipt:
    """Whether the server has processed the first so many messages."""

    def __init__(self, world: World, count: int) -> None:
        self._world, self._count = world, count

    @property
    def processed(self) -> bool:
        return len(self._world.told) - len(self._world.under_way) >= self._count


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """The module's clock shows the time of the test's world."""
    worlds: list[World] = []
    begin = World.__init__

    def note(world: World, *targets: Target, delay_s: float = 0.0) -> None:
        worlds.append(world)
        world.now = 1000.0
        begin(world, *targets, delay_s=delay_s)

    monkeypatch.setattr(World, "__init__", note)
    monkeypatch.setattr(registration, "monotonic", lambda: worlds[-1].now)
    return worlds


def test_the_picture_is_the_table() -> None:
    assert registration.__doc__ is not None
    names = [name.upper() for name in STATE_NAMES]
    events = ("told", "mapped", "refused", "taken", "due", "lost")
    rows = [
        line.split()
        for line in registration.__doc__.splitlines()
        if line.split()[:1] and line.split()[0] in names
    ]
    drawn = {
        (names.index(row[0]), event): names.index(cell)
        for row in rows
        for event, cell in zip(events, row[1:])
        if cell != "-"
    }
    assert drawn == TRANSITIONS


def test_a_difference_is_told_at_once() -> None:
    world = World(A, B)
    world.run(1.0)
    assert world.agrees and world.announced == [("a", 10001), ("b", 10002)]
    world.registration.replace((A, B._replace(port=9), C))
    gone, new = world.told[1:]
    assert gone == Unregister((2,))
    assert isinstance(new, Register) and [(each.id, each.name) for each in new.targets] == [
        (3, "b"),
        (4, "c"),
    ]
    assert [each.had for each in new.targets if not isinstance(each, Answer)] == [10002, 0]
    world.run(1.0)
    assert world.agrees


def test_nothing_is_told_where_nothing_has_changed() -> None:
    world = World(A, B)
    world.refuse = {"b": OUT_OF_RANGE}
    world.run(5.0)
    world.registration.replace((A,))
    world.run(5.0)
    world.registration.replace((A, B))
    world.run(5.0)
    said = len(world.told)
    for _ in range(100):
        world.registration.replace((A, B))
        world.run(0.5)
    assert len(world.told) == said, "neither ids that are gone, nor a refusal that is final"
    assert world.states() == {"a": "mapped", "b": "refused"}


class Visit:
    """A visitor's stream that is asked nothing but to end."""

    def __init__(self) -> None:
        self.reset = 0

    def abort(self, code: int, text: str) -> None:
        self.reset = code


def test_a_target_is_taken_back_where_its_guard_is_not_honoured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, guards in (("door", True), ("bell", False)):
        monkeypatch.setitem(OPTIONS, name, TargetOption(name, "N", int, "", guards=guards))
    bell = A._replace(settings=(Setting("bell", 1, "1"),))
    door = B._replace(settings=(Setting("door", 1, "1"),))
    world = World(bell, door)
    visit = Visit()
    world.registration.visitor_came(visit, 2, "192.0.2.1:5")  # type: ignore[arg-type]
    assert visit.reset == Reset.NO_TARGET, "nobody comes in before the server has answered"
    world.run(5.0)
    assert world.states() == {"a": "mapped", "b": "refused"}
    assert world.known == {1: "a"} and world.told[-1] == Unregister((2,))
    assert "does not do what the target asks for" in caplog.text and "bell=1" in caplog.text
    assert "the target is not offered" in caplog.text and "door=1" in caplog.text
    world.honours = {"door"}
    world.registration.worker_begun()
    world.run(5.0)
    assert world.states() == {"a": "mapped", "b": "mapped"} and world.known == {1: "a", 2: "b"}
    assert not any(each.withheld for each in world.services)


@pytest.mark.parametrize("every_s", [0.01, 0.15, 0.8, 1.5])
@pytest.mark.parametrize("delay_s", [0.0, 0.3, 5.0])
def test_a_target_that_changes_all_the_time_stays_within_the_servers_limits(
    every_s: float, delay_s: float
) -> None:
    """18 reloads 0.15 s apart ended the session once."""
    world = World(A, delay_s=delay_s)
    for number in range(400):
        world.registration.replace((A, B._replace(port=1 + number)))
        world.run(every_s)
    world.run(3 * delay_s + 5.0)
    assert world.agrees


def test_a_server_that_answers_slowly_is_told_no_more_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another program uses holds the answers to all of a worker's targets up, for seconds."""
    count, busy_s = Limits.TARGETS_PER_WORKER, Limits.LEASE_BUSY_S + Limits.PROOF_OF_LIFE_S
    world = World()
    owed: list[tuple[float, Register]] = []
    most = 0

    def receive() -> None:
        nonlocal most
        while world.under_way:
            message = world.under_way.pop(0)[1]
            if isinstance(message, Register):
                owed.append((max(world.now, owed[-1][0] if owed else 0.0) + busy_s, message))
        most = max(most, sum(len(message.targets) for _, message in owed))
        while owed and owed[0][0] <= world.now:
            world.registration.answered(tuple(map(world.answer, owed.pop(0)[1].targets)))

    monkeypatch.setattr(world, "receive", receive)
    for number in range(60):
        world.registration.replace(
            tuple(Target(f"t{each}", "127.0.0.1", 1 + number) for each in range(count))
        )
        world.run(1.0)
        receive()
    assert count <= most <= 2 * count < Limits.WAITING_TARGETS


def test_a_path_that_stalls_and_goes_on_brings_one_batch() -> None:
    """What is said into a dead path comes all at once when it lives again: so little is said."""
    world = World(A, delay_s=0.1)
    world.run(1.0)
    world.delay_s = 300.0
    for number in range(300):
        world.registration.replace((A, B._replace(port=1 + number)))
        world.run(1.0)
    assert len(world.under_way) <= 2
    world.delay_s = 0.1
    world.run(310.0)
    assert world.agrees


def test_reloads_while_no_link_is_up_are_one_difference() -> None:
    world = World(A, B)
    world.run(1.0)
    world.up = False
    for number in range(40):
        world.registration.replace((A, B._replace(port=100 + number), C._replace(port=100 + number)))
        world.run(0.2)
    said = len(world.told)
    world.up = True
    world.registration.link_up()
    world.run(5.0)
    assert len(world.told) == said + 2 and world.agrees


def test_any_order_of_events_ends_in_agreement() -> None:
    for seed in range(150):
        chance = random.Random(seed)
        world = World(A, delay_s=chance.choice([0.0, 0.1, 2.0]))
        for _ in range(60):
            what = chance.random()
            if what < 0.7:
                some = chance.sample([A, B, C, B._replace(port=chance.randint(1, 9))], chance.randint(0, 3))
                world.registration.replace(tuple({each.name: each for each in some}.values()))
            elif what < 0.8:
                world.up = not world.up
                world.registration.link_up()
            elif what < 0.9:
                world.refuse = {} if world.refuse else {"b": TAKEN}
            else:
                world.under_way = []
                world.registration.session_lost()
            world.run(chance.choice([0.0, 0.1, 1.0, 40.0]))
        world.refuse, world.up = {}, True
        world.registration.link_up()
        world.run(60.0)
        assert world.agrees, seed


def test_what_is_taken_is_asked_for_again() -> None:
    world = World(A)
    world.refuse = {"a": TAKEN}
    world.run(70.0)
    assert len(world.told) == 3 and world.states() == {"a": "later"}
    world.refuse = {}
    world.run(30.0)
    assert world.states() == {"a": "mapped"} and world.announced == [("a", 10001)]


def test_a_new_worker_tells_all_and_wants_its_ports() -> None:
    world = World(A, B)
    world.refuse = {"b": OUT_OF_RANGE}
    world.run(1.0)
    world.known, world.refuse = {}, {}
    world.registration.worker_begun()
    (message,) = world.told[1:]
    assert isinstance(message, Register)
    assert [(each.id, each.had) for each in message.targets if not isinstance(each, Answer)] == [
        (1, 10001),
        (2, 0),
    ]
    world.run(1.0)
    assert world.agrees


def test_what_a_lost_session_took_along_is_said_again() -> None:
    world = World(A, B, delay_s=1.0)
    world.run(3.0)
    world.registration.replace((A, C))
    world.under_way = []  # the session is lost with it
    world.registration.session_lost()
    world.run(10.0)
    assert world.agrees


def test_the_same_answer_twice_is_told_once() -> None:
    world = World(A)
    world.run(1.0)
    world.registration.answered((Answer(1, "a", port=10001),) * 2)
    assert world.announced == [("a", 10001)]


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    world = World(A)
    world.run(1.0)
    world.registration.replace((B,))
    world.registration.answered((Answer(1, "a", port=7), Answer(9, "x", port=8), Answer(0, error="invalid")))
    world.run(1.0)
    assert world.announced == [("a", 10001), ("b", 10002)]


def test_all_targets_of_a_worker_fit_into_one_message() -> None:
    host = "h" * address.HOST_CHARS
    names = [f"{number:x<{address.NAME_CHARS}}" for number in range(control.MAX_TARGETS)]
    world = World(*(Target(name, host, 65535, 65535) for name in names))
    (message,) = world.told
    assert isinstance(message, Register) and len(message.targets) == control.MAX_TARGETS
    assert len(message.pack()) < 50 * 1024 < frames.MAX_JSON_BYTES


def test_targets_that_do_not_fit_into_one_message_come_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_JSON_BYTES", 200)
    world = World(A, B, C)
    assert len(world.told) == 2
    world.run(5.0)
    assert world.agrees


def test_states_have_names() -> None:
    assert [STATE_NAMES[state] for state in (ASKED, MAPPED, REFUSED, LATER)] == [
        "asked",
        "mapped",
        "refused",
        "later",
    ]
