"""What happens when on a visitor's connection: orders of events that a network gives once in a thousand times."""

from __future__ import annotations

import tracemalloc

import pytest

from aero.core import frames
from aero.core.codes import Reset
from aero.server.httpmux import upstream
from tests.server.httpmux.scene import FINISHES, HEAD_BYTES, RESETS, STAYS, Scene

GET = b"GET /t/web/ HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET /t/web/ HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def target_sends(scene: Scene, data: bytes) -> None:
    """In one frame, on the stream that was opened last."""
    scene.session.receive(memoryview(frames.pack(frames.DATA, scene.open[-1].id, data)), 0.0)


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\r\n\r\n", b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nA\r\n\r\n"])
def test_nothing_is_read_into_what_follows_a_malformed_request(bad: bytes) -> None:
    """Its answer could not be written yet when the next one came, which went on its way to the target."""
    scene = Scene(bad, OK)
    scene.sock.full, scene.sock.ends = True, False
    scene.run()
    scene.sock.data = GET * 3000
    scene.run()
    assert len(scene.visitor._in) < 2 * HEAD_BYTES
    scene.sock.full = False
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 400 ") and scene.sock.taken.count(b"HTTP/1.1") == 1
    scene.finish()
    assert not scene.got


def test_a_malformed_request_is_answered_to_one_who_sends_no_more() -> None:
    scene = Scene(b"what is this\r\n\r\n", OK)
    scene.sock.full = True
    scene.run()
    assert scene.sock.ended
    scene.sock.full = False
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 400 ")
    assert scene.counted == ["malformed"]
    scene.finish()


def test_the_end_comes_between_two_requests_that_are_both_here() -> None:
    scene = Scene(GET * 3, OK)
    scene.run()
    assert scene.sock.taken == OK * 2 + OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert scene.visitor.closed
    scene.finish()


