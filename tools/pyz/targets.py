"""What an archive can be built for, and which wheel serves which target. Knows names and tags only; touches no file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")

# gevent 25.9.1 with greenlet 3.2.4 is the newest pair whose wheels run on glibc 2.17 and on CPython 3.9 to 3.14.
PINS = {
    "bottle": "0.13.4",
    "docopt-ng": "0.9.0",
    "gevent": "25.9.1",
    "greenlet": "3.2.4",
    "pycryptodome": "4.4.0",
    "tomli": "2.5.0",
}
# What build_pyz.sh adds when asked to.
EXTRAS = {
    "openssl": {"cryptography": "50.0.2", "cffi": "2.1.1", "typing-extensions": "4.16.0"},
    "zstd": {"backports-zstd": "1.8.0"},
}
# Where the newest version has left a target behind: (project, Python, machine or "" for all) → version.
EXCEPTIONS = {
    ("gevent", "3.9", "aarch64"): "22.10.2",
    ("cffi", "3.9", ""): "2.0.0",
    ("backports-zstd", "3.9", ""): "1.3.0",
}
# What newer Pythons have in their standard library, or need no longer: the last Python that takes it.
LAST_PYTHON = {"tomli": "3.10", "typing-extensions": "3.10", "backports-zstd": "3.13"}
# Its stable-ABI wheel for 3.9 serves all, once in the archive; newer Pythons have wheels of their own, no better.
STABLE = "cryptography"

# The wheel that carries the interpreter which compiles for each Python: see compilers.py.
COMPILERS = {
    "3.9": ("cx-freeze", "8.2.0"),
    "3.10": ("cx-freeze", "8.2.0"),
    "3.11": ("freeze-core", "0.8.1"),
    "3.12": ("freeze-core", "0.8.1"),
    "3.13": ("freeze-core", "0.8.1"),
    "3.14": ("freeze-core", "0.8.1"),
}

PLATFORMS = {
    "gnu": ("manylinux_2_17", "manylinux2014"),
    "musl": ("musllinux_1_2", "musllinux_1_1"),
}


@dataclass(frozen=True)
class Target:
    """One interpreter on one kind of machine: ``python`` like "3.11", ``libc`` is "gnu" or "musl"."""

    python: str
    machine: str
    libc: str

    @property
    def abi(self) -> str:
        """The tag of this Python's own ABI, like "cp311"."""
        return "cp" + self.python.replace(".", "")

    @property
    def platform(self) -> str:
        """Machine and C library, like "x86_64-gnu"."""
        return f"{self.machine}-{self.libc}"

    @property
    def tag(self) -> str:
        """The name under which the bootstrap looks for this target, like "cp311-x86_64-gnu"."""
        return f"{self.abi}-{self.platform}"

    def pins(self, extras: Iterable[str] = ()) -> dict[str, str]:
        """Return the project → version that this target needs, with these of EXTRAS."""
        chosen = dict(PINS)
        for extra in extras:
            chosen.update(EXTRAS[extra])
        for project in list(chosen):
            if PYTHONS.index(self.python) > PYTHONS.index(LAST_PYTHON.get(project, PYTHONS[-1])):
                del chosen[project]
        for (project, python, machine), version in EXCEPTIONS.items():
            if project in chosen and python == self.python and machine in ("", self.machine):
                chosen[project] = version
        return chosen

    def compiler_pins(self) -> dict[str, str]:
        """Return the project → version of the wheel with this target's compiler."""
        return dict([COMPILERS[self.python]])

    def platform_tags(self) -> list[str]:
        """Return the wheel platform tags that run on this target."""
        return [f"{prefix}_{self.machine}" for prefix in PLATFORMS[self.libc]]

    def fitness(self, wheel: str) -> int | None:
        """Return how well the wheel of this file name (PEP 427) fits, less is better; None if it does not run here."""
        _, _, pythons, abis, platforms = wheel[: -len(".whl")].split("-")
        if platforms == "any":
            return 99 if "py3" in pythons.split(".") else None
        if not set(platforms.split(".")) & set(self.platform_tags()):
            return None
        if abis == self.abi:
            return 0
        oldest = int(pythons[len("cp3") :]) if abis == "abi3" else 99
        return oldest if oldest <= int(self.abi[len("cp3") :]) else None  # the oldest serves the most targets


def host() -> Target:
    """Return the target that the running interpreter is."""
    libc = (
        "gnu" if "CS_GNU_LIBC_VERSION" in os.confstr_names and os.confstr("CS_GNU_LIBC_VERSION") else "musl"
    )
    return Target(f"{sys.version_info[0]}.{sys.version_info[1]}", os.uname().machine, libc)


def compiler_targets(pythons: Iterable[str], machine: str = "") -> list[Target]:
    """Return the targets whose compilers run on ``machine`` (this one, if empty). They all need glibc."""
    return [Target(python, machine or os.uname().machine, "gnu") for python in pythons]


def wide(libc: str) -> list[Target]:
    """Return every target of the wide archive for one C library."""
    targets = [Target(python, machine, libc) for machine in MACHINES for python in PYTHONS]
    # No gevent wheel exists for this one.
    return [target for target in targets if target != Target("3.9", "aarch64", "musl")]
