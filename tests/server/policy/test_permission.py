"""What a hook that is asked may answer, and that nothing unclear lets anybody in."""

from __future__ import annotations

import pytest

from aero.errors import ConfigError
from aero.server.policy.permission import WHY_CHARS, Permission, read


@pytest.mark.parametrize(
    ("body", "permission"),
    [
        (b'{"allow": true}', Permission(True)),
        (b' {"allow":true,"port":443,"more":[]}\n', Permission(True, "", 443)),
        (b'{"allow": false, "why": "not\\ntoday"}', Permission(False, "not\\ntoday")),
        (b'{"allow": false, "why": 5}', Permission(False)),
        ('{"allow": true, "why": "ö"}'.encode(), Permission(True, "ö")),
    ],
)
def test_clear_answers(body: bytes, permission: Permission) -> None:
    assert read(body) == permission


@pytest.mark.parametrize(
    "body",
    [
        b"", b"OK", b"true", b"[]", b"{}", b'{"allow": 1}', b'{"allow": "true"}', b'{"allow": null}',
        b'{"Allow": true}',
        b'{"allow": true, "port": "80"}', b'{"allow": true, "port": 65536}', b'{"allow": true, "port": -1}',
        b'{"allow": true, "port": true}', b'{"allow": true', b"\xff", b"[" * 100_000,
    ],
)  # fmt: skip
def test_unclear_answers_are_none(body: bytes) -> None:
    with pytest.raises(ConfigError):
        read(body)


def test_a_reason_is_bounded() -> None:
    assert len(read(b'{"allow": false, "why": "' + b"x" * 60_000 + b'"}').why) <= WHY_CHARS + 3
