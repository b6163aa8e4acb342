"""Which targets a worker may have: what refuses one, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.allow import allow
from aero.core.control import DENIED, DUPLICATE, INVALID, NO_OPTIONS, TOO_MANY, Answer, Wanted
from aero.limits import Limits
from aero.server.registry import offer

WEB = Wanted(1, "web", "h:1")


def worker(**more: Any) -> Any:
    given = {
        "sessions": [SimpleNamespace(flows=object())],
        "mappings": {},
        "bounds": None,
        "limits": Limits(TARGETS_PER_WORKER=2),
        "tenant": SimpleNamespace(may_offer=lambda *_: "", laden="", ports=()),
        **more,
    }
    mappings = given["mappings"].values()
    named = {(each.name, each.owner.proto): each for each in mappings}
    return SimpleNamespace(**given, mapping=lambda name, proto="tcp": named.get((name, proto)))


def mapped(name: str, row: int = 1) -> Any:
    return SimpleNamespace(
        name=name, local="h:1", options=NO_OPTIONS, owner=SimpleNamespace(proto="tcp"), row=row,
        port=8000, addresses=["0.0.0.0:8000"], told=NO_OPTIONS,
    )  # fmt: skip


def tenant(**more: Any) -> Any:
    return SimpleNamespace(**{"may_offer": lambda *_: "", "laden": "", "ports": (), **more})


def known(who: Any, wanted: Wanted = WEB, claimed: str = "") -> Answer | None:
    return offer.known(who, wanted, NO_OPTIONS, lambda: claimed)


def test_what_nothing_speaks_against_may_be() -> None:
    assert known(worker()) is None
    assert known(worker(mappings={2: mapped("ssh")})) is None


def test_what_is_mapped_already_is_answered_as_before() -> None:
    full = worker(mappings={1: mapped("web"), 2: mapped("ssh")}, tenant=tenant(laden="too much"))
    assert known(full) == Answer(1, "web", 8000, ("0.0.0.0:8000",))


@pytest.mark.parametrize(
    ("who", "wanted", "claimed", "error", "text"),
    [
        (worker(sessions=[SimpleNamespace(flows=None)]), WEB._replace(proto="udp"), "", INVALID, "no UDP here"),
        (worker(tenant=tenant(may_offer=lambda *_: "not yours")), WEB, "nor this", DENIED, "not yours"),
        (worker(bounds=allow("127.0.0.1:22")), WEB, "nor this", DENIED, "not what this worker was invited for"),
        (worker(), WEB, "that name is another's", DENIED, "that name is another's"),
        (worker(mappings={2: mapped("a"), 3: mapped("b")}), WEB, "", TOO_MANY, "a worker may have 2 targets"),
        (worker(tenant=tenant(ports=((80, 83),)), mappings={2: mapped("a", 2)}), WEB._replace(row=3), "",
         TOO_MANY, "may have 4 ports in all: it has 2, 3 more"),
        (worker(tenant=tenant(laden="too much")), WEB, "", DENIED, "too much"),
        (worker(mappings={1: mapped("other")}, tenant=tenant(laden="too much")), WEB, "", DUPLICATE, "web is"),
        (worker(mappings={2: mapped("web")}), WEB, "", DUPLICATE, "web is registered already"),
    ],
)  # fmt: skip
def test_what_refuses_a_target(who: Any, wanted: Wanted, claimed: str, error: str, text: str) -> None:
    answer = known(who, wanted, claimed)
    assert answer is not None and (answer.id, answer.name) == (1, "web")
    assert answer.error == error and text in answer.text
