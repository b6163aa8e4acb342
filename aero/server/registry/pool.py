"""A pool: mappings that lead to the same service, and whose turn it is among them (policy/balance.py).

All targets of one tag and name are one pool, which the mux chooses from; the members of a group are one, which shares
a port. The first member says how it is balanced, as ``balance=`` of its target; each has a weight of its own.
"""

from __future__ import annotations

from time import monotonic

from aero.server.policy.balance import COOKIE, ROUND_ROBIN, Balancer
from aero.server.registry.mapping import Mapping


class Pool:
    """Some mappings, in the order in which they came."""

    __slots__ = ("_balancer", "_marks", "alone", "guarded", "how", "keyed", "members")

    def __init__(self, marks: bool = False) -> None:
        """Begins empty. ``marks``: it is the mux's, which can give visitors a cookie."""
        self._marks = marks
        self.alone: Mapping | None = (
            None  # the only member, where nothing has to be asked of it or of its visitors
        )
        self.members: list[Mapping] = []
        self.guarded = False  # some member is for some visitors only
        self.keyed = False  # some member asks for passwords
        self.how = ROUND_ROBIN
        self._balancer: Balancer[Mapping] = Balancer()

    def add(self, mapping: Mapping) -> None:
        """One more way; ``remove`` takes it away."""
        self.members.append(mapping)
        self._heed_first()

    def remove(self, mapping: Mapping) -> None:
        """A way is gone."""
        self.members.remove(mapping)
        self._heed_first()

    def _heed_first(self) -> None:
        self.guarded = any(each.access is not None for each in self.members)
        self.keyed = any(each.logins is not None for each in self.members)
        how = str(self.members[0].options.get("balance", ROUND_ROBIN)) if self.members else self.how
        if how != self.how:
            self.how = how
            self._balancer = Balancer(how)
        sticky = self._marks and how == COOKIE
        for each in self.members if self._marks else ():  # a group's members are the mux's as well
            each.sticky = sticky
        alone = len(self.members) == 1 and self.members[0].plain and not sticky
        self.alone = self.members[0] if alone else None

    @property
    def rushed(self) -> bool:
        """True while visitors had better wait in front of a door: every member's worker has enough to open."""
        linked = [each.worker for each in self.members if each.worker.linked]
        return bool(linked) and all(each.rushed for each in linked)

    def choose(self, visitor: str) -> Mapping | None:
        """For one visitor from an address: the mapping whose turn it is, None where none is in order.

        One whose link is doubted comes after those that are well, and one without a link after those.
        """
        able = [each for each in self.members if each.in_order]
        some = (
            [each for each in able if each.worker.steady]
            or [each for each in able if each.worker.linked]
            or able
        )
        return self._balancer.pick(some, visitor, monotonic()) if some else None

    def order(self, visitor: str, first: Mapping | None = None) -> list[Mapping]:
        """Those that are in order and have a link, the one whose turn it is first, for as many tries as one needs.

        ``first``: whom the visitor has been with before: it stays his where it can take him.
        """
        members = self.members
        if len(members) == 1:  # nearly all are alone: nothing is chosen
            return members[:] if members[0].in_order and members[0].worker.linked else []
        linked = [each for each in members if each.worker.linked and each.in_order]
        if len(linked) < 2:
            return linked
        if first is None or first not in linked:
            some = [each for each in linked if each.worker.steady] or linked
            first = self._balancer.pick(some, visitor, monotonic())
        at = linked.index(first)
        return linked[at:] + linked[:at] if at else linked

    def outcome(self, mapping: Mapping, served: bool) -> None:
        """What became of a visitor who was sent there: served, or refused before anything of his was taken."""
        self._balancer.outcome(mapping, served, monotonic())
