"""The table of options: what each number may be, what can be switched off, and what must never be shown."""

from __future__ import annotations

import pytest

from aero.config.option import Config, Option
from aero.config.table import (
    ClientOptions,
    ConsoleOptions,
    DemoOptions,
    KeyOptions,
    KickOptions,
    ListOptions,
    PageOptions,
    RoleOptions,
    ServerOptions,
    ServiceOptions,
    WorkerOptions,
)
from aero.errors import ConfigError

CLASSES: tuple[type[Config], ...] = (
    ServerOptions, ClientOptions, DemoOptions, ConsoleOptions, ListOptions, WorkerOptions, KeyOptions, KickOptions,
    PageOptions, ServiceOptions,
)  # fmt: skip


def known(options: type[Config], name: str) -> Option:
    return options.known()[name]


@pytest.mark.parametrize(
    ("options", "name", "inside", "outside"),
    [
        (ServerOptions, "port", ("0", "65535"), ("-1", "65536")),
        (ServerOptions, "lease-days", ("1", "3650"), ("0", "3651")),
        (ServerOptions, "mux-idle", ("0", "86400"), ("-1", "86401")),
        (ServerOptions, "mux-head", ("8K", "1M"), ("8191", "1048577")),
        (ServerOptions, "resume", ("0", "86400"), ("-1", "86401")),
        (ServerOptions, "drain", ("0", "3600"), ("-1", "3601")),
        (ServerOptions, "ports", ("0", "1-65535"), ("2-1", "1-65536")),
        (ServerOptions, "memory", ("48M", "1024G"), ("47M", "1025G")),
        (ClientOptions, "ping", ("1", "3600"), ("0", "3601")),
        (ClientOptions, "pool", ("1", "16"), ("0", "17")),
    ],
)
def test_a_number_is_taken_up_to_its_bounds_and_not_beyond(
    options: type[Config], name: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    option = known(options, name)
    for text in inside:
        option.parse(text)
    for text in (*outside, "", "x", "1.5x"):
        with pytest.raises(ConfigError):
            option.parse(text)


@pytest.mark.parametrize("options", CLASSES)
def test_what_has_options_of_its_own_can_be_switched_off(options: type[Config]) -> None:
    parts = {each.part for each in options.OPTIONS if each.part}
    assert parts == ({"api", "mux"} if options is ServerOptions else set())
    for part in parts:
        assert not known(options, part).parse("off")


@pytest.mark.parametrize("options", CLASSES)
def test_every_code_is_a_secret_and_nothing_else_is(options: type[Config]) -> None:
    secret = {each.name for each in options.OPTIONS if each.secret}
    assert secret == {"auth", "auth-next", "api-token", "proxy", "hook-secret"} & set(options.known())
    for each in options.OPTIONS:
        if each.secret:
            config = options(**{each.field: "geheim"})
            assert "geheim" not in repr(config) and not each.default_text


def test_both_roles_have_what_roles_have_and_mean_the_same_by_it() -> None:
    for shared in RoleOptions.OPTIONS:
        assert known(ServerOptions, shared.name) is known(ClientOptions, shared.name) is shared
    both = ServerOptions.known().keys() & ClientOptions.known().keys() - RoleOptions.known().keys()
    assert both == {"auth"}, "what else both have is declared once"


def test_a_reload_leaves_alone_what_is_bound_at_the_start() -> None:
    """Sockets, files and the process are made once; to say that a reload changed them would be untrue."""
    bound = {
        "ip", "port", "ports", "api", "mux", "state", "lock", "detach", "run-as", "config", "memory", "aead", "tag",
        "host", "pool", "once",
    }  # fmt: skip
    for options in (ServerOptions, ClientOptions):
        live = {each.name for each in options.OPTIONS if each.live}
        assert not live & bound
        assert {"auth", "log", "debug"} <= live


def test_what_is_named_no_longer_says_what_to_write_now() -> None:
    for options in (ServerOptions, ClientOptions):
        assert not options.MOVED.keys() & options.known().keys()
        for line in options.OPTIONS:
            assert "{" not in line.help.format(**options.WORDS)


def test_changes_are_asked_for_with_the_key_or_the_token() -> None:
    for options in (KickOptions, PageOptions):
        assert {"api", "api-token", "state"} <= set(options.known())
    assert KickOptions.argument() == WorkerOptions.argument() == "cid"
    assert "state" not in ListOptions.known(), "who only looks needs no key"
