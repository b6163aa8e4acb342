"""From an address to a target: how it may be spelt, which names the mux answers to, who is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aero.errors import MessageError
from aero.server.httpmux import routing
from aero.server.httpmux.head import parse_request
from aero.server.httpmux.pages import Page
from aero.server.httpmux.routing import Destination, Router, Rules
from aero.server.policy.rules import EVERYBODY, Rule
from aero.server.registry.pool import Pool
from aero.server.watch.events import Events

REQUEST = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 9)


class Registry:
    """What the router asks of the registry, and what happens to workers."""

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}
        self.events = Events()
        self.loop: Any = self
        self.callbacks: list[Any] = []

    def run_callback(self, call: Any) -> None:
        self.callbacks.append(call)

    def timer(self, _: float) -> Any:
        return SimpleNamespace(start=lambda call: None, stop=lambda: None, close=lambda: None)

    def tagged(self, tag: str) -> list[Any]:
        return [worker for worker in self.workers.values() if worker.tag == tag]

    domains: Any = None
    away: Any = SimpleNamespace(lobby=lambda tag, name: None)

    @property
    def mappings(self) -> Registry:
        return self

    def pool(self, tag: str, name: str) -> Pool | None:
        pool = Pool()
        for worker in self.tagged(tag):
            mapping = worker.mapping(name)
            if mapping is not None:
                pool.add(mapping)
        return pool if pool.members else None

    def comes(self, cid: str, host: str, *targets: str) -> Any:
        mappings: dict[int, Any] = {}

        def mapping(name: str) -> Any:
            return next((each for each in mappings.values() if each.name == name), None)

        worker = SimpleNamespace(
            cid=cid,
            tag="t",
            host=host,
            linked=True,
            rule=EVERYBODY,
            steady=True,
            mappings=mappings,
            mapping=mapping,
            lobby=cid,
        )
        for number, name in enumerate(targets):
            mappings[number] = SimpleNamespace(
                name=name,
                worker=worker,
                in_order=True,
                options={},
                weight=1,
                load=0,
                key=cid,
                access=None,
                logins=None,
                lets_in=lambda ip: True,
                plain=True,
                domains=(),
            )
        self.workers[cid] = worker
        self.events.emit("worker up", cid=cid)
        for name in targets:
            self.events.emit("mapping up", cid=cid, tag="t", target=name)
        return worker

    def withdraws(self, worker: Any, name: str) -> None:
        for number, each in list(worker.mappings.items()):
            if each.name == name:
                del worker.mappings[number]
        self.events.emit("mapping down", cid=worker.cid, tag="t", target=name)

    def leaves(self, worker: Any) -> None:
        del self.workers[worker.cid]
        for each in list(worker.mappings.values()):
            self.withdraws(worker, each.name)
        self.events.emit("worker down", cid=worker.cid)


class Leases:
    """``names``: (host, name) of targets that had a port before this start."""

    def __init__(self, *names: tuple[str, str]) -> None:
        self.names = names

    def absent(self, count: int) -> list[Any]:
        return [
            SimpleNamespace(owner=SimpleNamespace(tag="t", host=host, name=name)) for host, name in self.names
        ]


def router(rules: Rules) -> Router:
    return Router(Registry(), Events(), Leases(), rules)  # type: ignore[arg-type]


def asked(rules: Rules, target: str, host: str = "localhost", vouched: bool = False) -> Destination | Page:
    request = parse_request(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 9)
    return router(rules).wanted(request, vouched)


@pytest.mark.parametrize(
    ("target", "who", "name", "prefix"),
    [
        ("/NAS/Web/a", "nas", "web", b"/NAS/Web"),
        ("/nas/web/", "nas", "web", b"/nas/web"),
        ("/c0123456789ab@/web/a", "c0123456789ab", "web", b"/c0123456789ab@/web"),
        ("/c0123456789ab%40/Web/a", "c0123456789ab", "web", b"/c0123456789ab%40/Web"),
    ],
)
def test_the_prefix_is_as_the_visitor_wrote_it(target: str, who: str, name: str, prefix: bytes) -> None:
    wanted = asked(Rules(), target)
    assert isinstance(wanted, Destination)
    assert (wanted.who, wanted.name, wanted.prefix) == (who, name, prefix)


@pytest.mark.parametrize(
    "target",
    ["/NAS/web/", "/nas/Web/", "/nas@/web/", "/c0123456789ab@/web/", "/c0123456789ab%40/web/", "/c0123456789ab/web/",
     "/c0123456789ab%23/web/"],
)  # fmt: skip
def test_strict_takes_one_spelling(target: str) -> None:
    found = asked(Rules(strict=True), target)
    assert isinstance(found, Page) and found.kind == "no address"
    assert isinstance(asked(Rules(strict=True), "/nas/web/a"), Destination)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:4000",
        "a.localhost",
        "127.0.0.1:4000",
        "127.8.8.8",
        "[::1]:4000",
        "aero.test.",
        "",
    ],
)
def test_names_that_a_mux_on_loopback_answers_to(host: str) -> None:
    assert isinstance(asked(Rules(hosts=frozenset((b"aero.test",))), "/t/web/", host), Destination)


@pytest.mark.parametrize(
    "host", ["rebound.test", "127.0.0.1.rebound.test", "localhost.rebound.test", "[::2]", "10.0.0.1"]
)
def test_a_page_whose_name_was_made_to_lead_to_loopback_reads_nothing(host: str) -> None:
    rules = Rules(hosts=frozenset())
    for target in ("/t/web/", "/t/web", "/"):
        found = asked(rules, target, host)
        assert isinstance(found, Page) and found.kind == "misdirected" and found.fields["host"] == host
    assert isinstance(asked(rules, "/t/web/", host, vouched=True), Destination), (
        "a trusted proxy knows what it asks"
    )
    assert isinstance(asked(Rules(), "/t/web/", host), Destination), (
        "and where anybody may come, any name will do"
    )


def test_a_worker_s_id_does_not_stand_in_a_host_by_path() -> None:
    with pytest.raises(MessageError):
        asked(Rules(), "/t/web/", "c0123456789ab@.web")


def test_by_host_the_domain_is_the_rule() -> None:
    rules = Rules(domain="aero.test", hosts=frozenset())
    assert isinstance(asked(rules, "/", "t.web.aero.test"), Destination)
    found = asked(rules, "/", "t.web.rebound.test")
    assert isinstance(found, Page) and found.kind == "wrong host"


def test_the_router_stops_listening() -> None:
    events = Events()
    made = Router(Registry(), events, Leases(), Rules())  # type: ignore[arg-type]
    assert len(events.listeners) == 1
    made.close()
    assert not events.listeners


def said(router: Router, name: str = "web") -> str:
    """The kind of the page for a target, "" where there is one."""
    found = router.mappings(Destination("t", False, name, b"", b"/", b""), REQUEST, "192.0.2.1:5")
    return found.kind if isinstance(found, Page) else ""


def routed(*leases: tuple[str, str]) -> tuple[Registry, Router]:
    registry = Registry()
    return registry, Router(registry, registry.events, Leases(*leases), Rules())  # type: ignore[arg-type]


def test_a_target_that_was_removed_is_not_waited_for() -> None:
    registry, router = routed()
    worker = registry.comes("c1", "a", "web", "other")
    assert said(router) == ""
    registry.withdraws(worker, "web")
    assert said(router) == "unknown name"
    registry.leaves(worker)
    assert said(router) == "unknown tag", "it went without it"
    assert said(router, "other") == "no worker"


def test_a_target_whose_worker_is_away_comes_back() -> None:
    registry, router = routed()
    first, second = registry.comes("c1", "a", "web"), registry.comes("c2", "b", "web")
    registry.leaves(first)
    registry.withdraws(second, "web")
    assert said(router) == "no worker", "the other one still has it"
    registry.comes("c3", "a")
    assert said(router) == "no worker", "it has only just come"
    registry.comes("c4", "a", "other")
    assert said(router) == "unknown name", "this host offers something else now"


def test_one_of_two_on_a_host_withdraws_it() -> None:
    registry, router = routed()
    first, second = registry.comes("c1", "a", "web"), registry.comes("c2", "a", "web")
    registry.withdraws(first, "web")
    registry.leaves(second)
    assert said(router) == "no worker", "the second had it when it left"


def test_leases_of_before_this_start_are_remembered() -> None:
    registry, router = routed(("a", "web"), ("b", "db"))
    assert said(router) == said(router, "db") == "no worker"
    assert said(router, "other") == "unknown tag"
    registry.comes("c1", "a", "other")
    assert said(router) == "unknown name", "its host is here without it"
    assert said(router, "db") == "no worker"


def test_where_to_wait_for_a_link() -> None:
    registry, router = routed()
    for number in range(6):
        registry.comes(f"c{number}", "a", "web").linked = False
    registry.comes("c9", "a", "other")
    assert said(router) == "link down"
    assert router.lobbies(Destination("t", False, "web", b"", b"/", b""))[0] == ["c0", "c1", "c2", "c3"]
    assert router.lobbies(Destination("c2", True, "web", b"", b"/", b""))[0] == ["c2"]
    assert router.lobbies(Destination("c8", True, "web", b"", b"/", b""))[0] == []


def test_a_target_that_is_not_back_since_the_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(routing, "monotonic", lambda: now)
    registry, router = routed(("a", "web"), ("a", "db"))
    web, db = (Destination("t", False, name, b"", b"/", b"") for name in ("web", "db"))
    heard: list[str] = []
    for number in range(2):
        (hall,) = router.lobbies(web)[0]
        assert hall.wait(lambda number=number: heard.append(f"{number} in"), lambda: heard.append("out"))
    assert router.lobbies(web._replace(name="other"))[0] == router.lobbies(web._replace(is_cid=True))[0] == []
    registry.comes("c1", "a", "web")
    assert not heard, "not within the registration"
    for call in registry.callbacks:
        call()
    assert heard == ["0 in", "1 in"]
    registry.leaves(registry.workers["c1"])
    assert router.lobbies(web)[0] == [], "it was back, and went: that is no restart of the server"
    now += routing.SILENCE_S + 1
    assert router.lobbies(db)[0] == [], "it may never come"


def test_the_one_that_is_alone_is_gone_to_at_once() -> None:
    registry, router = routed()
    web = Destination("t", False, "web", b"", b"/", b"")
    assert router.alone(web) is None, "nobody has it"
    worker = registry.comes("c1", "a", "web")
    (mapping,) = worker.mappings.values()
    assert router.alone(web) is mapping
    assert router.alone(web._replace(is_cid=True)) is None
    assert router.alone(web._replace(domain=b"a.example")) is None, "not by a name that is not its own"
    mapping.domains = (b"a.example",)
    assert router.alone(web._replace(domain=b"a.example")) is mapping
    worker.linked = False
    assert router.alone(web) is None, "there is a link to wait for"
    worker.linked = True
    for unguarded in (True, False):  # a user's rule says for each request whether it lets everybody in
        worker.rule, mapping.unguarded = Rule(user="eva"), unguarded
        assert (router.alone(web) is mapping) is unguarded
    registry.comes("c2", "b", "web")
    assert router.alone(web) is None, "there is one to be chosen"


def test_a_worker_is_found_by_its_id() -> None:
    registry, router = routed()
    worker = registry.comes("c1", "a", "web")
    (mapping,) = worker.mappings.values()
    by_id = Destination("c1", True, "web", b"", b"/", b"")
    assert router.mappings(by_id, REQUEST, "192.0.2.1:5") == [mapping]
    for kind, wanted in (
        ("unknown cid", by_id._replace(who="c2")),
        ("unknown name", by_id._replace(name="x")),
    ):
        found = router.mappings(wanted, REQUEST, "192.0.2.1:5")
        assert isinstance(found, Page) and found.kind == kind
    mapping.access, mapping.lets_in = object(), lambda ip: False
    found = router.mappings(by_id, REQUEST, "192.0.2.1:5")
    assert isinstance(found, Page) and found.kind == "closed"
