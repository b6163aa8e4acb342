"""A CA for the end-to-end tests, and certificates of every kind that a server may show by mistake."""

from __future__ import annotations

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)
_PEM = serialization.Encoding.PEM


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])


class Authority:
    """Signs certificates; ``file`` is its own."""

    def __init__(self, folder: Path) -> None:
        """Everything is written to ``folder``."""
        self._folder = folder
        self._name, self._key = _called("the tests' authority"), ec.generate_private_key(ec.SECP256R1())
        made = self._draft(self._name, self._key.public_key(), (-9, 9))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def _draft(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[int, int]
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        serial = x509.random_serial_number()
        begin, end = (now + day * _DAY for day in days)
        return x509.CertificateBuilder(self._name, subject, key, serial, begin, end)

    def issue(self, file: str, *names: str, days: tuple[int, int] = (-1, 9)) -> str:
        """A certificate for names and addresses, and its key, in one file; its path. ``days``: from when to when."""
        key = ec.generate_private_key(ec.SECP256R1())
        known = [
            x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        made = self._draft(_called("lab"), key.public_key(), days)
        made = made.add_extension(x509.SubjectAlternativeName(known), critical=False)
        secret = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self._folder / file
        path.write_bytes(secret + made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        return str(path)
