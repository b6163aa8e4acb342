"""Whether a worker may have a target that it registers: what its user, its invitation and its numbers say, and then the
operator's hook. Which port the target gets is no question here (ports).
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Protocol

from aero.address import TCP, UDP
from aero.core.control import DENIED, DUPLICATE, INVALID, TOO_MANY, Answer, Options, Wanted
from aero.limits import Limits
from aero.server.policy.permission import Permission
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports.ranges import count
from aero.server.registry.registration import Allowed
from aero.server.registry.session import WorkerSession
from aero.server.registry.tenants import Tenant

if TYPE_CHECKING:
    from aero.allow import Allow


class Permits(Protocol):
    """Whom the operator has asked before somebody is let in."""

    def ask(self, what: str, **about: Any) -> Permission:
        """Whether a worker or a target may be let in; blocks the greenlet."""


class Offering(Protocol):
    """The worker, as it is asked here (registry/worker.py)."""

    cid: str
    user: str
    tag: str
    host: str
    address: str
    limits: Limits
    tenant: Tenant
    bounds: Allow | None

    @property
    def sessions(self) -> Sequence[WorkerSession]:
        """One for each of its lanes."""

    @property
    def mappings(self) -> Table[int, Mapping]:
        """What it has already, by the targets' ids."""

    def mapping(self, name: str, proto: str = TCP) -> Mapping | None:
        """The mapping of a target by its name and protocol."""


def known(
    worker: Offering, wanted: Wanted, options: Options, why_not_claimed: Callable[[], str]
) -> Answer | None:
    """The answer that is known already: the target is mapped, or why it may not be. None where it may.

    ``options``: as read; ``why_not_claimed``: why it may not have the host names that it asks for, "" where it may.
    """
    number, name, proto = wanted.id, wanted.name, wanted.proto
    if proto == UDP and all(each.flows is None for each in worker.sessions):
        text = "no UDP here: the worker's link carries no datagrams, a newer AeRO-proxy does"
        return Answer(number, name, error=INVALID, text=text)
    mapping = worker.mappings.get(number)
    same = (name, wanted.local, options, proto)
    if mapping is not None and (mapping.name, mapping.local, mapping.options, mapping.owner.proto) == same:
        # Our first answer was lost.
        return Answer(number, name, mapping.port, tuple(mapping.addresses), mapping.told)
    denied = (
        worker.tenant.may_offer(name, proto, options)
        or _out_of_bounds(worker, wanted.local)
        or why_not_claimed()
    )
    if denied:
        return Answer(number, name, error=DENIED, text=denied)
    too_many = _too_many(worker, wanted.row)
    if too_many:
        return Answer(number, name, error=TOO_MANY, text=too_many)
    if worker.tenant.laden and mapping is None:
        return Answer(number, name, error=DENIED, text=worker.tenant.laden)
    if mapping is not None or worker.mapping(name, proto) is not None:
        return Answer(number, name, error=DUPLICATE, text=f"target {name} is registered already")
    return None


def _too_many(worker: Offering, row: int) -> str:
    """Why a target with so many ports would be one too many; "" where it would not."""
    if len(worker.mappings) >= worker.limits.TARGETS_PER_WORKER:
        return f"a worker may have {worker.limits.TARGETS_PER_WORKER} targets"
    ports = count(worker.tenant.ports) if worker.tenant.ports else worker.limits.PORTS_BY_DEFAULT
    has = sum(each.row for each in worker.mappings.values()) if row > 1 else 0
    if has + row > ports:
        return f"a worker may have {ports} ports in all: it has {has}, {row} more are too many"
    return ""


def _out_of_bounds(worker: Offering, local: str) -> str:
    """Why a target may not be at an address; "" where it may."""
    if worker.bounds is None or worker.bounds.covers(local):
        return ""
    return f"{local} is not what this worker was invited for ({worker.bounds})"


def ask(permits: Permits, worker: Offering, wanted: Wanted) -> Answer | Allowed:
    """What the operator's hook says of a target; blocks the greenlet."""
    permission = permits.ask(
        "target",
        user=worker.user,
        tag=worker.tag,
        host=worker.host,
        cid=worker.cid,
        address=worker.address,
        target=wanted.name,
        proto=wanted.proto,
        local=wanted.local,
        port=wanted.remote,
    )
    if not permission.allowed:
        return Answer(wanted.id, wanted.name, error=DENIED, text=permission.why)
    return Allowed(wanted._replace(remote=permission.port, had=0) if permission.port else wanted)
