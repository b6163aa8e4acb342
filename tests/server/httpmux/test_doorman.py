"""Who is let in by a name and a password: what is remembered, what is looked at, who waits and how many may."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from aero.limits import Limits
from aero.server.httpmux import doorman as module
from aero.server.httpmux.doorman import BUSY, LET_IN, LOGIN, Credentials, Doorman, Trial, parse_basic
from aero.server.policy.passwords import Logins

LOGINS = Logins({b"ada": "$x$right"}, b"mark")
HERE, THERE = "192.0.2.1", "198.51.100.1"


class Pool:
    """A thread that works when the test says so: ``jobs`` wait, each with whom to tell."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], bool], Callable[[Any], None]]] = []

    def spawn(self, work: Callable[..., bool], *said: bytes) -> Any:
        self._work = lambda: work(*said)
        return self

    def rawlink(self, tell: Callable[[Any], None]) -> None:
        self.jobs.append((self._work, tell))

    def run(self) -> int:
        """All that waits; how much that was."""
        done = 0
        while self.jobs:
            work, tell = self.jobs.pop(0)
            tell(Result(work))
            done += 1
        return done

    def close(self) -> None: ...


class Result:
    def __init__(self, work: Callable[[], bool]) -> None:
        self.work = work

    def get(self, block: bool) -> bool:
        return self.work()


class Timer:
    def __init__(self, after: float) -> None:
        self.after = after

    def start(self, call: Callable[[], None]) -> None:
        self.call = call

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Desk:
    """A doorman, the loop and the thread that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool = Pool()
        self.timers: list[Timer] = []
        self.broken: list[Exception] = []
        self.doorman = Doorman(self, self.broken.append)  # type: ignore[arg-type]
        self.doorman._pool = self.pool  # type: ignore[assignment]
        monkeypatch.setattr(module, "monotonic", lambda: 100.0)

    def timer(self, after: float) -> Timer:
        self.timers.append(Timer(after))
        return self.timers[-1]

    def ask(self, password: str, ip: str = HERE, before: Trial | None = None) -> Any:
        return self.doorman.ask(LOGINS, basic("ada", password), ip, before)


def basic(user: str, password: str) -> bytes:
    return b"Authorization: Basic %b\r\n" % b64encode(f"{user}:{password}".encode())


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(
        "aero.server.policy.passwords.fits", lambda password, proof: proof == f"$x${password.decode()}"
    )
    return Desk(monkeypatch)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (basic("ada", "b:c"), Credentials(b"ada", b"b:c")),
        (b"A: 1\r\naUTHORIZATION:  bASIC   YTpi \r\nB: 2\r\n", Credentials(b"a", b"b")),
        (b"Authorization: Basic Og==\r\n", Credentials(b"", b"")),
        (b"", None),
        (b"X-Authorization: Basic YTpi\r\n", None),
        (b"Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n", None),
        (b"Authorization: Bearer YTpi\r\n", None),
        (b"Authorization: BasicYTpi\r\n", None),
        (b"Authorization: Basic YTpi=\r\n", None),
        (b"Authorization: Basic YTp\r\n", None),
        (b"Authorization: Basic YQ==\r\n", None),  # no colon
        (basic("a", "b" * 257), None),
        (b"Authorization: Basic " + b"YTpi" * 400 + b"\r\n", None),
    ],
)
def test_what_is_said(kept: bytes, said: Credentials | None) -> None:
    assert parse_basic(kept) == said


def test_a_right_password_is_looked_at_once(desk: Desk) -> None:
    trial = desk.ask("right")
    told: list[int] = []
    trial.wait(lambda: told.append(1))
    assert desk.ask("right", THERE) is trial, "whoever says the same waits for the same"
    assert not told and desk.pool.run() == 1 and told == [1]
    assert trial.right is True
    assert desk.ask("right", before=trial) == desk.ask("right", THERE) == LET_IN
    assert not desk.pool.jobs


def test_a_wrong_password_is_looked_at_each_time_and_later_each_time(desk: Desk) -> None:
    for _ in range(4):
        trial = desk.ask("wrong")
        desk.pool.run()
        assert trial.right is False and desk.ask("wrong", before=trial) == LOGIN
    assert not desk.timers
    trial = desk.ask("wrong")
    assert [each.after for each in desk.timers] == [0.5] and not desk.pool.jobs
    assert isinstance(desk.ask("right", THERE), Trial) and len(desk.pool.jobs) == 1, "others do not wait"
    desk.timers[0].call()
    assert desk.pool.run() == 2 and trial.right is False


def test_another_file_asks_anew(desk: Desk) -> None:
    desk.ask("right")
    desk.pool.run()
    other = Logins({b"ada": "$x$other"}, b"other mark")
    assert isinstance(desk.doorman.ask(other, basic("ada", "right"), HERE, None), Trial)


def test_an_address_has_some_under_way_and_all_have_more(desk: Desk) -> None:
    for number in range(Limits.PASSWORDS_PER_ADDRESS):
        assert isinstance(desk.ask(f"w{number}"), Trial)
    assert desk.ask("one more") == BUSY
    for number in range(Limits.PASSWORDS - Limits.PASSWORDS_PER_ADDRESS):
        assert isinstance(desk.ask(f"x{number}", f"10.0.0.{number}"), Trial)
    assert desk.ask("one more", THERE) == BUSY
    assert len(desk.pool.jobs) == 1, "one at a time"
    assert desk.pool.run() == Limits.PASSWORDS
    assert isinstance(desk.ask("right", THERE), Trial)


def test_a_visitor_who_leaves_has_guessed_all_the_same(desk: Desk) -> None:
    told: list[int] = []

    def tell() -> None:
        told.append(1)

    for number in range(5):
        trial = desk.ask(f"w{number}")
        trial.wait(tell)
        trial.leave(tell)
        trial.leave(tell)
    assert desk.pool.run() == 5 and not told
    assert isinstance(desk.ask("right"), Trial) and desk.timers


def test_no_more_is_remembered_than_has_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "PASSWORDS_KNOWN", 2)
    files = [Logins({b"ada": "$x$right"}, b"%d" % number) for number in range(3)]
    for logins in files:
        desk.doorman.ask(logins, basic("ada", "right"), HERE, None)
        desk.pool.run()
    known = [desk.doorman.ask(each, basic("ada", "right"), HERE, None) == LET_IN for each in files]
    assert known == [False, True, True]


def test_a_fault_lets_nobody_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(password: bytes, proof: str) -> bool:
        raise ValueError("oh")

    monkeypatch.setattr("aero.server.policy.passwords.fits", fails)
    trial = desk.ask("right")
    desk.pool.run()
    assert trial.right is False and [str(each) for each in desk.broken] == ["oh"]
    assert desk.ask("right", before=trial) == LOGIN


def test_nothing_goes_on_after_its_end(desk: Desk) -> None:
    trial = desk.ask("right")
    desk.doorman.close()
    desk.pool.run()
    assert trial.right is None and not desk.broken
