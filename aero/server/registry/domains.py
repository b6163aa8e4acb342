"""Host names that targets have by themselves at the mux: who may claim which, whose each is, and for how long.

A name belongs to the targets of one user, tag and name, of however many workers. When the last of their workers goes,
it stays theirs for as long as a silent worker's port does (ports/claims.py); after that whoever may have it can claim
it, and until somebody does the mux still knows who is away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from time import monotonic
from typing import Callable, NamedTuple

from aero import logs
from aero.core.control import Options
from aero.errors import PortError
from aero.limits import Limits
from aero.server.policy.rules import Rule, matches
from aero.server.registry.mapping import Mapping, names_in
from aero.server.registry.ports.claims import SILENCE_S
from aero.server.store.leases import Owner

log = logs.get("mux")

_PORT = re.compile(rb":[0-9]*\Z")


class Reserved(NamedTuple):
    """Names that are the server's own: those that its mux answers to by path, and what is under ``--domain``."""

    hosts: tuple[str, ...] = ()
    domain: str = ""

    def has(self, host: str) -> bool:
        """Whether a name is one of them. Under the domain those with two labels are targets' names already."""
        if host in self.hosts or (self.domain and host == self.domain):
            return True
        ending = f".{self.domain}"
        return bool(self.domain) and host.endswith(ending) and host[: -len(ending)].count(".") == 1


class Claimed:
    """One name, and whose it is."""

    __slots__ = ("host", "kept_until", "members", "name", "tag", "user")

    def __init__(self, host: bytes, owner: Owner) -> None:
        """Of no mapping yet."""
        self.host = host
        self.user, self.tag, self.name = owner.user, owner.tag, owner.name
        self.members: list[Mapping] = []
        self.kept_until = 0.0

    def is_of(self, owner: Owner) -> bool:
        """Whether it belongs to such a target."""
        return (self.user, self.tag, self.name) == (owner.user, owner.tag, owner.name)

    @property
    def free(self) -> bool:
        """Whether anybody may take it over."""
        return not self.members and monotonic() >= self.kept_until


class Domains:
    """All names that targets have."""

    def __init__(
        self,
        globs: tuple[str, ...],
        reserved: Reserved,
        covered: Callable[[str], bool] | None = None,
        rules: Callable[[], Iterable[Rule]] = tuple,
    ) -> None:
        """``globs``: what may be claimed where a user's rule names nothing; ``covered``: whether a certificate is for a
        name, None without TLS; ``rules``: those of all users.
        """
        self.globs = globs
        self.names: dict[bytes, Claimed] = {}
        self._reserved = reserved
        self._covered = covered
        self._rules = rules
        self._awaited_until = (
            monotonic() + SILENCE_S
        )  # those that were here before this start come back until then
        self._away: dict[bytes, None] = {}  # names without members, longest away first

    def why_not(self, rule: Rule, options: Options) -> str:
        """Why a target may not have the names that it asks for; "" where it may."""
        for host in names_in(options):
            if self._reserved.has(host):
                return f"{host} is a name of the server's own (--mux-host, --domain)"
            if rule.domains is not None:
                why = rule.may_claim(host)
            else:
                why = "" if matches(self.globs, host) else f"the server lets no target have {host}"
                why += " (--target-domains)" if why else ""
            if why:
                return why
        return ""

    def check(self, owner: Owner, options: Options) -> None:
        """Raises PortError where another target has one of the names."""
        for host in names_in(options):
            found = self.names.get(host.encode())
            if found is not None and not found.is_of(owner) and not found.free:
                raise PortError(f"another target has the domain {host}", final=False)

    def add(self, mapping: Mapping) -> None:
        """A target is here, whose names were checked."""
        for host in mapping.domains:
            found = self.names.get(host)
            if found is None or not found.is_of(mapping.owner):
                found = self.names[host] = Claimed(host, mapping.owner)
                name = host.decode()
                if self._covered is not None and not self._covered(name):
                    log.warning(
                        "no certificate is for a target's domain: browsers will warn",
                        domain=name, tag=found.tag, target=found.name,
                    )  # fmt: skip
            self._away.pop(host, None)
            found.members.append(mapping)

    def remove(self, mapping: Mapping, withdrawn: bool) -> None:
        """A target is gone; ``withdrawn``: its worker is still here and offers it no more."""
        for host in mapping.domains:
            found = self.names.get(host)
            if found is None or mapping not in found.members:
                continue
            found.members.remove(mapping)
            if found.members:
                continue
            if withdrawn:
                del self.names[host]
                continue
            found.kept_until = monotonic() + SILENCE_S
            self._away[host] = None
            if len(self._away) > Limits.DOMAINS_AWAY:
                oldest = next(iter(self._away))
                del self._away[oldest], self.names[oldest]

    def awaits(self, host: bytes) -> bool:
        """Whether this start is so young that whose name it is may not have come back yet."""
        if monotonic() >= self._awaited_until:
            return False
        name = bare(host).decode("latin-1")
        globs = (self.globs, *(rule.domains or () for rule in self._rules()))
        return not self._reserved.has(name) and any(matches(each, name) for each in globs)

    def find(self, host: bytes) -> Claimed | None:
        """Whose name a Host field has."""
        return self.names.get(host) or self.names.get(bare(host))


@lru_cache(512)
def bare(host: bytes) -> bytes:
    """The name in a Host field: in lower case, without a port or a dot at its end."""
    return _PORT.sub(b"", host).rstrip(b".").lower()
