"""Points of P-256, by pycryptodome. Apart from its scrypt: a start stretches a code while these are imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aero.core.pycryptodome  # noqa: F401 - before any other part of pycryptodome

__all__ = ["EccPoint"]

if TYPE_CHECKING:
    from Crypto.PublicKey._point import EccPoint
else:
    try:  # not by ECC: the formats of keys that it brings along cost 5 ms and 0.3 MB more
        from Crypto.PublicKey._point import EccPoint
    except ImportError:  # another version, which has no such module
        from Crypto.PublicKey.ECC import EccPoint
