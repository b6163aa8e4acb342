"""The gate: what each way of ending costs the guest's address, what it shows, and when a guest is held back."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any, Callable, cast

import gevent
import pytest

from aero.core import spake2plus
from aero.core.aead.choose import choose
from aero.core.codes import Close
from aero.core.handshake import CONFIRM, HELLO, SERVER_HELLO, WorkerHandshake, fail, message
from aero.core.spake2plus import SCALAR_BYTES, Password, Verifier
from aero.errors import AeroError
from aero.limits import Limits
from aero.net.handshake import greet_worker
from aero.net.transport import TcpTransport
from aero.server.links.certificates import Certificates
from aero.server.links.entrance import Entrance
from aero.server.links.gate import Gate
from aero.server.policy.origin import key_of
from aero.server.policy.proxies import Trust
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events
from tests.faults.inside import until

RIGHT, WRONG = Password(0xC0DE, 0xBEEF), Password(0xBAD, 0xBAD)
VERIFIER, NOBODY = Verifier.of(0xC0DE, 0xBEEF), Verifier.of(0xDEAD, 0xDEAD)
PEER = ("192.0.2.1", 4711)


def find_verifier(user: str) -> Verifier:
    return NOBODY if user else VERIFIER


class Lab:
    """A gate without a server, and guests with one end of a pair of sockets each."""

    def __init__(self) -> None:
        self.counters, self.events = Counters(), Events()
        ground: Any = SimpleNamespace(
            memory=SimpleNamespace(packer=None),
            counters=self.counters,
            events=self.events,
            backend=choose(""),
        )
        codes: Any = SimpleNamespace(
            verifier=find_verifier, counts=lambda verifier: verifier is VERIFIER, refusal=Close.AUTH
        )
        entrance = Entrance(self.counters, Certificates((), ""), "/_aero/link", Trust(()))
        self.guessed: list[str] = []
        invitations: Any = SimpleNamespace(guessed=lambda login, _: self.guessed.append(login))
        self.gate = Gate(ground, cast(Any, None), codes, entrance, invitations)
        self.guests: list[socket.socket] = []

    def guest(self, said: bytes = b"") -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.guests.append(near)
        self.gate.connected(far, PEER)
        near.send(said)
        return near

    @property
    def failures(self) -> float:
        """What the guests' address has to its name."""
        return round(self.gate.penalties.failures(key_of(PEER[0]), monotonic()), 1)

    @property
    def results(self) -> dict[str, int]:
        return {result: count for result, count in self.counters.handshakes.items() if count}

    @property
    def faults(self) -> list[str]:
        return [event.what for event in self.events.past if event.fault]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(Limits, "HANDSHAKES_PER_ADDRESS", 2)
    lab = Lab()
    yield lab
    for guest in lab.guests:
        guest.close()
    until("the gate to be empty", lambda: not len(lab.gate))


def hello(password: Password = WRONG, user: str = "") -> bytes:
    return WorkerHandshake(password, user, os.urandom(SCALAR_BYTES)).start()


def hello_with(share: bytes) -> bytes:
    return message(HELLO, share + bytes(5))


def heard(sock: socket.socket, count: int = 1) -> list[bytes]:
    """Waits for so many messages."""
    data, found = b"", []
    while len(found) < count:
        gevent.sleep(0.001)
        try:
            more = sock.recv(4096)
        except BlockingIOError:
            continue
        assert more, "the server hung up"
        data += more
        while len(data) >= 8 and len(data) >= 8 + int.from_bytes(data[6:8], "big"):
            size = 8 + int.from_bytes(data[6:8], "big")
            found.append(data[:size])
            data = data[size:]
    return found


def leaves(lab: Lab, sock: socket.socket) -> None:
    sock.close()


def proves_wrongly(lab: Lab, sock: socket.socket) -> None:
    sock.send(message(CONFIRM, bytes(32)))
    assert heard(sock) == [fail(Close.AUTH, "wrong auth code")]
    sock.close()


def talks_nonsense(lab: Lab, sock: socket.socket) -> None:
    sock.send(b"nonsense")
    sock.close()


def says_hello_again(lab: Lab, sock: socket.socket) -> None:
    sock.send(hello())
    assert heard(sock)[0][8] == Close.STATE
    sock.close()


def is_pushed_out(lab: Lab, sock: socket.socket) -> None:
    for _ in range(Limits.HANDSHAKES_PER_ADDRESS):
        other = lab.guest(hello())
        heard(other)
    until("some place to be lost", lambda: "no proof" in lab.results)


