"""``--allow``: what it lets a worker's targets be, and what is no such list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.allow import allow
from aero.errors import ConfigError


def test_addresses_and_ports_that_are_allowed() -> None:
    rule = allow("127.0.0.1:*+10.0.0.0/24:22+[fd00::/8]:80-89+DB.lan:5432")
    assert rule.permits("127.0.0.1", 9) and rule.permits("10.0.0.7", 22) and rule.permits("fd12::1%eth0", 85)
    assert rule.permits("::ffff:10.0.0.7", 22)
    assert (
        not rule.permits("127.0.0.2", 9)
        and not rule.permits("10.0.0.7", 23)
        and not rule.permits("fd12::1", 90)
    )
    assert not rule.permits("10.0.1.7", 22) and not rule.permits("::1", 22)
    assert rule.names("db.LAN", 5432) and not rule.names("db.lan", 22) and not rule.names("xdb.lan", 5432)


def test_sockets_that_are_allowed() -> None:
    rule = allow("unix:/run/app.sock+unix:/srv/+unix.lan:80")
    assert rule.socket("/run/app.sock") and rule.socket("/srv/a/b.sock")
    assert not rule.socket("/run/app.sock2") and not rule.socket("/srv/../run/docker.sock")
    assert not rule.socket("/run/") and rule.names("unix.lan", 80) and not allow("a:1").socket("/a")


def test_ports_in_a_row_have_to_be_in_one_item() -> None:
    rule = allow("127.0.0.1:80-89+10.0.0.0/8:*+db.lan:1-5")
    assert rule.covers("127.0.0.1:80-89") and rule.covers("10.1.2.3:1-16384") and rule.covers("db.lan:2-5")
    assert (
        not rule.covers("127.0.0.1:80-90")
        and not rule.covers("db.lan:5-6")
        and not rule.covers("[::1]:80-81")
    )


@pytest.mark.parametrize(
    "text",
    [
        "unix:run",
        "",
        "127.0.0.1",
        "10.0.0.1/24:22",
        "10.0.0.0/33:22",
        "[::1:22",
        "a b:1",
        "h:0",
        "h:9-1",
        "1.2.3.4:1+",
    ],
)
def test_slips(text: str) -> None:
    with pytest.raises(ConfigError):
        allow(text)


@given(st.text(alphabet="[]:+*-/.0123456789afx", max_size=40))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        rule = allow(text)
    except ConfigError:
        return
    rule.permits("127.0.0.1", 80)
