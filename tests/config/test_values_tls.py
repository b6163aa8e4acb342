"""Options of TLS and WebSocket: pins, fields of a request, files of certificates."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from aero.config.option import Options
from aero.config.roles import ClientConfig
from aero.config.values import ca_file, headers, pins, proxy
from aero.errors import ConfigError
from aero.net.pin import PREFIX

CURLS = PREFIX + b64encode(b"\xab" * 32).decode()


def test_pins_in_both_forms() -> None:
    assert pins("ab" * 32) == pins(CURLS) == (CURLS,)
    assert pins(f"{'00' * 32};{CURLS}")[1] == CURLS
    for wrong in ("ab" * 31, "sha256//x", "sha256//" + "!" * 44, ""):
        with pytest.raises(ConfigError, match="aero pin prints"):
            pins(wrong)


def test_fields_of_a_request(tmp_path: Path) -> None:
    file = tmp_path / "fields"
    file.write_text("X-A: geheim\n\nX-B: 2\n")
    found = headers(["Host: a.org", f"@{file}"])
    assert [(each.name, each.value) for each in found] == [("Host", "a.org"), ("X-A", "geheim"), ("X-B", "2")]
    assert "geheim" not in repr(found)
    for wrong in (
        "geheim",
        "A b: geheim",
        "X: geheim\r\nY: z",
        "Upgrade: geheim",
        "Sec-WebSocket-Key: geheim",
    ):
        with pytest.raises(ConfigError) as refusal:
            headers([wrong])
        assert "geheim" not in str(refusal.value)


def test_a_file_of_certificates_is_looked_at_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    for file in ("x", "missing"):
        with pytest.raises(ConfigError, match=file):
            ca_file(str(tmp_path / file))


def test_a_proxy_out_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("http://eva:geheim@p:1\n")
    found, warnings, _ = proxy(f"@{file}")
    assert str(found) == "p:1" and "can be read by others" in warnings[0]
    assert proxy("none")[0] == "none"


def test_what_depends_on_the_kind_of_way() -> None:
    given = {"target": ["web@127.0.0.1:80"], "server": "h:1", "tls-name": "n.org", "ws-mask": True}
    config = ClientConfig.parse(Options(given))
    assert config.warnings == (
        "--tls-name does nothing without a server by tls:// or wss://",
        "--ws-mask does nothing without a server by ws:// or wss://",
    )
    assert (config.ping(False), config.ping(True)) == (60, 25)
    config = ClientConfig.parse(Options({**given, "server": "wss://h", "ping": "40"}))
    assert not config.warnings and config.ping(True) == 40
