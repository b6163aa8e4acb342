"""The handshake: two right ends, then everything that somebody on the path, or at either end, can get wrong."""

from __future__ import annotations

import os
import statistics
from time import thread_time
from typing import Callable

import pytest

from aero.core import features, handshake, spake2plus
from aero.core.codes import Close
from aero.core.handshake import (
    CONFIRM,
    FAIL,
    HEADER_BYTES,
    HELLO,
    MAX_BODY_BYTES,
    MAX_USER_BYTES,
    SCALAR_BYTES,
    SERVER_HELLO,
    LinkSecrets,
    ServerHandshake,
    WorkerHandshake,
    describe,
    fail,
    message,
)
from aero.core.spake2plus import Password, Verifier
from aero.errors import AeroError, Rejected, RemoteProtocolError, SecurityError
from tests.core.joined import refused

CODES = {"right": (0xC0DE, 0xC0DE1), "wrong": (0xBAD, 0xBAD1), "nobody": (0xDEAD, 0xDEAD1)}
RIGHT, WRONG = Password(*CODES["right"]), Password(*CODES["wrong"])
RIGHT_VERIFIER, WRONG_VERIFIER, NOBODY = (Verifier.of(*CODES[code]) for code in ("right", "wrong", "nobody"))
WORKER_RANDOM, SERVER_RANDOM = bytes(range(48)), bytes(range(48, 96))
SHARE = slice(HEADER_BYTES, HEADER_BYTES + 65)
FEATURES = slice(HEADER_BYTES + 65, HEADER_BYTES + 69)


def find_verifier(user: str) -> Verifier:
    return RIGHT_VERIFIER if user in ("", "anna") else NOBODY


def worker(password: Password = RIGHT, user: str = "") -> WorkerHandshake:
    return WorkerHandshake(password, user, WORKER_RANDOM)


def server() -> ServerHandshake:
    return ServerHandshake(find_verifier, SERVER_RANDOM)


Meddler = Callable[[int, bytes], bytes]


def meet(ours: WorkerHandshake, theirs: ServerHandshake, meddle: Meddler = lambda number, data: data) -> None:
    """Runs both ends until one raises or both are done; ``meddle(number, message)`` sits on the path."""
    number, data = 0, ours.start()
    while data:
        data = meddle(number, data)
        data = theirs.receive(data) if number % 2 == 0 else ours.receive(data)
        number += 1


def changed(which: int, change: Callable[[bytearray], None]) -> Meddler:
    """Changes message number ``which``: 0 HELLO, 1 SERVER_HELLO, 2 and 3 CONFIRM."""

    def meddle(number: int, data: bytes) -> bytes:
        if number != which:
            return data
        some = bytearray(data)
        change(some)
        return bytes(some)

    return meddle


# Two right ends


def secrets_of(machine: WorkerHandshake | ServerHandshake) -> LinkSecrets:
    assert machine.secrets is not None
    return machine.secrets


@pytest.mark.parametrize("user", ["", "anna", "a" * 64], ids=["", "anna", "64"])
def test_one_code_gives_both_ends_the_same_keys(user: str) -> None:
    ours = worker(RIGHT if user in ("", "anna") else Password(*CODES["nobody"]), user)
    theirs = server()
    meet(ours, theirs)
    assert theirs.user == user
    assert secrets_of(ours).ours == secrets_of(theirs).theirs
    assert secrets_of(ours).theirs == secrets_of(theirs).ours
    assert secrets_of(ours).ours != secrets_of(ours).theirs
    assert {len(secret) for secret in secrets_of(ours)[:2]} == {32}
    assert ours.our_secret == secrets_of(ours).ours


