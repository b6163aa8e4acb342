"""Heads of HTTP/1 messages: bytes in, what they say out. The strict gate that everything ambiguous stays outside of.

Pure: knows no sockets, no routes, no time. What is accepted here has exactly one reading, and what is passed on is
written anew from that reading, so that nothing behind the mux can understand a message differently than it did.
Raises MessageError for everything else (RFC 9112; where it lets a recipient be lenient, this one is not).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from aero.errors import MessageError
from aero.server.httpmux.repair import repair

# How long a body is, beside counts of bytes.
NO_BODY = -2
CHUNKED = -1
UNTIL_CLOSE = -3

# Heads of programs repeat to the byte. A browser's, with its cookies, seldom do: long ones are parsed each time.
CACHED_HEADS = 512
CACHED_BYTES = 2048
HOST_BYTES = 300  # a name of 253, a port, a worker's id before it

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]"
#: Linear in its input: no character fits two parts of it, so a failing match never goes back far.
_FIELDS = re.compile(rb"(?:" + _TOKEN + rb"+:" + _VALUE + rb"*\r\n)*")
_FIELD = re.compile(rb"(" + _TOKEN + rb"+):(" + _VALUE + rb"*)\r\n")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])")
_OTHER_VERSION = re.compile(rb"" + _TOKEN + rb"+ [\x21-\x7e]+ HTTP/[0-9](?:\.[0-9])?")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (" + _VALUE + rb"*))?")
_ABSOLUTE = re.compile(rb"[hH][tT][tT][pP][sS]?://([^/?]*)(.*)")
#: A name or IPv4 address, or an IPv6 address in brackets, and a port. A worker's id with its mark may begin it.
_HOST = re.compile(
    rb"(?:(?:c[0-9a-zA-Z]{12}(?:@|%40|%23)\.)?[0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ODD = re.compile(rb"[^0-9a-z]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: What no head may have in it, complete or not: a lone CR or LF, any other control character.
_NEVER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
#: The same for the head of a response, whose lines may end in a lone LF (repair.py).
_NEVER_ANSWERED = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)")
_FIRST = re.compile(rb"\r?\Z|(?:\r\n)?(?:\Z|" + _TOKEN + rb")")

#: Hop by hop (RFC 9110, section 7.6.1, and what older proxies made up), beside those that Connection names.
_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade http2-settings".split()
)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
#: Proxy would become HTTP_PROXY in a CGI program, which it takes for its own proxy.
_REQUEST_FIELDS = _HOP | _FRAMING | {b"host", b"expect", b"proxy"}
_RESPONSE_FIELDS = _HOP | _FRAMING
#: What proxies say of the visitor for whom they speak: only those that are trusted may (docs/reverse-proxy.md).
_PROXIED = frozenset(b"forwarded x-real-ip true-client-ip cf-connecting-ip remote-user".split())
_PROXIED_BEGIN = (b"x-forwarded", b"x-auth-request-", b"x-original-")
#: A trailer must not say what only a head may (RFC 9110, section 6.5.1).
_NOT_IN_TRAILERS = (
    _REQUEST_FIELDS
    | _PROXIED
    | frozenset(
        b"trailer authorization cookie set-cookie content-encoding content-type content-range location age"
        b" cache-control date expires vary range max-forwards if-match if-none-match if-modified-since"
        b" if-unmodified-since if-range www-authenticate warning retry-after".split()
    )
)
#: Fields with an address in them, which has the prefix in it, or needs it, where targets are addressed by path.
_REQUEST_PLACES = frozenset((b"destination", b"if"))
_RESPONSE_PLACES = frozenset(
    b"location content-location refresh link set-cookie service-worker-allowed".split()
)
#: Schemes that prove who asks with every request. Any other may prove it once for the whole connection, as NTLM and
#: Negotiate do, so that whoever is lent the connection afterwards is taken for the same person.
_PER_REQUEST = frozenset(
    b"basic bearer digest dpop hoba mutual oauth scram-sha-1 scram-sha-256 vapid privatetoken gnap concealed hawk mac"
    b" aws4-hmac-sha256 aws sharedkey sharedaccesssignature googlelogin apikey api-key key token signature".split()
)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_SCHEME = re.compile(rb"(" + _TOKEN + rb"+)(?:[ \t]+|\Z)(?!=)")
#: May be sent twice without harm (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class Request(NamedTuple):
    """A request's head. ``kept``: the lines that go to the target as they are; ``forwarded``: name and value of what
    is said of whom it is for; ``length``: of the body, in bytes, or NO_BODY, CHUNKED; ``upgrade``: the protocols to
    change to, b"" for none; ``expects``: it waits for 100 Continue; ``pins``: it may prove who asks for the whole
    connection; ``places``: ``kept`` has a field with an address under the prefix.
    """

    method: bytes
    target: bytes
    minor: int
    host: bytes
    kept: bytes
    forwarded: tuple[tuple[bytes, bytes], ...]
    length: int
    keep_alive: bool
    upgrade: bytes
    expects: bool
    trailers: bool
    pins: bool
    places: bool

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.length == CHUNKED or self.length > 0

    @property
    def visitors(self) -> list[bytes]:
        """The values of X-Forwarded-For, in order: whom a proxy speaks for."""
        return [value for name, value in self.forwarded if name.lower() == b"x-forwarded-for"]

    @property
    def says_host(self) -> bool:
        """Whether X-Forwarded-Host is there: proxies write it, web pages cannot."""
        return any(name.lower() == b"x-forwarded-host" for name, _ in self.forwarded)


_PREFERS_WAIT = re.compile(rb"(?im)^Prefer:[^\r\n]*?(?<![\w-])wait[ \t]*=[ \t]*\"?([0-9]{1,9})")


def prefers_wait(kept: bytes) -> int | None:
    """The seconds that a visitor would wait for an answer (RFC 7240, section 4.3); None where it does not say."""
    match = _PREFERS_WAIT.search(kept)
    return int(match[1]) if match is not None else None


class Response(NamedTuple):
    """A response's head, fields as in Request; ``length`` is what it says, NO_BODY when it says nothing."""

    status: int
    reason: bytes
    kept: bytes
    length: int
    keep_alive: bool
    upgrade: bytes
    pins: bool
    places: bool
    may_be_whole: (
        bool  # its body may have come with it: no status without one, nor one that changes the protocol
    )


