"""Users as they are here: what their rules bound, and what ends when these change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aero.core.codes import Close
from aero.errors import Rejected
from aero.server.policy.rules import Rule, Users
from aero.server.registry.tenants import Tenant, Tenants, enforce


class Guest:
    """A worker with some targets, that notes how it ends."""

    def __init__(
        self, tenant: Tenant, cid: str, tag: str, targets: int, streams: int = 0, flows: int = 0
    ) -> None:
        self.tenant, self.cid, self.tag = tenant, cid, tag
        self.streams, self.flows = streams, flows
        self.denied: list[str] = []
        self.ended = ""
        tenant.workers[cid] = cast(Any, self)
        self.mappings: dict[int, Any] = {
            number: Mapped(name=f"t{number}", owner=SimpleNamespace(proto="tcp"), options={}, port=number)
            for number in range(targets)
        }

    def end(self, code: int, text: str) -> None:
        assert code == Close.DENIED
        self.ended = text
        del self.tenant.workers[self.cid]

    def deny(self, mapping: Any, why: str) -> None:
        self.denied.append(f"{mapping.name}: {why}")
        self.mappings = {number: each for number, each in self.mappings.items() if each is not mapping}


class Mapped(SimpleNamespace):
    __hash__ = object.__hash__


def house(**rule: Any) -> Tenants:
    return Tenants(Users(None, {"ci": Rule("ci", ("ci", "ci-*"), **rule)}), lambda: 0.0)


def why_not_kept(_: Any, mapping: Any) -> str:
    return f"port {mapping.port} is not for this target any more" if mapping.port == 99 else ""


def change(tenants: Tenants, guests: list[Guest], **rule: Any) -> None:
    tenants.change(Users(None, {"ci": Rule("ci", ("ci", "ci-*"), **rule)}))
    for step in enforce(tenants, cast(Any, guests), why_not_kept):
        step()


def test_workers_targets_and_streams_are_counted_for_all_of_a_user() -> None:
    tenants = house(max_workers=2, max_targets=3, max_streams=5)
    tenant = tenants.admit("ci", "ci-1")
    Guest(tenant, "c1", "ci-1", 1, streams=2)
    assert tenants.admit("ci", "ci-2") is tenant and not tenant.laden and not tenant.full
    Guest(tenant, "c2", "ci-2", 2, streams=1, flows=2)
    assert tenant.laden == "the rules of user ci allow 3 targets"
    assert tenant.full == "the rules of user ci allow 5 streams at once", "flows are streams"
    with pytest.raises(Rejected, match="allow 2 workers at once") as refused:
        tenants.admit("ci", "ci-3")
    assert (refused.value.code, refused.value.final) == (Close.LIMIT, False), "another may leave"


def test_who_came_last_goes_where_bounds_shrink() -> None:
    tenants = house()
    tenant = tenants.admit("ci", "ci")
    guests = [Guest(tenant, f"c{number}", "ci", 3) for number in range(4)]
    change(tenants, guests, max_workers=3, max_targets=5)
    assert [each.ended for each in guests] == ["", "", "", "the rules of user ci allow 3 workers at once"]
    why = "the rules of user ci allow 5 targets"
    assert [each.denied for each in guests] == [
        [], [f"t2: {why}"], [f"t0: {why}", f"t1: {why}", f"t2: {why}"], [],
    ]  # fmt: skip
    change(tenants, guests, max_workers=3, max_targets=5)
    assert sum(len(each.denied) for each in guests) == 4, "nothing more"


def test_a_place_that_is_free_again_is_used() -> None:
    """Of three workers the first has a tag that is no longer his: the others are two."""
    tenants = house()
    tenant = tenants.admit("ci", "ci")
    guests = [Guest(tenant, f"c{number}", tag, 1) for number, tag in enumerate(("old", "ci", "ci"))]
    change(tenants, guests, max_workers=2)
    assert [bool(each.ended) for each in guests] == [True, False, False]


def test_rules_of_names_ports_and_users() -> None:
    tenants = house()
    guests = [Guest(tenants.admit("ci", "ci"), "c1", "ci", 2)]
    guests[0].mappings[0].port = 99
    change(tenants, guests, targets=("t0",))
    assert guests[0].denied == [
        "t0: port 99 is not for this target any more",
        't1: the rules of user ci allow no target t1 (targets = "t0")',
    ]
    tenants.change(Users(None, {}))
    for step in enforce(tenants, cast(Any, guests), lambda *_: ""):
        step()
    assert "no rules for this user any more" in guests[0].ended
