"""How pycryptodome is loaded, and its scrypt.

Import this module before any other part of pycryptodome. At its first import pycryptodome decides whether it loads its
libraries by cffi or by ctypes, and keeps to that. Where cffi is installed (`cryptography` brings it along) it would
take cffi, which costs every start 25 ms and 2 MB; so cffi is hidden from it meanwhile. With ctypes it would import
what searches for libraries, which costs as much, and run the program `file` to learn that this is not Windows; so
both are spared. Of hmac it needs one function, for which libcrypto would be loaded, 4 MB; so it gets that one alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from aero.core.digest import same

__all__ = ["alone", "scrypt"]


@contextmanager
def alone() -> Iterator[None]:
    """Hides from pycryptodome what it can do without, while something of it is imported."""
    search, comparing = ModuleType("ctypes.util"), ModuleType("hmac")
    search.find_library = lambda _: None  # type: ignore[attr-defined]
    comparing.compare_digest = same  # type: ignore[attr-defined]
    modules: dict[str, Any] = sys.modules
    instead = {"cffi": None, "ctypes.util": search, "hmac": comparing}
    hidden = {name: modules.get(name) for name in instead}
    modules.update(instead)
    try:
        yield
    finally:
        for name, module in hidden.items():
            del modules[name]
            if module is not None:
                modules[name] = module


with alone():
    from Crypto.Util import _raw_api, number

    architecture: list[str] = getattr(_raw_api, "cached_architecture", [])
    architecture[:] = ["64bit", "ELF"]
    number.sieve_base = ()  # 10,000 primes, 0.4 MB: nobody here looks for large ones
    from Crypto.Protocol import KDF


def scrypt(password: bytes, salt: bytes, size: int, n: int, r: int, p: int) -> bytes:
    """``size`` bytes derived from a password (RFC 7914). Lets go of the interpreter lock."""
    return bytes(KDF.scrypt(password, salt, size, n, r, p))
