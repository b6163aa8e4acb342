"""What a target may ask the mux to change in the requests that it gets: header lines, names and a host, checked.

Both ends use it: the worker, so that people read what is wrong where they wrote it, and the server, which believes
nobody. Pure.
"""

from __future__ import annotations

import re

from aero.address import HOST
from aero.errors import ConfigError

#: Longest name, and longest line: a line is one text of an option (PROTOCOL.md, "Control messages").
_NAME = re.compile(r"[!#$%&'*.^_`|~0-9A-Za-z-]{1,64}")
_VALUE = re.compile(r"[!-~](?:[ -~]{0,898}[!-~])?|")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ODD = re.compile(r"[^0-9a-z]")
#: They end at the mux (RFC 9110, section 7.6.1), say where a message ends, or are the mux's own to write. Some servers
#: take names for the same that differ only in characters that are neither letter nor digit: so do we.
_REFUSED = frozenset(
    _ODD.sub("", each)
    for each in (
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
    )
    + (
        "upgrade",
        "http2-settings",
        "content-length",
        "transfer-encoding",
        "trailer",
        "expect",
        "proxy",
        "forwarded",
    )
)


def folded(name: str) -> str:
    """A field's name as the servers read it that look only at its letters and digits."""
    return _ODD.sub("", name.lower())


def check_field(name: str) -> str:
    """The name of a field that may be set or removed. Raises ConfigError."""
    low = folded(name)
    if not _NAME.fullmatch(name) or not low:
        raise ConfigError(f"{name[:40]!r} is not the name of a header field")
    if low == "host":
        raise ConfigError("Host is not set or removed, write host=NAME")
    if low in _REFUSED or low.startswith("xforwarded"):
        raise ConfigError(f"{name} is the mux's own to write, leave it out")
    return name


def check_line(text: str) -> str:
    """``NAME:VALUE`` as ``NAME: VALUE``. Raises ConfigError."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError(f"{text[:40]!r} has no colon, write NAME:VALUE")
    value = value.strip(" ")
    check_field(name)
    if not _VALUE.fullmatch(value):
        raise ConfigError(f"the value of {name} is not up to 900 printable ASCII characters")
    return f"{name}: {value}"


def check_host(text: str) -> str:
    """What Host may say: a name or an address, with a port or without. Raises ConfigError."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host = host if colon else text
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else ""
    good = bool(bare and re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", bare)) or (
        len(host) <= 253 and ".." not in host and HOST.fullmatch(host) is not None
    )
    if not good or (colon and not (_PORT.fullmatch(port) and int(port) <= 65535)):
        raise ConfigError(f"{text[:60]!r} is not a host, write NAME or NAME:PORT")
    return text
