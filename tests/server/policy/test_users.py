"""The users' file: what it says, and everything that can be wrong with it, by line."""

from __future__ import annotations

from datetime import datetime, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.errors import ConfigError, SourceError
from aero.server.policy import users
from aero.server.policy.keys import KEYS
from aero.server.policy.rules import Claims, Proof, Quota, Rule, Users, matches

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp()
VERIFIER = "spake2plus$" + "A" * 130
FULL = f"""\
[default]                      # whoever has the plain code
ports = "20000-32767"

[user.ci]
verifier = "{VERIFIER}"
tags = "ci-*"
targets = "web,api-*"
protocols = "tcp,http,udp"
ports = "30000-30099,443"
groups = "web-*"
domains = "*.CI.example.org"
max-workers = 4
max-targets = 8
max-streams = 500
limit = "2MB"
target-limit = "1MB"
visitor-limit = "100KiB"
quota = "50GB/month,5GB/day"
quota-grace = "10%"
visitors = "10.0.0.0/8"
deny-visitors = ["10.9.0.0/16", "10.8.0.1"]
expires = 2027-01-01T00:00:00Z

[user.nas]
auth = "@/etc/aero/nas"
"""


def read(text: str | bytes) -> tuple[Users, list[str]]:
    found, complaints = users.read(text.encode() if isinstance(text, str) else text, NOW)
    return found, [str(each) for each in complaints]


def test_every_key_is_read() -> None:
    found, complaints = read(FULL)
    assert complaints == []
    rule = found.rules["ci"]
    assert (rule.tags, rule.targets) == (("ci-*",), ("web", "api-*"))
    assert rule.ports == ((443, 443), (30000, 30099))
    assert (rule.groups, rule.domains) == (("web-*",), ("*.ci.example.org",))
    assert (rule.max_workers, rule.max_targets, rule.max_streams) == (4, 8, 500)
    assert (rule.limit, rule.target_limit, rule.visitor_limit) == (2_000_000, 1_000_000, 102_400)
    assert rule.quota == (Quota(5 * 10**9, "day"), Quota(50 * 10**9, "month"))
    assert rule.quota_grace == 10
    assert rule.expires == datetime(2027, 1, 1, tzinfo=timezone.utc).timestamp()
    assert found.rules["nas"] == Rule("nas", tags=("nas", "nas-*"))
    assert found.proofs == {"ci": Proof(VERIFIER), "nas": Proof(file="/etc/aero/nas")}
    assert found.default == Rule(ports=((20000, 32767),))


def test_byte_order_mark_and_carriage_returns_change_nothing() -> None:
    assert read(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode()) == read(FULL)


