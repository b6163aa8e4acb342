"""How a class of options becomes a configuration, a help text and a set of names."""

from __future__ import annotations

import re

import pytest

from aero.cli import help
from aero.config import units
from aero.config.option import Config, Options, argument, flag, option, repeated, secret
from aero.errors import ConfigError


def words(texts: list[str]) -> tuple[str, ...]:
    return tuple(texts)


class Base(Config):
    """What two commands share."""

    debug: bool = flag("debug", "Say more", live=True)
    log_size: int = option(
        "log-size", "SIZE", units.size(1, 9999), 1024, "How much of {what}", show=units.size_text
    )


class Sample(Base):
    """One option of each kind."""

    WORDS = {"what": "everything"}

    port: int = option("port", "PORT", int, 80, "Where it listens", live=True)
    auth: str = secret("auth", "A code")
    names: tuple[str, ...] = repeated("name", "NAME", words, (), "Several")
    lock: str | None = option("lock", "[FILE]", str, None, "One at a time", part="port")
    host: str = option("host", "NAME", str, "", "A name", computed=lambda: "found")
    cid: str = argument("cid", str, "")


def test_own_options_come_first_and_shared_ones_are_declared_once() -> None:
    assert [each.name for each in Sample.OPTIONS] == [
        "port", "auth", "name", "lock", "host", "cid", "debug", "log-size",
    ]  # fmt: skip
    assert [each.name for each in Base.OPTIONS] == ["debug", "log-size"]
    assert list(Sample.known())[-2:] == ["help", "version"]
    assert (Sample.argument(), Base.argument()) == ("cid", "")


def test_defaults_stand_in_the_fields() -> None:
    config = Sample()
    assert (config.port, config.auth, config.names, config.lock, config.debug) == (80, "", (), None, False)
    assert Sample.parse(Options({})) == Sample(host="found")


def test_raw_values_become_fields() -> None:
    raw = {"port": "81", "auth": "geheim", "name": ["a", "b"], "lock": "", "debug": True, "log-size": "1K"}
    config = Sample.parse(Options({**raw, "cid": "c1"}))
    assert config == Sample(
        port=81, auth="geheim", names=("a", "b"), lock="", debug=True, log_size=1024, host="found", cid="c1"
    )
    assert "geheim" not in repr(config)
    assert "auth='***'" in repr(config)


def test_a_configuration_is_frozen() -> None:
    config = Sample()
    with pytest.raises(AttributeError, match="frozen"):
        config.port = 81
    assert config.replace(port=81).port == 81
    assert config.port == 80
    assert config != config.replace(port=81)
    assert config != Base()
    with pytest.raises(TypeError, match="Sample has no prot"):
        Sample(prot=1)


def test_what_is_for_a_part_that_is_off_does_nothing() -> None:
    class Part(Config):
        """A part, and an option of it."""

        mux: str = option("mux", "HOST:PORT", str, "", "A part")
        domain: str = option("domain", "NAME", str, "", "Of the part", part="mux")

    assert Part.parse(Options({"mux": "off", "domain": "d"})).warnings == (
        "--domain does nothing while --mux is off",
    )
    assert Part.parse(Options({"mux": ":80", "domain": "d"})).warnings == ()


def test_help_lines() -> None:
    assert (
        Sample.help_lines()
        == """\
  --port PORT        Where it listens [default: 80]
  --auth CODE        A code
  --name NAME        Several
  --lock [FILE]      One at a time
  --host NAME        A name
  --debug            Say more
  --log-size SIZE    How much of everything [default: 1K]
  -h, --help         Show this text
  --version          Show the version
"""
    )


def test_long_help_is_wrapped_and_a_default_stays_whole() -> None:
    text = "word " * 10 + "0123456789"
    for name in ("short", "a-name-that-is-long"):

        class Long(Config):
            """One option whose help needs several lines."""

            field: str = option(name, "VALUE", str, "a b", text)

        lines = Long.help_lines().splitlines()
        assert max(map(len, lines)) < 80
        assert any("[default: a b]" in line for line in lines)
        indents = {len(re.match(" *", line)[0]) for line in lines if not line.startswith("  -")}  # type: ignore[index]
        assert indents == {21}


@pytest.mark.parametrize("command", help.PAGES)
def test_every_option_is_declared_once_with_one_name_in_three_sources(command: str) -> None:
    options = help.PAGES[command][1].OPTIONS
    assert len({each.name for each in options}) == len({each.field for each in options}) == len(options)
    for each in options:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", each.name)
        assert each.positional or each.help.strip() == each.help != ""
        assert not each.part or each.part in {other.name for other in options}


@pytest.mark.parametrize("command", help.PAGES)
def test_the_default_in_the_help_is_the_default(command: str) -> None:
    for each in help.PAGES[command][1].OPTIONS:
        if each.default_text:
            assert each.parse(each.default_text) == each.default


def test_messages_say_where_a_value_came_from() -> None:
    def refuse(text: str) -> str:
        raise ConfigError(f"{text!r} is wrong")

    class Strict(Config):
        """Takes nothing."""

        field: str = option("field", "VALUE", refuse, "", "Nothing will do")

    with pytest.raises(ConfigError, match=r"^AERO_FIELD: 'x' is wrong"):
        Strict.parse(Options({"field": "x"}, {"field": "AERO_FIELD"}))
