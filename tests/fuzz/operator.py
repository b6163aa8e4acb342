"""What is fuzzed of what operators write: the users' file, and the code that somebody was told."""

from __future__ import annotations

from aero.allow import allow
from aero.cli import join
from aero.errors import ConfigError
from aero.server.policy import users
from tests.fuzz.guided import Target

NOW = 1_800_000_000.0


def fuzz_users(data: bytes) -> None:
    """The file as bytes: users, or complaints with lines of it; what was read answers every question."""
    found, complaints = users.read(data, NOW)
    lines = data.count(b"\n") + 1
    assert all(0 <= each.line <= lines and str(each) for each in complaints)
    assert complaints or found.default is not None or found.rules
    for rule in (found.default, *found.rules.values()):
        if rule is not None:
            found.may_use_tag(rule, "nas")
            rule.may_offer("web", "udp")
            rule.may_claim("a.example.org")
            assert rule.protocols and all(low <= high for low, high in rule.ports or ())


def fuzz_code(data: bytes) -> None:
    """An invitation's code as it was typed, and what a worker's targets may be."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        login, words = join.code(text)
    except ConfigError:
        pass
    else:
        assert login.startswith("+invited.") and words.isascii() and words.islower()
    try:
        allowed = allow(text)
    except ConfigError:
        return
    assert all(name.count("@") == 1 for name in join.offered(str(allowed)))
    for local in ("127.0.0.1:22", "localhost:80", "db.lan:1", "[::1]:443", "unix:/run/x"):
        allowed.covers(local)


_FILES = [
    b'[default]\nports = "20000-32767"\n[user.ci]\nverifier = "spake2plus$'
    + b"A" * 130
    + b'"\ntags = "a-*"\n',
    b'[user.a]\nauth = "@/x"\nlimit = "2MB"\nquota = ["5GB/day", "50GB/month"]\nquota-grace = "5%"\n',
    b'[user.b]\nauth = "@/y"\nvisitors = "10.0.0.0/8"\ndeny-visitors = "::1"\nexpires = 2027-01-01\n',
    b'[user.c]\nauth = "@/z"\nmax-workers = 4\nprotocols = "tcp"\ndomains = "*.example.org"\ngroups = "w*"\n',
]

TARGETS: dict[str, tuple[Target, list[bytes], list[bytes]]] = {
    "users": (
        fuzz_users,
        _FILES,
        [
            b"[user.",
            b'"]\n',
            b" = ",
            b'"""',
            b"\xef\xbb\xbf",
            b"\r\n",
            b"[[user]]",
            b"2027-01-01T00:00:00Z",
            b"1e400",
        ],
    ),
    "join_code": (
        fuzz_code,
        [b"4-lantern-harbor", b"127.0.0.1:*+10.0.0.0/24:22+db.lan:5432+[::1]:80-89+unix:/run/x"],
        [b"-", b"+", b":*", b"[::", b"unix:/", b"/33", b"65536", b"0-0"],
    ),
}