WRONG = (
    ('verifer = "x"', "unknown key verifer, did you mean verifier?"),
    ('max_workers = "x"', "unknown key max_workers, did you mean max-workers?"),
    ('tags = ""', "tags: an item is empty"),
    ('tags = "CI-*"', "tags: 'CI-*' matches nothing: "),
    ('tags = "ci_*"', "tags: 'ci_*' matches nothing: "),
    ('targets = "-web"', "targets: '-web' matches nothing: "),
    ("targets = 7", "targets: write one text with commas, or a list of texts"),
    ('groups = "[a-z]*"', "groups: '[a-z]*' matches nothing: "),
    ('domains = "*..org"', "domains: '*..org' matches nothing: "),
    ('protocols = "tcp,htp"', "protocols: 'htp' is unknown, did you mean http?"),
    ('ports = "30099-30000"', "ports: '30099-30000' is upside down, write 30000-30099"),
    ('ports = "0-99999"', "ports: '0-99999' is no port or range"),
    ('max-workers = "4"', "max-workers: write a number from 1"),
    ("max-targets = 0", "max-targets: write a number from 1"),
    ("max-streams = true", "max-streams: write a number from 1"),
    ('limit = "2mb"', "limit: '2mb' is not a size, write bytes, or K M G"),
    ('target-limit = "2 MB/s"', "target-limit: '2 MB/s' is not a size"),
    ('worker-limit = "1mb"', "worker-limit: '1mb' is not a size"),
    ("visitor-limit = 1.5", 'visitor-limit: write a text, as in "2MB"'),
    ('quota = "50GB"', "quota: '50GB' is no quota, write an amount a day or a month"),
    ('quota = "5gb/day"', "quota: '5gb' is not a size"),
    ('quota = "5GB/day,6GB/day"', "quota: there are two quotas a day, write one"),
    ('quota-grace = "half"', "quota-grace: write in percent"),
    ('visitors = "10.0.0.0/33"', "visitors: '10.0.0.0/33' is not a network"),
    ('visitors = "10.0.0.1/8"', "the network of that address is 10.0.0.0/8"),
    ('deny-visitors = "nobody"', "deny-visitors: 'nobody' is not a network"),
    ("expires = 20270101", "expires: that is no date"),
    ('expires = "soon"', "expires: that is no date"),
    ("expires = 2026-01-01", "expires: that is past, nobody is let in"),
    ('auth = "secret"', "auth: a code does not stand here itself"),
    ('verifier = "spake2plus$short"', "verifier: that is none, aero users add ci writes one"),
    (f'verifier = "{VERIFIER}"', "write verifier or auth, not both"),
    ("ports = 30099-30000", "this is not TOML: "),
)


