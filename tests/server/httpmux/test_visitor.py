"""What happens when on a visitor's connection: orders of events that a network gives once in a thousand times."""

from __future__ import annotations

import tracemalloc

import pytest

from aero.core import frames
from aero.core.codes import Reset
from aero.core.stream import OPEN, OURS_ENDED
from aero.limits import Limits
from aero.server.httpmux import http2, rewrite, upstream
from aero.server.httpmux.body import Transfer
from aero.server.httpmux.head import CHUNKED
from aero.server.httpmux.pages import Page
from aero.server.httpmux.states import HELD, LINGERING, WAITING
from aero.server.httpmux.upstream import Upstream
from aero.server.registry.admission import NotAdmitted
from aero.server.registry.lobby import Lobby
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
    assert len(scene.visitor._receiving.rest) < 2 * HEAD_BYTES
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


# ----------------------------------------------------------------------------
# What may be tried again, and what is said where it may not
# ----------------------------------------------------------------------------

POST = b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def peer_says(scene: Scene, kind: int, payload: bytes) -> None:
    """A frame of the target's end, on the stream that was opened last."""
    scene.session.receive(memoryview(frames.pack(kind, scene.open[-1].id, payload)), 0.0)


def waiting(request: bytes) -> Scene:
    """A target that has got a request and says nothing; there are two more like it."""
    scene = Scene(request, b"")
    scene.sock.ends = False
    scene.found *= 3
    scene.run()
    return scene


@pytest.mark.parametrize("code", [Reset.LIMIT, Reset.REFUSED, Reset.TIMEOUT, Reset.CANCELLED, Reset.INTERNAL])
def test_a_reset_of_an_accepted_stream_proves_nothing(code: int) -> None:
    """The worker had accepted, so the target may have read it all: a POST is not made twice."""
    scene = waiting(POST)
    peer_says(scene, frames.WINDOW, frames.pack_window(0, 1 << 18))
    peer_says(scene, frames.RESET, frames.pack_reason(code, "enough"))
    scene.run()
    assert len(scene.got) == 1
    assert (
        scene.sock.taken.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 "))
        and b"Retry-After" not in scene.sock.taken
    )
    scene.finish()


@pytest.mark.parametrize("code", [Reset.LIMIT, Reset.REFUSED, Reset.CANCELLED])
def test_a_reset_before_it_was_accepted_proves_that_nobody_has_read_it(code: int) -> None:
    scene = waiting(POST)
    peer_says(scene, frames.RESET, frames.pack_reason(code, "no"))
    scene.answer = OK
    scene.run()
    assert len(scene.got) == 2 and scene.sock.taken == OK
    scene.finish()


@pytest.mark.parametrize(("request_", "status"), [(POST, b"502"), (GET, b"502")])
def test_a_session_that_is_lost_under_a_request(request_: bytes, status: bytes) -> None:
    """It was delivered, or may have been: nobody is asked to try again."""
    scene = waiting(request_)
    scene.session.end(Reset.LOST, "gone")
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 " + status) and b"Retry-After" not in scene.sock.taken
    assert b"may have taken effect" in scene.sock.taken
    assert scene.visitor.state == WAITING


def test_a_session_that_is_lost_before_a_byte_of_the_request_has_left() -> None:
    scene = Scene(POST, b"")
    scene.sock.ends = False
    scene.watchers[0].callback()  # read, and nothing carried
    scene.session.end(Reset.LOST, "gone")
    assert scene.sock.taken.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in scene.sock.taken


def elsewhere(scene: Scene) -> Scene:
    """Another worker with the same target, and a session of its own."""
    other = Scene(b"", OK)
    other.sock.ends = False
    scene.found = [other]
    return other


def past_deadline(scene: Scene) -> None:
    assert scene.visitor.deadline < float("inf")
    scene.visitor.expired()


