"""Ways out: which proxy is before which, which comes first, and what the log says of those that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aero.config.roles import ClientConfig
from aero.endpoint import Endpoints
from aero.errors import ConfigError, DialError
from aero.proxies import Proxy
from aero.worker import networks, outlets
from aero.worker.outlets import Outlets

ALL = "h:1,tls://h:2,ws://h:3,wss://h:4"


def config(server: str = ALL, **others: Any) -> ClientConfig:
    return ClientConfig(**{"server": Endpoints.parse(server), "state": "", **others})


def test_the_environments_proxy_is_for_what_looks_like_https() -> None:
    ways = Outlets(config(), {"https_proxy": "proxy:3128"}).ways
    assert [str(way) for way in ways] == [
        "h:1", "tls://h:2 by the proxy proxy:3128", "ws://h:3", "wss://h:4 by the proxy proxy:3128",
    ]  # fmt: skip
    ways = Outlets(config(), {"https_proxy": "proxy:3128", "NO_PROXY": "h:4"}).ways
    assert [way.proxy is not None for way in ways] == [False, True, False, False]


def test_the_options_proxy_is_for_all_and_none_is_for_none() -> None:
    environ = {"https_proxy": "other:3128", "no_proxy": "*"}
    ways = Outlets(config(proxy=Proxy.parse("socks5h://p:1")), environ).ways
    assert {str(way.proxy) for way in ways} == {"socks5h://p:1"}
    assert not any(way.proxy for way in Outlets(config(proxy="none"), environ).ways)


def test_a_wrong_variable_matters_only_to_who_reads_it() -> None:
    environ = {"HTTPS_PROXY": "ftp://x"}
    Outlets(config("h:1,ws://h:2"), environ)
    Outlets(config(proxy="none"), environ)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        Outlets(config(), environ)


def test_what_worked_is_remembered_by_whoever_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "here", lambda: "home")
    first = Outlets(config(state=str(tmp_path)), {})
    first.worked(first.ways[2])
    assert [way.endpoint.scheme for way in first.in_order()] == ["ws", "tcp", "tls", "wss"]
    next_one = Outlets(config(state=str(tmp_path)), {})
    assert [way.endpoint.scheme for way in next_one.in_order()] == ["ws", "tcp", "tls", "wss"]
    other = Outlets(config("a:1,b:1", state=str(tmp_path)), {})
    assert other.in_order() == other.ways


def test_one_way_asks_and_keeps_nothing(tmp_path: Path) -> None:
    one = Outlets(config("h:1", state=str(tmp_path)), {})
    one.worked(one.in_order()[0])
    assert not list(tmp_path.iterdir())


def test_a_reload_keeps_what_works_where_it_is_still_a_way() -> None:
    before = Outlets(config(), {})
    before.worked(before.ways[3])
    assert Outlets(config("wss://h:4,h:1"), {}, before).last == before.ways[3]
    assert Outlets(config("h:9,h:1"), {}, before).last.endpoint.port == 9


def test_a_way_that_fails_again_for_the_same_reason_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, str]] = []

    class Log:
        def info(self, message: str, **fields: object) -> None:
            lines.append(("info", f"{fields['way']}: {fields['why']}"))

        def debug(self, message: str, **fields: object) -> None:
            lines.append(("debug", ""))

    monkeypatch.setattr(outlets, "log", Log())
    ways = Outlets(config("a:1,b:1", proxy=Proxy.parse("http://eva:geheim@p:1")), {})
    for text in ("refused", "refused", "silent"):
        ways.failed(ways.ways[0], DialError(text))
    ways.worked(ways.ways[0])
    ways.failed(ways.ways[0], DialError("silent"))
    assert [level for level, _ in lines] == ["info", "debug", "info", "info"]
    assert lines[0][1] == "a:1 by the proxy p:1: refused"
