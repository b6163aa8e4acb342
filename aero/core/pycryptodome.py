"""What aero takes from pycryptodome beside its ciphers: points of P-256.

Import this module before any other part of pycryptodome. At its first import pycryptodome decides whether it loads its
libraries by cffi or by ctypes, and keeps to that. Where cffi is installed (`cryptography` brings it along) it would
take cffi, which costs every start 25 ms and 2 MB; so cffi is hidden from it meanwhile. With ctypes it would import
what searches for libraries, which costs as much, and run the program `file` to learn that this is not Windows; so
both are spared.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["EccPoint"]


def _load() -> None:
    """Imports pycryptodome's loader while cffi and the search for libraries are hidden, then shows them again."""
    search = ModuleType("ctypes.util")
    search.find_library = lambda _: None  # type: ignore[attr-defined]
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
    try:  # not by ECC: the formats of keys that it brings along cost 5 ms and 0.3 MB more
        from Crypto.PublicKey._point import EccPoint
    except ImportError:  # another version, which has no such module
        from Crypto.PublicKey.ECC import EccPoint