def test_both_ends_agree_on_what_both_have() -> None:
    for theirs_have, agreed in (
        (0, 0),
        (features.ZSTD, features.ZSTD),
        (1 << 31 | features.HEALTH, 0),
        (15, 9 | 2),
    ):
        asks = features.DATAGRAMS | features.ZSTD | features.LARGE_WINDOWS
        ours = WorkerHandshake(RIGHT, "", WORKER_RANDOM, asks)
        theirs = ServerHandshake(find_verifier, SERVER_RANDOM, {asks: theirs_have}.__getitem__)
        meet(ours, theirs)
        assert secrets_of(ours).features == secrets_of(theirs).features == agreed


def test_what_nobody_has_offered_is_off_whatever_the_other_says() -> None:
    ours, theirs = worker(), ServerHandshake(find_verifier, SERVER_RANDOM, lambda _: 0xFFFFFFFF)
    meet(ours, theirs)
    assert secrets_of(ours).features == secrets_of(theirs).features == features.OFFERED


def test_byte_by_byte() -> None:
    ours, theirs = worker(), server()
    data = ours.start()
    for receiver in (theirs, ours, theirs, ours):
        answers = [receiver.receive(data[at : at + 1]) for at in range(len(data))]
        assert not any(answers[:-1])
        data = answers[-1]
    assert data == b""
    assert secrets_of(ours).ours == secrets_of(theirs).theirs


def test_nothing_in_nothing_out() -> None:
    for machine in (worker(), server()):
        assert machine.receive(b"") == b""
        assert machine.secrets is None


def test_what_comes_behind_belongs_to_the_records() -> None:
    ours, theirs = worker(), server()
    confirm = ours.receive(theirs.receive(ours.start()))
    answer = theirs.receive(confirm + b"first records")
    assert theirs.rest == b"first records"
    assert ours.receive(answer + b"and theirs") == b""
    assert ours.rest == b"and theirs"


def test_what_is_given_to_a_finished_handshake_is_kept_in_order() -> None:
    ours, theirs = worker(), server()
    theirs.receive(ours.receive(theirs.receive(ours.start())) + b"one")
    assert theirs.receive(b"two") == b""
    assert theirs.rest == b"onetwo"


def test_the_first_record_may_travel_with_the_proof() -> None:
    """From its CONFIRM on the worker can seal what only a server that knows the code can open."""
    ours, theirs = worker(), server()
    assert ours.our_secret == b""
    ours.receive(theirs.receive(ours.start()))
    assert len(ours.our_secret) == 32
    assert ours.secrets is None


def test_every_handshake_has_fresh_keys() -> None:
    seen = set()
    for first in range(3):
        ours, theirs = WorkerHandshake(RIGHT, "", bytes((first,)) * SCALAR_BYTES), server()
        meet(ours, theirs)
        seen |= set(secrets_of(ours)[:2])
    assert len(seen) == 6


def test_the_messages_are_as_small_as_they_can_be() -> None:
    ours, theirs = worker(), server()
    hello = ours.start()
    answer = theirs.receive(hello)
    confirm = ours.receive(answer)
    last = theirs.receive(confirm)
    assert [len(each) for each in (hello, answer, confirm, last)] == [78, 77, 40, 40]
    assert len(worker(user="a" * MAX_USER_BYTES).start()) - HEADER_BYTES == 134 <= MAX_BODY_BYTES


# Who knows the code, and who learns what


@pytest.mark.parametrize("user", ["", "anna", "somebody"])
def test_a_wrong_code_and_an_unknown_user_get_the_same_answer(user: str) -> None:
    ours, theirs = worker(WRONG, user), server()
    with pytest.raises(SecurityError, match=r"^wrong auth code$"):
        meet(ours, theirs)
    assert theirs.secrets is None
    assert theirs.begun


