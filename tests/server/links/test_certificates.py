"""Certificates: by name, read anew when files change, kept when the new ones are wrong; and one that is made."""

from __future__ import annotations

import os
import ssl
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import gevent
import pytest

from aero.errors import ConfigError, HostError, NetworkError
from aero.net.pin import first_in, names_of, pin_of
from aero.net.tls import TlsTransport
from aero.net.transport import TcpTransport
from aero.server.links import certificates, selfmade
from aero.server.links.certificates import Certificates, Pair, pin_in
from tests.net import carried


def made(folder: Path, *names: str, kind: str = "ec") -> Pair:
    """A certificate of openssl's for some names, over what was there."""
    folder.mkdir(exist_ok=True)
    key = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
    pair = Pair(str(folder / "cert.pem"), str(folder / "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-subj", "/CN=test", "-days", "9",
         "-keyout", pair.key, "-out", pair.certificate,
         "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)],
        check=True, capture_output=True,
    )  # fmt: skip
    return pair


def shown(shows: Certificates, name: str = "") -> str:
    """The pin of what a client sees that asks for ``name``."""
    near, far = (TcpTransport(sock) for sock in carried.connected())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = TlsTransport(near, context, name=name)
    server = TlsTransport(far, shows.context(), server_side=True)
    both = [gevent.spawn(client.handshake), gevent.spawn(server.handshake)]
    gevent.joinall(both, timeout=30, raise_error=True)
    pin = pin_of(client.peer_certificate())
    client.close()
    server.close()
    return pin


def openssl_pin(path: str) -> str:
    public = subprocess.run(
        ["openssl", "x509", "-in", path, "-pubkey", "-noout"], check=True, capture_output=True
    ).stdout
    key = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"], input=public, check=True, capture_output=True
    ).stdout
    return "sha256//" + b64encode(sha256(key).digest()).decode()


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_pin_is_what_openssl_says(tmp_path: Path, kind: str) -> None:
    pair = made(tmp_path, "A.example.org", "*.example.org", kind=kind)
    first = first_in(Path(pair.certificate).read_text())
    assert pin_of(first) == openssl_pin(pair.certificate) == pin_in(pair.certificate, "")
    assert names_of(first) == ["a.example.org", "*.example.org"]


def test_one_by_each_name_and_the_first_for_others(tmp_path: Path) -> None:
    one, two = made(tmp_path / "1", "one.test"), made(tmp_path / "2", "two.test", "*.two.test")
    shows = Certificates((one, two), "")
    pins = [openssl_pin(each.certificate) for each in (one, two)]
    names = ("one.test", "two.test", "a.two.test", "a.b.two.test", "other.test", "")
    assert [pins.index(shown(shows, name)) for name in names] == [0, 1, 1, 0, 0, 0]
    assert shown(shows, "TWO.test") == pins[1]


def test_changed_files_count_and_wrong_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "LOOK_S", 0.0)
    pair = made(tmp_path, "a.test")
    shows = Certificates((pair,), "")
    before = shown(shows)
    Path(pair.certificate).write_text("nonsense")
    assert shown(shows) == before
    with pytest.raises(ConfigError, match="no certificate and its key"):
        shows.change((pair,))
    os.unlink(pair.key)
    assert shown(shows) == before
    with pytest.raises(ConfigError, match=r"cannot read .*key\.pem"):
        shows.change((pair,))
    made(tmp_path, "a.test")
    after = shown(shows)
    assert after == openssl_pin(pair.certificate) != before
    assert not shows.change((pair,))
    made(tmp_path, "a.test")
    assert shows.change((pair,))


def test_a_pair_that_does_not_fit_and_a_key_with_a_password(tmp_path: Path) -> None:
    one, two = made(tmp_path / "1", "a.test"), made(tmp_path / "2", "a.test")
    with pytest.raises(ConfigError, match="MISMATCH"):
        Certificates((Pair(one.certificate, two.key),), "").load()
    subprocess.run(
        ["openssl", "ec", "-in", one.key, "-aes128", "-passout", "pass:word", "-out", one.key + "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="password"):
        Certificates((Pair(one.certificate, one.key + "2"),), "").load()


def test_one_of_its_own_is_made_once(tmp_path: Path) -> None:
    first, second = Certificates((), str(tmp_path)), Certificates((), str(tmp_path))
    assert shown(first, "any.test") == shown(second) == first.pin() == pin_in("", str(tmp_path))
    assert (tmp_path / selfmade.FILE).stat().st_mode & 0o077 == 0
    assert shown(Certificates((), "")) != first.pin()  # nothing can be kept, and it works
    path = str(tmp_path / selfmade.FILE)
    assert openssl_pin(path) == first.pin()
    check = subprocess.run(["openssl", "verify", "-CAfile", path, path], check=True, capture_output=True)
    assert check.stdout.endswith(b"OK\n")


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    (tmp_path / selfmade.FILE).write_text("half")
    with pytest.raises(NetworkError, match="no certificate"):
        Certificates((), str(tmp_path)).context()
    with pytest.raises(HostError, match="no certificate in PEM"):
        pin_in("", str(tmp_path))
    with pytest.raises(HostError, match="--state"):
        pin_in("", "")