def head_end(data: bytes | bytearray, checked: int) -> int:
    """Where a response's head ends, 0 when it has not; ``data[:checked]`` was looked at before."""
    start = max(checked - 2, 0)
    end = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, len(data) if end < 0 else end)
    return bare + 2 if bare >= 0 else end + 3 if end >= 0 else 0


def check_answered(part: bytes | bytearray, fresh: int, maximum: int) -> None:
    """As ``check_beginning``, for a response's head."""
    if not part.startswith(b"HTTP/1."[: len(part)]):
        raise MessageError(502, "bad status line")
    if len(part) > maximum:
        raise MessageError(502, f"the head is longer than {maximum} bytes")
    if _NEVER_ANSWERED.search(part, max(fresh - 1, 0)):
        raise MessageError(502, _fault(part))


def end_of_head(data: bytes, checked: int, maximum: int) -> int:
    """Where the request's head that ``data`` begins with ends, in bytes; 0 while some of it is missing.

    ``checked``: how many of the bytes were looked at before. Raises MessageError for what is no head or too long.
    """
    end = data.find(b"\r\n\r\n", max(checked - 3, 0)) + 4
    if end < 4:
        check_beginning(data, checked, maximum)
        return 0
    if end > maximum:
        raise MessageError(431, f"the head is longer than {maximum} bytes")
    return end


def check_beginning(part: bytes | bytearray, fresh: int, maximum: int) -> None:
    """Refuses the beginning of a request's head that cannot become one any more; ``part[:fresh]`` was checked before.

    Raises MessageError.
    """
    if len(part) > maximum:
        raise MessageError(431, f"the head is longer than {maximum} bytes")
    if not _FIRST.match(part) or _NEVER.search(part, max(fresh - 1, 0)):
        raise MessageError(400, _fault(part))


def parse_request(head: bytes, max_fields: int) -> Request:
    """Reads a request's head, blank line included. Raises MessageError."""
    return (_cached_request if len(head) <= CACHED_BYTES else _parse_request)(head, max_fields)


def parse_response(head: bytes, max_fields: int) -> Response:
    """Reads a response's head, blank line included. Raises MessageError."""
    return (_cached_response if len(head) <= CACHED_BYTES else _parse_response)(head, max_fields)


def body_length(method: bytes, response: Response) -> int:
    """How long a response's body is (RFC 9112, section 6.3): bytes, or NO_BODY, CHUNKED, UNTIL_CLOSE."""
    if method == b"HEAD" or response.status < 200 or response.status in (204, 304):
        return NO_BODY
    return UNTIL_CLOSE if response.length == NO_BODY else response.length


