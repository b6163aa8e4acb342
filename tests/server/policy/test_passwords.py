"""Hashes that others have made: by htpasswd of Apache 2.4, by openssl passwd, by crypt of the C library."""

from __future__ import annotations

import pytest

from aero.htpasswd import check_line
from aero.server.policy.passwords import Logins, fits

LONG = "a" * 200
MADE = [
    ("secret", "$2y$10$7dwf4NAempEl2eoprgZX1OQwZbOGczZbzFbEfGDkS7SH9LPd4LTWi"),
    ("secret", "$apr1$bdQexraF$MofGoZxRuOyV6.ttnzDwI0"),
    ("secret", "$5$MlWgH/jye/Obt8bq$6qp6xS3Pmn/pnGtdSW6fbmGtjvLYVMgTLkQq4jxuHB1"),
    (
        "secret",
        "$6$DR57ws98t5RwdF0Y$gHWvw3i0zcrWw/QcYrGyKUkYviLfBYsYqJHlB.mGzFyxSxJjZ6cTULCUueUDJxdmZPWyLy4de1YiwED39kktx/",
    ),
    (
        "Hello world!",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/"
        "YTBmSK6H9qs/y3RnOaw5v.",
    ),
    ("", "$1$x$fwjfZtMwarkdetsjiQreU1"),
    (LONG, "$1$abcdefgh$w.q6tpnBn5GtZpJR8EnyS."),
    ("", "$5$x$yHbtfs4Y8t6X1xcJemNX.4JQRfUTafA2qQenWGLBee2"),
    (LONG, "$5$rounds=1000$saltstring$ZteZE1zNNBJqR2jy/G0ygZij4ZM6cL3sunsA70uIUV6"),
    (
        "üüüüüüüüüüüüüüüüü",
        "$6$ab$MQZeQhLKbefMUA8Vo8f.6xwTknMi9k3R4H2rJGHEVDJ.g/1WMaFXf9kW7U2Y1tsQbs/UNB8XyfWg0wRns6Lbu1",
    ),
    (
        LONG,
        "$6$abcdefgh$JP9JKYP3seDZ1hj5Bv49aIFXs8zhk0DOfyyDqc8V2SIuRmoMrzvq1A6nRJggpQJWcs1A/XJQwWPNFN/E282S//",
    ),
    ("x" * 33, "$apr1$rasmusle$sz.AYj85q4rNe3zgrTcjr0"),
]


@pytest.mark.parametrize(("password", "proof"), MADE)
def test_a_password_fits_its_own_hash_and_no_other_does(password: str, proof: str) -> None:
    assert check_line(f"ada:{proof}")
    assert fits(password.encode(), proof)
    for other in (b"", password.encode() + b"x", password.encode()[1:], password.encode() + b"\0"):
        assert not fits(other, proof) or other == password.encode()


def test_bcrypt_knows_no_more_than_72_bytes_and_no_byte_0() -> None:
    proof = MADE[0][1]
    assert not fits(b"secret\0", proof), "what follows a zero is read in different ways"
    assert not fits(b"x" * 200, proof)


def test_who_is_let_in() -> None:
    logins = Logins.of({"auth": [f"ada:{MADE[1][1]}", f"Łukasz:{MADE[2][1]}"]})
    assert logins is not None
    assert logins.knows(b"ada", b"secret") and logins.knows("Łukasz".encode(), b"secret")
    assert not logins.knows(b"ada", b"Secret") and not logins.knows(b"ADA", b"secret")
    assert not logins.knows(b"nobody", b"secret"), "whoever has the first one's password"
    assert Logins.of({"limit": 5}) is None


def test_the_same_lines_have_the_same_mark_and_others_another() -> None:
    one, same, other = (Logins.of({"auth": [f"{user}:{MADE[1][1]}"]}) for user in ("ada", "ada", "bob"))
    assert one == same and one != other
