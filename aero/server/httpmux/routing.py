"""Which target a request is for, and which mappings lead there, in the order in which they should be tried.

Knows the two forms of an address and the registry's tables; neither sockets nor the rest of a head.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from time import monotonic
from typing import NamedTuple

from aero.address import CID
from aero.errors import MessageError
from aero.limits import Limits
from aero.server.httpmux import sticky
from aero.server.httpmux.head import CACHED_BYTES, CACHED_HEADS, Request
from aero.server.httpmux.pages import Page
from aero.server.policy.balance import COOKIE, HASH
from aero.server.policy.rules import EVERYBODY, HTTP
from aero.server.registry.domains import bare
from aero.server.registry.lobby import Lobby
from aero.server.registry.mapping import Mapping
from aero.server.registry.pool import Pool
from aero.server.registry.ports.claims import SILENCE_S
from aero.server.registry.registry import Registry
from aero.server.registry.worker import Worker
from aero.server.store.leases import Leases
from aero.server.watch.events import Events, Happening

# Names that were here once, to tell "comes back soon" from "never heard of": as many as there are ports to lease.
REMEMBERED = 20_000

_BY_PATH = re.compile(rb"/([0-9A-Za-z-]{1,63})(@|%40|%23)?/([0-9A-Za-z-]{1,63})(?:(/.*)|(\?.*))?")
_STRICTLY_BY_PATH = re.compile(rb"/([0-9a-z-]{1,63})()/([0-9a-z-]{1,63})(?:(/.*)|(\?.*))?")
_BY_HOST = re.compile(rb"([0-9a-z-]{1,63})(@|%40|%23)?\.([0-9a-z-]{1,63})\.")
#: Names of this machine that no other can have (RFC 6761, section 6.3).
_LOOPBACK = re.compile(rb"(?:.+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")


class Destination(NamedTuple):
    """What a request asks for. ``who``: a tag or a cid, ``name``: a target's; ``prefix``: what is taken off the
    path, as the visitor wrote it, which leaves ``path``; ``host``: what the target gets to see as Host; ``domain``: the
    target's own name by which it was asked for.
    """

    who: str
    is_cid: bool
    name: str
    prefix: bytes
    path: bytes
    host: bytes
    domain: bytes = b""

    def said(self, why: str = "") -> dict[str, str]:
        """What a page says of it."""
        return {"tag": self.who, "name": self.name, "why": why}


class Rules(NamedTuple):
    """How addresses are understood. ``domain``: "" for addresses by path; ``hosts``: the names that the mux answers
    to by path, besides this machine's own, None for any; ``strict``: one spelling only; ``debug``: answers tell
    which names exist.
    """

    domain: str = ""
    hosts: frozenset[bytes] | None = None
    strict: bool = False
    debug: bool = False


class Router:
    """The registry as the mux asks it."""

    def __init__(self, registry: Registry, events: Events, leases: Leases, rules: Rules) -> None:
        """``leases``: targets that were here before are known to be away, not unknown; ``rules``: what is taken."""
        domain = rules.domain
        self._registry = registry
        self._domain = domain
        self._ending = b"." + domain.encode()
        self._hosts = rules.hosts
        self._strict = rules.strict
        self._debug = rules.debug
        self._workers: dict[str, list[Worker]] = {}  # by tag, until a worker comes or goes
        # By tag and name: on which hosts such a target is, or was when its worker left. To tell "comes back soon" from
        # "never heard of".
        self._known: dict[tuple[str, str], set[str]] = {}
        for lease in leases.absent(REMEMBERED):
            self._known.setdefault((lease.owner.tag, lease.owner.name), set()).add(lease.owner.host)
        # Those that were here before this start and have not come back: for a while they are taken for alive, as their
        # ports are (registry/ports/claims.py), and whoever asks for one waits for it as for a link.
        self._awaited = set(self._known)
        self._awaited_until = monotonic() + SILENCE_S
        self._halls: dict[tuple[str, str], Lobby] = {}
        self._events = events
        events.listeners.add(self._on_event)

    def close(self) -> None:
        """Stops listening to the registry."""
        self._events.listeners.discard(self._on_event)
        for hall in self._halls.values():
            hall.close()

    def wanted(self, request: Request, vouched: bool) -> Destination | Page:
        """What the request is for, or why it is for nothing here. Raises MessageError.

        ``vouched``: a trusted proxy says which host the visitor asked for.
        """
        domains = self._registry.domains
        if domains is not None and domains.names:
            claimed = domains.find(request.host)
            if claimed is not None:
                return Destination(
                    claimed.tag, False, claimed.name, b"", request.target, request.host, claimed.host
                )
        if not self._domain:
            by_path = _by_path if len(request.target) <= CACHED_BYTES else _by_path.__wrapped__
            found = by_path(request.target, request.host, self._strict, None if vouched else self._hosts)
            expected = "/<tag>/<name>/"
        else:
            found = self._by_host(request)
            expected = f"<tag>.<name>.{self._domain}"
        if found.__class__ is Destination:
            return found
        nobodys = found is None or (isinstance(found, Page) and found.kind == "misdirected")
        if nobodys and domains is not None and domains.awaits(request.host):
            return Page("nobody yet", {"host": request.host.decode("latin-1")})
        if found is None:
            return self._nothing("wrong host" if self._domain else "no address", {"expected": expected})
        return found

    def _by_host(self, request: Request) -> Destination | None:
        match = self._host_match(request.host)
        if match is None:
            return None
        who, mark, name = match.groups()
        text = who.decode()
        is_cid = mark is not None or CID.fullmatch(text) is not None
        # The mark would look like user information to a target that takes its own address from Host.
        shown = request.host.replace(mark, b"", 1) if mark else request.host
        return Destination(text, is_cid, name.decode(), b"", request.target, shown)

    def is_targets(self, host: bytes) -> bool:
        """Whether a host name is that of one target, all of whose paths are its own."""
        domains = self._registry.domains
        if domains is not None and domains.find(host) is not None:
            return True
        return bool(self._domain) and self._host_match(host) is not None

    def _host_match(self, host: bytes) -> re.Match[bytes] | None:
        host = bare(host)
        return _BY_HOST.fullmatch(host[: 1 - len(self._ending)]) if host.endswith(self._ending) else None

    def alone(self, wanted: Destination) -> Mapping | None:
        """The one mapping that leads there, where there is nothing to choose and nothing to ask; most are like this.

        None: ``mappings`` and ``admitted`` say what there is.
        """
        if wanted.is_cid:
            return None
        pool = self._registry.mappings.pool(wanted.who, wanted.name)
        mapping = pool.alone if pool is not None else None
        if mapping is None or not mapping.worker.linked:
            return None
        if mapping.worker.rule is not EVERYBODY and not mapping.unguarded:
            return None
        return mapping if not wanted.domain or wanted.domain in mapping.domains else None

    def mappings(self, wanted: Destination, request: Request, visitor: str) -> list[Mapping] | Page:
        """The mappings that lead there: those of workers with a link, whose turn it is first.

        ``visitor``: ip:port as text.
        """
        if wanted.is_cid:
            worker = self._registry.workers.get(wanted.who)
            mapping = worker.mapping(wanted.name) if worker is not None and worker.linked else None
            ready = [mapping] if mapping is not None and mapping.in_order else []
            closed = mapping is not None and not mapping.lets_in(address_in(visitor))
        else:
            pool = self._registry.mappings.pool(wanted.who, wanted.name)
            ready = self._pooled(pool, request, visitor) if pool is not None else []
            if wanted.domain:
                ready = [each for each in ready if wanted.domain in each.domains]
            closed = (
                pool is not None
                and pool.guarded
                and not all(each.lets_in(address_in(visitor)) for each in pool.members)
            )
        if closed:
            ready = [each for each in ready if each.lets_in(address_in(visitor))]
            if not ready:
                return Page("closed", {"tag": wanted.who, "name": wanted.name})
        return ready or self._why_not(wanted, self._named(wanted))

    def _pooled(self, pool: Pool, request: Request, visitor: str) -> list[Mapping]:
        how = pool.how
        if how == COOKIE:
            ready = pool.order("", sticky.named(request, pool.members))
        else:
            ready = pool.order(address_in(visitor) if how == HASH else "")
        if pool.keyed:  # whoever is let in by the first member's file is not asked again by another's
            ready = [each for each in ready if each.logins == pool.members[0].logins]
        return ready

    def lobbies(self, wanted: Destination) -> tuple[list[Lobby], float]:
        """Where to wait for a link that leads there, and for how long: of workers with the target, the first few; while
        one is not back since the server's start, or is away, in a hall of its own.
        """
        there = [worker.mapping(wanted.name) for worker in self._named(wanted)]
        mappings = list(islice((mapping for mapping in there if mapping is not None), Limits.MUX_TRIES))
        if mappings:
            waits = [mapping.options.get("wait") for mapping in mappings]
            longest = max((each for each in waits if isinstance(each, int)), default=Limits.VISITOR_WAIT_S)
            return [mapping.worker.lobby for mapping in mappings], longest
        away = self._registry.away.lobby(wanted.who, wanted.name) if not wanted.is_cid else None
        if away is not None:
            return [away[0]], away[1]
        return self._hall(wanted), Limits.VISITOR_WAIT_S

    def _hall(self, wanted: Destination) -> list[Lobby]:
        key = wanted.who, wanted.name
        if wanted.is_cid or key not in self._awaited or monotonic() > self._awaited_until:
            return []
        if key not in self._halls:
            self._halls[key] = Lobby(self._registry.loop)
        return [self._halls[key]]

    def _named(self, wanted: Destination) -> list[Worker]:
        """The workers that the address names."""
        if not wanted.is_cid:
            return self._tagged(wanted.who)
        worker = self._registry.workers.get(wanted.who)
        return [worker] if worker is not None else []

    def _tagged(self, tag: str) -> list[Worker]:
        """The registry has to look at every worker; who has asked once need not wait for that again."""
        workers = self._workers.get(tag)
        if workers is None:
            workers = list(self._registry.tagged(tag))
            if workers:
                self._workers[tag] = workers
        return workers

    def _why_not(self, wanted: Destination, workers: list[Worker]) -> Page:
        fields = {"tag": wanted.who, "name": wanted.name}
        linked = (worker.mapping(wanted.name) for worker in workers if worker.linked)
        sick = [why for why in map(_sickness, linked) if why]
        if sick:
            return Page("target sick", {**fields, "why": sick[0]})
        if any(worker.mapping(wanted.name) is not None for worker in workers):
            return Page("link down", fields)
        if not wanted.is_cid and self._comes_back(wanted, workers):
            return Page("no worker", fields)
        if workers:
            there = sorted({mapping.name for worker in workers for mapping in worker.mappings.values()})
            return self._nothing("unknown name", fields, there)
        return self._nothing("unknown cid" if wanted.is_cid else "unknown tag", fields)

    def _comes_back(self, wanted: Destination, workers: list[Worker]) -> bool:
        """Whether some host had the target when its worker left. One whose worker is here and does not offer it has
        it no more; a worker that offers nothing has only just come.
        """
        offering = {worker.host for worker in workers if worker.mappings}
        return not self._known.get((wanted.who, wanted.name), set()) <= offering

    def _nothing(self, kind: str, fields: dict[str, str], there: list[str] | None = None) -> Page:
        if self._debug:
            if there is None:
                there = sorted({worker.tag for worker in self._registry.workers.values()})
            fields = {**fields, "there": ", ".join(there) or "-"}
        return Page(kind, fields)

    def _on_event(self, event: Happening) -> None:
        if event.what in ("worker up", "worker down"):
            self._workers.clear()
        elif event.what == "mapping up":
            self._remember(event)
        elif event.what == "mapping down":
            self._forget(event)

    def _remember(self, event: Happening) -> None:
        worker = self._registry.workers.get(str(event.fields.get("cid")))
        key = str(event.fields.get("tag")), str(event.fields.get("target"))
        self._awaited.discard(key)
        hall = self._halls.pop(key, None)
        if hall is not None:
            self._registry.loop.run_callback(hall.open)
        if worker is not None and (key in self._known or len(self._known) < REMEMBERED):
            self._known.setdefault(key, set()).add(worker.host)

    def _forget(self, event: Happening) -> None:
        """A worker that is still here has withdrawn the target; those of one that leaves are remembered."""
        worker = self._registry.workers.get(str(event.fields.get("cid")))
        key = str(event.fields.get("tag")), str(event.fields.get("target"))
        hosts = self._known.get(key)
        if worker is not None and hosts is not None:
            if not any(each.host == worker.host and each.mapping(key[1]) for each in self._tagged(key[0])):
                hosts.discard(worker.host)
            if not hosts:
                del self._known[key]


def address_in(visitor: str) -> str:
    """The address in ip:port."""
    return visitor.rpartition(":")[0].strip("[]")


def _sickness(mapping: Mapping | None) -> str:
    """Why a target does not work; "" where it does, or is not looked at."""
    return (
        mapping.health.why
        if mapping is not None and mapping.health is not None and not mapping.in_order
        else ""
    )


def _is_own(host: bytes, hosts: frozenset[bytes]) -> bool:
    """Whether a request was meant for this mux: a web page whose name was made to lead here asks for that name."""
    name = bare(host)
    return not name or name in hosts or _LOOPBACK.fullmatch(name) is not None


@lru_cache(CACHED_HEADS)
def _by_path(
    target: bytes, host: bytes, strict: bool, hosts: frozenset[bytes] | None
) -> Destination | Page | None:
    """What a path asks for; a Page when a slash is missing or the host is not ours, None when it has another form.

    ``strict``: one spelling of each address, so that a rule of a proxy in front has to know only that one.
    """
    if hosts is not None and not _is_own(host, hosts):
        return Page("misdirected", {"host": host.decode("latin-1")})
    if b"@" in host or b"%" in host:
        raise MessageError(400, "bad Host")  # a worker's id with its mark stands in the path here
    match = (_STRICTLY_BY_PATH if strict else _BY_PATH).fullmatch(target)
    if match is None:
        return None
    who, mark, name, path, query = match.groups()
    if strict and CID.fullmatch(who.decode()):
        return None
    if path is None:
        # Relative, so that it holds behind a proxy with a prefix of its own too.
        return Page("add slash", {}, b"Location: %b/%b\r\n" % (name, query or b""))
    text = who.decode().lower()
    is_cid = bool(mark) or CID.fullmatch(text) is not None
    called = name.decode().lower()
    # As this visitor wrote it: under another spelling his browser would not find its cookies again.
    return Destination(text, is_cid, called, target[: match.end(3)], path, host)


#: The page for a refusal, by its reason (registry/admission.py).
_REFUSALS = {"visitors": "not let in", "protocol": "not let in", "quota": "quota"}


def admitted(mappings: list[Mapping], visitor: str, wanted: Destination) -> list[Mapping] | Page:
    """Those of some mappings that let a visitor in now; the page that says why none does. ``visitor``: ip:port."""
    if len(mappings) == 1 and mappings[0].unguarded:
        return mappings
    ip = address_in(visitor)
    reasons = [mapping.why_not(ip, HTTP) for mapping in mappings]
    if not any(reasons):
        return mappings
    left = [mapping for mapping, refused in zip(mappings, reasons) if refused is None]
    if left:
        return left
    for mapping, refused in zip(mappings, reasons):
        if refused is not None:
            mapping.refuse(refused.reason)
            fields = {**wanted.said(refused.text), "retry_s": str(max(refused.retry_s, 1))}
            return Page(_REFUSALS.get(refused.reason, "too many"), fields)
    return left
