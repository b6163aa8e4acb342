"""What the mux itself says: small pages for people, JSON for programs that ask for it, a line of text for the rest.

Everything that a visitor or a worker wrote is escaped. Knows no sockets; gives whole responses as bytes.
"""

from __future__ import annotations

import html
import json
import re
from typing import NamedTuple

from aero.server.httpmux.head import Request

RETRY_AFTER_S = 5  # about what a worker takes to come back after a lost link
WHY_CHARS = 300  # of what a worker says went wrong


class Page(NamedTuple):
    """One page of the mux's own: ``kind`` is a key of TEXTS, ``fields`` fill it in, ``extra`` are header lines."""

    kind: str
    fields: dict[str, str]
    extra: bytes = b""


class Text(NamedTuple):
    """A status and what to say, in English and Chinese."""

    status: int
    en: str
    zh: str


TEXTS = {
    "add slash": Text(307, "The address ends with a slash.", "该地址以斜杠结尾。"),
    "malformed": Text(400, "This is not a request that can be passed on: {why}.", "无法转发此请求：{why}。"),
    "no address": Text(
        404, "No service here. Addresses look like {expected}.", "这里没有服务。地址形如 {expected}。"
    ),
    "wrong host": Text(
        404,
        "No service under this host name. They look like {expected}.",
        "此主机名下没有服务。主机名形如 {expected}。",
    ),
    "unknown tag": Text(404, "There is no worker with the tag {tag}.", "没有标签为 {tag} 的工作端。"),
    "unknown cid": Text(404, "There is no worker with the id {tag}.", "没有编号为 {tag} 的工作端。"),
    "unknown name": Text(
        404, "Worker {tag} has no target with the name {name}.", "工作端 {tag} 没有名为 {name} 的目标。"
    ),
    "closed": Text(
        403,
        "The service {tag}/{name} is closed now. Its operator can open it for a time.",
        "服务 {tag}/{name} 目前已关闭，管理员可以将其暂时开放。",
    ),
    "login": Text(
        401,
        "The service {tag}/{name} asks for a name and a password.",
        "服务 {tag}/{name} 需要用户名和密码。",
    ),
    "not let in": Text(
        403,
        "Target {name} of worker {tag} does not let you in: {why}.",
        "工作端 {tag} 的目标 {name} 拒绝访问：{why}。",
    ),
    "misdirected": Text(
        421,
        "This server does not answer to the name {host}. Its operator can let it with --mux-host {host}.",
        "此服务器不以名称 {host} 提供服务。管理员可用 --mux-host {host} 允许该名称。",
    ),
    "visitor slow": Text(408, "The request did not come in time.", "请求未在规定时间内到达。"),
    "target failed": Text(
        502,
        "Target {name} of worker {tag} did not answer: {why}.",
        "工作端 {tag} 的目标 {name} 没有应答：{why}。",
    ),
    "target talks nonsense": Text(
        502,
        "Target {name} of worker {tag} answered with something that is not valid HTTP: {why}.",
        "工作端 {tag} 的目标 {name} 的应答不是有效的 HTTP：{why}。",
    ),
    "link lost": Text(
        502,
        "The link to the worker of {tag}/{name} was lost before the answer came. The request may have taken effect.",
        "在收到应答之前，与 {tag}/{name} 的工作端的连接已中断。该请求可能已被执行。",
    ),
    "no worker": Text(
        503,
        "The worker of {tag}/{name} is not connected now. Try again soon.",
        "{tag}/{name} 的工作端目前未连接，请稍后再试。",
    ),
    "nobody yet": Text(
        503,
        "Nobody serves {host} yet: the server has just started. Try again soon.",
        "{host} 暂时无人提供服务：服务器刚刚启动。请稍后再试。",
    ),
    "link down": Text(
        503,
        "The link to the worker of {tag}/{name} is down now. Try again soon.",
        "与 {tag}/{name} 的工作端的连接目前中断，请稍后再试。",
    ),
    "target sick": Text(
        503,
        "The service {tag}/{name} does not work now: {why}. Try again soon.",
        "服务 {tag}/{name} 目前无法使用：{why}。请稍后再试。",
    ),
    "quota": Text(
        503, "{tag}/{name} has used up its quota: {why}.", "{tag}/{name} 的流量配额已用完：{why}。"
    ),
    "too many": Text(429, "There are too many requests now: {why}.", "目前请求过多：{why}。"),
    "busy": Text(503, "There are too many connections now. Try again soon.", "目前连接过多，请稍后再试。"),
    "target slow": Text(
        504,
        "Target {name} of worker {tag} did not answer in time.",
        "工作端 {tag} 的目标 {name} 未及时应答。",
    ),
}
#: Words for the first line and the page's title.
REASONS = {
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    429: "Too Many Requests",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
_THERE = {"en": "Known here: {there}.", "zh": "现有：{there}。"}

_PAGE = """<!doctype html>
<html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {reason}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1.05rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto 0; padding: 0 1.2rem;
 overflow-wrap: anywhere }}
h1 {{ font-size: 1.3rem }} small {{ opacity: .65 }}
</style>
<h1>{status} {reason}</h1>
<p>{text}</p>
<p><small>AeRO-proxy</small></p>
</html>
"""
_ACCEPT = re.compile(rb"^accept: (.*)\r$", re.I | re.M)
_LANGUAGE = re.compile(rb"^accept-language: (.*)\r$", re.I | re.M)


def render(page: Page, request: Request | None, keep_alive: bool, status: int = 0) -> bytes:
    """The whole response. ``request``: None where it could not be read; ``status``: other than the kind's own."""
    text = TEXTS[page.kind]
    status = status or text.status
    reason = REASONS[status]
    kept = request.kept if request is not None else b""
    lang = "zh" if _first(_LANGUAGE, kept).lower().startswith(b"zh") else "en"
    fields = {key: value[:WHY_CHARS] for key, value in page.fields.items()}
    accept = _first(_ACCEPT, kept).lower()
    if b"text/html" in accept:
        said = html.escape(_fill(text, lang, fields))
        kind, body = "text/html", _PAGE.format(lang=lang, status=status, reason=reason, text=said)
    elif b"json" in accept:
        said = _fill(text, "en", fields)
        content = {"status": status, "error": page.kind, "message": said}
        kind, body = "application/json", json.dumps(content) + "\n"
    else:
        kind, body = "text/plain", _plain(f"{status} {reason}: {_fill(text, lang, fields)}") + "\n"
    data = body.encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        f"Content-Type: {kind}; charset=utf-8",
        f"Content-Length: {len(data)}",
        "Cache-Control: no-store",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options: nosniff",
    ]
    if status == 405:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if status in (429, 503):
        lines.append(f"Retry-After: {page.fields.get('retry_s', RETRY_AFTER_S)}")
    if not keep_alive:
        lines.append("Connection: close")
    elif request is not None and request.minor == 0:
        lines.append("Connection: keep-alive")
    head = "\r\n".join(lines).encode() + b"\r\n" + page.extra + b"\r\n"
    return head if request is not None and request.method == b"HEAD" else head + data


def _first(pattern: re.Pattern[bytes], kept: bytes) -> bytes:
    match = pattern.search(kept)
    return match[1] if match is not None else b""


def _fill(text: Text, lang: str, fields: dict[str, str]) -> str:
    template = text.zh if lang == "zh" else text.en
    if "there" in fields:
        template += " " + _THERE[lang]
    return template.format_map(fields)


def _plain(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
