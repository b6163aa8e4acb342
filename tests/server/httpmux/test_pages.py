"""What the mux itself says: in the form and language that was asked for, with nothing in it that does harm."""

from __future__ import annotations

import json

import pytest

from aero.server.httpmux.head import parse_request
from aero.server.httpmux.pages import REASONS, TEXTS, Page, render

FIELDS = {"tag": "t", "name": "web", "why": "<b>\x1b[31m", "expected": "/", "host": "h"}


def said(page: Page, *lines: str, method: str = "GET") -> tuple[str, str]:
    """Head and body."""
    head = "\r\n".join([f"{method} / HTTP/1.1", "Host: a", *lines, "", ""])
    head, _, body = render(page, parse_request(head.encode(), 9), True).decode().partition("\r\n\r\n")
    return head, body


@pytest.mark.parametrize("kind", TEXTS)
def test_every_page_has_words_in_both_languages(kind: str) -> None:
    assert TEXTS[kind].status in REASONS
    for language in ("en", "zh-CN"):
        head, body = said(Page(kind, FIELDS), f"Accept-Language: {language}")
        assert head.startswith(f"HTTP/1.1 {TEXTS[kind].status} {REASONS[TEXTS[kind].status]}\r\n")
        assert any(letter >= "\u4e00" for letter in body) == (language == "zh-CN")
        assert "\x1b" not in body
        assert ("Retry-After" in head) == (TEXTS[kind].status in (429, 503))


def test_forms() -> None:
    page = Page("target failed", FIELDS)
    assert "&lt;b&gt;" in said(page, "Accept: text/html")[1]
    assert json.loads(said(page, "Accept: application/json")[1])["error"] == "target failed"
    assert said(page, method="HEAD")[1] == ""
    assert "Known here: x." in said(Page("unknown tag", {**FIELDS, "there": "x"}))[1]


def test_an_unreadable_request_is_answered_too() -> None:
    head = render(Page("malformed", {"why": "bad"}), None, False, 405)
    assert head.startswith(b"HTTP/1.1 405 ") and b"Allow: " in head and b"Connection: close" in head