@pytest.mark.parametrize(("request_", "moves"), [(GET, True), (POST, False)])
def test_a_request_under_way_whose_link_is_lost_is_made_elsewhere_where_that_is_safe(
    request_: bytes, moves: bool
) -> None:
    scene = waiting(request_)
    past_deadline(scene)
    assert len(scene.open) == 1, "the link is up: it is waited for"
    scene.carried.alive = False
    other = elsewhere(scene)
    past_deadline(scene)
    assert len(scene.open) == 1, "the link may come back at once"
    past_deadline(scene)
    assert (len(other.open), len(scene.open)) == ((1, 0) if moves else (0, 1))
    other.run()
    if moves:
        assert scene.sock.taken == OK
        scene.visitor.close()
        return
    scene.carried.alive = True
    peer_says(scene, frames.DATA, OK)
    assert scene.sock.taken == OK, "and where it is not, the link is waited for"
    scene.finish()


def test_a_request_that_has_not_left_is_made_elsewhere_whatever_it_is() -> None:
    scene = Scene(POST, b"")
    scene.sock.ends = False
    scene.watchers[0].callback()
    scene.carried.alive = False
    other = elsewhere(scene)
    past_deadline(scene)
    past_deadline(scene)
    other.run()
    assert scene.sock.taken == OK
    assert other.got[1].endswith(b"\r\n\r\nhi")
    scene.visitor.close()


def test_a_link_that_comes_back_in_time_keeps_its_requests() -> None:
    scene = waiting(GET)
    scene.carried.alive = False
    elsewhere(scene)
    past_deadline(scene)
    scene.carried.alive = True
    past_deadline(scene)
    scene.carried.alive = False
    past_deadline(scene)
    assert len(scene.open) == 1
    peer_says(scene, frames.DATA, OK)
    assert scene.sock.taken == OK
    scene.finish()


# ----------------------------------------------------------------------------
# Waiting for a link
# ----------------------------------------------------------------------------

DOWN = Page("link down", {"tag": "t", "name": "web"})


def held(request: bytes) -> tuple[Scene, Lobby]:
    scene = Scene(request, OK)
    scene.sock.ends = False
    lobby = Lobby(scene)  # type: ignore[arg-type]
    scene.found, scene.halls = DOWN, [lobby]  # type: ignore[assignment]
    scene.run()
    assert scene.visitor.state == HELD and len(lobby) == 1 and not scene.sock.taken
    return scene, lobby


@pytest.mark.parametrize("request_", [GET, POST, GET + POST])
def test_a_request_waits_for_a_link_that_is_being_dialled(request_: bytes) -> None:
    scene, lobby = held(request_)
    scene.found = [scene]
    lobby.open()
    scene.run()
    assert scene.sock.taken == OK * (2 if request_ == GET + POST else 1)
    scene.finish()


def test_a_body_that_comes_while_it_waits() -> None:
    scene, lobby = held(POST[:-2])
    scene.sock.data = b"hi" + GET
    scene.run()
    scene.found = [scene]
    lobby.open()
    scene.run()
    assert scene.sock.taken == OK * 2
    assert any(got.endswith(b"\r\n\r\nhi") for got in scene.got.values()) or b"\r\n\r\nhiGET" in scene.got[1]
    scene.finish()


def test_no_link_comes_in_time() -> None:
    scene, lobby = held(GET)
    scene.halls = []
    lobby.close()
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in scene.sock.taken
    scene.finish()


def test_a_visitor_who_leaves_makes_room_in_the_lobby() -> None:
    scene, lobby = held(GET)
    scene.visitor.close()
    assert not len(lobby)
    scene.finish()


def test_a_half_closed_visitor_who_waits_gets_his_answer() -> None:
    scene, lobby = held(GET)
    scene.sock.ends = True
    scene.run()
    scene.found = [scene]
    lobby.open()
    scene.run()
    assert scene.sock.taken.endswith(b"\r\n\r\nok") and scene.visitor.closed
    scene.finish()