SHARES: dict[str, Callable[[], bytes]] = {
    "wrong": hello,
    "right": lambda: hello(RIGHT),
    "unknown user": lambda: hello(user="somebody"),
    "infinity": lambda: hello_with(spake2plus._encode(VERIFIER.m)),
    "infinity of another code": lambda: hello_with(spake2plus._encode(WRONG.m)),
}


@pytest.mark.parametrize("end", [leaves, proves_wrongly, talks_nonsense, says_hello_again])
@pytest.mark.parametrize("share", SHARES)
def test_who_was_answered_and_brings_no_proof_pays_in_full(
    lab: Lab, share: str, end: Callable[[Lab, socket.socket], None]
) -> None:
    """Whatever the share was made of: the counters, the log and the penalty are the same."""
    sock = lab.guest(SHARES[share]())
    assert heard(sock)[0][5] == SERVER_HELLO
    end(lab, sock)
    until("its end", lambda: not len(lab.gate))
    assert lab.failures == 1.0
    assert lab.results == {"wrong code" if end is proves_wrongly else "no proof": 1}
    assert lab.faults == ["handshake failed"]
    assert len(lab.guessed) == (end is proves_wrongly), "an invitation counts guesses that were shown"


def test_who_lets_the_time_pass_pays_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aero.net.handshake.TIMEOUT_S", 0.1)
    heard(lab.guest(hello()))
    until("its end", lambda: not len(lab.gate))
    assert (lab.failures, lab.results) == (1.0, {"no proof": 1})


def test_who_is_pushed_out_after_the_answer_pays_too(lab: Lab) -> None:
    is_pushed_out(lab, lab.guest(hello()))
    assert lab.failures >= 1.0
    assert lab.faults == ["handshake failed"] * lab.results["no proof"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"A",
        hello()[:-1],
        b"GET / HTTP/1.1\r\n\r\n",
        hello()[:4] + b"\1" + hello()[5:],
        hello_with(bytes(65)),
        message(CONFIRM, bytes(32)),
    ],
    ids=["silence", "a byte", "nearly a hello", "http", "version 1", "no point", "no hello"],
)
def test_who_was_never_answered_pays_nothing(lab: Lab, said: bytes) -> None:
    lab.guest(said).close()
    until("its end", lambda: not len(lab.gate))
    assert lab.failures == 0.0 and not lab.faults
    assert set(lab.results) <= {"gave up", "rule broken"}


def test_who_was_never_answered_and_is_pushed_out_pays_nothing(lab: Lab) -> None:
    for _ in range(3):
        lab.guest()
    until("some place to be lost", lambda: "no place" in lab.results)
    assert lab.failures == 0.0 and not lab.faults


def test_an_address_is_held_back_and_never_longer_than_five_seconds(lab: Lab) -> None:
    for _ in range(100):
        lab.gate.penalties.failed(key_of(PEER[0]), monotonic())
    delay_s = lab.gate.penalties.delay_s(key_of(PEER[0]), monotonic())
    assert 4.0 < delay_s <= 5.0, "a neighbour has 10 s for its handshake"


def test_an_error_of_ours_ends_one_handshake(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lab.gate._codes, "verifier", lambda user: 1 / 0)
        lab.guest(hello())
        until("its end", lambda: not len(lab.gate))
    assert lab.results == {"gave up": 1} and lab.failures == 0.0
    heard(lab.guest(hello()))


class Watch:
    """A guest's watch that writes down when it is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def hold(self) -> None:
        self.calls.append("hold")

    def answered(self) -> None:
        self.calls.append("answered")

    def failed(self) -> None:
        self.calls.append("failed")


def test_nothing_less_than_a_whole_hello_passes_the_turnstile() -> None:
    """A flood that sent one byte each, went through, and said the rest all at once was not held back."""
    near, far = socket.socketpair()
    watch = Watch()
    greeting = gevent.spawn(_greet, TcpTransport(far), watch)
    said = hello()
    for byte in said[:-1]:
        near.send(bytes((byte,)))
        gevent.sleep(0)
    gevent.sleep(0.01)  # some turns of the loop, in which nobody may pass
    assert watch.calls == []
    near.send(said[-1:])
    until("the answer", lambda: watch.calls == ["hold", "answered"])
    near.close()
    greeting.join(5)
    assert watch.calls == ["hold", "answered", "failed"]
    far.close()


def _greet(transport: TcpTransport, watch: Watch) -> None:
    with pytest.raises(AeroError):
        greet_worker(transport, find_verifier, choose(""), watch)
