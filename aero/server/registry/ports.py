"""Which port of one protocol a mapping gets. Finds candidates and binds them; claims.py says who may have a leased one.

In turn: the port that was asked for; the one that the worker says it had; its owner's leases; the port that the
owner's name hashes to, or the next one behind it that nobody has a lease of. The hash makes ports come back even
where nothing can be kept. Nothing here searches: free ports are found in a map of bytes, leases in their indexes.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Callable, NamedTuple, Protocol, Union

from aero.errors import PortError
from aero.host.facts import outgoing_ports
from aero.limits import Limits
from aero.net.listen import close_all
from aero.server.registry.claims import SILENCE_S, Holder, Times, Verdict, judge
from aero.server.registry.life import Mortal
from aero.server.registry.ranges import around, count, shown, within, without
from aero.server.store.leases import Lease, Leases, Owner

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange

# How many ports are tried before we say that there is none: with half of the range used by other programs, 40 tries in
# a row fail once in 10^12.
TRIES = 40
# Leases of workers that were only here for a moment give way when all ports are leased; so many are looked at.
_GOING_EARLY = 8
_FREE, _TAKEN = b"\0", 1
_ALL = 65536


class Claim(NamedTuple):
    """What is asked for, by a worker from ``address``, which is "" where its leases are not bounded by address.

    ``remote``: a port by number; ``had``: the one it had; ``like``: its namesake's by another protocol; 0: none.
    ``ranges``: the ports that are the user's own; none: he gets those that are everybody's.
    """

    owner: Owner
    identity: str
    address: str
    remote: int = 0
    had: int = 0
    like: int = 0
    ranges: tuple[PortRange, ...] = ()


class Holding(Protocol):
    """A mapping that has a port now."""

    @property
    def owner(self) -> Owner:
        """Whose it is."""

    @property
    def identity(self) -> str:
        """Its worker's identity."""

    @property
    def worker(self) -> Mortal:
        """Its worker."""

    def holder(self) -> Holder:
        """How its worker is."""

    def give_way(self) -> None:
        """Stops listening at once: the port is another's."""


class Grant(NamedTuple):
    """Listening sockets on one port.

    What people should hear of: ``before``, whose port it was, and ``busy``, leased ports that other programs use.
    """

    port: int
    socks: list[socket.socket]
    before: Owner | None = None
    busy: tuple[int, ...] = ()


class Wait(NamedTuple):
    """Ask again: when those who have a port were asked for a sign of life, or in a moment, as other programs use it."""

    holders: tuple[Holding, ...] = ()
    busy: tuple[int, ...] = ()


Outcome = Union[Grant, Wait]


