"""Lines of htpasswd files: who may come to a target by HTTP, and by which proof. Checked alike at both ends. Pure.

Taken are hashes that have a salt and cost somebody who reads them some work: bcrypt, apr1 and its elder brother MD5
crypt, SHA-256 and SHA-512 crypt. The server calculates them for whoever asks, so what one costs is bounded.
"""

from __future__ import annotations

import re

from aero.errors import ConfigError

USER_CHARS = 64
#: 2^12 steps are 0.3 s of a processor, and so are 100,000 rounds.
_BCRYPT_COST = (4, 12)
_ROUNDS = (1000, 100_000)
_KINDS = re.compile(
    r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}"
    r"|\$(?:apr1|1)\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}"
    r"|\$5\$(?:rounds=(?P<rounds5>[0-9]{1,9})\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}"
    r"|\$6\$(?:rounds=(?P<rounds6>[0-9]{1,9})\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
)


def check_line(text: str) -> str:
    """``USER:HASH`` as it came. Raises ConfigError, which never shows a hash: it may be a password."""
    user, colon, proof = text.partition(":")
    if not colon:
        raise ConfigError("a line has no colon, write USER:HASH, as htpasswd does")
    if not 1 <= len(user) <= USER_CHARS or not user.isprintable():
        raise ConfigError(f"a user's name is not 1 to {USER_CHARS} printable characters")
    match = _KINDS.fullmatch(proof)
    if match is None:
        raise ConfigError(
            f"the proof of user {user} is none that is taken (bcrypt, apr1, and crypt with $1$, $5$ or $6$ are):"
            f" make it anew with htpasswd -B FILE {user}, or with openssl passwd -6"
        )
    cost, rounds = match["cost"], match["rounds5"] or match["rounds6"]
    for number, bounds, what in ((cost, _BCRYPT_COST, "cost"), (rounds, _ROUNDS, "rounds")):
        if number is not None and not bounds[0] <= int(number) <= bounds[1]:
            raise ConfigError(
                f"user {user}: {what} of {int(number)}, from {bounds[0]} to {bounds[1]} are taken"
            )
    return text
