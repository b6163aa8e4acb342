"""Why TLS did not come about: one line each, with what to do."""

from __future__ import annotations

import ssl

import pytest

from aero.net.trust import why


def verdict(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "what the library says"
    return error


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (9, "is not valid yet"),
        (10, "has expired; renew it"),
        (18, "was made by whoever shows it; --tls-pin names its key"),
        (20, "comes from nobody whom this machine trusts; --ca FILE"),
        (62, "is for another name; --tls-name NAME"),
        (64, "is for another address; --tls-name NAME"),
    ],
)
def test_a_certificate_that_is_not_taken(code: int, text: str) -> None:
    assert why(verdict(code), "h:443").startswith(f"the certificate of h:443 {text}")


def test_a_machine_without_cas_hears_so() -> None:
    assert "ca-certificates" in why(verdict(20), "h:443", has_cas=False)
    assert "ca-certificates" not in why(verdict(10), "h:443", has_cas=False)


def test_what_is_no_tls_and_what_is_cut() -> None:
    plain = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    plain.reason = "WRONG_VERSION_NUMBER"
    assert why(plain, "h:443").startswith("what answers at h:443 does not speak TLS")
    assert "hung up in the TLS handshake" in why(ssl.SSLEOFError(8, "EOF"), "h:443")
    assert "broke the connection" in why(ConnectionResetError(104, "Connection reset by peer"), "h:443")
