"""Which lines of an htpasswd file are taken, and what is said of others: never what stands behind the name."""

from __future__ import annotations

import pytest

from aero.errors import ConfigError
from aero.htpasswd import check_line

BCRYPT = "$2y$05$" + "a" * 53


@pytest.mark.parametrize(
    "line",
    [
        f"ada:{BCRYPT}",
        f"a b@example.org:{BCRYPT}",
        f"Łukasz:{BCRYPT}",
        "ada:$apr1$bdQexraF$MofGoZxRuOyV6.ttnzDwI0",
        "ada:$1$x$" + "a" * 22,
        "ada:$5$rounds=1000$salt$" + "a" * 43,
        "ada:$6$salt$" + "a" * 86,
    ],
)
def test_lines_that_are_taken(line: str) -> None:
    assert check_line(line) == line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ada", "a line has no colon, write USER:HASH"),
        (f":{BCRYPT}", "a user's name is not 1 to 64 printable characters"),
        (f"{'a' * 65}:{BCRYPT}", "a user's name is not 1 to 64"),
        (f"a\tb:{BCRYPT}", "a user's name is not 1 to 64"),
        (f"a\udc80:{BCRYPT}", "a user's name is not 1 to 64"),
        ("ada:SECRET", "the proof of user ada is none that is taken (bcrypt, apr1, and crypt with $1$, $5$ or $6$"),
        ("ada:{SHA}SECRET", "htpasswd -B FILE ada"),
        ("ada:$y$j9T$SECRET", "openssl passwd -6"),
        (f"ada:{BCRYPT}:SECRET", "none that is taken"),
        ("ada:$2y$13$" + "a" * 53, "user ada: cost of 13, from 4 to 12 are taken"),
        ("ada:$6$rounds=999999999$salt$" + "a" * 86, "rounds of 999999999, from 1000 to 100000 are taken"),
        ("ada:$5$rounds=1$salt$" + "a" * 43, "rounds of 1,"),
    ],
)  # fmt: skip
def test_lines_that_are_not(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_line(line)
    assert said in str(caught.value) and "SECRET" not in str(caught.value)