class Ports:
    """The ports of one protocol that mappings come from."""

    def __init__(
        self,
        proto: str,
        bind: Callable[[tuple[str, ...], int], list[socket.socket]],
        ips: tuple[str, ...],
        low: int,
        high: int,
        leases: Leases,
        void_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``bind(ips, port)`` makes sockets on one port, 0: any, or raises OSError; ``low`` to ``high``, both included,
        0 and 0 leave the choice to the system.

        ``void_s``: after so many seconds a lease that nobody uses is void;
        ``clock`` gives Unix seconds, by default that of ``leases``.
        """
        self._proto = proto
        self._bind = bind
        self._ips = ips
        self._low, self._high = low, high
        self._leases = leases
        self._void_s = void_s
        self._clock = clock or leases.clock
        self._started = self._clock()
        self._holders: dict[int, Holding] = {}
        self._named: tuple[PortRange, ...] = ()  # what users' rules name
        self._open: tuple[PortRange, ...] = ((low, high),) if low else ()  # what is everybody's
        # A byte for each port: whether somebody has it or has a lease of it.
        self._map = bytearray(_ALL)
        for lease in leases:
            if lease.owner.proto == proto:
                self._mark(lease.port, True)

    def reserve(self, named: Iterable[PortRange]) -> None:
        """These are for users whose rules name them, and for nobody else. What is held stays held."""
        self._named = tuple(named)
        self._open = without(((self._low, self._high),), self._named) if self._low else ()

    def may_have(self, port: int, ranges: tuple[PortRange, ...]) -> bool:
        """Whether a port is among somebody's own, or where he has none, among those that are everybody's."""
        if ranges:
            return within(port, ranges)
        return within(port, self._open) if self._low else not within(port, self._named)

    # Claiming

    def claim(self, claim: Claim, last: bool = False) -> Outcome:
        """A port for an owner's mapping, or what to wait for; ``last``: do without what would have to be waited for.

        Whoever is granted a port owes ``hold`` or ``release``. Raises PortError.
        """
        if claim.remote:
            return self._claim_by_number(claim, last)
        holders: list[Holding] = []
        busy: list[int] = []
        for port in self._own(claim):
            verdict = self._judge(port, claim)
            if verdict == Verdict.ASK:
                holders.append(self._holders[port])
            elif verdict == Verdict.GIVE:
                try:
                    return self._take(port, claim)
                except OSError as error:
                    _check(error)
                    busy.append(port)
        if not last and (holders or busy):
            return Wait(tuple(holders), () if holders else tuple(busy))
        return self._claim_fresh(claim)._replace(busy=tuple(busy))

    def _own(self, claim: Claim) -> Iterator[int]:
        """The ports that the owner had, the likeliest to be this worker's first."""
        if claim.had and self._may_have_had(claim.had, claim.ranges):
            yield claim.had
        mine = [lease for lease in self._leases.of_identity(claim.identity) if lease.owner == claim.owner]
        clones = (lease for lease in self._leases.of(claim.owner) if lease.identity != claim.identity)
        for leases in (mine, list(islice(clones, Limits.LEASES_A_CLAIM))):
            for lease in sorted(leases, key=lambda lease: lease.slot):
                if lease.port != claim.had and self.may_have(lease.port, claim.ranges):
                    yield lease.port

    def _may_have_had(self, port: int, ranges: tuple[PortRange, ...]) -> bool:
        """Without a range we have ourselves given out only what the system chooses from, or what is leased."""
        if not self.may_have(port, ranges):
            return False
        low, high = (0, _ALL) if ranges or self._low else outgoing_ports()
        return low <= port <= high or self._leases.at(port, self._proto) is not None

    def _judge(self, port: int, claim: Claim) -> str:
        holding = self._holders.get(port)
        lease = self._leases.at(port, self._proto)
        if lease is None and holding is not None:  # one that had a port without a lease
            lease = Lease(holding.owner, 0, port, holding.identity, "", 0, 0)
        if lease is None:
            return Verdict.GIVE
        times = Times(self._clock(), self._started, self._void_s)
        holder = holding.holder() if holding is not None else None
        return judge(lease, holder, claim.owner, claim.identity, times)

    def _claim_by_number(self, claim: Claim, last: bool) -> Outcome:
        port = claim.remote
        if not self._low and not claim.ranges:
            raise PortError("this server lets nobody choose a port (--ports 0)", final=True)
        if not self.may_have(port, claim.ranges):
            raise PortError(f"port {port} is {self._whose(port, claim.ranges)}", final=True)
        verdict = self._judge(port, claim)
        if verdict == Verdict.ASK and not last:
            return Wait((self._holders[port],))
        if verdict not in (Verdict.GIVE, Verdict.TELL):
            raise PortError(f"port {port} is taken{self._by_whom(port)}", final=False)
        before = self._leases.at(port, self._proto) if verdict == Verdict.TELL else None
        try:
            grant = self._take(port, claim)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                text = f"port {port} cannot be used: {error.strerror or error}"
                raise PortError(text, final=False) from error
            if not last and before is None and self._leases.at(port, self._proto) is not None:
                return Wait(busy=(port,))
            raise PortError(f"port {port} is taken", final=False) from error
        return grant._replace(before=before.owner) if before is not None else grant

    def _whose(self, port: int, ranges: tuple[PortRange, ...]) -> str:
        if ranges:
            return f"none of this user's own ({shown(ranges)})"
        if within(port, self._named):
            return "for other users: their rules name it"
        return f"out of the server's range {self._low}-{self._high}"

    def _by_whom(self, port: int) -> str:
        return "" if port in self._holders else ": it is kept for a worker that is away"

    def _claim_fresh(self, claim: Claim) -> Grant:
        ranges = claim.ranges or self._open
        rest = self._unclaimed(claim.owner, ranges) if self._low or ranges else self._any()
        for port in chain(self._namesakes(claim), rest):
            try:
                return self._take(port, claim)
            except OSError as error:
                _check(error)
        where = f" in {shown(ranges)}" if ranges else ""
        raise PortError(f"no port is free{where}", final=False)

    def _namesakes(self, claim: Claim) -> Iterator[int]:
        """The port that the target's namesake has by another protocol, if nobody has a claim to it by this one."""
        port = claim.like
        if port and not self._map[port] and self.may_have(port, claim.ranges):
            yield port

    def _unclaimed(self, owner: Owner, ranges: tuple[PortRange, ...]) -> Iterator[int]:
        """Ports that nobody has a claim to, from where the owner's name hashes to; then those that go early."""
        digest = hashlib.sha256("\0".join(owner[:4]).encode("utf-8", "surrogatepass")).digest()
        yield from islice(self._free_from(int.from_bytes(digest[:8], "big"), ranges), TRIES)
        now = self._clock()
        for lease in self._leases.brief(_GOING_EARLY):
            if lease.owner.proto != self._proto or not within(lease.port, ranges):
                continue
            if now - max(lease.used_at, self._started) >= SILENCE_S:
                yield lease.port

    def _free_from(self, number: int, ranges: tuple[PortRange, ...]) -> Iterator[int]:
        """All free ports of some ranges, once around from the ``number``-th one."""
        for first, last in around(number, ranges):
            at = self._map.find(_FREE, first, last + 1)
            while at >= 0:
                yield at
                at = self._map.find(_FREE, at + 1, last + 1)

    def _any(self) -> Iterator[int]:
        """The system chooses, again and again while it chooses somebody's leased port."""
        for _ in range(TRIES):
            yield 0

    # Binding

    def _take(self, port: int, claim: Claim) -> Grant:
        """Listens, and keeps the lease. Raises OSError; then nothing has changed but that a former holder is gone."""
        holding = self._holders.get(port)
        if holding is not None:
            holding.give_way()
        socks = self._bind(self._ips, port)
        try:
            if not port:
                port = socks[0].getsockname()[1]
                if self._judge(port, claim) != Verdict.GIVE or within(port, self._named):
                    raise OSError(errno.EADDRINUSE, "somebody has a lease of it")
            if self._may_lease(claim, port):
                self._leases.keep(claim.owner, port, claim.identity, claim.address)
            else:
                self._leases.forget(port, self._proto)
        except BaseException:
            close_all(socks)
            raise
        self._mark(port, True)
        return Grant(port, socks)

    def _may_lease(self, claim: Claim, port: int) -> bool:
        """Whether one more lease is within the bounds of an identity and an address, whose oldest one may go for it.

        Raises PortError where it is not and more than half of the ports are taken: nobody gets them all.
        """
        known = self._leases.at(port, self._proto)
        for mine, known_as, maximum in (
            (self._leases.of_identity(claim.identity), claim.identity, Limits.LEASES_PER_IDENTITY),
            (self._leases.of_address(claim.address), claim.address, Limits.LEASES_PER_ADDRESS),
        ):
            if (
                not known_as
                or len(mine) < maximum
                or (known is not None and known_as in (known.identity, known.address))
            ):
                continue
            away = [
                lease
                for lease in mine
                if lease.owner.proto == self._proto and lease.port not in self._holders
            ]
            if away:
                self._forget(min(away, key=lambda lease: lease.used_at))
            elif self._crowded(claim.ranges or self._open):
                raise PortError(f"{maximum} ports are in use from there, the most there may be", final=False)
            else:
                return False
        return True

    def listen(self, port: int) -> list[socket.socket]:
        """Sockets on a port that a mapping has and does not listen on. Raises PortError."""
        try:
            return self._bind(self._ips, port)
        except OSError as error:
            why = f"port {port} cannot be used: {error.strerror or error}"
            raise PortError(why, final=False) from error

    def _crowded(self, ranges: tuple[PortRange, ...]) -> bool:
        """Whether more than half of the ports of some ranges are taken."""
        free = sum(self._map.count(_FREE, low, high + 1) for low, high in ranges)
        return bool(ranges) and free < count(ranges) // 2

    def hold(self, port: int, holding: Holding) -> None:
        """A mapping listens on a port that was granted; ``release`` ends it."""
        self._holders[port] = holding

    def release(self, port: int) -> None:
        """A mapping is gone; its lease stays."""
        self._holders.pop(port, None)
        self._leases.release(port, self._proto)
        if self._leases.at(port, self._proto) is None:
            self._mark(port, False)

    def held(self, port: int) -> bool:
        """Whether one of our mappings listens there."""
        return port in self._holders

    # Upkeep

    def look_after(self) -> None:
        """Puts down what is in use, and forgets what is void. Called once a minute; bounded in what it does."""
        self._leases.refresh(Limits.LEASE_REFRESH_S, Limits.LEASES_A_LOOK)
        now = self._clock()
        for lease in self._leases.absent(Limits.LEASES_A_LOOK):
            if now - lease.used_at < self._void_s:
                break
            if lease.owner.proto == self._proto:
                self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        self._leases.forget(lease.port, self._proto)
        if lease.port not in self._holders:
            self._mark(lease.port, False)

    def _mark(self, port: int, taken: bool) -> None:
        self._map[port] = taken


def _check(error: OSError) -> None:
    """Another port may do where this one is used or forbidden. Raises PortError for everything else."""
    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
        raise PortError(f"cannot listen: {error.strerror or error}", final=False) from error
