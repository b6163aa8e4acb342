"""What a hook that is asked says of a worker or a target (docs/api.md, "A hook that is asked").

Pure, and strict: what is not a clear answer is none.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from aero import logs
from aero.errors import ConfigError

WHY_CHARS = 200


class Permission(NamedTuple):
    """``why``: for people, where it is not let in; ``port``: the one that a target gets, 0 for the one it asked for."""

    allowed: bool
    why: str = ""
    port: int = 0


def read(body: bytes) -> Permission:
    """The permission in an answer's body: ``{"allow": true}``, ``{"allow": false, "why": "…"}``, or for a target
    ``{"allow": true, "port": 20001}``; other keys are ignored. Raises ConfigError.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise ConfigError("its answer is no JSON") from None
    allowed = said.get("allow") if isinstance(said, dict) else None
    if not isinstance(allowed, bool):
        raise ConfigError('its answer has no "allow" that is true or false')
    why, port = said.get("why", ""), said.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError('the "port" in its answer is none')
    return Permission(allowed, logs.clean(why, WHY_CHARS) if isinstance(why, str) else "", port)