def test_a_request_that_was_cut_off_behind_another_is_not_passed_on() -> None:
    scene = Scene(GET + b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhel", OK)
    scene.run()
    assert scene.sock.taken == OK and scene.visitor.closed
    assert not any(b"POST" in got for got in scene.got.values())
    scene.finish()


@pytest.mark.parametrize("ends", [STAYS, FINISHES, RESETS])
def test_a_whole_response_outlives_its_connection(ends: int) -> None:
    """The target is done with it and resets while a slow visitor still reads."""
    scene = Scene(GET, OK, ends=ends)
    scene.sock.full, scene.sock.ends = True, False
    scene.run()
    assert not scene.sock.taken
    scene.sock.full = False
    scene.run()
    assert scene.sock.taken == OK and not scene.sock.reset
    scene.sock.data = GET
    scene.run()
    assert scene.sock.taken == OK * 2, "and the visitor's connection goes on"
    scene.finish()


@pytest.mark.parametrize(
    "length", [b"Content-Length: 9", b"Connection: close", b"Transfer-Encoding: chunked"]
)
def test_a_response_cut_short_is_reset(length: bytes) -> None:
    scene = Scene(GET, b"HTTP/1.1 200 OK\r\n%b\r\n\r\n3\r\nabc\r\n" % length, ends=RESETS)
    scene.sock.ends = False
    scene.run()
    assert scene.visitor.closed and scene.sock.reset
    assert not scene.sock.taken.endswith(b"0\r\n\r\n")
    scene.finish()


@pytest.mark.parametrize(("method", "tries"), [(b"GET", 4), (b"POST", 1)])
def test_a_target_that_never_answers_is_tried_again_where_that_is_safe(method: bytes, tries: int) -> None:
    scene = Scene(GET.replace(b"GET", method), b"", ends=FINISHES)
    scene.sock.ends = False
    scene.found *= 9
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 502 ")
    assert len(scene.got) == tries
    scene.finish()


def test_a_kept_connection_that_ends_under_the_next_request() -> None:
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    scene.answer = b""  # from now on it says nothing more on this one
    scene.sock.data = GET
    scene.run()
    (stream,) = scene.open
    scene.answer = OK
    scene.said[stream.id], scene.over = 0, {stream.id}
    scene.session.receive(memoryview(frames.pack(frames.FIN, stream.id)), 0.0)
    scene.run()
    assert scene.sock.taken == OK * 2
    assert [got.count(b"GET") for got in scene.got.values()] == [2, 1]
    scene.finish()


def test_single_bytes_for_a_visitor_that_never_reads_cost_what_they_are() -> None:
    scene = Scene(OLD, b"HTTP/1.0 200 OK\r\n\r\n")
    scene.sock.full, scene.sock.ends = True, False
    scene.run()
    (stream,) = scene.open
    byte = memoryview(frames.pack(frames.DATA, stream.id, b"x"))
    tracemalloc.start()
    try:
        for _ in range(100_000):
            scene.session.receive(byte, 0.0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100_000 <= held < 200_000
    scene.sock.full = False
    scene.run()
    assert scene.sock.taken.endswith(b"x" * 100_000)
    assert stream.consumed == stream.received
    scene.finish()


def test_what_waits_for_a_slow_visitor_is_bounded_though_chunks_are_larger_than_their_data() -> None:
    """It takes a little again and again, and the target has single bytes whenever there is credit for them."""
    scene = Scene(GET, b"HTTP/1.0 200 OK\r\n\r\n")
    scene.sock.full, scene.sock.ends = True, False
    scene.run()
    (stream,) = scene.open
    byte = memoryview(frames.pack(frames.DATA, stream.id, b"x"))
    most = 0
    for _ in range(40):
        while stream.received < stream.limit:
            scene.session.receive(byte, 0.0)
        most = max(most, len(scene.visitor._sending._pending or b""))
        scene.sock.full, scene.sock.stubborn, scene.sock.step = True, True, 100_000  # once
        scene.turn()
        scene.sock.full, scene.sock.stubborn = True, False
    assert most < 7 * stream.window
    scene.finish()


def test_a_head_in_single_bytes_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    check = upstream.check_answered

    def counted(part: bytes, fresh: int, most: int) -> None:
        nonlocal looked
        looked += len(part) - fresh
        check(part, fresh, most)

    monkeypatch.setattr(upstream, "check_answered", counted)
    head = b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n"
    scene = Scene(GET, b"")
    scene.sock.ends = False
    scene.run()
    for at in range(len(head)):
        target_sends(scene, head[at : at + 1])
    target_sends(scene, b"ok")
    assert looked < 2 * len(head)
    assert scene.sock.taken == head.replace(b"Content-Length: 2\r\n", b"").replace(
        b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nok"
    )
    scene.finish()


def test_interim_responses_without_end() -> None:
    for size, most in ((10, 17), (HEAD_BYTES // 2, 2)):
        scene = Scene(GET, b"")
        scene.sock.full, scene.sock.ends = True, False
        scene.run()
        for _ in range(most):
            assert scene.open
            target_sends(scene, b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * size + b"\r\n\r\n")
        assert not scene.open, "the target is given up"
        assert len(scene.visitor._sending._pending or b"") < 2 * HEAD_BYTES
        scene.sock.full = False
        scene.run()
        assert b"HTTP/1.1 502 " in scene.sock.taken
        scene.finish()


def test_a_visitor_that_resets_while_the_response_is_on_its_way() -> None:
    scene = Scene(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), step=5000)
    scene.sock.full, scene.sock.ends = True, False
    scene.run()

    def gone(_: object) -> int:
        raise ConnectionResetError

    scene.sock.send = gone  # type: ignore[method-assign]
    scene.sock.full = False
    scene.run()
    assert scene.visitor.closed and not scene.open
    scene.finish()


def test_a_reset_that_comes_after_the_visitor_has_its_answer() -> None:
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    (stream,) = scene.open
    reset = frames.pack(frames.RESET, stream.id, frames.pack_reason(Reset.CANCELLED, ""))
    scene.session.receive(memoryview(reset), 0.0)
    assert not scene.open
    scene.sock.data = GET
    scene.run()
    assert scene.sock.taken == OK * 2
    scene.finish()


NTLM = b"Authorization: NTLM TlRMTVNTUAAB\r\n"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GET.replace(b"\r\n\r\n", b"\r\n" + NTLM + b"\r\n"), OK),
        (GET, b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_a_connection_that_was_logged_in_on_is_lent_to_nobody_else(request_: bytes, answer: bytes) -> None:
    scene = Scene(request_, answer)
    scene.sock.ends = False
    scene.run()
    (stream,) = scene.open
    assert scene.kept.take(scene, 60.0) is None, "the next visitor would be taken for this one"  # type: ignore[arg-type]
    scene.answer, scene.said[stream.id] = OK, len(OK)
    scene.sock.data = GET + GET.replace(b"GET", b"POST")
    scene.run()
    assert scene.got[stream.id].count(b"/ HTTP/1.1\r\n") == 3, (
        "his own requests go on over it, whatever they are"
    )
    scene.sock.ends = True
    scene.run()
    assert scene.visitor.closed and not scene.open, "and it ends with him"
    scene.finish()


def test_a_connection_that_was_logged_in_on_serves_one_visitor_of_a_proxy() -> None:
    def asked(ip: bytes) -> bytes:
        return b"GET /t/web/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\n%b\r\n" % (ip, NTLM)

    scene = Scene(asked(b"192.0.2.7"), OK)
    scene.sock.ends = False
    scene.run()
    scene.sock.data = asked(b"192.0.2.7")
    scene.run()
    assert len(scene.got) == 1
    scene.sock.data = asked(b"192.0.2.8")
    scene.run()
    assert len(scene.got) == 2 and len(scene.open) == 1
    scene.finish()


def test_a_login_that_died_under_a_visitor_is_not_gone_on_with() -> None:
    scene = Scene(GET.replace(b"\r\n\r\n", b"\r\n" + NTLM + b"\r\n"), OK)
    scene.sock.ends = False
    scene.run()
    (stream,) = scene.open
    scene.session.receive(memoryview(frames.pack(frames.FIN, stream.id)), 0.0)
    scene.over.add(stream.id)
    scene.sock.data = GET
    scene.run()
    assert scene.sock.taken == OK * 2 and len(scene.got) == 2
    scene.finish()
