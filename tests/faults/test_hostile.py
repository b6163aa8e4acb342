"""Peers that mean harm: strangers at the gate, and workers that know the code. Nobody else may notice."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.socket import wait_read

from aero.core import frames, record, spake2plus
from aero.core.codes import Close
from aero.core.handshake import CONFIRM, HELLO, SERVER_HELLO, fail, message
from aero.core.stretch import stretch
from aero.errors import AeroError, Rejected
from aero.limits import Limits
from aero.server.policy import penalties
from aero.server.policy.origin import key_of
from aero.server.registry.worker import Worker
from tests.faults.hostile import JOIN, Hostile, connect
from tests.faults.inside import CODE, DEADLINE_S, ECHO, Inside, ask, exchange, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Inside, Any]]:
    with Inside() as lab, ask(lab.port, ECHO) as visitor:
        yield lab, visitor


@pytest.fixture
def lab(shared: tuple[Inside, Any]) -> Iterator[Inside]:
    """A server with one worker and one visitor of its, who notice nothing of what a test does."""
    lab, visitor = shared
    exchange(visitor, b"before")
    yield lab
    exchange(visitor, b"after")
    assert lab.relay.count == 1
    for uplink in list(lab.server.sessions.uplinks.values()):
        if uplink.worker.tag == "hostile":
            uplink.end(Close.DONE, "the test is over")
    until(
        "the right worker to be alone", lambda: len(lab.server.sessions.links) == 1 and lab.streams == (1, 1)
    )
    lab.server.gate.penalties.forget()


# ----------------------------------------------------------------------------
# Before authentication
# ----------------------------------------------------------------------------


def _client_hello() -> bytes:
    """TLS's first message, whole: the server answers it with a key exchange and a signature, and hears no more."""
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="aero.test")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


#: Beginnings of everything that the port speaks: a link's, TLS's, a request's.
HALF = (
    pytest.param(b"", id="nothing"),
    pytest.param(b"AeRO\x02\x01", id="link"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="half-tls"),
    pytest.param(_client_hello(), id="tls"),
    pytest.param(b"GET /_aero/link HTTP/1.1\r\nHo", id="http"),
)


@pytest.mark.parametrize("said", HALF)
def test_half_open_connections_keep_nobody_out(lab: Inside, said: bytes) -> None:
    crowd = [connect(lab.server.port, f"127.0.{1 + number % 50}.1") for number in range(600)]
    for sock in crowd:
        with suppress(OSError):  # whoever had to make place
            sock.send(said)
    until("the crowd at the gate", lambda: len(lab.server.gate) == Limits.HANDSHAKES)
    with Hostile(lab.server.port) as worker:  # it does no harm here
        assert worker.join()["cid"]
    for sock in crowd:
        sock.close()
    until("an empty gate", lambda: not len(lab.server.gate))


def test_half_open_connections_from_the_same_address_keep_nobody_out(lab: Inside) -> None:
    crowd = [connect(lab.server.port) for _ in range(300)]
    until("the crowd at the gate", lambda: len(lab.server.gate) == Limits.HANDSHAKES_PER_ADDRESS)
    with Hostile(lab.server.port) as worker:
        assert worker.join()["cid"]
    for sock in crowd:
        sock.close()
    until("an empty gate", lambda: not len(lab.server.gate))