def test_a_server_that_does_not_know_the_code_cannot_fool_a_worker() -> None:
    """It lets anybody in, and sends what it thinks is its proof."""
    ours, theirs = worker(), ServerHandshake(lambda user: WRONG_VERIFIER, SERVER_RANDOM)
    ours.receive(theirs.receive(ours.start()))
    for guess in (theirs._keys.our_confirmation, theirs._keys.their_confirmation, bytes(32), b""):
        fresh = worker()
        fresh.receive(server_hello(fresh, theirs))
        with pytest.raises(SecurityError, match="the server does not know the auth code"):
            fresh.receive(message(CONFIRM, guess))
        assert fresh.secrets is None


def server_hello(ours: WorkerHandshake, theirs: ServerHandshake) -> bytes:
    return ServerHandshake(theirs._find_verifier, SERVER_RANDOM).receive(ours.start())


def test_our_own_proof_sent_back_proves_nothing() -> None:
    ours = worker()
    confirm = ours.receive(server_hello(ours, server()))
    with pytest.raises(SecurityError):
        ours.receive(confirm)


def test_the_server_proves_nothing_to_who_has_not_proved_himself() -> None:
    """Whoever only connects gets a share, which tells nothing about the code."""
    theirs = server()
    answer = theirs.receive(worker(WRONG).start())
    assert answer[5] == SERVER_HELLO
    with pytest.raises(SecurityError):
        theirs.receive(message(CONFIRM, bytes(32)))
    assert theirs.secrets is None


@pytest.mark.parametrize("size", [0, 31, 33, 512])
def test_a_proof_of_another_length(size: int) -> None:
    theirs = server()
    theirs.receive(worker().start())
    with pytest.raises(SecurityError):
        theirs.receive(message(CONFIRM, bytes(size)))


# What a guess gives away


POINTS = {"right": spake2plus.Password(*CODES["right"]).m, "wrong": spake2plus.Password(*CODES["wrong"]).m}


def guess(kind: str) -> tuple[bytes, str]:
    """The share and the user of somebody who tries a code; "infinity" is the bare mask of the right one."""
    if kind == "infinity":
        return spake2plus._encode(POINTS["right"]), ""
    if kind == "wrong infinity":
        return spake2plus._encode(POINTS["wrong"]), ""
    user = "somebody" if kind == "unknown user" else ""
    return worker(RIGHT if kind == "right" else WRONG, user).start()[SHARE], user


KINDS = ["right", "wrong", "infinity", "wrong infinity", "unknown user"]


def ends(kind: str) -> tuple[list[int], str, bool]:
    """What somebody hears who has a code of this kind and no proof: messages, the last text, whether it counts."""
    share, user = guess(kind)
    hello = message(HELLO, share + bytes(4) + bytes((len(user),)) + user.encode())
    theirs = ServerHandshake(find_verifier, os.urandom(SCALAR_BYTES))
    answer = theirs.receive(hello)
    try:
        theirs.receive(message(CONFIRM, bytes(32)))
    except SecurityError as error:
        return [answer[5], FAIL, len(answer)], str(error), theirs.begun
    raise AssertionError("a proof of zeroes was taken")


def test_no_kind_of_guess_is_answered_in_another_way() -> None:
    assert {kind: ends(kind) for kind in KINDS} == dict.fromkeys(
        KINDS, ([SERVER_HELLO, FAIL, HEADER_BYTES + 69], "wrong auth code", True)
    )


