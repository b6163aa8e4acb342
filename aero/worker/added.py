"""Targets that the server asks this worker to offer: which of them it does. Pure; loaded when the server asks.

The worker's own --allow decides, and nothing but a name, an address and a port can be asked for: an option could name
a file of this host.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aero.address import UDP, Address, Target, socket_path
from aero.core.control import Added, Decline
from aero.errors import ConfigError
from aero.limits import Limits

if TYPE_CHECKING:
    from aero.allow import Allow

NO_ALLOW = "this worker takes no targets from the server: it runs without --allow"


def judge(
    allow: Allow | None, own: Iterable[Target], asked: Iterable[Added]
) -> tuple[tuple[Target, ...], tuple[Decline, ...]]:
    """What to offer of what is asked for, and why not the rest. ``own``: the worker's own targets.

    A name that is not in ``allow`` as it is written is not offered: whose addresses it has is not the server's to say.
    """
    taken = {(each.name, each.proto) for each in own}
    left = Limits.TARGETS_PER_WORKER - len(taken)
    targets: list[Target] = []
    declined: list[Decline] = []
    for each in asked:
        why = _why_not(allow, each)
        if not why and (each.name, each.proto) in taken:
            why = f"this worker has a target {each.name} of its own"
        if not why and len(targets) >= left:
            why = f"a worker may have {Limits.TARGETS_PER_WORKER} targets"
        if why:
            declined.append(Decline(each.name, each.proto, why))
            continue
        taken.add((each.name, each.proto))
        targets.append(_target(each))
    return tuple(targets), tuple(declined)


def _target(added: Added) -> Target:
    sock = socket_path(added.local)
    if sock is not None:
        return Target(added.name, "", 0, added.remote, added.proto, path=sock.path)
    where = Address.parse(added.local)
    return Target(added.name, where.host, where.port, added.remote, added.proto)


def _why_not(allow: Allow | None, added: Added) -> str:
    if allow is None:
        return NO_ALLOW
    try:
        covered = allow.covers(added.local)
    except ConfigError:
        return "this worker does not know what kind of address that is"
    if added.proto == UDP and socket_path(added.local) is not None:
        return "there is no UDP at a socket in the file system"
    return "" if covered else f"{added.local} is not in this worker's --allow"
