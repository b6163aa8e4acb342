"""Who may have a port that somebody has a lease of: a table, and the few facts that it goes by. Pure.

A lease belongs to a user, a tag, a host and a target's name. Who claims a port is one of four to its lease (``Kin``),
and its owner is in one of seven states (``State``); ``TABLE`` has what follows. What stands nowhere in the table is
refused: then the claimant gets another port, or "taken" where it asked for this one by number.

With one code for all, names can be imitated: a worker that says the same tag, host and target is the same to this
table once the owner gives no sign of life.
"""

from __future__ import annotations

from typing import NamedTuple

from aero.server.store.leases import Lease, Owner

#: Long enough for every worker to dial again after a restart of the server or of its own; the largest step of its
#: back-off is 30 s. For so long after its start the server takes everybody absent for alive, and for so long an owner
#: must have been silent until another host may have its port.
SILENCE_S = 120


class Kin:
    """What a claimant is to a lease's owner."""

    SELF = "the same worker"
    REBORN = "the same host with another identity: made anew, or a clone"
    MOVED = "the same tag and target on another host"
    OTHER = "somebody else"


class State:
    """How a lease's owner is. The last three hold the port now."""

    UNSEEN = "absent since before the server's start, which was a moment ago"
    ABSENT = "gone"
    SILENT = "gone for some minutes"
    UNUSED = "gone for so many days that nobody waits for it"
    UNLINKED = "here, but no link leads to it"
    LINKED = "here, and not asked for a sign of life"
    ALIVE = "here, and it gave one just now"


class Verdict:
    """What becomes of a claim."""

    GIVE = "give the port"
    TELL = "give it to who asks for it by number, and tell people"
    ASK = "ask the holder for a sign of life, then judge again"
    REFUSE = "refuse"


TABLE = {
    (Kin.SELF, State.UNSEEN): Verdict.GIVE,
    (Kin.SELF, State.ABSENT): Verdict.GIVE,
    (Kin.SELF, State.SILENT): Verdict.GIVE,
    (Kin.SELF, State.UNUSED): Verdict.GIVE,
    (Kin.SELF, State.UNLINKED): Verdict.GIVE,
    (Kin.SELF, State.LINKED): Verdict.ASK,
    (Kin.REBORN, State.ABSENT): Verdict.GIVE,
    (Kin.REBORN, State.SILENT): Verdict.GIVE,
    (Kin.REBORN, State.UNUSED): Verdict.GIVE,
    (Kin.REBORN, State.UNLINKED): Verdict.GIVE,
    (Kin.REBORN, State.LINKED): Verdict.ASK,
    (Kin.MOVED, State.SILENT): Verdict.TELL,
    (Kin.MOVED, State.UNUSED): Verdict.GIVE,
    (Kin.OTHER, State.UNUSED): Verdict.GIVE,
}


class Holder(NamedTuple):
    """Who has a port now: whether a link leads to it, and whether it gave a sign of life just now."""

    linked: bool
    alive: bool


class Times(NamedTuple):
    """Unix seconds: now, and the server's start; and after how many seconds a lease that nobody uses is void."""

    now: float
    started: float
    void_s: float


def kin(lease: Lease, owner: Owner, identity: str) -> str:
    """What a claimant with these names is to the lease."""
    if lease.owner == owner:
        return Kin.SELF if lease.identity == identity else Kin.REBORN
    return Kin.MOVED if lease.owner._replace(host=owner.host) == owner else Kin.OTHER


def state(lease: Lease, holder: Holder | None, times: Times) -> str:
    """How the lease's owner is. A clock that went back counts as no time at all."""
    if holder is not None:
        return State.ALIVE if holder.alive else State.LINKED if holder.linked else State.UNLINKED
    if times.now - lease.used_at >= times.void_s:
        return State.UNUSED
    if times.now - max(lease.used_at, times.started) >= SILENCE_S:
        return State.SILENT
    # Left during this run of the server, or away since before it.
    return State.ABSENT if lease.used_at > times.started else State.UNSEEN


def judge(lease: Lease, holder: Holder | None, owner: Owner, identity: str, times: Times) -> str:
    """The verdict on a claim to a leased port by a worker's target ``owner``."""
    return TABLE.get((kin(lease, owner, identity), state(lease, holder, times)), Verdict.REFUSE)
