"""TLS on the way to a server: which certificates count, and one clear line for each way in which it fails.

A link proves both sides by the code inside, whatever carries it. So the certificate is about getting through and about
who may look on; it is checked all the same, by the system's CAs, a file's, or the pin of a key. Imported with ssl.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

from aero.errors import PassageError
from aero.net.pin import pin_of
from aero.net.tls import ALPN, TlsTransport
from aero.net.transport import Transport
from aero.net.wayout import Guise, WayOut

#: Where systems keep their CAs, for a Python that was built to look elsewhere.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # the BSDs, macOS
)

#: Why a certificate is not taken (X509_V_ERR_… of x509_vfy.h), and what to do.
_VERDICTS = {
    9: "is not valid yet; is this machine's clock right?",
    10: "has expired; renew it, or is this machine's clock wrong?",
    18: "was made by whoever shows it; --tls-pin names its key (aero pin prints that at the server), --ca FILE itself",
    23: "was revoked",
    62: "is for another name; --tls-name NAME asks for the one that it has",
    64: "is for another address; --tls-name NAME asks for the name that it has",
}
_UNKNOWN = (
    "comes from nobody whom this machine trusts; --ca FILE names who signed it: perhaps this network, which looks into"
    " TLS; --tls-pin names the server's key (aero pin prints that there)"
)
_NO_CAS = "; this machine has no CA certificates (Debian: ca-certificates)"


def secure(transport: Transport, way: WayOut) -> TlsTransport:
    """TLS over a connection to the server of ``way``, whose certificate is as ``way.guise`` wants it.

    Blocks the greenlet; whoever calls has a deadline. Raises PassageError.
    """
    guise = way.guise
    context = _context(guise.ca, _changed_at(guise.ca), _checks(guise))
    try:
        tls = TlsTransport(transport, context, name=way.name)
        tls.handshake()
    except OSError as error:
        raise PassageError(why(error, str(way.endpoint.address), _has_cas(context))) from error
    if guise.pins:
        _check_pin(tls.peer_certificate(), guise.pins, str(way.endpoint.address))
    return tls


def _checks(guise: Guise) -> bool:
    """Whether a CA has to vouch for the server: not where its key is known, unless a CA is named, too."""
    return not guise.insecure and (not guise.pins or bool(guise.ca))


def _changed_at(file: str) -> float:
    """When a file was changed; 0 where there is none. Raises PassageError."""
    try:
        return os.stat(file).st_mtime if file else 0.0
    except OSError as error:
        raise PassageError(f"cannot read the CA certificates in {file}: {error.strerror}") from error


@lru_cache(maxsize=1)  # the system's CAs are 10 ms and 2 MB, which all links of a worker share
def _context(ca: str, _changed: float, checks: bool) -> ssl.SSLContext:
    """What all of a worker's TLS connections begin with. Raises PassageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    if not checks:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if ca:
            context.load_verify_locations(ca)
        else:
            _load_system(context)
    except OSError as error:
        reason = "there is none in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise PassageError(f"cannot read the CA certificates in {ca or 'this system'}: {reason}") from error
    return context


def _load_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        context.load_default_certs()
    else:
        found = next((file for file in BUNDLES if os.path.exists(file)), "")
        if found:
            context.load_verify_locations(found)


def _has_cas(context: ssl.SSLContext) -> bool:
    """Whether there is any CA that could vouch for somebody; of a folder only those count that were needed yet."""
    return bool(context.cert_store_stats()["x509_ca"] or ssl.get_default_verify_paths().capath)


def why(error: OSError, where: str, has_cas: bool = True) -> str:
    """One line for a person: why TLS with ``where`` did not come about, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        verdict = _VERDICTS.get(error.verify_code)
        if verdict is None:
            verdict = _UNKNOWN + ("" if has_cas else _NO_CAS)
        return f"the certificate of {where} {verdict} ({_said(error.verify_message)})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""  # the library does not always say one
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
            return (
                f"what answers at {where} does not speak TLS: a login page of this network, or a plain port?"
            )
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return f"{where} hung up in the TLS handshake: something on the way may not like it"
        return f"no TLS with {where}: {_said(reason or str(error))}"
    said = error.strerror or error
    return f"{where} broke the connection in the TLS handshake ({said}): something on the way may not like it"


def _said(text: str) -> str:
    """What the library says, in small letters as people write."""
    return text.replace("_", " ").lower() if text.isupper() or "_" in text else text


def _check_pin(certificate: bytes, pins: tuple[str, ...], where: str) -> None:
    try:
        found = pin_of(certificate)
    except ValueError as error:
        raise PassageError(f"the certificate of {where} cannot be read: {error}") from error
    if found not in pins:
        raise PassageError(
            f"the key of {where} is not the pinned one: {found}; somebody is in between, or the server has a new key"
        )
