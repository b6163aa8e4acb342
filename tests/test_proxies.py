"""Proxies as people write them, and those that the environment names."""

from __future__ import annotations

import re

import pytest

from aero.errors import ConfigError
from aero.proxies import Proxy, Surroundings


@pytest.mark.parametrize(
    ("text", "proxy", "shown"),
    [
        ("http://proxy.corp:3128", ("http", "proxy.corp", 3128, None, b""), "proxy.corp:3128"),
        ("http://proxy.corp:3128/", ("http", "proxy.corp", 3128, None, b""), "proxy.corp:3128"),
        ("proxy.corp:3128", ("http", "proxy.corp", 3128, None, b""), "proxy.corp:3128"),
        ("HTTP://u:p@[::1]", ("http", "::1", 1080, b"u", b"p"), "[::1]:1080"),
        ("http://u:p%40s%3a@h:1", ("http", "h", 1, b"u", b"p@s:"), "h:1"),
        ("http://u:p@ss@h:1", ("http", "h", 1, b"u", b"p@ss"), "h:1"),
        ("http://u@h:1", ("http", "h", 1, b"u", b""), "h:1"),
        ("socks5://h", ("socks5", "h", 1080, None, b""), "socks5://h:1080"),
        ("socks5h://eva:\u00fc@h:9", ("socks5h", "h", 9, b"eva", "\u00fc".encode()), "socks5h://h:9"),
    ],
)
def test_a_proxy(text: str, proxy: tuple[object, ...], shown: str) -> None:
    found = Proxy.parse(text)
    assert found == proxy
    assert str(found) == shown


def test_neither_text_nor_repr_shows_who_logs_in() -> None:
    proxy = Proxy.parse("http://eva:geheim@proxy.corp:3128")
    for shown in (str(proxy), repr(proxy), f"{proxy}", repr((proxy,))):
        assert "eva" not in shown and "geheim" not in shown and "proxy.corp:3128" in shown


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://geheim@h:1", "by TLS (https://) is not offered"),
        ("ftp://geheim@h:1", "write http://HOST:PORT, socks5://HOST:PORT, socks5h://HOST:PORT or none"),
        ("http://u:geheim@h:x", "there is no address in the proxy's URL"),
        ("http://u:geheim", "there is no address in the proxy's URL"),
        ("http://u:geheim@", "there is no address in the proxy's URL"),
        ("http://u:geheim@h:1/path", "a proxy has no path"),
        ("http://u:geheim%0d%0a@h:1", "a control character"),
        ("http://u:geheim" + "x" * 255 + "@h:1", "255 bytes at most"),
        ("", "there is no address"),
    ],
)
def test_what_is_no_proxy_is_refused_without_showing_it(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)) as refusal:
        Proxy.parse(text)
    assert "geheim" not in str(refusal.value)


def test_the_environment_names_a_proxy_lower_case_first() -> None:
    assert Surroundings.of({}) == Surroundings()
    every = {"all_proxy": "socks5h://a:1", "ALL_PROXY": "b:1", "HTTPS_PROXY": "c:1", "https_proxy": "d:1"}
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        found = Surroundings.of(every)
        assert found.variable == variable and str(found.proxy) in every.pop(variable)
    assert Surroundings.of({"HTTPS_PROXY": "", "HTTP_PROXY": "h:1", "http_proxy": "h:1"}).proxy is None


def test_a_variable_that_is_wrong_is_named_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY: .*--proxy none ignores it$") as refusal:
        Surroundings.of({"HTTPS_PROXY": "https://eva:geheim@h:1"})
    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "without"),
    [
        ("", "example.org", 443, False),
        ("*", "example.org", 443, True),
        ("example.org", "example.org", 443, True),
        ("example.org", "EXAMPLE.ORG.", 443, True),
        ("example.org", "a.example.org", 443, True),
        (".example.org", "a.example.org", 443, True),
        (".example.org", "example.org", 443, True),
        ("*.example.org", "a.example.org", 443, True),
        ("example.org", "notexample.org", 443, False),
        ("example.org:443", "example.org", 443, True),
        ("example.org:80", "example.org", 443, False),
        ("localhost, 127.0.0.1 ,other", "127.0.0.1", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.1.2.3/8", "10.9.9.9", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example.org", 443, False),
        ("10.0.0.1:443", "10.0.0.1", 443, True),
        ("10.0.0.1:80", "10.0.0.1", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]:443", "0::1", 443, True),
        ("[::1]:80", "::1", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        (".", "example.org", 443, False),
        ("a\nb\texample.org", "example.org", 443, True),
        ("0.0.1", "10.0.0.1", 443, False),
    ],
)
def test_hosts_that_are_reached_without_one(no_proxy: str, host: str, port: int, without: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        proxies = Surroundings.of({"HTTPS_PROXY": "proxy:3128", name: no_proxy})
        assert (proxies.proxy_to(host, port) is None) is without