def test_wrong_codes_make_their_address_slow_and_let_the_right_one_in(
    lab: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(penalties, "FIRST_S", 0.05)
    monkeypatch.setattr(penalties, "MAX_S", 0.3)
    delays = []
    for _ in range(9):
        began = monotonic()
        with pytest.raises(Rejected) as caught:
            Hostile(lab.server.port, code="wrong")
        assert caught.value.code == Close.AUTH
        took = monotonic() - began
        delays.append(lab.server.gate.penalties.delay_s(key_of("127.0.0.1"), monotonic()))
    assert delays[0] == 0.0 and delays[-1] == 0.3
    assert took > 0.25, "and the last one was made to wait"
    flood = [gevent.spawn(_guess, lab.server.port) for _ in range(40)]
    with Hostile(lab.server.port) as worker:
        assert worker.join()["cid"]
    gevent.joinall(flood)


@pytest.mark.parametrize("code", [CODE, "wrong"], ids=["right", "wrong"])
def test_a_guess_by_a_bare_mask_is_answered_like_any_other_and_costs_as_much(
    lab: Inside, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A share that is a multiple of M alone made the server say whether the guess was right, before any proof."""
    monkeypatch.setattr(penalties, "FIRST_S", 0.05)
    monkeypatch.setattr(penalties, "MAX_S", 0.3)
    results = lab.server.ground.counters.handshakes
    before = dict(results)
    hello = message(HELLO, spake2plus._encode(spake2plus._M * stretch(code, "")[0]) + bytes(5))
    for number in range(8):
        sock = connect(lab.server.port)
        sock.send(hello)
        assert _heard(sock)[5] == SERVER_HELLO
        if number % 2:
            sock.send(message(CONFIRM, bytes(32)))
            assert _heard(sock) == fail(Close.AUTH, "wrong auth code")
        sock.close()
        until("the guest's end", lambda: not len(lab.server.gate))
    assert lab.server.gate.penalties.delay_s(key_of("127.0.0.1"), monotonic()) == 0.3
    assert (results["wrong code"] - before["wrong code"], results["no proof"] - before["no proof"]) == (4, 4)
    with Hostile(lab.server.port) as worker:
        assert worker.join()["cid"]


def _heard(sock: socket.socket) -> bytes:
    """One message of the handshake."""
    wait_read(sock.fileno(), timeout=DEADLINE_S)
    return sock.recv(4096)


def _guess(port: int) -> None:
    try:
        Hostile(port, code="wrong").sock.close()
    except AeroError:
        return


@pytest.mark.parametrize(
    "words",
    [
        b"\0" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + bytes(600),
        b"SSH-2.0-x\r\n",
        b"AeRO\x02\x01\xff\xff" + bytes(5000),
        b"AeRO\x02\x01\x00\x46" + bytes(70),  # a share that is no point of the curve
        b"AeRO\x02\x03\x00\x20" + bytes(32),  # CONFIRM before HELLO
        b"AeRO\x07\x01\x00\x00",
    ],
)
def test_nonsense_in_the_handshake_ends_it_at_once(lab: Inside, words: bytes) -> None:
    sock = connect(lab.server.port)
    sock.send(words)
    until("the gate to be empty", lambda: not len(lab.server.gate))
    sock.close()


def test_handshakes_byte_by_byte_have_a_deadline(lab: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aero.net.handshake.TIMEOUT_S", 0.3)
    sock = connect(lab.server.port)
    began = monotonic()
    for byte in b"AeRO\x02\x01\x00\x47":
        sock.send(bytes((byte,)))
        gevent.sleep(0)
    until("the deadline", lambda: not len(lab.server.gate))
    assert monotonic() - began < 9
    sock.close()


def test_a_link_without_join_has_a_deadline(lab: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "JOIN_S", 0.1)
    monkeypatch.setattr(frames, "JOIN", frames.PING)  # greet_server sends a ping in its place
    monkeypatch.setattr(frames, "pack_json", lambda _: bytes(8))
    with Hostile(lab.server.port) as worker:
        assert worker.close_code() == Close.SILENT


# ----------------------------------------------------------------------------
# After it
# ----------------------------------------------------------------------------

_RESET_0 = frames.pack(frames.RESET, 2, b"")
_LONG = frames.HEADER.pack(frames.DATA << 24 | 0xFFFF, 2)


@pytest.mark.parametrize(
    ("kind", "plaintext", "code"),
    [
        (record.SESSION, b"\0", Close.FRAME),
        (record.SESSION, bytes(8), Close.FRAME),
        (record.SESSION, _LONG, Close.FRAME),
        (record.SESSION, frames.pack(0x7F, 0), Close.FRAME),
        (record.SESSION, frames.pack(frames.DATA, 2, b"x"), Close.UNKNOWN_STREAM),
        (record.SESSION, frames.pack(frames.DATA, 1, b"x"), Close.UNKNOWN_STREAM),
        (record.SESSION, frames.pack(frames.FIN, 4), Close.UNKNOWN_STREAM),
        (record.SESSION, _RESET_0, Close.FRAME),
        (record.SESSION, frames.pack(frames.WINDOW, 9, bytes(12)), Close.UNKNOWN_STREAM),
        (record.SESSION, frames.pack(frames.OPEN, 3, frames.pack_open(1, 1, "x")), Close.STATE),
        (record.SESSION, frames.pack(frames.OPEN, 2, frames.pack_open(1 << 30, 1, "x")), Close.CREDIT),
        (record.SESSION, frames.pack(frames.CONTROL, 0, b"[]"), Close.FRAME),
        (record.SESSION, frames.pack(frames.CONTROL, 0, b"{" * 60_000), Close.FRAME),
        (record.SESSION, frames.pack(frames.CONTROL, 0, b'{"a":' * 9_000), Close.FRAME),
        (record.SESSION, frames.pack(frames.CONTROL, 5, b"{}"), Close.FRAME),
        (record.SESSION, frames.pack(frames.ACK, 0, bytes(8)), Close.FRAME),
        (record.LINK, frames.pack(frames.DATA, 0, b"x"), Close.FRAME),
        (record.LINK, frames.pack(frames.ACK, 0, struct.pack("!Q", 1 << 60)), Close.SEQUENCE),
        (record.LINK, frames.pack(frames.PONG, 0, struct.pack("!Q", 99)), Close.STATE),
        (record.LINK, frames.pack(frames.JOIN, 0, b"{}"), Close.STATE),
        (record.LINK, frames.pack(frames.JOINED, 0, b"{}"), Close.STATE),
        (record.LINK, frames.pack(frames.PING, 0, b"x"), Close.FRAME),
    ],
)
def test_a_broken_rule_ends_the_link_and_the_session(
    lab: Inside, kind: int, plaintext: bytes, code: int
) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        worker.send(kind, plaintext)
        assert worker.close_code() == code
    until("the session's end", lambda: len(lab.server.sessions.uplinks) == 1)


@pytest.mark.parametrize(
    "join",
    [
        {},
        {"identity": 1, "tag": [], "host": None},
        {"identity": "x" * 65, "tag": "a", "host": "a"},
        {"identity": "x", "tag": "../../etc", "host": "a"},
        {"identity": "x", "tag": "a", "host": "\x1b[2J<script>"},
        {"session": "x", "secret": 7},
        {"session": ["x"], "secret": {}},
        {"session": "x", "secret": "é" * 10_000, "received": 0, "link": 9},
        {"beside": "", "secret": ""},
        {"beside": None},
        {"identity": "x\ud800", "tag": "a", "host": "a"},
        {"identity": "two words", "tag": "a", "host": "a"},
        {"identity": "x", "tag": "\u212a", "host": "a"},
        {"identity": "x", "tag": "a", "host": "a", "role": "visitor"},
        {"identity": "x", "tag": "a", "host": "a", "ping": 0},
        {"identity": "x", "tag": "a", "host": "a", "ping": float("nan")},
        {"identity": "x", "tag": "c" + "0" * 12, "host": "a"},
    ],
)
def test_a_join_that_cannot_be_is_refused(lab: Inside, join: dict[str, Any]) -> None:
    with Hostile(lab.server.port, join) as worker:
        assert worker.close_code() in (Close.FRAME, Close.DENIED)
    assert len(lab.server.sessions.uplinks) == 1


def test_a_session_cannot_be_stolen(lab: Inside) -> None:
    (uplink,) = lab.server.sessions.uplinks.values()
    carrying = uplink.link
    place = {"session": uplink.id, "received": 0, "link": 1 << 40}
    for secret in ("0" * 32, uplink.secret[:-1], uplink.secret[:-1] + "G"):
        with Hostile(lab.server.port, {**place, "secret": secret}) as thief:
            assert thief.close_code() == Close.GONE
        with Hostile(lab.server.port, {"beside": uplink.id, "secret": secret}) as thief:
            assert thief.close_code() == Close.GONE
    assert uplink.link is carrying


def test_a_recorded_link_is_worth_nothing(lab: Inside) -> None:
    """All that an eavesdropper heard, sent again, gets him nowhere: the server's share is another one each time."""
    with Hostile(lab.server.port) as worker:
        worker.join()
        wrong = lab.server.ground.counters.handshakes["wrong code"]
        sock = connect(lab.server.port)
        sock.send(worker.spoken)
        until("the refusal", lambda: lab.server.ground.counters.handshakes["wrong code"] == wrong + 1)
        sock.close()
    assert len(lab.server.sessions.links) <= 2


def test_an_impossible_position_ends_the_session_at_both_ends(lab: Inside) -> None:
    with Hostile(lab.server.port) as worker:
        joined = worker.join()
        place = {"session": joined["session"], "secret": joined["secret"], "link": 2}
        with Hostile(lab.server.port, {**place, "received": 1 << 50}) as second:
            assert second.close_code() == Close.SEQUENCE
        assert worker.close_code() == Close.SEQUENCE
    until("the session's end", lambda: len(lab.server.sessions.uplinks) == 1)


def test_control_messages_without_end(lab: Inside) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        for number in range(200):
            target = {"id": 1 + number, "name": f"n{number}", "local": "127.0.0.1:1"}
            if not worker.say({"do": "register", "targets": [target]}):
                break
        assert worker.close_code() == Close.OVERLOAD
    until("its mappings' end", lambda: len(lab.server.registry.workers) == 1)


@pytest.mark.parametrize(
    "targets",
    [
        None,
        7,
        {},
        [1] * 15_000,
        [{}] * 10_000,
        [{"id": True}],
        [{"id": 1 << 70}],
        [{"id": 5, "name": ["x"] * 10_000}],
        [{"id": 5, "name": "x" * 60_000, "local": "127.0.0.1:1"}],
        [{"id": 5, "name": "x", "local": "é" * 9_000}],
        [{"id": 5, "name": "x", "local": "127.0.0.1:1", "remote": 1e300}],
        [{"id": 5, "name": "\u202e<b>", "local": "\x1b[31m:1"}],
        [{"id": number, "name": f"n{number}", "local": "h:1"} for number in range(1, 400)],
    ],
)
def test_registrations_that_cannot_be(lab: Inside, targets: Any) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        message = json.dumps({"do": "register", "targets": targets}).encode()
        assert worker.session(frames.pack(frames.CONTROL, 0, message[: frames.MAX_JSON_BYTES]))
        worker.link(frames.pack(frames.PING, 0, bytes(8)))
        while not worker.control and worker.read():
            pass
        if not isinstance(targets, list):
            assert worker.closed and worker.closed[0] == Close.FRAME
        else:
            assert worker.control, worker.closed
        answers = [answer for each in worker.control for answer in each["targets"]]
        taken = [answer for answer in answers if "port" in answer]
        assert len(taken) <= Limits.TARGETS_PER_WORKER
        assert all(len(answer["text"]) <= 200 for answer in answers if "text" in answer)


@pytest.mark.parametrize("where", ["register", "registering"])
def test_an_error_of_ours_ends_one_link_and_nothing_else(
    lab: Inside, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def slip(*_: object) -> None:
        raise KeyError("a slip of ours")

    monkeypatch.setattr(Worker, where, slip)
    with Hostile(lab.server.port) as other, Hostile(lab.server.port) as worker:
        other.join()
        worker.join()
        worker.say({"do": "register", "targets": [{"id": 1, "name": "web", "local": "h:1"}]})
        assert worker.close_code() == Close.INTERNAL
        other.link(frames.pack(frames.PING, 0, bytes(8)))
        assert other.read() and not other.ended
    until("the sessions' end", lambda: len(lab.server.sessions.uplinks) == 1)


def test_pings_whose_answers_are_never_read(lab: Inside) -> None:
    with Hostile(lab.server.port) as worker:
        worker.join()
        pings = frames.pack(frames.PING, 0, bytes(8)) * 4000
        for _ in range(400):
            if not worker.link(pings):
                break
        until("the server to hang up", lambda: len(lab.server.sessions.links) == 1)


def test_streams_that_are_opened_at_the_server_and_answers_never_acknowledged(
    lab: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = lab.server.ground.session_limits._replace(kept_bytes=4 * MIB, kept_slack_bytes=MIB)
    monkeypatch.setattr(lab.server.gate, "_ground", lab.server.ground._replace(session_limits=limits))
    with Hostile(lab.server.port) as worker:
        worker.join()
        numbers = iter(range(2, 1 << 31, 2))
        reader = gevent.spawn(_read_all, worker)
        (uplink,) = [each for each in lab.server.sessions.uplinks.values() if each.worker.tag == "hostile"]
        most = 0
        while not worker.ended:
            opens = (
                frames.pack(frames.OPEN, next(numbers), frames.pack_open(1 << 20, 1, "x"))
                for _ in range(4000)
            )
            worker.session(*opens)
            if not uplink.ended:
                most = max(most, uplink.session.outbox.kept_bytes)
        reader.join()
        assert worker.closed is not None and worker.closed[0] == Close.OVERLOAD
        assert most <= limits.kept_bytes + limits.kept_slack_bytes + MIB


def _read_all(worker: Hostile) -> None:
    while worker.read():
        pass


def test_a_worker_that_never_acknowledges_is_bounded(lab: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = lab.server.ground.session_limits._replace(kept_bytes=2 * MIB)
    monkeypatch.setattr(lab.server.gate, "_ground", lab.server.ground._replace(session_limits=limits))
    with Hostile(lab.server.port) as worker:
        worker.join()
        worker.say({"do": "register", "targets": [{"id": 1, "name": "n", "local": "h:1"}]})
        while not worker.control:
            worker.read()
        (uplink,) = [each for each in lab.server.sessions.uplinks.values() if each.worker.tag == "hostile"]
        reader = gevent.spawn(_read_all, worker)
        visitor = ask(worker.control[0]["targets"][0]["port"], ECHO)
        uploading = gevent.spawn(_send_without_end, visitor)
        outbox = uplink.session.outbox
        until("the stream", lambda: 1 in uplink.session.streams)
        stream = uplink.session.streams[1]

        def more() -> bool:
            """Lets the visitor send all it likes, and acknowledges nothing."""
            worker.session(frames.pack(frames.WINDOW, 1, frames.pack_window(stream.sent, 16 * MIB)))
            return bool(uplink.session.waiting)

        # What may be on its way without an acknowledgement is far below what a session may keep.
        until("the stream to be held back", more)
        kept = outbox.kept_bytes
        for _ in range(50):
            more()
            gevent.sleep(0)
        assert uplink.session.waiting
        assert outbox.kept_bytes <= kept + MIB // 2 < limits.kept_bytes
        reader.kill()
    until("its end", lambda: not uplink.alive)
    uplink.end(Close.DONE, "the test is over")
    uploading.join()
    visitor.close()


def _send_without_end(visitor: Any) -> None:
    try:
        while True:
            visitor.sendall(bytes(MIB))
    except OSError:
        return


def test_the_same_identity_again_and_again(lab: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clones: whoever answers lives on, with a cid of its own; whoever is silent is replaced, with its ports."""
    monkeypatch.setattr(Limits, "PROOF_OF_LIFE_S", 0.3)
    with Hostile(lab.server.port) as first, Hostile(lab.server.port, JOIN) as second:
        first.answers_pings = True
        assert first.join()
        reader = gevent.spawn(_read_all, first)
        assert second.join()["cid"] != first.joined["cid"]
        assert first.closed is None
        second.answers_pings = True
        other = gevent.spawn(_read_all, second)
        first.answers_pings = False
        with Hostile(lab.server.port) as third:
            assert third.join()["cid"] not in (first.joined["cid"], second.joined["cid"])
        reader.join()
        other.kill()
        assert first.closed is not None and first.closed[0] == Close.REPLACED
        assert second.closed is None
