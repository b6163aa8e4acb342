"""The text of a target, its options, and the table that stands for it in the file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.config import targetoptions, targets, units, values
from aero.config.targetoptions import TargetOption
from aero.config.targets import TargetTable
from aero.errors import ConfigError
from aero.limits import Limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web@127.0.0.1:80", ("web", "127.0.0.1", 80, 0)),
        ("web:127.0.0.1:80", ("web", "127.0.0.1", 80, 0)),
        ("web@[::1]:80", ("web", "::1", 80, 0)),
        ("web:[::1]:80", ("web", "::1", 80, 0)),
        ("Web-2@nas.local:80", ("web-2", "nas.local", 80, 0)),
        ("db@127.0.0.1:5432?remote=15432", ("db", "127.0.0.1", 5432, 15432)),
        ("web@b\u00fccher.local:80", ("web", "xn--bcher-kva.local", 80, 0)),
    ],
)
def test_targets(text: str, expected: tuple[str, str, int, int]) -> None:
    parsed = targets.target(text)
    assert parsed == (*expected, "tcp", (), "", 1)
    assert targets.target(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp@127.0.0.1:5000-5100?remote=30000-30100", ("127.0.0.1", 5000, 101, 30000)),
        ("ftp@[::1]:5000-5001", ("::1", 5000, 2, 0)),
        ("rtp@my-host:10000-19999/udp", ("my-host", 10000, 10000, 0)),
        ("one@h:7-7?remote=8-8", ("h", 7, 1, 8)),
    ],
)
def test_ports_in_a_row(text: str, expected: tuple[str, int, int, int]) -> None:
    parsed = targets.target(text)
    assert (parsed.host, parsed.port, parsed.row, parsed.remote) == expected
    assert targets.target(str(parsed)) == parsed
    table = TargetTable("x", {"address": text.partition("@")[2].partition("?")[0]})
    assert targets.from_table(table).row == parsed.row


def test_ports_in_a_row_that_meet_others() -> None:
    with pytest.raises(ConfigError, match="ask for the same port"):
        targets.target_list(["a@h:1-5?remote=10-14,b@h:1?remote=14"])
    assert targets.target_list(["a@h:1-5?remote=10-14,b@h:1?remote=15,c@h:1/udp?remote=12"])
    with pytest.raises(ConfigError, match="more than 32768 ports"):
        targets.target_list(["a@h:1-16384,b@h:1-16384,c@h:1"])


@pytest.mark.parametrize("text", ["app@unix:/run/app.sock", "app:unix:/run/app.sock?check=tcp&remote=9000"])
def test_a_socket_in_the_file_system(text: str) -> None:
    parsed = targets.target(text)
    assert (parsed.name, parsed.host, parsed.port, parsed.path) == ("app", "", 0, "/run/app.sock")
    assert str(parsed.place) == parsed.where == "unix:/run/app.sock"
    assert targets.target(str(parsed)) == parsed
    table = TargetTable("app", {"address": "unix:/run/a,b?c.sock"})
    assert targets.from_table(table).path == "/run/a,b?c.sock", "a table has it as it is"


@pytest.mark.parametrize("text", ["dns@127.0.0.1:53/udp", "dns@[::1]:53/UDP?remote=5353&idle=3m&amplify=3"])
def test_udp_targets(text: str) -> None:
    parsed = targets.target(text)
    assert (parsed.name, parsed.port, parsed.proto) == ("dns", 53, "udp")
    assert targets.target(str(parsed)) == parsed
    assert parsed.where == f"{parsed.place}/udp" and "/udp" in str(parsed)
    if "?" in text:
        assert (parsed.remote, parsed.setting("idle"), parsed.setting("amplify")) == (5353, 180, 3)


def test_a_name_and_a_port_are_unique_by_protocol() -> None:
    both = targets.target_list(["dns@127.0.0.1:53?remote=53,dns@127.0.0.1:53/udp?remote=53"])
    assert [(each.name, each.proto, each.remote) for each in both] == [("dns", "tcp", 53), ("dns", "udp", 53)]
    with pytest.raises(ConfigError, match="stands for both"):
        targets.target_list(["a@h:1/udp,a@h:2/udp"])
    with pytest.raises(ConfigError, match="the same port"):
        targets.target_list(["a@h:1/udp?remote=5,b@h:2/udp?remote=5"])


def test_an_option_of_tcp_has_no_place_at_a_udp_target(monkeypatch: pytest.MonkeyPatch) -> None:
    bell = targetoptions.TargetOption("bell", "N", int, "Rings")
    monkeypatch.setitem(targetoptions.OPTIONS, "bell", bell)
    with pytest.raises(ConfigError, match="'bell' is for TCP targets only, leave it out or /udp"):
        targets.target("dns@h:1/udp?bell=1")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("web", "write name@host:port"),
        ("127.0.0.1:80", "write name@host:port"),
        ("[::1]:80", "write name@host:port"),
        ("web@:80", "write name@host:port"),
        ("@127.0.0.1:80", "'' is not a name"),
        ("my_web@127.0.0.1:80", "letters, digits and inner hyphens"),
        ("a.b@127.0.0.1:80", "letters, digits and inner hyphens"),
        ("-a@127.0.0.1:80", "not a name"),
        ("a-@127.0.0.1:80", "not a name"),
        ("x" * 64 + "@127.0.0.1:80", "not a name"),
        ("web@127.0.0.1", "write name@host:port"),
        ("web@127.0.0.1:0", "not a port"),
        ("web@::1:80", "[::1]:PORT"),
        ("web@127.0.0.1:80?", "unknown option ''"),
        ("web@127.0.0.1:80?remote", "'' is not a port"),
        ("web@127.0.0.1:80?remote=0", "'0' is not a port"),
        ("web@127.0.0.1:80?port=1", "unknown option 'port', known are remote"),
        ("web@127.0.0.1:80?remtoe=1", "unknown option 'remtoe', did you mean remote?"),
        ("web@127.0.0.1:80?remote=1+2", "remote: '1+2' is not a port"),
        ("web@127.0.0.1:80?remote=1&remote=2", "given twice"),
        ("a@h:1?wait=0", "wait: "),
        ("a@h:1?wait=11m", "wait: "),
        ("a@h:1/udp?wait=5", "option 'wait' is for TCP targets only"),
        ("a@h:5-1", "'5-1' ends before it begins, write 1-5"),
        ("a@h:1-70000", "'70000' is not a port"),
        ("a@h:1-", "'' is not a port"),
        ("a@h:0-5", "'0' is not a port"),
        ("a@h:1-16385", "are 16385 ports, write 16384 at the most"),
        ("a@h:1-5?remote=7", "remote: 7 has 1 port and h:1-5 5 ports, write remote=7-11"),
        ("a@h:1?remote=7-8", "remote: 7-8 has 2 ports and h:1 1 port, write remote=7"),
        ("a@h:1-5?access=closed", "ports in a row cannot be closed"),
        ("app@unix:run/app.sock", "'run/app.sock' is not an absolute path, write unix:/PATH"),
        ("app@unix:", "is not a target"),
        ("app@unix:/run/\u00fc.sock", "printable ASCII"),
        ("app@unix:/run/a\nb", "is not a target"),
        (f"app@unix:/{'x' * 107}", "longer than the 107 bytes that a socket's path may have"),
        ("dns@127.0.0.1:53/icmp", "has a path: a target is a port"),
        ("dns@127.0.0.1:53//udp", "has a path"),
        ("dns@127.0.0.1/udp", "write name@host:port"),
        ("dns@127.0.0.1:53/udp?idle=1", "idle: '1' is too short, write 5s to 1d"),
        ("dns@127.0.0.1:53/udp?amplify=0", "amplify: '0' is not"),
        (
            "web@127.0.0.1:80?idle=60",
            "'idle' is for UDP targets only, leave it out or write dns@127.0.0.1:53/udp?idle=TIME",
        ),
        ("web@127.0.0.1:80?balance=fair", "balance: 'fair' is unknown, write round-robin"),
        ("web@127.0.0.1:80?weight=0", "weight: '0' is not a number from 1 to 100"),
        ("web@127.0.0.1:80?check=udp", "check: 'udp' is no way to look, write tcp or http:/path"),
        ("web@127.0.0.1:80?check=https:/", "is no way to look"),
        ("web@127.0.0.1:80?every=5", "every means nothing without check, add check=HOW"),
        ("web@127.0.0.1:80?group=a&group-key=secret", "group-key: write @FILE: others on this host"),
        ("web@127.0.0.1:80?group-key=@x", "cannot read"),
        ("web@127.0.0.1:80?group=a_b", "group: 'a_b' is not a name"),
        ("web@127.0.0.1:80?host=a b", "host: 'a b' is not a host"),
        ("web@127.0.0.1:80?host=a:99999", "host: 'a:99999' is not a host"),
        ("web@127.0.0.1:80?auth=ada:secret", "auth: write @FILE, a file of lines USER:HASH"),
        ("web@127.0.0.1:80?auth=@x", "cannot read"),
        (
            "web@127.0.0.1:80?domain=localhost",
            "domain: 'localhost' is this machine's or an address, write a name",
        ),
        ("web@127.0.0.1:80?domain=a.org+b..org", "domain: 'b..org' is not a host name"),
        ("dns@127.0.0.1:53/udp?domain=a.org", "option 'domain' is for TCP targets only"),
        ("web@127.0.0.1:80?auth=", "auth: write @FILE"),
        ("web@127.0.0.1:80?auth=@/dev/null", "auth: the file has no line, write USER:HASH"),
        ("web@127.0.0.1:80?header-set=X-A", "header-set: 'X-A' has no colon, write NAME:VALUE"),
        ("web@127.0.0.1:80?header-set=Host:a", "header-set: Host is not set or removed, write host=NAME"),
        ("web@127.0.0.1:80?header-set=@x", "cannot read"),
        ("web@127.0.0.1:80?header-remove=A+Transfer_Encoding", "Transfer_Encoding is the mux's own"),
        ("web@127.0.0.1:80?header-remove=" + "+".join("abcdefghijklmnopq"), "17 are given, write 1 to 16"),
        ("web@127.0.0.1:80/index.html", "has a path"),
        ("http://127.0.0.1:80", "is a URL"),
        ("\u212aey@127.0.0.1:80", "is not a name"),
        ("web@127.0.0.1:80?remote=1?remote=2", "not a port"),
    ],
)
def test_targets_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)):
        targets.target(text)


def test_a_list_of_targets() -> None:
    parsed = targets.target_list(["a@h:1, b@h:2,", "c@h:3"])
    assert [target.name for target in parsed] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("texts", "hint"),
    [
        ([","], "no target is given"),
        (["web@h:1,WEB@h:2"], "the name 'web' stands for both web@h:1 and web@h:2"),
        (["a@h:1?remote=7", "b@h:2?remote=7"], "ask for the same port"),
        ([",".join(f"n{i}@h:1" for i in range(Limits.TARGETS_PER_WORKER + 1))], "too many"),
    ],
)
def test_lists_of_targets_that_cannot_be(texts: list[str], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        targets.target_list(texts)


def test_a_table_is_the_same_target() -> None:
    table = TargetTable("db", {"address": "127.0.0.1:5432", "remote": "15432"})
    assert targets.target_list([table, "web@h:1"]) == targets.target_list(
        ["db@127.0.0.1:5432?remote=15432", "web@h:1"]
    )


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({}, 'write where it is, as in address = "127.0.0.1:80"'),
        ({"adress": "h:1"}, "write where it is"),
        ({"address": "h:1", "remtoe": "7"}, "unknown option 'remtoe', did you mean remote?"),
        ({"address": "h:1", "remote": "0"}, "remote: '0' is not a port"),
        ({"address": "h:1/udp?remote=5"}, "has a path"),
        ({"address": "h:1?remote=7"}, "is not a port"),
    ],
)
def test_tables_that_cannot_be(keys: dict[str, str], hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("[client.targets.db]: ")) as error:
        targets.from_table(TargetTable("db", keys))
    assert hint in str(error.value)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two options of the test's own beside the real ones."""
    for option in (
        TargetOption("door", "WORD", values.one_of(("open", "shut")), "Whether", guards=True),
        TargetOption("bell", "N", units.integer(1, 9), "How often", needs="door"),
        TargetOption("names", "LIST", lambda text: tuple(text.split("+")), "Whose"),
    ):
        monkeypatch.setitem(targetoptions.OPTIONS, option.name, option)


