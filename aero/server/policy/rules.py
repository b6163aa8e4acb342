"""A rule: what one of the tunnel's users may do, and how much. Frozen; pure; knows no file and no worker.

`Rule()` allows everything that a server without users allows. What decides where several rules do is said in
docs/OPERATIONS.md, section "Users".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Union

    Networks = tuple[Union[IPv4Network, IPv6Network], ...]
    PortRange = tuple[int, int]  # first and last port, both included

HTTP = "http"  # being reached through the mux
PROTOCOLS = ("tcp", HTTP, "udp")
DAY, MONTH = "day", "month"


class Quota(NamedTuple):
    """So many bytes, both directions together, in each ``per``: DAY or MONTH."""

    bytes: int
    per: str


class Rule(NamedTuple):
    """What a user may do. ``user`` is "" for those who have the plain code.

    ``tags``, ``targets``, ``groups`` and ``domains`` are globs (`matches`); None: any, but of domains those that the
    server allows everybody (registry/domains.py). ``protocols``: of PROTOCOLS;
    "http" is being reached through the mux. ``ports``: in place of ``--ports``, nobody else's but those of users whose
    rules name them too; None: as everybody. ``max_…``: 0 for no bound of the rule's.
    Rates are in bytes a second, each direction by itself: ``limit`` of the user with all workers, ``worker_limit`` of
    each worker, ``target_limit`` of each target, ``visitor_limit`` of each visitor's address; 0 for none.
    ``quota_grace``: how far over a quota what is open may go on, in percent. ``visitors``, ``deny_visitors``: networks;
    no ``visitors``: all. ``expires``: Unix seconds from which on the user is not let in; 0: never.
    """

    user: str = ""
    tags: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    protocols: tuple[str, ...] = PROTOCOLS
    ports: tuple[PortRange, ...] | None = None
    groups: tuple[str, ...] | None = None
    domains: tuple[str, ...] | None = None
    max_workers: int = 0
    max_targets: int = 0
    max_streams: int = 0
    limit: int = 0
    worker_limit: int = 0
    target_limit: int = 0
    visitor_limit: int = 0
    quota: tuple[Quota, ...] = ()
    quota_grace: int = 5
    visitors: Networks = ()
    deny_visitors: Networks = ()
    expires: float = 0.0

    @property
    def name(self) -> str:
        """How people are told whose rule it is."""
        return f"the rules of user {self.user}" if self.user else "the rules for [default]"

    def expired(self, now: float) -> bool:
        """Whether the user is let in no more. ``now``: Unix seconds."""
        return 0 < self.expires <= now

    def may_offer(self, target: str, proto: str) -> str:
        """Why the user may not offer a target of this name and protocol (tcp, udp); "" where he may."""
        if not allows(self.targets, target):
            return f"{self.name} allow no target {target} (targets = {shown(self.targets)})"
        served = proto in self.protocols or (proto == "tcp" and "http" in self.protocols)
        if not served and self.protocols != PROTOCOLS:
            return f"{self.name} allow no {proto.upper()} (protocols = {shown(self.protocols)})"
        return ""

    def may_join(self, group: str) -> str:
        """Why the user may not join a group of targets; "" where he may."""
        if allows(self.groups, group):
            return ""
        return f"{self.name} do not allow the group {group} (groups = {shown(self.groups)})"

    def may_claim(self, domain: str) -> str:
        """Why the user may not have a host name for a target; "" where he may."""
        if allows(self.domains, domain):
            return ""
        return f"{self.name} do not allow the domain {domain} (domains = {shown(self.domains)})"

    def may_visit(self, address: Any) -> bool:
        """Whether a visitor from an `ipaddress` address is let in; who is denied is not, whatever else is said."""
        if any(address in network for network in self.deny_visitors):
            return False
        return not self.visitors or any(address in network for network in self.visitors)


def matches(globs: Iterable[str], name: str) -> bool:
    """Whether one of the globs stands for a name: ``*`` for any characters, none too, ``?`` for one."""
    return any(_compiled(glob).fullmatch(name) is not None for glob in globs)


def allows(globs: Iterable[str] | None, name: str) -> bool:
    """The same; None stands for any name."""
    return globs is None or matches(globs, name)


def shown(items: Iterable[str] | None) -> str:
    """A list as the file has it, for people."""
    return '"' + ",".join(items or ()) + '"'


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in glob))


#: For everybody where the server has no users.
EVERYBODY = Rule()


class Claims:
    """Which tags users' rules claim. A question costs the same for one user and for ten thousand, unless their globs
    have ``*`` and ``?`` within.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        """``rules``: of users, by name."""
        self._exact: dict[str, tuple[int, str]] = {}  # each with its place among the rules
        self._begin: dict[str, tuple[int, str]] = {}
        self._other: list[tuple[int, str, str]] = []
        for place, rule in enumerate(rules.values()):
            for glob in rule.tags or ():
                bare = glob.rstrip("*")
                if "*" in bare or "?" in bare:
                    self._other.append((place, rule.user, glob))
                else:
                    (self._exact if bare == glob else self._begin).setdefault(bare, (place, rule.user))

    def owner(self, tag: str) -> str:
        """The first user whose rule claims a tag; "" for none."""
        found = [self._exact[tag]] if tag in self._exact else []
        found += [self._begin[tag[:n]] for n in range(len(tag) + 1) if tag[:n] in self._begin]
        best = min(found, default=None)
        for place, user, glob in self._other:
            if best is not None and place >= best[0]:
                break
            if matches((glob,), tag):
                best = place, user
                break
        return best[1] if best is not None else ""


class Proof(NamedTuple):
    """How a user proves itself: a ``verifier`` as text, or the code in ``file``. One of them is ""."""

    verifier: str = ""
    file: str = ""


class Users(NamedTuple):
    """All rules. ``default`` is None where the plain code counts for nobody; ``rules`` and ``proofs`` are by name."""

    default: Rule | None = EVERYBODY
    rules: Mapping[str, Rule] = {}
    proofs: Mapping[str, Proof] = {}
    lines: Mapping[str, int] = {}

    def rule(self, user: str) -> Rule | None:
        """The rule of a user, or of those who have the plain code ("")."""
        return self.rules.get(user) if user else self.default

    def may_use_tag(self, rule: Rule, tag: str, claims: Claims | None = None) -> str:
        """Why workers under a rule may not have a tag, "" where they may; [default] has what no user claims.

        ``claims``: of these rules, where somebody has made them already.
        """
        if rule.tags is not None and not matches(rule.tags, tag):
            return f'{rule.name} allow no tag {tag} (tags = "{",".join(rule.tags)}")'
        if not rule.user:
            owner = (claims or Claims(self.rules)).owner(tag)
            if owner:
                return f"the tag {tag} is for user {owner}"
        return ""

    def named_ports(self) -> tuple[PortRange, ...]:
        """All ports that rules of users name, which are nobody else's."""
        return tuple(sorted({each for rule in self.rules.values() for each in rule.ports or ()}))


#: A server without a users' file: everybody who has the code may do everything.
NO_USERS = Users()