def test_no_kind_of_guess_takes_another_time() -> None:
    """Medians of many runs taken in turn. What is looked for is a multiplication more or less: a third of it all."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(60):
        for kind in KINDS:
            share, user = guess(kind)
            hello = message(HELLO, share + bytes(4) + bytes((len(user),)) + user.encode())
            theirs = ServerHandshake(find_verifier, os.urandom(SCALAR_BYTES))
            began = thread_time()
            theirs.receive(hello)
            taken[kind].append(thread_time() - began)
    medians = sorted(statistics.median(each) for each in taken.values())
    assert medians[-1] < 1.25 * medians[0], taken


def test_the_bare_mask_of_the_right_code_proves_nothing_in_either_direction() -> None:
    """Z is the point at infinity then: a proof that is made for that must not be taken."""
    mask = spake2plus._encode(RIGHT_VERIFIER.m)
    theirs = server()
    hello = message(HELLO, mask + bytes(5))
    answer = theirs.receive(hello)
    # All that the sender of the mask knows, or can guess, of Z and V.
    for z in (bytes(65), b"\x04" + bytes(64), b"\0"):
        for v in (z, spake2plus._encode(RIGHT_VERIFIER.public), answer[SHARE]):
            context = handshake._context(hello, answer)
            shared = spake2plus._keys(context, b"", mask, answer[SHARE], z, v, RIGHT_VERIFIER.w0)
            assert theirs._keys.their_confirmation != shared[1]
    ours = worker()
    hello = ours.start()
    answer = message(SERVER_HELLO, spake2plus._encode(RIGHT_VERIFIER.n) + bytes(4))
    confirm = ours.receive(answer)
    for z in (bytes(65), b"\x04" + bytes(64), b"\0"):
        keys = spake2plus._keys(
            handshake._context(hello, answer), b"", hello[SHARE], answer[SHARE], z, z, 0xC0DE
        )
        assert confirm[HEADER_BYTES:] != keys[1]


def test_what_the_server_keeps_lets_nobody_in() -> None:
    """Somebody has stolen w0 and L, and tries all that can be made of them in the place of w1."""
    stolen = RIGHT_VERIFIER
    for w1 in (stolen.w0, 1, int(stolen.public.x), int(stolen.public.y) % spake2plus.ORDER):
        with pytest.raises(SecurityError, match="wrong auth code"):
            meet(worker(Password(stolen.w0, w1)), server())
    run = spake2plus.ProverRun(Password(stolen.w0, 1), WORKER_RANDOM)
    hello = message(HELLO, run.share + bytes(5))
    theirs = server()
    answer = theirs.receive(hello)
    base = spake2plus._decode(answer[SHARE]) + -stolen.n  # y * G
    z = spake2plus._encode(base * run._scalar)  # this half he has
    for v in (base, stolen.public, base + stolen.public, stolen.public * run._scalar, base * stolen.w0):
        keys = spake2plus._keys(
            handshake._context(hello, answer),
            b"",
            run.share,
            answer[SHARE],
            z,
            spake2plus._encode(v),
            stolen.w0,
        )
        assert keys[1] != theirs._keys.their_confirmation
    # Only who knows w1 has the other half.
    right = spake2plus._encode(base * RIGHT.w1)
    keys = spake2plus._keys(
        handshake._context(hello, answer), b"", run.share, answer[SHARE], z, right, stolen.w0
    )
    assert keys[1] == theirs._keys.their_confirmation


# On the path


def flip(at: int) -> Callable[[bytearray], None]:
    def change(some: bytearray) -> None:
        some[at] ^= 1

    return change


@pytest.mark.parametrize("which", [0, 1], ids=["HELLO", "SERVER_HELLO"])
@pytest.mark.parametrize("at", [FEATURES.start, FEATURES.stop - 1])
def test_who_takes_a_feature_away_makes_the_proof_fail(which: int, at: int) -> None:
    with pytest.raises(SecurityError):
        meet(worker(), server(), changed(which, flip(at)))


def test_who_changes_the_user_makes_the_proof_fail() -> None:
    """Both users have the same code here: it is not the password that differs."""

    def rename(some: bytearray) -> None:
        some[-4:] = b"hans"

    theirs = ServerHandshake(lambda user: RIGHT_VERIFIER, SERVER_RANDOM)
    with pytest.raises(SecurityError):
        meet(worker(user="anna"), theirs, changed(0, rename))
    assert theirs.user == "hans"


@pytest.mark.parametrize("which", [0, 1], ids=["HELLO", "SERVER_HELLO"])
@pytest.mark.parametrize("at", [SHARE.start, SHARE.start + 1, SHARE.stop - 1])
def test_who_changes_a_share_leaves_the_curve(which: int, at: int) -> None:
    with refused(Close.FRAME, "a share that is not"):
        meet(worker(), server(), changed(which, flip(at)))


@pytest.mark.parametrize("which", [0, 1], ids=["HELLO", "SERVER_HELLO"])
def test_who_puts_another_point_in_place_of_a_share_makes_the_proof_fail(which: int) -> None:
    other = WorkerHandshake(RIGHT, "", bytes(48)).start()[SHARE]

    def replace(some: bytearray) -> None:
        some[SHARE] = other

    with pytest.raises(SecurityError):
        meet(worker(), server(), changed(which, replace))


@pytest.mark.parametrize("which", [2, 3], ids=["worker's", "server's"])
@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 31])
def test_who_changes_a_proof_is_seen(which: int, at: int) -> None:
    with pytest.raises(SecurityError):
        meet(worker(), server(), changed(which, flip(at)))


# Other versions, other protocols


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_a_worker_of_another_version_is_told_so_and_understands_it(version: int) -> None:
    hello = bytearray(worker().start())
    hello[4] = version
    theirs = server()
    with refused(Close.VERSION, f"the peer speaks protocol version {version}, this program 2") as caught:
        theirs.receive(bytes(hello))
    assert not theirs.begun
    # What the server answers is read by that other version as well: FAIL is the same in all of them.
    answer = bytearray(fail(caught.value.code, str(caught.value)))
    answer[4] = version
    with pytest.raises(Rejected, match="protocol version") as rejected:
        worker().receive(bytes(answer))
    assert rejected.value.code == Close.VERSION
    assert not rejected.value.final


def test_a_server_of_another_version_is_told_by_the_worker() -> None:
    answer = bytearray(message(SERVER_HELLO, bytes(69)))
    answer[4] = 1
    with refused(Close.VERSION):
        worker().receive(bytes(answer))


@pytest.mark.parametrize(
    ("first", "what"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n", "an HTTP server's answer"),
        (bytes.fromhex("16030100c8010000c40303"), "TLS"),
        (bytes.fromhex("160301"), "TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\0" * 100, "something unknown"),
        (b"AeRo", "something unknown"),
        (b"AeR\0", "something unknown"),
        (b"\xff", "something unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:6].hex(),
)
def test_strangers_are_named(first: bytes, what: str) -> None:
    assert describe(first) == what
    for machine in (worker(), server()):
        with refused(Close.NOT_AERO, f"the peer speaks {what}, not this protocol"):
            machine.receive(first)


def test_a_stranger_is_known_by_its_first_byte() -> None:
    """Nothing is waited for that cannot come any more."""
    theirs = server()
    assert theirs.receive(b"Ae") == b""
    with refused(Close.NOT_AERO):
        theirs.receive(b"X")


# Messages that may not be


def test_hello_twice() -> None:
    theirs = server()
    hello = worker().start()
    theirs.receive(hello)
    with refused(Close.STATE, "HELLO may not come now"):
        theirs.receive(hello)


def test_hello_twice_in_one_piece() -> None:
    hello = worker().start()
    with refused(Close.STATE, "HELLO may not come now"):
        server().receive(hello + hello)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SERVER_HELLO, "SERVER_HELLO"),
        (CONFIRM, "CONFIRM"),
        (0, "message 0"),
        (FAIL, "FAIL"),
        (200, "message 200"),
    ],
)
def test_what_may_not_come_first(kind: int, name: str) -> None:
    with refused(Close.STATE, f"{name} may not come now"):
        server().receive(message(kind, b""))


@pytest.mark.parametrize("kind", [HELLO, CONFIRM, 99])
def test_what_a_worker_does_not_expect(kind: int) -> None:
    with refused(Close.STATE, "may not come now"):
        worker().receive(message(kind, bytes(69)))


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 0xFFFF])
@pytest.mark.parametrize("kind", [HELLO, FAIL, 99])
def test_an_oversize_body_is_refused_before_it_is_waited_for(length: int, kind: int) -> None:
    header = handshake.HEADER.pack(handshake.MAGIC, handshake.VERSION, kind, length)
    for machine in (worker(), server()):
        with refused(Close.FRAME, f"a handshake message of {length} bytes"):
            machine.receive(header)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(69),
        bytes(69) + b"\x01",
        bytes(69) + b"\x00x",
        bytes(69) + b"\x05anna",
        bytes(69) + b"\x41" + b"a" * 65,
        bytes(500),
    ],
    ids=len,
)
def test_a_hello_whose_lengths_do_not_agree(body: bytes) -> None:
    with refused(Close.FRAME, f"HELLO of {len(body)} bytes"):
        server().receive(message(HELLO, body))


def test_a_user_that_is_no_utf8() -> None:
    with refused(Close.FRAME, "is not UTF-8"):
        server().receive(message(HELLO, bytes(69) + b"\x02\xff\xfe"))


@pytest.mark.parametrize("size", [0, 68, 70, 512])
def test_a_server_hello_of_another_size(size: int) -> None:
    with refused(Close.FRAME, f"SERVER_HELLO of {size} bytes"):
        worker().receive(message(SERVER_HELLO, bytes(size)))


@pytest.mark.parametrize("share", [bytes(65), b"\x04" + bytes(64), b"\x02" + bytes(64)], ids=["0", "4", "2"])
def test_a_share_that_is_no_point(share: bytes) -> None:
    with refused(Close.FRAME, "a share that is not"):
        server().receive(message(HELLO, share + bytes(5)))
    with refused(Close.FRAME, "a share that is not"):
        worker().receive(message(SERVER_HELLO, share + bytes(4)))


# FAIL


@pytest.mark.parametrize(("code", "final"), [(Close.AUTH, True), (Close.LIMIT, False), (255, False)])
def test_fail_may_take_any_messages_place(code: int, final: bool) -> None:
    for before in (0, 1):
        ours = worker()
        if before:
            ours.receive(server_hello(ours, server()))
        with pytest.raises(Rejected, match=r"^why not$") as caught:
            ours.receive(fail(code, "why not"))
        assert (caught.value.code, caught.value.final) == (code, final)


def test_a_fail_that_is_long_or_no_utf8_is_shown_as_far_as_it_goes() -> None:
    with pytest.raises(Rejected) as caught:
        worker().receive(fail(Close.AUTH, "é" * 300))
    assert str(caught.value) == "é" * 100
    with pytest.raises(Rejected, match="\ufffd"):
        worker().receive(message(FAIL, b"\x03\xff"))
    with pytest.raises(Rejected, match=r"^$"):
        worker().receive(message(FAIL, b"\x03"))


# After the end


@pytest.mark.parametrize("rest", [b"", b"more"])
def test_a_handshake_that_failed_stays_failed(rest: bytes) -> None:
    """No second guess with the same shares."""
    ours, theirs = worker(), server()
    confirm = ours.receive(theirs.receive(ours.start()))
    with pytest.raises(SecurityError):
        theirs.receive(message(CONFIRM, bytes(32)))
    with pytest.raises(AeroError):
        theirs.receive(confirm + rest)
    assert theirs.secrets is None


def test_what_a_peer_can_make_us_keep_is_bounded() -> None:
    theirs = server()
    theirs.receive(worker().start())
    header = handshake.HEADER.pack(handshake.MAGIC, handshake.VERSION, CONFIRM, MAX_BODY_BYTES)
    theirs.receive(header + bytes(MAX_BODY_BYTES - 1))
    assert len(theirs._buffer) < HEADER_BYTES + MAX_BODY_BYTES
    with pytest.raises((SecurityError, RemoteProtocolError)):
        theirs.receive(b"\0")