@pytest.mark.parametrize(("line", "about"), WRONG)
def test_what_is_wrong_is_said_with_its_line(line: str, about: str) -> None:
    proof = 'auth = "@/x"\n' if not line.startswith(("auth", f'verifier = "{VERIFIER[:-9]}x')) else ""
    text = f"\n[user.ci]\n{line}\n{proof}limit = '1MB'\n"
    if line.startswith("limit"):
        text = text.replace("limit = '1MB'\n", "")
    if line.startswith('verifier = "spake2plus$short'):
        text = text.replace('auth = "@/x"\n', "")
    _, complaints = read(text)
    assert len(complaints) == 1, complaints
    assert complaints[0].startswith("line 4: " if "not both" in about else "line 3: ")
    assert about in complaints[0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it has no users: "),
        ("# nothing\n", "it has no users: "),
        ('[user.ci]\nlimit="1MB"\n', "line 1: [user.ci]: it has neither verifier nor auth"),
        ("[defualt]\n", "line 1: unknown table [defualt]: did you mean default?"),
        ('[ci]\nauth = "@/x"\n', "line 1: unknown table [ci]: write [user.ci]"),
        ('[user]\nauth = "@/x"\n', "line 2: user.auth is not a table: "),
        ('[user.ci]\nauth="@/x"\n\n[user.ci]\nlimit="1MB"\n', "line 4: "),
        ('[user.ci]\nauth="@/x"\n\n[user.CI]\nauth="@/y"\n', "line 4: [user.CI] and the user in line 1 are the same"),
        (
            f'[user.a]\nverifier="{VERIFIER}"\n[user.b]\nverifier="{VERIFIER}"\n',
            "line 4: user b and user a have the same verifier",
        ),
        ('[user."a b"]\nauth="@/x"\n', "line 1: [user.a b]: 'a b' is not a name"),
        ('[default]\nauth = "@/x"\n', "line 2: [default]: unknown key auth: the code of [default] is --auth"),
        ("".join(f'[user.u{n}]\nauth = "@/x"\n' for n in range(17)), "line 34: 17 users have auth"),
        (
            '[user.ci]\nauth="@/x"\nvisitors="::1"\ndeny-visitors="::1"\n',
            "line 4: [user.ci]: ::1/128 is allowed and denied",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tables_is_said(text: str, complaint: str) -> None:
    _, complaints = read(text)
    assert [each for each in complaints if each.startswith(complaint)], complaints


def test_a_file_that_cannot_be_read_or_used_raises_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read the users' file .*gone: No such file"):
        users.load(str(tmp_path / "gone"), NOW)
    wrong = tmp_path / "users"
    wrong.write_bytes(b'[default]\nlimit = "2mb"\nports = "9-1"\n')
    with pytest.raises(
        ConfigError, match=r"users: line 2: \[default\]: limit: .*\(and 1 more, aero users check"
    ):
        users.load(str(wrong), NOW)
    wrong.write_bytes(b"[default]\n# \xff\n")
    with pytest.raises(ConfigError, match="line 2: it is not UTF-8 text"):
        users.load(str(wrong), NOW)
    wrong.write_bytes(b"#" * (users.FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        users.load(str(wrong), NOW)


def test_a_date_that_is_past_stops_nothing_but_its_user() -> None:
    found, complaints = users.read(b'[user.ci]\nauth="@/x"\nexpires = 2026-01-01\n', NOW)
    assert not any(each.fatal for each in complaints)
    assert found.rules["ci"].expired(NOW)


def test_tags_are_whose_rule_claims_them() -> None:
    found, _ = read('[default]\n[user.ci]\nauth="@/x"\n[user.ops]\nauth="@/y"\ntags="*"\n')
    only_ci, _ = read('[default]\n[user.ci]\nauth="@/x"\n')
    ci, default = found.rules["ci"], found.rule("")
    assert default is not None
    assert not found.may_use_tag(ci, "ci-7")
    assert found.may_use_tag(ci, "cid") == 'the rules of user ci allow no tag cid (tags = "ci,ci-*")'
    assert found.may_use_tag(default, "nas") == "the tag nas is for user ops"
    assert only_ci.may_use_tag(default, "ci-7") == "the tag ci-7 is for user ci"
    assert only_ci.may_use_tag(default, "nas") == ""


def test_a_rule_says_what_may_be_offered_and_who_may_visit() -> None:
    rule = read(FULL)[0].rules["ci"]._replace(protocols=("http",))
    assert rule.may_offer("web", "tcp") == rule.may_offer("api-2", "tcp") == ""
    assert rule.may_offer("db", "tcp") == 'the rules of user ci allow no target db (targets = "web,api-*")'
    assert rule.may_offer("web", "udp") == 'the rules of user ci allow no UDP (protocols = "http")'
    assert rule.may_claim("a.ci.example.org") == rule.may_join("web-1") == ""
    assert "domains" in rule.may_claim("example.org") and "groups" in rule.may_join("db")
    assert rule.may_visit(ip_address("10.1.2.3"))
    assert not rule.may_visit(ip_address("10.9.2.3")) and not rule.may_visit(ip_address("11.1.2.3"))


GLOB = st.text(alphabet="ab-*?", min_size=1, max_size=4)


@given(st.lists(st.tuples(GLOB, GLOB), max_size=8), st.text(alphabet="ab-", min_size=1, max_size=5))
def test_who_claims_a_tag_is_found_at_once_and_is_the_first(globs: list[tuple[str, str]], tag: str) -> None:
    rules = {f"u{n}": Rule(f"u{n}", tags=both) for n, both in enumerate(globs)}
    first = next((name for name, rule in rules.items() if matches(rule.tags or (), tag)), "")
    assert Claims(rules).owner(tag) == first


def test_every_key_was_tried_with_something_wrong() -> None:
    tried = {line.partition(" ")[0] for line, _ in WRONG}
    assert tried >= {*KEYS, "verifier", "auth"}


@given(
    st.binary(max_size=200)
    | st.text(alphabet='[]user.default="\n#@,-*19\\\x00é', max_size=200).map(str.encode)
)
def test_any_bytes_are_users_or_complaints(data: bytes) -> None:
    found, complaints = users.read(data, NOW)
    assert complaints or found.default is not None or found.rules
