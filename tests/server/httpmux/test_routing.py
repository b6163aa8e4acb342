"""From an address to a target: how it may be spelt, which names the mux answers to, who is not there."""

from __future__ import annotations

import pytest

from aero.errors import MessageError
from aero.server.httpmux.head import parse_request
from aero.server.httpmux.pages import Page
from aero.server.httpmux.routing import Router, Rules, Wanted
from aero.server.watch.events import Events


class Registry:
    """What the router asks of the registry."""

    def __init__(self) -> None:
        self.workers: dict[str, object] = {}

    def tagged(self, tag: str) -> list[object]:
        return []


class Leases:
    def absent(self, count: int) -> list[object]:
        return []


def router(rules: Rules) -> Router:
    return Router(Registry(), Events(), Leases(), rules)  # type: ignore[arg-type]


def asked(rules: Rules, target: str, host: str = "localhost", vouched: bool = False) -> Wanted | Page:
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
    assert isinstance(wanted, Wanted)
    assert (wanted.who, wanted.name, wanted.prefix) == (who, name, prefix)


@pytest.mark.parametrize(
    "target",
    ["/NAS/web/", "/nas/Web/", "/nas@/web/", "/c0123456789ab@/web/", "/c0123456789ab%40/web/", "/c0123456789ab/web/",
     "/c0123456789ab%23/web/"],
)  # fmt: skip
def test_strict_takes_one_spelling(target: str) -> None:
    found = asked(Rules(strict=True), target)
    assert isinstance(found, Page) and found.kind == "no address"
    assert isinstance(asked(Rules(strict=True), "/nas/web/a"), Wanted)


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
    assert isinstance(asked(Rules(hosts=frozenset((b"aero.test",))), "/t/web/", host), Wanted)


@pytest.mark.parametrize(
    "host", ["rebound.test", "127.0.0.1.rebound.test", "localhost.rebound.test", "[::2]", "10.0.0.1"]
)
def test_a_page_whose_name_was_made_to_lead_to_loopback_reads_nothing(host: str) -> None:
    rules = Rules(hosts=frozenset())
    for target in ("/t/web/", "/t/web", "/"):
        found = asked(rules, target, host)
        assert isinstance(found, Page) and found.kind == "misdirected" and found.fields["host"] == host
    assert isinstance(asked(rules, "/t/web/", host, vouched=True), Wanted), (
        "a trusted proxy knows what it asks"
    )
    assert isinstance(asked(Rules(), "/t/web/", host), Wanted), "and where anybody may come, any name will do"


def test_a_worker_s_id_does_not_stand_in_a_host_by_path() -> None:
    with pytest.raises(MessageError):
        asked(Rules(), "/t/web/", "c0123456789ab@.web")


def test_by_host_the_domain_is_the_rule() -> None:
    rules = Rules(domain="aero.test", hosts=frozenset())
    assert isinstance(asked(rules, "/", "t.web.aero.test"), Wanted)
    found = asked(rules, "/", "t.web.rebound.test")
    assert isinstance(found, Page) and found.kind == "wrong host"


def test_the_router_stops_listening() -> None:
    events = Events()
    made = Router(Registry(), events, Leases(), Rules())  # type: ignore[arg-type]
    assert len(events.listeners) == 1
    made.close()
    assert not events.listeners
