"""Tenants: the users as they are here, each with the rule that holds for him now and with his workers.

A worker has its user's tenant as long as it is here, so a rule that changes counts for it from the next question on;
what a changed rule forbids of what is there already, `enforce` ends. Without a users' file there is one tenant.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice
from time import localtime, strftime, time
from typing import TYPE_CHECKING, Callable, Protocol

from aero.core.codes import Close
from aero.core.control import DENIED, Answer, Options
from aero.errors import Rejected
from aero.server.policy.rules import EVERYBODY, NO_USERS, Claims, Rule, Users
from aero.server.registry.mapping import Mapping
from aero.server.store.credentials import Credential

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange


class Lodger(Protocol):
    """A worker, as its tenant needs it (registry/worker.py)."""

    cid: str
    tag: str
    tenant: Tenant
    mappings: dict[int, Mapping]

    @property
    def streams(self) -> int:
        """Open streams."""

    @property
    def flows(self) -> int:
        """Open flows, of UDP targets."""

    def end(self, code: int, text: str) -> None:
        """Ends every session."""

    def deny(self, mapping: Mapping, why: str) -> None:
        """Ends a mapping with its streams, and tells why."""


class Granted(Protocol):
    """The credentials (store/credentials.py)."""

    def get(self, login: str) -> Credential | None:
        """The one with this name."""


class Tenant:
    """One user, and what he has here."""

    __slots__ = ("name", "rule", "workers")

    def __init__(self, name: str, rule: Rule = EVERYBODY) -> None:
        """``name``: the user's, "" for those who have the plain code."""
        self.name = name
        self.rule = rule
        self.workers: dict[str, Lodger] = {}  # by cid

    @property
    def ports(self) -> tuple[PortRange, ...]:
        """The ports that are his; none: he gets those that are everybody's."""
        return self.rule.ports or ()

    @property
    def full(self) -> str:
        """Why he may have no further stream or flow; "" where he may. Costs nothing where no rule bounds them."""
        most = self.rule.max_streams
        if not most or sum(worker.streams + worker.flows for worker in self.workers.values()) < most:
            return ""
        return f"{self.rule.name} allow {most} streams at once"

    def may_offer(self, name: str, proto: str, options: Options) -> str:
        """Why he may not offer a target of this name and protocol, in the group that it asks for; "" where he may."""
        group = options.get("group")
        in_group = self.rule.may_join(group) if isinstance(group, str) else ""
        return self.rule.may_offer(name, proto) or in_group

    @property
    def laden(self) -> str:
        """Why he may have no further target; "" where he may."""
        most = self.rule.max_targets
        if not most or sum(len(worker.mappings) for worker in self.workers.values()) < most:
            return ""
        return f"{self.rule.name} allow {most} targets"

    @property
    def granted(self) -> set[Mapping] | None:
        """Of more targets than he may have, those that came first; None where he has no more than he may."""
        most = self.rule.max_targets
        if not most or sum(len(worker.mappings) for worker in self.workers.values()) <= most:
            return None
        return set(islice((each for one in self.workers.values() for each in one.mappings.values()), most))


class Tenants:
    """All users who are here or have been."""

    def __init__(self, users: Users = NO_USERS, clock: Callable[[], float] = time) -> None:
        """``users``: their rules; ``clock`` gives Unix seconds."""
        self._users, self._claims = users, Claims(users.rules)
        self._clock = clock
        self._tenants: dict[str, Tenant] = {}
        self.credentials: Granted | None = None  # those of workers that were invited; None: there are none

    @property
    def users(self) -> Users:
        """Their rules."""
        return self._users

    def admit(self, user: str, tag: str, login: str = "") -> Tenant:
        """The tenant of a user whose worker has arrived; ``login``: the name under which it has proved itself.

        Raises Rejected where the rule does not let it in.
        """
        rule = self.check(user, tag, login)
        tenant = self._tenants.get(user)
        if tenant is None:
            tenant = self._tenants[user] = Tenant(user, rule)
        if rule.max_workers and len(tenant.workers) >= rule.max_workers:
            raise Rejected(Close.LIMIT, f"{rule.name} allow {rule.max_workers} workers at once", final=False)
        return tenant

    def check(self, user: str, tag: str, login: str = "") -> Rule:
        """The rule of a user who wants to be here with a tag. Raises Rejected where it does not let him."""
        rule = self.users.rule(user)
        granted = self.granted(login)
        why = self.why_not(rule, tag)
        if granted is not None and granted.tag != tag:
            why = f"{login} was invited for the tag {granted.tag}, not for {tag}"
        if why or rule is None:
            raise Rejected(Close.DENIED, why, final=True)
        return rule

    def why_not(self, rule: Rule | None, tag: str) -> str:
        """Why workers under a rule may not be here with a tag now; "" where they may."""
        if rule is None:
            return "the server has no rules for this user any more"
        if rule.expired(self._clock()):
            return f"{rule.name} ended on {strftime('%Y-%m-%d %H:%M:%S', localtime(rule.expires))}"
        return self.users.may_use_tag(rule, tag, self._claims)

    def granted(self, login: str) -> Credential | None:
        """The credential that was proved under a name; None: something else was."""
        return self.credentials.get(login) if self.credentials is not None else None

    def change(self, users: Users) -> None:
        """Other rules from now on; `enforce` ends what they forbid."""
        self._users, self._claims = users, Claims(users.rules)
        for name, tenant in list(self._tenants.items()):
            rule = users.rule(name)
            if rule is not None:
                tenant.rule = rule
            if not tenant.workers:
                del self._tenants[name]

    @property
    def bounded(self) -> bool:
        """Whether any rule's time ends."""
        return any(rule and rule.expires for rule in (self.users.default, *self.users.rules.values()))


def enforce(
    tenants: Tenants, workers: Iterable[Lodger], why_not_kept: Callable[[Lodger, Mapping], str]
) -> list[Callable[[], None]]:
    """Steps, one a worker, that end what the present rules forbid of it: the whole worker, or single targets with
    their streams. Each looks at the rules as they are by then.

    ``why_not_kept``: why a mapping's port or names may not be its user's any more; "" where they may.
    """
    return [partial(_enforce, tenants, worker, why_not_kept) for worker in workers]


def _enforce(tenants: Tenants, worker: Lodger, why_not_kept: Callable[[Lodger, Mapping], str]) -> None:
    tenant = worker.tenant
    if worker.cid not in tenant.workers:
        return  # it has gone in the meantime
    why = tenants.why_not(tenants.users.rule(tenant.name), worker.tag)
    most = tenant.rule.max_workers
    if not why and most and worker.cid not in islice(tenant.workers, most):
        why = f"{tenant.rule.name} allow {most} workers at once"
    if why:
        worker.end(Close.DENIED, why)
        return
    granted = tenant.granted
    for mapping in list(worker.mappings.values()):
        why = tenant.may_offer(mapping.name, mapping.owner.proto, mapping.options)
        why = why or why_not_kept(worker, mapping)
        if not why and granted is not None and mapping not in granted:
            why = f"{tenant.rule.name} allow {tenant.rule.max_targets} targets"
        if why:
            worker.deny(mapping, why)


def denial(mapping: Mapping, why: str) -> Answer:
    """What its worker is told of a target that may not be offered any more."""
    return Answer(mapping.target_id, mapping.name, error=DENIED, text=why)
