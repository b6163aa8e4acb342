"""The terms of a target: which of the options that its worker asked for this server honours, and how it reads them.

What comes over the wire is checked here, once, key by key: what uses an option finds a value that fits. A key that is
not in `HONOURED` is one of a later version, and is not repeated in ``registered``, so that the worker knows. Pure.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Callable

from aero.address import NAME, TCP, UDP
from aero.core.control import MAX_RATE, Option, Options
from aero.domains import check_domain
from aero.errors import ConfigError
from aero.headers import check_field, check_host, check_line
from aero.htpasswd import check_line as check_login
from aero.limits import Limits
from aero.server.policy.balance import BALANCES
from aero.server.registry.admission import networks


def read(wanted: Options, proto: str = TCP, lacks: Container[str] = ()) -> Options:
    """The options that count, of those that a worker asked for; ``lacks``: those that this host cannot honour.

    Raises ConfigError for a value that cannot be.
    """
    honoured = HONOURED_BY_UDP if proto == UDP else HONOURED
    found: dict[str, Option] = {}
    for key, value in wanted.items():
        reader = honoured.get(key)
        if reader is None or key in lacks:
            continue
        try:
            found[key] = reader(value)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None
    return found


def word(*choices: str) -> Callable[[Option], Option]:
    """A reader for one of some words."""

    def check(value: Option) -> Option:
        if value not in choices:
            raise ConfigError(f"{str(value)[:40]!r} is none of {', '.join(choices)}")
        return value

    return check


def number(lowest: int, highest: int) -> Callable[[Option], Option]:
    """A reader for whole numbers from ``lowest`` to ``highest``."""

    def check(value: Option) -> Option:
        if type(value) is not int or not lowest <= value <= highest:
            raise ConfigError(f"{str(value)[:40]} is not a number from {lowest} to {highest}")
        return value

    return check


def text(pattern: str, what: str) -> Callable[[Option], Option]:
    """A reader for texts that match a regular expression as a whole; ``what`` is what messages call such a text."""
    import re

    form = re.compile(pattern)

    def check(value: Option) -> Option:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ConfigError(f"{str(value)[:40]!r} is not {what}")
        return value

    return check


def texts(check: Callable[[str], str], highest: int) -> Callable[[Option], Option]:
    """A reader for lists of 1 to ``highest`` texts that ``check`` lets pass."""

    def read_all(value: Option) -> Option:
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= highest:
            raise ConfigError(f"not a list of 1 to {highest} texts")
        for each in value:
            if not isinstance(each, str):
                raise ConfigError("not a list of texts")
            check(each)
        return value

    return read_all


def one_text(check: Callable[[str], str]) -> Callable[[Option], Option]:
    """A reader for a text that ``check`` lets pass."""

    def read_one(value: Option) -> Option:
        if not isinstance(value, str):
            raise ConfigError("not a text")
        return check(value)

    return read_one


def domain(text: str) -> str:
    """A host name as it is written here. Raises ConfigError."""
    if check_domain(text) != text:
        raise ConfigError(f"{text[:60]!r} is not written as names are: in lower case, as DNS has them")
    return text


def networks_text(value: Option) -> Option:
    """Networks that visitors come from, as they are written."""
    networks(value)
    return value


#: How the value of each option of a TCP target is read: returns it, or raises ConfigError for one that cannot be.
HONOURED: dict[str, Callable[[Option], Option]] = {
    "proxy": word("v1", "v2"),
    "access": word("public", "closed"),
    "auth": texts(check_login, Limits.TARGET_LOGINS),
    "balance": word(*BALANCES),
    "check": text("tcp|http:/[!-~]{0,255}", "tcp or http:/path"),
    "domain": texts(domain, Limits.TARGET_DOMAINS),
    "every": number(1, 3600),
    "fails": number(1, 20),
    "passes": number(1, 20),
    "timeout": number(1, 60),
    "group": text(NAME.pattern, "a name"),
    "group-key": text("[0-9a-f]{32}", "a digest"),
    "header-remove": texts(check_field, Limits.TARGET_HEADERS),
    "header-set": texts(check_line, Limits.TARGET_HEADERS),
    "host": one_text(check_host),
    "limit": number(1024, MAX_RATE),
    "new-streams": number(1, 100_000),
    "visitor-streams": number(1, 100_000),
    "visitors": networks_text,
    "wait": number(*Limits.AWAY_WAIT_S),
    "weight": number(1, 100),
    "zstd": word("off", "auto", "on"),
}
#: The same of a UDP target.
HONOURED_BY_UDP: dict[str, Callable[[Option], Option]] = {
    "limit": number(1024, MAX_RATE),
    "visitors": networks_text,
    "idle": number(*Limits.FLOW_IDLE_S),  # after so many seconds of silence a flow is over
    "amplify": number(*Limits.AMPLIFY),  # bytes of answers for each byte that came
}