@pytest.mark.usefixtures("options")
def test_options_are_read_once_and_written_as_they_came() -> None:
    parsed = targets.target("a@h:1?names=x+y&door=shut&remote=7&bell=3")
    assert parsed.settings == (("bell", 3, "3"), ("door", "shut", "shut"), ("names", ("x", "y"), "x+y"))
    assert (parsed.setting("bell"), parsed.setting("remote"), parsed.remote) == (3, None, 7)
    assert str(parsed) == "a@h:1?remote=7&bell=3&door=shut&names=x+y"
    assert targets.target(str(parsed)) == parsed
    keys = {"address": "h:1", "names": "x+y", "door": "shut", "remote": "7", "bell": "3"}
    assert targets.from_table(TargetTable("a", keys)) == parsed


@pytest.mark.usefixtures("options")
@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("door=ajar", "door: 'ajar' is unknown, write open or shut"),
        ("bell=3", "bell means nothing without door, add door=WORD"),
        ("bell=0&door=open", "bell: '0' is not a number from 1 to 9"),
        ("nmes=x", "did you mean names?"),
        ("door=open&door=open", "option 'door' is given twice"),
    ],
)
def test_options_that_cannot_be(query: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(hint)):
        targets.target(f"a@h:1?{query}")


@given(st.text())
def test_any_text_is_a_target_or_a_config_error(text: str) -> None:
    for read in (
        lambda: targets.target(text),
        lambda: targets.from_table(TargetTable(text, {"address": text})),
    ):
        try:
            read()
        except ConfigError as error:
            assert str(error).isprintable()
