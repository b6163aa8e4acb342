"""Names of targets at the mux: who may claim them, whose they are, and when they are free."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.errors import PortError
from aero.limits import Limits
from aero.server.policy.rules import EVERYBODY, Rule
from aero.server.registry import domains as module
from aero.server.registry.domains import Domains, Reserved
from aero.server.store.leases import Owner

APP = {"domain": ["app.example.org"]}


def owner(tag: str = "nas", name: str = "web", user: str = "", host: str = "one") -> Owner:
    return Owner(user, tag, host, name, "tcp")


def mapping(who: Owner, *names: str) -> Any:
    return SimpleNamespace(owner=who, domains=tuple(each.encode() for each in names))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def domains() -> Domains:
    return Domains(("*.example.org", "shop"), Reserved(("mux.example.org",), "d.example.org"))


@pytest.mark.parametrize(
    ("rule", "host", "why"),
    [
        (EVERYBODY, "app.example.org", ""),
        (EVERYBODY, "a.b.example.org", ""),
        (EVERYBODY, "shop", ""),
        (EVERYBODY, "other.org", "lets no target have other.org"),
        (EVERYBODY, "mux.example.org", "a name of the server's own"),
        (EVERYBODY, "d.example.org", "a name of the server's own"),
        (EVERYBODY, "tag.name.d.example.org", "a name of the server's own"),
        (EVERYBODY, "name.d.example.org", ""),
        (Rule(user="ci"), "app.example.org", ""),
        (Rule(user="ci"), "other.org", "lets no target have"),
        (Rule(user="ci", domains=("*.ci.org",)), "a.ci.org", ""),
        (Rule(user="ci", domains=("*.ci.org",)), "app.example.org", "the rules of user ci do not allow"),
        (Rule(user="ci", domains=("*",)), "mux.example.org", "a name of the server's own"),
    ],
)
def test_who_may_claim_what(domains: Domains, rule: Rule, host: str, why: str) -> None:
    said = domains.why_not(rule, {"domain": [host]})
    assert (why in said) if why else said == ""


def test_nobody_may_claim_anything_unless_an_operator_says_so() -> None:
    assert Domains((), Reserved()).why_not(EVERYBODY, APP)
    assert not Domains((), Reserved()).why_not(EVERYBODY, {"limit": 5})


def test_one_tag_s_workers_share_a_name_and_nobody_else_gets_it(domains: Domains, clock: list[float]) -> None:
    one, two = (mapping(owner(host=host), "app.example.org") for host in ("one", "two"))
    for each in (one, two):
        domains.check(each.owner, APP)
        domains.add(each)
    for other in (owner(tag="box"), owner(name="api"), owner(user="ci")):
        with pytest.raises(PortError, match=r"another target has the domain app\.example\.org"):
            domains.check(other, APP)
    found = domains.find(b"APP.example.org.:4000")
    assert found is not None and (found.tag, found.name, found.members) == ("nas", "web", [one, two])
    assert domains.find(b"other.example.org") is None


def test_a_name_stays_for_a_while_after_its_last_worker_and_is_known_until_somebody_takes_it(
    domains: Domains, clock: list[float]
) -> None:
    one, box = mapping(owner(), "app.example.org"), owner(tag="box")
    domains.add(one)
    domains.remove(one, withdrawn=False)
    with pytest.raises(PortError):
        domains.check(box, APP)
    domains.check(owner(host="two"), APP)
    clock[0] += module.SILENCE_S
    domains.check(box, APP)
    found = domains.find(b"app.example.org")
    assert found is not None and found.tag == "nas", "who asks is told that it is away"
    domains.add(mapping(box, "app.example.org"))
    found = domains.find(b"app.example.org")
    assert found is not None and found.tag == "box"


def test_a_name_that_is_withdrawn_is_free_at_once(domains: Domains, clock: list[float]) -> None:
    one = mapping(owner(), "app.example.org", "shop")
    domains.add(one)
    domains.remove(one, withdrawn=True)
    assert not domains.names
    domains.remove(one, withdrawn=True)


def test_those_that_are_away_are_bounded(
    domains: Domains, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "DOMAINS_AWAY", 2)
    for host in ("a", "b", "c"):
        one = mapping(owner(), host)
        domains.add(one)
        domains.remove(one, withdrawn=False)
    assert list(domains.names) == [b"b", b"c"]


def test_a_name_without_a_certificate_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    some = Domains(("*",), Reserved(), lambda name: name == "good.org")
    for one in (mapping(owner(), "good.org", "bad.org"), mapping(owner(host="two"), "bad.org")):
        some.add(one)
    (said,) = [each for each in caplog.records if "no certificate" in each.getMessage()]
    assert "bad.org" in said.getMessage()


def test_names_of_before_a_start_are_awaited_for_a_while(clock: list[float]) -> None:
    rules = [Rule(user="ci", domains=("*.ci.org",)), Rule(user="ops")]
    some = Domains(("*.example.org",), Reserved(("mux.example.org",)), rules=lambda: rules)
    hosts = (b"APP.example.org:80", b"a.ci.org", b"mux.example.org", b"other.org")
    assert [some.awaits(host) for host in hosts] == [True, True, False, False]
    clock[0] += module.SILENCE_S
    assert not any(some.awaits(host) for host in hosts)