def parse_trailers(block: bytes, max_fields: int) -> bytes:
    """The trailer lines that may be passed on. ``block``: whole lines, without the blank one. Raises MessageError."""
    fields = _fields(block, max_fields)
    return b"".join(
        b"%s: %s\r\n" % (name, value.strip(b" \t"))
        for name, value in fields
        if not _folds_to(name.lower(), _NOT_IN_TRAILERS)
        and not _folded(name.lower()).startswith(_PROXIED_BEGIN)
    )


# ----------------------------------------------------------------------------
# Requests
# ----------------------------------------------------------------------------


def _parse_request(head: bytes, max_fields: int) -> Request:
    line, _, block = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad_request_line(line)
    method, target, minor = match[1], match[2], int(match[3])
    if method == b"CONNECT":
        raise MessageError(405, "CONNECT is not served here")
    kept: list[tuple[bytes, bytes, bytes]] = []
    special: dict[bytes, list[bytes]] = {}
    forwarded: list[tuple[bytes, bytes]] = []
    pins = places = False
    for name, value in _fields(block[:-2], max_fields):
        low, value = name.lower(), value.strip(b" \t")
        if low in _PROXIED or low.startswith(_PROXIED_BEGIN):
            if _folded(low) == low:  # a real proxy spells its fields as everybody does
                forwarded.append((name, value))
        elif low in _REQUEST_FIELDS:
            special.setdefault(low, []).append(value)
        elif not _folds_to(low, _REQUEST_FIELDS) and not _is_proxied(low):
            kept.append((low, name, value))
            pins = pins or (low == b"authorization" and _pins(value))
            places = places or low in _REQUEST_PLACES
    named = _connection(special)
    length = _length(special, minor)
    host, target = _host(special.get(b"host", []), target, method, minor)
    upgrade = special.get(b"upgrade", [])
    asks = b"upgrade" in named and minor == 1 and len(upgrade) == 1
    return Request(
        method,
        _BEYOND_ASCII.sub(lambda match: b"%%%02X" % match[0][0], target),
        minor,
        host,
        b"".join([b"%s: %s\r\n" % (name, value) for low, name, value in kept if low not in named]),
        tuple(forwarded),
        length,
        _keep_alive(named, minor),
        # h2c would be HTTP again, whose heads nobody checks; RFC 9113 has done away with it.
        upgrade[0] if asks and b"h2c" not in upgrade[0].lower() else b"",
        _expects(special.get(b"expect", []), minor, length),
        any(b"trailers" in value.lower() for value in special.get(b"te", [])),
        pins,
        places,
    )


def _bad_request_line(line: bytes) -> MessageError:
    if _OTHER_VERSION.fullmatch(line) and not re.search(rb" HTTP/1\.[01]$", line):
        return MessageError(505, "only HTTP/1.0 and HTTP/1.1 are served here")
    if b"#" in line:
        return MessageError(400, "a fragment (#) in the request target")
    return MessageError(400, _fault(line) if _CONTROL.search(line) else "bad request line")


def _host(values: list[bytes], target: bytes, method: bytes, minor: int) -> tuple[bytes, bytes]:
    """The host that is asked for, and the target in origin form (RFC 9112, section 3.2)."""
    if len(values) > 1:
        raise MessageError(400, "more than one Host")
    if not values and minor == 1:
        raise MessageError(400, "no Host")
    host = values[0] if values else b""
    if host and (len(host) > HOST_BYTES or not _HOST.fullmatch(host)):
        raise MessageError(400, "bad Host")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return host, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise MessageError(400, "bad request target")
    if (
        len(match[1]) > HOST_BYTES
        or not _HOST.fullmatch(match[1])
        or (values and match[1].lower() != host.lower())
    ):
        raise MessageError(400, "request target and Host differ")
    rest = match[2]
    return match[1], rest if rest.startswith(b"/") else b"/" + rest


def _expects(values: list[bytes], minor: int, length: int) -> bool:
    if not values:
        return False
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise MessageError(417, "an expectation other than 100-continue")
    return minor == 1 and length not in (NO_BODY, 0)


# ----------------------------------------------------------------------------
# Responses
# ----------------------------------------------------------------------------


def _parse_response(head: bytes, max_fields: int) -> Response:
    try:
        return _strict_response(head, max_fields)
    except MessageError:
        return _strict_response(repair(head), max_fields)


