"""POST /open: which targets are meant, for how long, for whom."""

from __future__ import annotations

from collections.abc import Mapping as Table
from time import time
from typing import Any

from aero import logs
from aero.errors import ConfigError, PortError, Problem
from aero.server.api.times import rfc3339
from aero.server.policy.access import LONGEST_S
from aero.server.policy.origin import is_near
from aero.server.registry.mapping import Mapping
from aero.server.registry.registry import Registry

log = logs.get("api")


def opened(registry: Registry, given: Table[str, str], address: str) -> dict[str, Any]:
    """Does what a call asks for, by its parameters; ``address``: where it came from. Raises Problem."""
    target = given.get("target", "")
    seconds = given.get("for", "")
    if not seconds.isdecimal() or not seconds.isascii() or len(seconds) > 8 or int(seconds) > LONGEST_S:
        raise Problem(400, f"say for how long: for=SECONDS, 0 (close it) to {LONGEST_S}")
    cut = given.get("cut", "0")
    if cut not in ("0", "1"):
        raise Problem(400, "cut is 1, or 0")
    whence = given.get("from", "")
    if whence == "me":
        if is_near(address):
            raise Problem(
                400, "you ask from the server itself, or through a proxy: write an address in place of me"
            )
        whence = address
    mappings = _named(registry, target)
    try:
        registry.mappings.open(mappings, int(seconds), whence, cut == "1")
    except ConfigError as error:
        raise Problem(400, f"from: {error}") from None
    except PortError as error:
        raise Problem(409, str(error)) from None
    log.info("open", target=target, seconds=seconds, whence=whence or "anywhere", by=address)
    return {
        "target": target,
        "open": int(seconds) > 0,
        "until": rfc3339(time() + int(seconds)) if int(seconds) else None,
        "from": whence,
        "mappings": len(mappings),
        "ports": sorted({each.port for each in mappings if each.logins is None}),
    }


def _named(registry: Registry, target: str) -> list[Mapping]:
    """The closed targets that TAG/NAME or CID@/NAME names."""
    who, slash, name = target.lower().partition("/")
    if not slash or not who or not name:
        raise Problem(400, "say which target: target=TAG/NAME, or CID@/NAME")
    worker = registry.workers.get(who.rstrip("@"))
    workers = [worker] if worker is not None else registry.tagged(who)
    mappings = [mapping for each in workers for mapping in (each.mapping(name),) if mapping is not None]
    if not mappings:
        raise Problem(404, f"there is no target {logs.clean(target, 140)} now")
    closed = [each for each in mappings if each.access is not None]
    if not closed:
        text = f"{logs.clean(target, 140)} is public, its worker does not offer it with access=closed"
        raise Problem(409, text)
    return closed
