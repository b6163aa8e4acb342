"""Replies: what stands above every body, and how a problem reads."""

from __future__ import annotations

import json

import pytest

from aero.errors import Problem
from aero.server.api.replies import JSON, NO_CONTENT, SECURITY, Reply, problem_reply, reply


def test_a_problem_is_json_with_its_status_and_its_headers() -> None:
    said = problem_reply(Problem(405, "this is a POST", ("Allow", "POST")))
    assert said.status_line == "405 Method Not Allowed"
    assert isinstance(said.body, bytes)
    assert json.loads(said.body) == {"error": "this is a POST", "status": 405}
    assert said.all_headers == [
        ("Content-Type", JSON),
        ("Content-Length", str(len(said.body))),
        NO_CONTENT,
        ("Allow", "POST"),
        *SECURITY,
    ]


def test_what_comes_in_pieces_has_no_length() -> None:
    assert "Content-Length" not in dict(Reply(200, "text/plain", iter((b"a", b"b"))).all_headers)


def test_a_whole_answer_ends_its_connection() -> None:
    head, _, body = Reply(503, "text/plain", iter((b"a", b"b"))).whole().partition(b"\r\n\r\n")
    assert body == b"ab"
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n")
    assert head.endswith(b"\r\nConnection: close")


def test_text_that_cannot_be_encoded_spoils_no_answer() -> None:
    body = reply({"tag": "\ud800ä"}).body
    assert isinstance(body, bytes)
    assert json.loads(body) == {"tag": "?ä"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_an_error_of_ours(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        reply({"ping_ms": number})
