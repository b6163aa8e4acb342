"""Replies: what every route gives back, or a problem that becomes one. Knows no route and no socket."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from aero.errors import Problem

STATUSES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
JSON = "application/json"
#: On every answer: nobody may guess its type, frame it, keep it, or learn from it where somebody came from.
SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
#: On everything but the page, which has its own.
NO_CONTENT = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

Headers = list[tuple[str, str]]


class Reply(NamedTuple):
    """One HTTP answer; ``body`` is whole, or pieces that come when they come."""

    status: int
    content_type: str
    body: bytes | Iterable[bytes]
    headers: tuple[tuple[str, str], ...] = (NO_CONTENT,)

    @property
    def status_line(self) -> str:
        """``404 Not Found``."""
        return f"{self.status} {STATUSES[self.status]}"

    @property
    def all_headers(self) -> Headers:
        """What stands above the body."""
        length = [("Content-Length", str(len(self.body)))] if isinstance(self.body, bytes) else []
        return [("Content-Type", self.content_type), *length, *self.headers, *SECURITY]

    def whole(self) -> bytes:
        """The answer as it goes out where no WSGI server is there to send it; the connection ends with it."""
        lines = [f"HTTP/1.1 {self.status_line}", *(f"{name}: {value}" for name, value in self.all_headers)]
        body = self.body if isinstance(self.body, bytes) else b"".join(self.body)
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


def dumps(content: Any) -> str:
    """``content`` as JSON, as short as it can be."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def reply(content: Any, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """``content`` as JSON."""
    return Reply(status, JSON, dumps(content).encode("utf-8", "replace"), (NO_CONTENT, *headers))


def problem_reply(problem: Problem) -> Reply:
    """A problem as JSON."""
    return reply({"error": str(problem), "status": problem.status}, problem.status, *problem.headers)
