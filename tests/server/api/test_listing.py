"""The pieces that lists are made of: together they are JSON, whoever is in them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from aero.server.api import listing
from aero.server.store.rhythms import Late, Who


def mapping(**more: Any) -> Any:
    given = {
        "name": "web", "owner": SimpleNamespace(proto="tcp"), "local": "h:80", "addresses": ["0.0.0.0:8000"],
        "access": None, "logins": None, "domains": [], "health": None, "streams": 2, "bytes_in": 3, "bytes_out": 4,
        "drops": SimpleNamespace(counts={"full": 1}),
        **more,
    }  # fmt: skip
    return SimpleNamespace(**given)


def worker(cid: str, *mappings: Any) -> Any:
    return SimpleNamespace(
        cid=cid, tag="nas", host="box\x1b", user="", address="192.0.2.1:5", connected_at=0.0, ping_s=0.0125, links=1,
        transports=["tls"], paths=[], mappings=dict(enumerate(mappings)),
    )  # fmt: skip


@pytest.mark.parametrize("targets", [0, 1, 2])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_pieces_of_a_list_are_json(workers: int, targets: int) -> None:
    all_of_them = [worker(f"c{number}", *[mapping()] * targets) for number in range(workers)]
    late = [Late(Who("", "nas", "gone"), 0.0, 60)] * workers
    said = json.loads("".join(listing.listed(all_of_them, late, lambda *_: None)))
    assert [each["cid"] for each in said["workers"]] == [f"c{number}" for number in range(workers)]
    assert [len(each["targets"]) for each in said["workers"]] == [targets] * workers
    assert [each["host"] for each in said["late"]] == ["gone"] * workers


def test_what_a_target_is_shown_as() -> None:
    sick = SimpleNamespace(in_order=False, why="Connection refused")
    shown = [
        mapping(),
        mapping(owner=SimpleNamespace(proto="udp")),
        mapping(health=sick, domains=[b"a.test"]),
    ]
    one = worker("c", *shown)
    (said,) = json.loads("".join(listing.listed([one], [], lambda who, which: f"{who.cid}/{which.name}")))[
        "workers"
    ]
    assert "\x1b" not in said["host"] and said["ping_ms"] == 12.5
    tcp, udp, ill = said["targets"]
    assert (tcp["streams"], tcp["healthy"], tcp["url"], tcp["listen"]) == (2, True, "c/web", "0.0.0.0:8000")
    assert (udp["flows"], udp["drops"]) == (2, {"full": 1}) and "streams" not in udp
    assert (ill["healthy"], ill["why"], ill["domains"]) == (False, "Connection refused", ["a.test"])


def test_the_pieces_of_throughput_are_json() -> None:
    rates = {"in": [1], "out": [2]}
    traffic: Any = SimpleNamespace(
        step_s=1,
        last=7,
        all=lambda: rates,
        workers=lambda: [("c", rates, [("web", rates)]), ("d", rates, [])],
    )
    said = json.loads("".join(listing.throughput(traffic)))
    assert said == {
        "step_s": 1, "last": 7, "all": rates,
        "workers": {"c": {**rates, "targets": {"web": rates}}, "d": {**rates, "targets": {}}},
    }  # fmt: skip
