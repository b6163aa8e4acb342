"""Who is let in: every list must allow, deny wins, numbers and quotas bound."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from aero.core.codes import Reset
from aero.core.memory import Memory
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.errors import ConfigError
from aero.server.policy.rules import EVERYBODY, Quota, Rule
from aero.server.registry.admission import Fence, networks
from aero.server.registry.mapping import Mapping
from aero.server.registry.quotas import Quotas
from aero.server.store.database import Database
from aero.server.store.leases import Owner
from aero.server.store.usage import Calendar, Usage
from aero.server.watch.counters import Counters
from aero.server.watch.events import Events

NOON = 1_772_366_400  # 2026-03-01 12:00 UTC
TEN = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def mapping(rule: Rule, counters: Counters | None = None, **options: Any) -> Mapping:
    worker = SimpleNamespace(rule=rule, tag="nas", user=rule.user)
    said = {key.replace("_", "-"): value for key, value in options.items()}
    owner = Owner(rule.user, "nas", "box", "web")
    return Mapping(cast(Any, worker), owner, 1, "h:1", 1, counters or Counters(), lambda _: None, said)


@pytest.mark.parametrize(
    ("rule", "own", "ip", "reason"),
    [
        (EVERYBODY, None, "192.0.2.1", ""),
        (EVERYBODY, ["10.0.0.0/8"], "10.1.2.3", ""),
        (EVERYBODY, ["10.0.0.0/8"], "::ffff:10.1.2.3", ""),
        (EVERYBODY, ["10.0.0.0/8"], "192.0.2.1", "visitors"),
        (EVERYBODY, ["10.0.0.0/8"], "no address", "visitors"),
        (EVERYBODY, "fe80::/10", "fe80::1%eth0", ""),
        (Rule(visitors=TEN), None, "10.1.2.3", ""),
        (Rule(visitors=TEN), None, "192.0.2.1", "visitors"),
        (Rule(visitors=TEN), ["10.1.0.0/16"], "10.2.0.1", "visitors"),
        (Rule(visitors=TEN), ["192.0.2.0/24"], "192.0.2.1", "visitors"),
        (Rule(visitors=TEN, deny_visitors=(ip_network("10.1.0.0/16"),)), ["10.1.0.0/16"], "10.1.0.1", "visitors"),
        (Rule(deny_visitors=TEN), None, "2001:db8::1", "visitors"),
        (Rule(deny_visitors=TEN), None, "2001:db9::1", ""),
    ],
)  # fmt: skip
def test_every_list_must_allow_and_deny_wins(rule: Rule, own: Any, ip: str, reason: str) -> None:
    refused = mapping(rule, **({"visitors": own} if own else {})).why_not(ip)
    assert (refused.reason if refused else "") == reason


@pytest.mark.parametrize(
    "wrong", [[], ["10.0.0.0/33"], ["10.0.0.1/8"], "all", [""], ["10.0.0.0/8"] * 65, [7, "x"]]
)
def test_networks_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        networks(wrong)


def test_an_address_has_so_many_streams_and_the_target_so_many_new_ones_a_second() -> None:
    fence = Fence({"visitor-streams": 2, "new-streams": 3})
    for ip in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        assert fence.why_not(ip, 5.0) is None
        fence.take(ip, 5.0)
    for ip, now, reason in (
        ("192.0.2.2", 5.9, "new streams"), ("192.0.2.1", 6.0, "visitor streams"), ("192.0.2.2", 6.0, ""),
    ):  # fmt: skip
        refused = fence.why_not(ip, now)
        assert (refused.reason if refused else "") == reason
    fence.give("192.0.2.1")
    assert fence.why_not("192.0.2.1", 6.0) is None
    assert Fence.of({"weight": 3}) is None


class Scene:
    """A user with a quota of 1,000 bytes a month, one stream of his, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = float(NOON)
        self.counters, self.events = Counters(), Events()
        self.rule = Rule("ci", quota=(Quota(1000, "month"),), quota_grace=5)
        self.mapping = mapping(self.rule, self.counters)
        usage = Usage(Database(""), self.counters.totals.items, Calendar(utc=True), lambda: self.now)
        worker = SimpleNamespace(user="ci", rule=self.rule, mappings={1: self.mapping})
        loop = gevent.get_hub().loop
        self.quotas = Quotas(loop, usage, self.events, {"c": cast(Any, worker)}, lambda: self.now)
        self.mapping.quotas = self.quotas
        session = Session(cast(Any, None), SERVER_FIRST_ID, Memory(64 << 20), SessionLimits(), 0.0)
        self.reset: list[tuple[int, str]] = []
        self.receiver = SimpleNamespace(reset=lambda *why: self.reset.append(why))
        self.stream = session.open(cast(Any, self.receiver), 1, "192.0.2.1:1", 0.0)
        self.mapping.joined(self.stream)

    def move(self, count: int) -> str:
        """So many bytes to the visitor; why the next one is not let in."""
        self.stream.received += count
        self.quotas.look()
        refused = self.mapping.why_not("192.0.2.9")
        return refused.reason if refused else ""

    @property
    def told(self) -> list[str]:
        return [each.what for each in self.events.past]


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.quotas.close()


