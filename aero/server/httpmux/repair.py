"""Heads of responses that break a rule and still have one certain meaning: written anew as the rules have them.

Devices behind NAT send what they always have, and browsers and curl read it. Requests are never repaired: who sends
those may want two programs to read them differently. docs/mux.md, "What targets may get wrong", is the law; what is
not in it is refused. Pure; the result is parsed like any other head (head.py).
"""

from __future__ import annotations

import re

from aero.errors import MessageError

_STATUS_LINE = re.compile(rb"HTTP/1\.([01])( .*)")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_BLANK = b" \t"


def repair(head: bytes) -> bytes:
    """The head in its one certain meaning. Raises MessageError where it has none.

    A connection whose framing had to be repaired is not used again: ``Connection: close`` is put in.
    """
    start, lines = _lines(head)
    status = _STATUS_LINE.fullmatch(start)
    if status is None:
        raise MessageError(502, "bad status line")
    kept: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    doubtful = False
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise MessageError(502, "a line that is no header field")
        called = name.rstrip(_BLANK).lower()
        if called in (b"content-length", b"transfer-encoding"):
            doubtful = doubtful or called != name.lower()
            found = lengths if called == b"content-length" else codings
            found += [part.strip(_BLANK).lower() for part in value.split(b",")]
        elif _TOKEN.fullmatch(name):
            kept.append(line)
    codings = [coding for coding in codings if coding != b"identity"]
    minor = status[1]
    if codings:
        if set(codings) != {b"chunked"}:
            raise MessageError(502, "a Transfer-Encoding other than chunked")
        doubtful = doubtful or bool(lengths) or len(codings) > 1 or minor == b"0"
        minor = b"1"
        kept.append(b"Transfer-Encoding: chunked")
    elif lengths:
        if len(set(lengths)) > 1 or not _DIGITS.fullmatch(lengths[0]):
            raise MessageError(
                502, "two values of Content-Length" if len(set(lengths)) > 1 else "bad Content-Length"
            )
        kept.append(b"Content-Length: " + lengths[0])
    if doubtful:
        kept.append(b"Connection: close")
    return b"\r\n".join([b"HTTP/1.%b%b" % (minor, status[2]), *kept, b"", b""])


def _lines(head: bytes) -> tuple[bytes, list[bytes]]:
    """The status line and the field lines, whatever ended them, folded ones put together."""
    start, *rest = head.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    if b"\r" in head.replace(b"\r\n", b""):
        raise MessageError(502, "a carriage return without line feed")
    lines: list[bytes] = []
    for line in rest:
        if not line.startswith((b" ", b"\t")):
            lines.append(line)
        elif lines:
            lines[-1] = lines[-1].rstrip(_BLANK) + b" " + line.strip(_BLANK)
        # A folded line behind the status line belongs to nothing (RFC 9112, section 2.2).
    return start, lines