def test_a_malformed_body_is_noticed_when_the_link_is_there() -> None:
    scene, lobby = held(b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    scene.found = [scene]
    lobby.open()
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 400 ") and not scene.got
    scene.finish()


# ----------------------------------------------------------------------------
# A target that serves one connection at a time
# ----------------------------------------------------------------------------


def test_the_old_kept_connection_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_POOLED_FRESH_S", -1.0)
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    (first,) = scene.open
    scene.sock.data = POST
    scene.watchers[0].callback()
    assert first.state == OURS_ENDED, "the device cannot serve the second while it has the first"
    scene.run()
    assert scene.sock.taken == OK * 2 and len(scene.got) == 2
    scene.finish()


def test_a_target_that_is_known_to_serve_several_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_POOLED_FRESH_S", -1.0)
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    scene.kept._widths[scene].known = 2  # type: ignore[index]
    scene.sock.data = POST
    scene.run()
    assert [stream.state for stream in scene.open] == [OPEN, OPEN]
    scene.finish()


def test_a_connection_that_may_stand_in_another_s_way_is_not_kept() -> None:
    """The second waits in the device's backlog until the first is closed."""
    scene = waiting(GET)
    stuck = Upstream(scene.kept, scene, "192.0.2.2:2")  # type: ignore[arg-type]
    first = scene.open[0]
    scene.session.receive(memoryview(frames.pack(frames.DATA, first.id, OK)), 0.0)
    assert scene.sock.taken == OK
    assert [stream.state for stream in scene.open] == [OURS_ENDED, OPEN]
    scene.answer = OK
    stuck.abort()
    scene.sock.data = GET
    scene.run()
    assert scene.open[-1].state == OPEN, "nobody waits: it is kept"
    scene.finish()


def test_a_target_that_answers_beside_an_earlier_connection_serves_both() -> None:
    scene = waiting(GET)
    second = Upstream(scene.kept, scene, "192.0.2.2:2")  # type: ignore[arg-type]
    scene.kept.answered(second)
    assert scene.kept._widths[scene].known == 2  # type: ignore[index]
    second.answered = True
    scene.session.receive(memoryview(frames.pack(frames.DATA, scene.open[0].id, OK)), 0.0)
    assert [stream.state for stream in scene.open] == [OPEN, OPEN]
    second.abort()
    scene.finish()


def test_what_nobody_may_use_is_not_kept() -> None:
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    scene.closed = True  # the worker has withdrawn the target
    scene.kept.sweep(0.0)
    assert [stream.state for stream in scene.open] == [OURS_ENDED]
    scene.finish()


# ----------------------------------------------------------------------------
# Upgrades with a body, pauses, faults of our own
# ----------------------------------------------------------------------------

SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n"
EXEC = b"POST /t/web/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.mark.parametrize(
    ("framing", "body", "got"),
    [
        (b"Content-Length: 2\r\n", b"{}", b"{}"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("early", [0, 1, 2, 7], ids=lambda cut: f"101 after {cut}")
def test_an_upgrade_with_a_body(framing: bytes, body: bytes, got: bytes, early: int) -> None:
    """101 may come before the body is whole; what follows the body is raw."""
    scene = Scene(EXEC + framing + b"\r\n" + body[:early], b"")
    scene.sock.ends = False
    scene.run()
    target_sends(scene, SWITCHED + b"hello")
    scene.run()
    assert scene.sock.taken == SWITCHED.replace(b"upgrade", b"Upgrade", 1) + b"hello"
    scene.sock.data = body[early:] + b"raw\r\n"
    scene.run()
    assert scene.got[1].partition(b"\r\n\r\n")[2] == got + b"raw\r\n"
    target_sends(scene, b"more")
    assert scene.sock.taken.endswith(b"hellomore")
    scene.finish()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegi", SWITCHED])
def test_a_response_may_pause_for_as_long_as_it_likes(answer: bytes) -> None:
    request = EXEC + b"\r\n"
    scene = waiting(request)
    scene.sock.full = True
    target_sends(scene, answer)
    assert scene.visitor.deadline == float("inf")
    scene.sock.full = False
    scene.run()
    assert scene.visitor.deadline == float("inf")
    scene.finish()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegi", SWITCHED])
def test_unless_the_operator_says_otherwise(answer: bytes) -> None:
    scene = waiting(EXEC + b"\r\n")
    scene.idle_s = 5.0
    target_sends(scene, answer)
    first = scene.visitor.deadline
    assert first < float("inf")
    target_sends(scene, b"n")
    assert first <= scene.visitor.deadline < float("inf")
    past_deadline(scene)
    assert scene.visitor.closed and scene.sock.reset
    scene.finish()


def test_a_page_of_our_own_is_not_waited_for() -> None:
    scene = Scene(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK)
    scene.sock.full, scene.sock.ends = True, False
    scene.run()
    assert scene.visitor.deadline < float("inf")
    scene.finish()


@pytest.mark.parametrize("where", ["interim_head", "response_head", "request_head"])
def test_a_fault_of_our_own_ends_one_visitor_s_connection(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(rewrite, where, fails)
    scene = Scene(GET, b"HTTP/1.1 103 Hints\r\n\r\n" + OK)
    scene.run()
    assert [type(error) for error in scene.broke] == [ZeroDivisionError]
    assert scene.visitor.closed and scene.sock.reset and not scene.session.ended
    scene.broke.clear()
    scene.finish()


def test_http2_gets_an_answer_that_its_program_can_show() -> None:
    settings = http2._frame(4, 0, 0, b"")
    scene = Scene(http2.PREFACE + settings + http2._frame(1, 5, 1, b"\x82"), OK, step=7)
    scene.sock.ends = False
    scene.run()
    assert scene.sock.taken.startswith(settings) and http2.TEXT in scene.sock.taken
    assert scene.visitor.state == LINGERING and scene.counted == ["malformed"]
    scene.finish()


# ----------------------------------------------------------------------------
# Bodies on their way up, ends of raw connections, time
# ----------------------------------------------------------------------------


def upload(size: int, chunked: bool) -> tuple[bytes, bytes]:
    """A request, and its body as the target has to get it."""
    body = bytes(range(256)) * (size // 256)
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framing = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return b"POST /t/web/ HTTP/1.1\r\nHost: a\r\n" + framing, body


def plain(scene: Scene, chunked: bool) -> bytes:
    """The body that the target got, without its framing."""
    data = scene.got[1].partition(b"\r\n\r\n")[2]
    if not chunked:
        return data
    transfer = Transfer(CHUNKED)
    return bytes(transfer.feed(data)[0])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [7000, 1 << 16])
def test_a_body_beyond_the_first_credit_waits_for_the_target(chunked: bool, step: int) -> None:
    request, body = upload(200 * 1024, chunked)
    scene = Scene(request, b"", step=step)
    scene.sock.ends = False
    scene.run()
    assert len(scene.got[1]) < len(request), "it has no more credit"
    peer_says(scene, frames.WINDOW, frames.pack_window(0, 1 << 20))
    scene.run()
    assert plain(scene, chunked) == body
    target_sends(scene, OK)
    assert scene.sock.taken == OK
    scene.finish()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_visitor_who_leaves_in_the_middle_of_his_body(chunked: bool) -> None:
    request, _ = upload(100 * 1024, chunked)
    scene = Scene(request[:50_000], b"", step=9000)
    scene.run()
    assert scene.visitor.closed and not scene.open
    scene.finish()


def test_a_body_that_turns_out_to_be_malformed() -> None:
    scene = waiting(EXEC + b"Transfer-Encoding: chunked\r\n\r\n")
    scene.sock.data = b"2\r\nokay\r\n"
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 400 ") and not scene.open
    scene.finish()


def test_a_socket_that_breaks_in_the_middle_of_a_body() -> None:
    request, _ = upload(30 * 1024, False)
    scene = waiting(request[:10_000])

    def broken(*_: object) -> int:
        raise ConnectionResetError

    scene.sock.recv_into = broken  # type: ignore[method-assign]
    scene.watchers[0].callback()
    assert scene.visitor.closed and not scene.open
    scene.finish()


def test_an_answer_before_the_body_is_whole_is_the_connections_last() -> None:
    request, _ = upload(30 * 1024, False)
    scene = waiting(request[:10_000])
    target_sends(scene, OK)
    assert b"Connection: close" in scene.sock.taken
    scene.run()
    assert scene.visitor.state == LINGERING and not scene.open
    scene.sock.data = request[10_000:]
    scene.run()
    scene.finish()


def test_what_comes_while_lingering_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "MUX_LINGER_BYTES", 1000)
    scene = Scene(b"bad\r\n\r\n", OK)
    scene.sock.ends = False
    scene.run()
    scene.sock.data = bytes(2000)
    scene.run()
    assert scene.visitor.closed
    scene.finish()


@pytest.mark.parametrize("first", ["visitor", "target"])
def test_both_ends_of_a_raw_connection(first: str) -> None:
    scene = waiting(EXEC + b"\r\n")
    target_sends(scene, SWITCHED)
    stream = scene.open[0]

    def visitor_ends() -> None:
        scene.sock.ends = True
        scene.run()

    def target_ends() -> None:
        scene.over.add(stream.id)
        scene.session.receive(memoryview(frames.pack(frames.FIN, stream.id)), 0.0)
        scene.run()

    ends = [visitor_ends, target_ends] if first == "visitor" else [target_ends, visitor_ends]
    ends[0]()
    assert not scene.visitor.closed, "the other direction goes on"
    if first == "visitor":
        target_sends(scene, b"still")
        assert scene.sock.taken.endswith(b"still")
    ends[1]()
    assert scene.visitor.closed and not scene.sock.reset and not scene.open
    scene.finish()


def test_a_raw_connection_that_is_reset() -> None:
    scene = waiting(EXEC + b"\r\n")
    target_sends(scene, SWITCHED)
    peer_says(scene, frames.RESET, frames.pack_reason(Reset.CANCELLED, ""))
    assert scene.visitor.closed and scene.sock.reset
    scene.finish()


@pytest.mark.parametrize(
    ("request_", "status"),
    [(GET[:20], b"408"), (upload(1024, False)[0][:300], b"408"), (GET, b"504")],
    ids=["head", "body", "answer"],
)
def test_what_takes_too_long(request_: bytes, status: bytes) -> None:
    scene = waiting(request_)
    scene.visitor._until = 0.0
    scene.visitor.expired()
    assert scene.sock.taken.startswith(b"HTTP/1.1 " + status)
    scene.run()
    scene.finish()


def test_idle_connections_are_closed() -> None:
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    assert scene.visitor.idle
    scene.visitor.expired()
    assert scene.visitor.closed and not scene.sock.reset
    scene.finish()


def test_an_old_line_end_behind_a_body_is_forgiven() -> None:
    scene = Scene(POST + b"\r\n" + GET, OK)
    scene.run()
    assert scene.sock.taken.count(b"HTTP/1.1 200") == 2
    scene.finish()


def test_heads_beyond_the_bound() -> None:
    for head in (GET[:-2] + b"A: " + b"b" * HEAD_BYTES, GET[:-2] + b"A: " + b"b" * HEAD_BYTES + b"\r\n\r\n"):
        scene = Scene(head, OK)
        scene.sock.ends = False
        scene.run()
        assert scene.sock.taken.startswith(b"HTTP/1.1 431 ")
        scene.finish()


def test_a_target_that_speaks_before_it_is_asked_is_let_go() -> None:
    scene = Scene(GET, OK)
    scene.sock.ends = False
    scene.run()
    target_sends(scene, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not scene.open
    scene.sock.data = GET
    scene.run()
    assert scene.sock.taken == OK * 2
    scene.finish()


@pytest.mark.parametrize("bad", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nA: \x01", SWITCHED])
def test_what_is_no_answer(bad: bytes) -> None:
    scene = waiting(GET)
    target_sends(scene, bad)
    assert scene.sock.taken.startswith(b"HTTP/1.1 502 ") and not scene.open
    scene.finish()


@pytest.mark.parametrize("rest", [b"xyz", b"3\r\nab"])
def test_a_chunked_response_that_breaks_off_is_reset(rest: bytes) -> None:
    scene = waiting(GET)
    target_sends(scene, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest)
    stream_is_over = not scene.open
    if not stream_is_over:
        peer_says(scene, frames.FIN, b"")
    assert scene.visitor.closed and scene.sock.reset
    scene.finish()


@pytest.mark.parametrize(
    ("refused", "status", "retry"),
    [
        (NotAdmitted("visitors", "not from there"), b"403 Forbidden", False),
        (NotAdmitted("quota", "used up", 3600), b"503 Service Unavailable", True),
        (NotAdmitted("new streams", "3 a second", 1), b"429 Too Many Requests", True),
    ],
)
def test_a_target_that_lets_nobody_in_answers_with_the_reason(
    refused: NotAdmitted, status: bytes, retry: bool
) -> None:
    scene = Scene(GET, OK)
    scene.unwelcome = refused
    scene.run()
    assert scene.sock.taken.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert (b"\r\nRetry-After: %d\r\n" % max(refused.retry_s, 1) in scene.sock.taken) == retry
    assert scene.refused == [refused.reason]
    assert not scene.got, "the target hears nothing"