@pytest.mark.parametrize(
    ("protocols", "by", "reason"),
    [(("tcp",), "tcp", ""), (("tcp",), "http", "protocol"), (("http",), "tcp", "protocol"), (("http",), "http", ""),
     (("tcp", "http"), "udp", "protocol"), (("udp",), "udp", "")],
)  # fmt: skip
def test_a_rule_says_which_way_a_target_is_reached(protocols: tuple[str, ...], by: str, reason: str) -> None:
    refused = mapping(Rule("ci", protocols=protocols)).why_not("192.0.2.1", by)
    assert (refused.reason if refused else "") == reason


def test_a_flow_is_a_stream_of_its_user() -> None:
    one = mapping(Rule("ci", max_streams=1))
    cast(Any, one.worker).full = "the rules of user ci allow 1 streams at once"
    refused = one.why_not("192.0.2.1", "udp")
    assert refused is not None and (refused.reason, refused.text) == ("streams", one.worker.full)
    assert one.why_not("192.0.2.1", "tcp") is None, "the session itself says no to a stream"


def test_a_quota_warns_refuses_and_ends_in_turn(scene: Scene) -> None:
    assert (scene.move(799), scene.told) == ("", [])
    assert (scene.move(1), scene.told) == ("", ["quota nearly used up"])
    assert scene.move(199) == ""
    assert (scene.move(1), scene.told[1:], scene.reset) == ("quota", ["quota used up"], [])
    refused = scene.mapping.why_not("192.0.2.9")
    assert refused is not None
    assert refused.retry_s == 30 * 86_400 + 12 * 3600, "the month's end"
    assert (scene.move(49), scene.reset) == ("quota", [])
    scene.move(1)
    assert scene.reset == [(Reset.LIMIT, "the quota of this month is used up")]
    assert scene.told == ["quota nearly used up", "quota used up"]


def test_a_month_by_a_moved_clock_begins_anew(scene: Scene) -> None:
    for day in range(31):
        assert scene.move(32) == "", day
        scene.now += 86_400
    assert scene.told == ["quota nearly used up"], "992 bytes"
    assert scene.move(500) == "", "it is April"
    assert scene.told == ["quota nearly used up"]
    assert scene.move(400) == ""
    assert scene.told == ["quota nearly used up"] * 2


def test_a_day_and_a_month_at_once(scene: Scene) -> None:
    both = Rule("ci", quota=(Quota(1000, "month"), Quota(100, "day")), quota_grace=100)
    scene.mapping.worker.rule = both  # type: ignore[misc]
    assert scene.move(100) == "quota"
    scene.now += 86_400
    assert scene.move(1) == ""
    for _ in range(10):
        scene.now += 86_400
        scene.move(90)
    assert scene.move(9) == "quota", "the month's"


@pytest.mark.parametrize(
    ("rule", "options", "unguarded"),
    [
        (EVERYBODY, {}, True),
        (Rule("ci", limit=5, max_streams=9), {}, True),
        (EVERYBODY, {"visitors": ["10.0.0.0/8"]}, False),
        (Rule("ci", visitors=TEN), {}, False),
        (Rule("ci", deny_visitors=TEN), {}, False),
        (Rule("ci", protocols=("tcp",)), {}, False),
        (Rule("ci", quota=(Quota(5, "day"),)), {}, False),
    ],
)
def test_only_who_has_no_guard_at_all_is_not_asked_about(
    rule: Rule, options: dict[str, Any], unguarded: bool
) -> None:
    assert mapping(rule, **options).unguarded is unguarded
