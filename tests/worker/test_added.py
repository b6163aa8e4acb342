"""Targets that the server asks for: the worker's own side decides."""

from __future__ import annotations

import pytest

from aero.address import UDP, Target
from aero.allow import allow
from aero.core.control import Added
from aero.limits import Limits
from aero.worker.added import NO_ALLOW, judge

ALLOW = allow("127.0.0.1:5000-5999+10.0.0.0/24:22+db.lan:5432+[::1]:80")
OWN = (Target("web", "127.0.0.1", 80), Target("dns", "127.0.0.1", 53, proto=UDP))


@pytest.mark.parametrize(
    ("local", "host"),
    [("127.0.0.1:5432", "127.0.0.1"), ("10.0.0.7:22", "10.0.0.7"), ("db.lan:5432", "db.lan"), ("[::1]:80", "::1"),
     ("localhost:5000", "localhost")],
)  # fmt: skip
def test_what_is_allowed_is_offered(local: str, host: str) -> None:
    (target,), declined = judge(ALLOW, OWN, (Added("db", local, remote=6000),))
    assert (target.name, target.host, target.remote, target.settings, declined) == ("db", host, 6000, (), ())


@pytest.mark.parametrize(
    "local",
    [
        "127.0.0.1:22",
        "127.0.0.2:5432",
        "10.0.1.7:22",
        "db.lan:5433",
        "evil.lan:5432",
        "[::2]:80",
    ],
)
def test_what_is_not_is_declined(local: str) -> None:
    targets, (refusal,) = judge(ALLOW, OWN, (Added("db", local),))
    assert targets == () and "is not in this worker's --allow" in refusal.why


def test_an_address_of_a_kind_that_comes_later() -> None:
    _, (refusal,) = judge(ALLOW, (), (Added("db", "vsock:3:5"),))
    assert "does not know what kind" in refusal.why


def test_a_socket_in_the_file_system() -> None:
    (target,), declined = judge(allow("unix:/run/"), (), (Added("db", "unix:/run/db"),))
    assert (target.path, target.host, declined) == ("/run/db", "", ())
    for local, proto in (("unix:/etc/x", "tcp"), ("unix:/run/../etc/x", "tcp"), ("unix:/run/db", "udp")):
        assert judge(allow("unix:/run/"), (), (Added("db", local, proto),))[0] == ()


def test_without_allow_nothing_is() -> None:
    assert judge(None, OWN, (Added("db", "127.0.0.1:5432"),))[1][0].why == NO_ALLOW


def test_own_targets_go_first_by_name_and_protocol() -> None:
    asked = (Added("web", "127.0.0.1:5000"), Added("dns", "127.0.0.1:5000"), Added("dns", "127.0.0.1:5001", UDP),
             Added("db", "127.0.0.1:5000"), Added("db", "127.0.0.1:5001"))  # fmt: skip
    targets, declined = judge(ALLOW, OWN, asked)
    assert [(each.name, each.proto, each.port) for each in targets] == [
        ("dns", "tcp", 5000),
        ("db", "tcp", 5000),
    ]
    assert [(each.name, each.proto) for each in declined] == [("web", "tcp"), ("dns", "udp"), ("db", "tcp")]


def test_a_worker_has_so_many_targets_and_no_more() -> None:
    asked = [Added(f"t{number}", "127.0.0.1:5000") for number in range(128)]
    targets, declined = judge(ALLOW, OWN, asked)
    assert len(targets) == Limits.TARGETS_PER_WORKER - 2 and len(declined) == 2
