"""What aero takes from pycryptodome beside its ciphers: points of P-256, and scrypt where the interpreter has none.

Imported before anything else of it, because its loader goes by what it finds, and keeps to that. With cffi, which
comes along with `cryptography`, every start would take 25 ms and 2 MB more; without, it would get ready to search
for libraries, which takes as much, and start the program `file` to learn that this is not Windows.
"""

from __future__ import annotations

import hashlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["EccPoint", "scrypt"]

_SCRYPT_MOST_BYTES = 64 * 1024 * 1024  # OpenSSL's own limit is a little below what the customary cost needs


def _load() -> None:
    """Has its loader find ctypes alone, and know where it is."""
    search = ModuleType("ctypes.util")
    search.find_library = lambda name: None  # type: ignore[attr-defined]
    modules: dict[str, Any] = sys.modules
    hidden = {name: modules.get(name) for name in ("cffi", "ctypes.util")}
    modules.update({"cffi": None, "ctypes.util": search})
    try:
        from Crypto.Util import _raw_api
    finally:
        for name, module in hidden.items():
            del modules[name]
            if module is not None:
                modules[name] = module
    architecture: list[str] = getattr(_raw_api, "cached_architecture", [])
    architecture[:] = ["64bit", "ELF"]


_load()
if TYPE_CHECKING:
    from Crypto.PublicKey._point import EccPoint
else:
    try:  # the point alone: the formats of keys, which ECC brings along, cost 5 ms and 0.3 MB more
        from Crypto.PublicKey._point import EccPoint
    except ImportError:  # a pycryptodome that keeps it elsewhere
        from Crypto.PublicKey.ECC import EccPoint


def scrypt(password: bytes, salt: bytes, size: int, n: int, r: int, p: int) -> bytes:
    """``size`` bytes derived from a password (RFC 7914)."""
    try:
        return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MOST_BYTES, dklen=size)
    except (AttributeError, ValueError):  # an OpenSSL that has none, or may not use it
        from Crypto.Protocol.KDF import scrypt as slower

        return bytes(slower(password, salt, size, n, r, p))
