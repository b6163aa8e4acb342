"""The keys of a rule in the users' file, and how the value of each is read. Values of TOML in, checked ones out."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Callable

from aero.address import NAME_CHARS
from aero.config import units, values
from aero.config.hints import instead
from aero.domains import check_glob
from aero.errors import ConfigError
from aero.server.policy.rules import DAY, MONTH, PROTOCOLS, Quota

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange

ITEMS = 256  # of one list: networks, globs, ranges
LARGEST = 2**50  # a petabyte, of rates and quotas


def _items(value: Any) -> list[str]:
    """The items of a list: text with commas, or a list of texts."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(each, str) for each in items):
        raise ConfigError('write one text with commas, or a list of texts: "a,b" or ["a", "b"]')
    found = [each.strip() for each in items]
    if not found or not all(found):
        raise ConfigError("an item is empty; leave the key out where nothing is to be said")
    if len(found) > ITEMS:
        raise ConfigError(f"{len(found)} items are too many, write at most {ITEMS}")
    return found


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ConfigError('write a text, as in "2MB"')
    return value


def _name_globs(value: Any) -> tuple[str, ...]:
    for glob in _items(value):
        shortest = glob.replace("*", "")
        if not re.fullmatch(r"[a-z0-9*?-]+", glob):
            hint = f", write {glob.lower()}" if re.fullmatch(r"[A-Za-z0-9*?-]+", glob) else ""
            raise ConfigError(
                f"{glob!r} matches nothing: names have small letters, digits and inner hyphens,"
                f" * and ? stand for some{hint}"
            )
        if glob[0] == "-" or glob[-1] == "-" or len(shortest) > NAME_CHARS:
            raise ConfigError(
                f"{glob!r} matches nothing: no name has a hyphen at an end, or more than {NAME_CHARS} characters"
            )
    return tuple(_items(value))


def _domain_globs(value: Any) -> tuple[str, ...]:
    return tuple(check_glob(each) for each in _items(value))


def _protocols(value: Any) -> tuple[str, ...]:
    for each in _items(value):
        if each not in PROTOCOLS:
            raise ConfigError(f"{each!r} is unknown, {instead(each, PROTOCOLS)}")
    return tuple(each for each in PROTOCOLS if each in _items(value))


def _ports(value: Any) -> tuple[PortRange, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found: list[PortRange] = []
    for each in _items(value):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", each)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if low > high and high:
            raise ConfigError(f"{each!r} is upside down, write {high}-{low}")
        if not 1 <= low <= high <= 65535:
            raise ConfigError(f"{each!r} is no port or range, write for example 30000-30099,443")
        found.append((low, high))
    found.sort()
    merged = found[:1]
    for low, high in found[1:]:
        if low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def _number(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise ConfigError(f"write a number from {lowest} to {highest}, without quotes")
        return value

    return parse


def _rate(value: Any) -> int:
    return units.size(1024, LARGEST)(_text(value))


def _quota(value: Any) -> tuple[Quota, ...]:
    found: dict[str, Quota] = {}
    for each in _items(value):
        amount, slash, per = each.partition("/")
        if not slash or per not in (DAY, MONTH):
            raise ConfigError(
                f"{each!r} is no quota, write an amount a day or a month: 50GB/month, or 5GB/day"
            )
        if per in found:
            raise ConfigError(f"there are two quotas a {per}, write one")
        found[per] = Quota(units.size(1024, LARGEST)(amount.strip()), per)
    return tuple(found[per] for per in (DAY, MONTH) if per in found)


def _grace(value: Any) -> int:
    match = re.fullmatch(r"([0-9]{1,4})%", value if isinstance(value, str) else "")
    if match is None or int(match[1]) > 1000:
        raise ConfigError('write in percent how far over the quota open streams may go, as in "5%"')
    return int(match[1])


def _networks(value: Any) -> values.Networks:
    return tuple(network for each in _items(value) for network in values.networks(each))


def _expires(value: Any) -> float:
    """Unix seconds. A date means its first moment in this host's time zone, and so does a time without a zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            pass
    if not isinstance(value, date):
        raise ConfigError("that is no date, write for example 2027-01-31, or 2027-01-31T18:00:00Z")
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    try:
        return moment.timestamp()
    except (OverflowError, ValueError, OSError):
        raise ConfigError("that date cannot be") from None


#: Every key of a rule and how its value is read. ``verifier`` and ``auth`` are read apart.
KEYS: dict[str, Callable[[Any], Any]] = {
    "tags": _name_globs,
    "targets": _name_globs,
    "protocols": _protocols,
    "ports": _ports,
    "groups": _name_globs,
    "domains": _domain_globs,
    "max-workers": _number(1, 1_000_000),
    "max-targets": _number(1, 1_000_000),
    "max-streams": _number(1, 1_000_000),
    "limit": _rate,
    "worker-limit": _rate,
    "target-limit": _rate,
    "visitor-limit": _rate,
    "quota": _quota,
    "quota-grace": _grace,
    "visitors": _networks,
    "deny-visitors": _networks,
    "expires": _expires,
}
