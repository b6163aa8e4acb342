"""Host names that targets have by themselves (``domain=``), and globs that say which they may have. Pure."""

from __future__ import annotations

import re

from aero.address import HOST_CHARS, NAME, host, is_ip, is_localhost
from aero.errors import ConfigError

_GLOB_LABEL = re.compile(r"[a-z0-9*?](?:[a-z0-9*?-]*[a-z0-9*?])?")


def check_domain(text: str) -> str:
    """A name as DNS has it, in lower case and without a dot at its end. Raises ConfigError."""
    name = host(text).lower().rstrip(".")
    if is_ip(name) or is_localhost(name):
        raise ConfigError(
            f"{text[:60]!r} is this machine's or an address, write a name, as in app.example.org"
        )
    if len(name) > HOST_CHARS or not all(NAME.fullmatch(label) for label in name.split(".")):
        raise ConfigError(f"{text[:60]!r} is no host name: letters, digits and hyphens between dots")
    return name


def check_glob(text: str) -> str:
    """A glob of such names, in lower case: ``*`` stands for any characters, dots too. Raises ConfigError."""
    lower = text.lower().rstrip(".")
    good = all(_GLOB_LABEL.fullmatch(label) for label in lower.split("."))
    if not good or len(lower.replace("*", "")) > HOST_CHARS:
        raise ConfigError(
            f"{text[:60]!r} matches nothing: host names are letters, digits and hyphens between dots,"
            " as in *.ci.example.org"
        )
    return lower
