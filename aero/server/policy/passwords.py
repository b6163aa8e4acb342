"""Whether a password fits a line of an htpasswd file, and who a target lets in by such lines.

The formats are those of Provos and Mazières, "A Future-Adaptable Password Scheme" (bcrypt), of Poul-Henning Kamp's
crypt for FreeBSD (``$1$``, and Apache's ``$apr1$``), and of Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512".
`fits` takes from a millisecond to a third of a second, so it is called in a thread. Pure, but that it lets others go
first. hashlib is imported where something is hashed: it is 4 MB that a server without such lines does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import sleep
from typing import Any, Callable, NamedTuple

_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BCRYPT_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BCRYPT_BYTES = 72  # what bcrypt looks at of a password
_SALT_CHARS = 22
_MD5_ROUNDS = 1000
_SHA_ROUNDS = 5000
# Rounds after which the interpreter is free for others, who carry visitors' bytes: some 50 µs.
_BREATH = 64
#: In which order the bytes of a digest are written, three to a group, the last ones by themselves.
_MD5_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5), (11,))


class Logins(NamedTuple):
    """Who is let in. ``proofs``: hashes by user, as bytes of UTF-8; ``mark``: the same for the same lines only."""

    proofs: Mapping[bytes, str]
    mark: bytes

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Logins | None:
        """What a target's options say; None where everybody is let in."""
        lines = options.get("auth")
        if not isinstance(lines, (list, tuple)):
            return None
        said = [str(each) for each in lines]
        pairs = [each.partition(":") for each in said]
        from hashlib import blake2b

        mark = blake2b("\n".join(said).encode(), digest_size=16).digest()
        return cls({user.encode(): proof for user, _, proof in pairs}, mark)

    def knows(self, user: bytes, password: bytes) -> bool:
        """Whether the password is the user's. Takes as long for a name that nobody has."""
        proof = self.proofs.get(user)
        good = fits(password, proof or next(iter(self.proofs.values())))
        return good and proof is not None


def fits(password: bytes, proof: str) -> bool:
    """Whether a password belongs to a hash that htpasswd.py has let pass."""
    kind = proof.split("$")[1]
    if kind[0] == "2":
        made = _bcrypt(password, proof)
    elif kind in ("5", "6"):
        made = _sha_crypt(password, proof)
    else:
        made = _md5_crypt(password, proof)
    from hmac import compare_digest

    return compare_digest(made.encode(), proof.encode())


def _bcrypt(password: bytes, proof: str) -> str:
    from Crypto.Protocol.KDF import bcrypt

    if b"\0" in password:
        return ""  # implementations differ in what follows
    _, kind, cost, rest = proof.split("$")
    made: bytes = bcrypt(password[:_BCRYPT_BYTES], int(cost), _salt(rest[:_SALT_CHARS]))
    # The last digit of a salt has two bits that say nothing, which some leave set.
    return f"${kind}${cost}${rest[:_SALT_CHARS]}{made.decode()[-31:]}"


def _salt(text: str) -> bytes:
    """The 16 bytes that bcrypt has written as 22 digits."""
    number = 0
    for char in text:
        number = number << 6 | _BCRYPT_DIGITS.index(char)
    return (number >> 4).to_bytes(16, "big")


def _md5_crypt(password: bytes, proof: str) -> str:
    _, kind, salted, _ = proof.split("$")
    salt = salted.encode()
    digest = _mixed(_md5, password, salt)
    digest = _whole(_md5, password, f"${kind}$".encode() + salt, digest, b"\0", password[:1])
    for number in range(_MD5_ROUNDS):
        digest = _round(_md5, number, digest, password, salt)
    return f"${kind}${salted}${_written(digest, _MD5_ORDER)}"


def _sha_crypt(password: bytes, proof: str) -> str:
    from hashlib import sha256, sha512

    head, _, _ = proof.rpartition("$")
    parts = head.split("$")
    rounds = int(parts[2][len("rounds=") :]) if len(parts) == 4 else _SHA_ROUNDS
    salt, make = parts[-1].encode(), sha256 if parts[1] == "5" else sha512
    mixed = _mixed(make, password, salt)
    digest = _whole(make, password, salt, mixed, mixed, password)
    spread = _repeated(make(password * len(password)).digest(), len(password))
    salting = _repeated(make(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        digest = _round(make, number, digest, spread, salting)
    return f"{head}${_written(digest, _sha_order(len(digest)))}"


def _md5(data: bytes = b"") -> Any:
    from hashlib import md5

    return md5(data, usedforsecurity=False)  # what the files of others have


def _mixed(make: Callable[[bytes], Any], password: bytes, salt: bytes) -> bytes:
    digest: bytes = make(password + salt + password).digest()
    return digest


def _whole(
    make: Callable[[bytes], Any], password: bytes, salt: bytes, mixed: bytes, one: bytes, zero: bytes
) -> bytes:
    """What the rounds begin with; each bit of the password's length, the lowest first, adds one of two texts."""
    data = password + salt + _repeated(mixed, len(password))
    length = len(password)
    while length:
        data += one if length & 1 else zero
        length >>= 1
    digest: bytes = make(data).digest()
    return digest


def _round(make: Callable[[bytes], Any], number: int, digest: bytes, password: bytes, salt: bytes) -> bytes:
    if not number % _BREATH:
        sleep(0)
    odd = number & 1
    data = password if odd else digest
    if number % 3:
        data += salt
    if number % 7:
        data += password
    result: bytes = make(data + (digest if odd else password)).digest()
    return result


def _repeated(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _sha_order(length: int) -> Iterable[tuple[int, ...]]:
    """Three columns of the digest, whose first changes from group to group; then what is left."""
    third = length // 3
    turn = 1 if length == 64 else 2
    for number in range(third):
        places = (number, number + third, number + 2 * third)
        first = number * turn % 3
        yield places[first:] + places[:first]
    yield tuple(range(length - 1, 3 * third - 1, -1))


def _written(digest: bytes, order: Iterable[tuple[int, ...]]) -> str:
    """Groups of three bytes as four digits of six bits, the lowest first."""
    text = ""
    for places in order:
        number = int.from_bytes(bytes(digest[each] for each in places), "big")
        for _ in range(len(places) + 1):
            text += _DIGITS[number & 63]
            number >>= 6
    return text
