"""Which port of one protocol a mapping gets, or which ports in a row. Finds candidates; claims.py says who may have
a leased one, and binding.py makes the sockets.

In turn: the port that was asked for; the one that the worker says it had; its owner's leases; the port that the
owner's name hashes to, or the next one behind it that nobody has a lease of. The hash makes ports come back even
where nothing can be kept. Nothing here searches: free ports are found in a map of bytes, leases in their indexes.

Ports in a row are got all or none, and have one lease. They are bound a slice at a time, so a claim is a generator
(gradually.py); while it is under way they count as held.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Callable

from aero.core.digest import sha256
from aero.errors import BindError, PortError
from aero.host.facts import outgoing_ports
from aero.limits import Limits
from aero.net.listen import close_all
from aero.server.registry.gradually import Gradual, at_once
from aero.server.registry.ports.binding import Binding, unusable
from aero.server.registry.ports.claims import SILENCE_S, Times, Verdict, judge
from aero.server.registry.ports.grants import Beginning, Claim, Grant, Holding, Outcome, StandIn, Wait
from aero.server.registry.ports.portmap import PORTS, PortMap
from aero.server.registry.ports.ranges import count, shown, within, without
from aero.server.store.leases import Lease, Leases, Owner
from aero.server.store.spans import Spans

if TYPE_CHECKING:
    from aero.server.policy.rules import PortRange

# How many ports are tried before we say that there is none: with half of the range used by other programs, 40 tries in
# a row fail once in 10^12.
TRIES = 40
# Leases of workers that were only here for a moment give way when all ports are leased; so many are looked at.
_GOING_EARLY = 8
_KEPT = ": it is kept for a worker that is away"
#: What a verdict on several ports is, of those on each: the first of these that is among them.
_STRICTEST = (Verdict.REFUSE, Verdict.ASK, Verdict.TELL, Verdict.GIVE)


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
        self._binding = Binding(bind, ips)
        self._low, self._high = low, high
        self._leases = leases
        self._void_s = void_s
        self._clock = clock or leases.clock
        self._started = self._clock()
        self._holders: Spans[Holding] = Spans()
        # Those that stand in for a worker, and what to call when the lease is void.
        self._away: dict[int, tuple[StandIn, Callable[[int], None]]] = {}
        self._named: tuple[PortRange, ...] = ()  # what users' rules name
        self._open: tuple[PortRange, ...] = ((low, high),) if low else ()  # what is everybody's
        self._map = PortMap()  # whether somebody has a port or a lease of it
        for lease in leases:
            if lease.owner.proto == proto:
                self._mark(lease, True)

    def reserve(self, named: Iterable[PortRange]) -> None:
        """These are for users whose rules name them, and for nobody else. What is held stays held."""
        self._named = tuple(named)
        self._open = without(((self._low, self._high),), self._named) if self._low else ()

    def may_have(self, port: int, ranges: tuple[PortRange, ...], row: int = 1) -> bool:
        """Whether a port, or a row from there on, is among somebody's own, or where he has none, among everybody's."""
        if row > 1:
            mine = ranges or self._open
            return bool(mine) and port + row <= PORTS and not without(((port, port + row - 1),), mine)
        if ranges:
            return within(port, ranges)
        return within(port, self._open) if self._low else not within(port, self._named)

    # Claiming

    def claim(self, claim: Claim, last: bool = False) -> Outcome:
        """As ``claiming``, in one turn."""
        return at_once(self.claiming(claim, last))

    def claiming(self, claim: Claim, last: bool = False) -> Gradual[Outcome]:
        """A port for an owner's mapping, or what to wait for; ``last``: do without what would have to be waited for.

        Whoever is granted a port owes ``hold`` or ``release``. Raises PortError.
        """
        if claim.row > 1 and not self._low and not claim.ranges:
            text = "this server has no range to take ports in a row from (--ports 0)"
            raise PortError(text, final=True)
        if claim.remote:
            return (yield from self._claim_by_number(claim, last))
        holders: list[Holding] = []
        busy: list[int] = []
        for port in self._own(claim):
            verdict = self._judge(port, claim)
            if verdict == Verdict.ASK:
                holders += self._holders.over(port, claim.row)
            elif verdict == Verdict.GIVE:
                try:
                    return (yield from self._take(port, claim))
                except BindError as failed:
                    _check(failed)
                    busy.append(failed.port)
        if not last and (holders or busy):
            return Wait(tuple(holders), () if holders else tuple(busy))
        grant = yield from self._claim_fresh(claim, busy[:])
        return grant._replace(busy=tuple(busy))

    def _own(self, claim: Claim) -> Iterator[int]:
        """The ports that the owner had, the likeliest to be this worker's first."""
        if claim.had and self._may_have_had(claim):
            yield claim.had
        mine = [lease for lease in self._leases.of_identity(claim.identity) if lease.owner == claim.owner]
        clones = (lease for lease in self._leases.of(claim.owner) if lease.identity != claim.identity)
        for leases in (mine, list(islice(clones, Limits.LEASES_A_CLAIM))):
            for lease in sorted(leases, key=lambda lease: lease.slot):
                if lease.port != claim.had and self.may_have(lease.port, claim.ranges, claim.row):
                    yield lease.port

    def _may_have_had(self, claim: Claim) -> bool:
        """Without a range we have ourselves given out only what the system chooses from, or what is leased."""
        port = claim.had
        if not self.may_have(port, claim.ranges, claim.row):
            return False
        low, high = (0, PORTS) if claim.ranges or self._low else outgoing_ports()
        return low <= port <= high or self._leases.at(port, self._proto) is not None

    def _judge(self, port: int, claim: Claim) -> str:
        """The verdict on the claimed port, or the strictest of those on ports in a row."""
        if claim.row == 1:
            return self._judge_one(port, claim)
        if self._map.is_free(port, claim.row):
            return Verdict.GIVE
        ports = {lease.port for lease in self._leases.over(port, self._proto, claim.row)}
        ports.update(self._holders.begins(port, claim.row))
        verdicts = {self._judge_one(each, claim) for each in ports}
        return next((verdict for verdict in _STRICTEST if verdict in verdicts), Verdict.GIVE)

    def _judge_one(self, port: int, claim: Claim) -> str:
        holding = self._holders.at(port)
        lease = self._leases.at(port, self._proto)
        if lease is None and holding is not None:  # one that had a port without a lease
            lease = Lease(holding.owner, 0, port, holding.identity, "", 0, 0)
        if lease is None:
            return Verdict.GIVE
        times = Times(self._clock(), self._started, self._void_s)
        holder = holding.holder() if holding is not None else None
        return judge(lease, holder, claim.owner, claim.identity, times)

    def _claim_by_number(self, claim: Claim, last: bool) -> Gradual[Outcome]:
        port, row = claim.remote, claim.row
        called = _called(port, row)
        if not self._low and not claim.ranges:
            raise PortError("this server lets nobody choose a port (--ports 0)", final=True)
        if not self.may_have(port, claim.ranges, row):
            raise PortError(f"{called} {self._whose(port, row, claim.ranges)}", final=True)
        verdict = self._judge(port, claim)
        if verdict == Verdict.ASK and not last:
            return Wait(tuple(self._holders.over(port, row)))
        if verdict not in (Verdict.GIVE, Verdict.TELL):
            raise PortError(self._taken(claim), final=False)
        before = self._before(claim) if verdict == Verdict.TELL else None
        try:
            grant = yield from self._take(port, claim)
        except BindError as failed:
            one = f"port {failed.port}" + (f" of {port}-{port + row - 1}" if row > 1 else "")
            if failed.error.errno != errno.EADDRINUSE:
                raise PortError(unusable(one, failed), final=False) from failed
            if not last and before is None and self._leases.at(failed.port, self._proto) is not None:
                return Wait(busy=(failed.port,))
            raise PortError(f"{one} is taken", final=False) from failed
        return grant._replace(before=before) if before is not None else grant

    def _whose(self, port: int, row: int, ranges: tuple[PortRange, ...]) -> str:
        are = "is" if row == 1 else "are"
        if ranges:
            return f"{are} none of this user's own ({shown(ranges)})"
        if any(low < port + row and port <= high for low, high in self._named):
            return f"{are} for other users: their rules name {'it' if row == 1 else 'some of them'}"
        return f"{are} out of the server's range {self._low}-{self._high}"

    def _taken(self, claim: Claim) -> str:
        """Why a claim by number is refused: which port is somebody's, and whether he is here."""
        port, row = claim.remote, claim.row
        if row == 1:
            return f"port {port} is taken" + ("" if port in self._holders else _KEPT)
        leases = [
            each.port for each in self._leases.over(port, self._proto, row) if each.owner != claim.owner
        ]
        one = max(min([*self._holders.begins(port, row), *leases]), port)
        return f"port {one} of {port}-{port + row - 1} is taken" + ("" if one in self._holders else _KEPT)

    def _before(self, claim: Claim) -> Owner | None:
        """Whose the claimed ports were, where that was somebody else."""
        leases = self._leases.over(claim.remote, self._proto, claim.row)
        return next((lease.owner for lease in leases if lease.owner != claim.owner), None)

    def _claim_fresh(self, claim: Claim, busy: list[int]) -> Gradual[Grant]:
        """``busy``: ports that other programs have."""
        ranges = claim.ranges or self._open
        rest = self._unclaimed(claim, ranges, busy) if self._low or ranges else self._any()
        for port in chain(self._namesakes(claim), rest):
            try:
                return (yield from self._take(port, claim))
            except BindError as failed:
                _check(failed)
                busy.append(failed.port)
        where = f" in {shown(ranges)}" if ranges else ""
        what = "no port is" if claim.row == 1 else f"no {claim.row} ports in a row are"
        raise PortError(f"{what} free{where}", final=False)

    def _namesakes(self, claim: Claim) -> Iterator[int]:
        """The port that the target's namesake has by another protocol, if nobody has a claim to it by this one."""
        port = claim.like
        if port and self._map.is_free(port, claim.row) and self.may_have(port, claim.ranges, claim.row):
            yield port

    def _unclaimed(self, claim: Claim, ranges: tuple[PortRange, ...], busy: list[int]) -> Iterator[int]:
        """Ports that nobody has a claim to, from where the owner's name hashes to; then those that go early."""
        digest = sha256("\0".join(claim.owner[:4]).encode("utf-8", "surrogatepass")).digest()
        number = int.from_bytes(digest[:8], "big")
        if claim.row > 1:
            yield from islice(self._map.rows_from(number, ranges, claim.row, busy), TRIES)
            return
        yield from islice(self._map.free_from(number, ranges), TRIES)
        now = self._clock()
        for lease in self._leases.brief(_GOING_EARLY):
            if lease.owner.proto != self._proto or lease.ports > 1 or not within(lease.port, ranges):
                continue
            if now - max(lease.used_at, self._started) >= SILENCE_S:
                yield lease.port

    def _any(self) -> Iterator[int]:
        """The system chooses, again and again while it chooses somebody's leased port."""
        for _ in range(TRIES):
            yield 0

    # Binding

    def _take(self, port: int, claim: Claim) -> Gradual[Grant]:
        """Listens, and keeps the lease. Raises BindError, PortError; then nothing has changed but that former holders
        are gone.
        """
        row = claim.row
        lent: list[socket.socket] = []
        for first in self._holders.begins(port, row):
            stand_in, _ = self._away.pop(first, (None, None))
            holding = self._holders.at(first)
            if stand_in is not None:
                self._holders.take(first)
                lent += stand_in.hand_over()
            elif holding is not None:
                holding.give_way()
        if row > 1:
            close_all(lent)  # a row is bound as a whole
            lent = []
        if row == 1:
            socks = lent or self._binding.one(port)
        else:
            self._holders.put(port, row, Beginning(claim))
            self._map.take(port, row)
            try:
                socks = yield from self._binding.row(port, row)
            except BaseException:
                self.release(port)
                raise
        try:
            if not port:
                port = socks[0].getsockname()[1]
                if self._judge(port, claim) != Verdict.GIVE or within(port, self._named):
                    raise BindError(port, OSError(errno.EADDRINUSE, "somebody has a lease of it"))
            self._lease(claim, port)
        except BaseException:
            close_all(socks)
            if row > 1:
                self.release(port)
            raise
        return Grant(port, socks)

    def _lease(self, claim: Claim, port: int) -> None:
        """Keeps the lease, in place of those that there were of these ports. Raises PortError."""
        former = self._leases.over(port, self._proto, claim.row)
        if self._may_lease(claim, port):
            self._leases.keep(claim.owner, port, claim.identity, claim.address, claim.row, claim.wait_s)
        else:
            for lease in former:
                self._leases.forget(lease.port, self._proto)
        for lease in former:
            self._mark(lease, False)
        self._map.take(port, claim.row)

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
            return self._binding.one(port)
        except BindError as failed:
            raise PortError(unusable(f"port {port}", failed), final=False) from failed

    def _crowded(self, ranges: tuple[PortRange, ...]) -> bool:
        """Whether more than half of the ports of some ranges are taken."""
        return bool(ranges) and self._map.left(ranges) < count(ranges) // 2

    def hold(self, port: int, holding: Holding, row: int = 1) -> None:
        """A mapping listens on a port that was granted, or on so many in a row; ``release`` ends it."""
        self._holders.put(port, row, holding)

    def release(self, port: int) -> None:
        """A mapping is gone; its lease stays."""
        row = self._holders.take(port) or 1
        self._away.pop(port, None)
        self._leases.release(port, self._proto)
        self._map.free(port, row)
        for lease in self._leases.over(port, self._proto, row):
            self._mark(lease, True)

    def stand_in(self, port: int, holding: StandIn, gone: Callable[[int], None]) -> None:
        """Something listens on a leased port while its worker is away; ``gone(port)``: the lease is void."""
        self._holders.put(port, 1, holding)
        self._away[port] = holding, gone

    def held(self, port: int, row: int = 1) -> bool:
        """Whether one of our mappings listens there, or on one of so many in a row."""
        return bool(self._holders.begins(port, row))

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
        _, gone = self._away.pop(lease.port, (None, None))
        if gone is not None:
            self._holders.take(lease.port)
            gone(lease.port)
        if lease.port not in self._holders:
            self._mark(lease, False)

    def _mark(self, lease: Lease, taken: bool) -> None:
        (self._map.take if taken else self._map.free)(lease.port, lease.ports)


def _check(failed: BindError) -> None:
    """Another port may do where this one is used or forbidden. Raises PortError for everything else."""
    error = failed.error
    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
        raise PortError(f"cannot listen: {error.strerror or error}", final=False) from error


def _called(port: int, row: int) -> str:
    return f"port {port}" if row == 1 else f"ports {port}-{port + row - 1}"