def _strict_response(head: bytes, max_fields: int) -> Response:
    line, _, block = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MessageError(502, "bad status line")
    minor, status = int(match[1]), int(match[2])
    kept: list[tuple[bytes, bytes, bytes]] = []
    special: dict[bytes, list[bytes]] = {}
    pins = places = False
    for name, value in _fields(block[:-2], max_fields):
        low, value = name.lower(), value.strip(b" \t")
        if low in _RESPONSE_FIELDS:
            special.setdefault(low, []).append(value)
        elif not _folds_to(low, _RESPONSE_FIELDS):
            kept.append((low, name, value))
            pins = pins or (low == b"www-authenticate" and _pins(value))
            places = places or low in _RESPONSE_PLACES
    named = _connection(special)
    return Response(
        status,
        match[3] or b"",
        b"".join([b"%s: %s\r\n" % (name, value) for low, name, value in kept if low not in named]),
        _length(special, minor),
        _keep_alive(named, minor),
        b", ".join(special.get(b"upgrade", [])),
        pins,
        places,
        status >= 200 and status not in (204, 304),
    )


_cached_request = lru_cache(CACHED_HEADS)(_parse_request)
_cached_response = lru_cache(CACHED_HEADS)(_parse_response)


# ----------------------------------------------------------------------------
# What both have
# ----------------------------------------------------------------------------


def _fields(block: bytes, max_fields: int) -> list[tuple[bytes, bytes]]:
    """Names and values as written. Raises MessageError."""
    if not _FIELDS.fullmatch(block):
        raise MessageError(400, _fault(block))
    fields = _FIELD.findall(block)
    if len(fields) > max_fields:
        raise MessageError(431, f"more than {max_fields} header fields")
    return fields


def _folded(low: bytes) -> bytes:
    """A name as CGI, WSGI and their like may read it: they cannot tell one character from another that is neither
    letter nor digit.
    """
    return low if low.replace(b"-", b"").isalnum() else _ODD.sub(b"-", low)


def _folds_to(low: bytes, names: frozenset[bytes]) -> bool:
    """Whether a name is, or could be taken for, one of ``names``."""
    return low in names or _folded(low) in names


def _is_proxied(low: bytes) -> bool:
    """Whether a name could be taken for one of those that only trusted proxies may say."""
    folded = _folded(low)
    return folded in _PROXIED or folded.startswith(_PROXIED_BEGIN)


def _pins(value: bytes) -> bool:
    """Whether credentials, or challenges, have a scheme that may hold for a whole connection."""
    schemes = [_SCHEME.match(part.strip(b" \t")) for part in _QUOTED.sub(b"", value).split(b",")]
    return schemes[0] is None or any(each and each[1].lower() not in _PER_REQUEST for each in schemes)


def _connection(special: dict[bytes, list[bytes]]) -> set[bytes]:
    """The options of Connection, lower case: they name the fields that end here."""
    values = special.get(b"connection", [])
    return {option.strip(b" \t").lower() for value in values for option in value.split(b",")}


def _keep_alive(named: set[bytes], minor: int) -> bool:
    return b"close" not in named and (minor == 1 or b"keep-alive" in named)


def _length(special: dict[bytes, list[bytes]], minor: int) -> int:
    """How long the body is, by the one field that says so. Raises MessageError when two do, or one twice."""
    lengths = special.get(b"content-length", [])
    codings = special.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise MessageError(400, "Content-Length beside Transfer-Encoding")
        if minor == 0:
            raise MessageError(400, "Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise MessageError(400, "a Transfer-Encoding other than chunked")
        return CHUNKED
    if not lengths:
        return NO_BODY
    if len(lengths) > 1:
        raise MessageError(400, "more than one Content-Length")
    if not _LENGTH.fullmatch(lengths[0]):
        raise MessageError(400, "bad Content-Length")
    return int(lengths[0])


def _fault(block: bytes | bytearray) -> str:
    """Which rule some lines break first. Only asked when one is broken."""
    for line in block.split(b"\r\n"):
        if b"\n" in line:
            return "a line feed without carriage return"
        if b"\r" in line:
            return "a carriage return without line feed"
        if _CONTROL.search(line):
            return "a control character in the head"
        if line.startswith((b" ", b"\t")):
            return "a folded header line"
        if re.match(_TOKEN + rb"*[ \t]+:", line):
            return "white space before the colon of a header field"
    return "a line that is no header field"
