"""What a target wants changed in the heads of the requests that it gets from the mux. Pure.

`terms.py` has checked the options; here they become what is done for each request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from aero.headers import check_line, folded

Fields = tuple[tuple[bytes, bytes], ...]


class Alteration(NamedTuple):
    """``host``: what Host says, b"" for the visitor's; ``gone``: fields that are taken out, as `folded`; ``lines``:
    those that are added, whose namesakes are in ``gone``.
    """

    host: bytes
    gone: frozenset[str]
    lines: bytes

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Alteration | None:
        """What a target's options say; None where nothing is changed."""
        host, lines = str(options.get("host", "")), _texts(options, "header-set")
        names = [*_texts(options, "header-remove"), *(line.partition(":")[0] for line in lines)]
        if "auth" in options:
            names.append("Authorization")  # it was meant for the mux
        if not host and not names:
            return None
        added = "".join(f"{check_line(line)}\r\n" for line in lines).encode("ascii")
        return cls(host.encode("ascii"), frozenset(folded(name) for name in names), added)

    def lines_of(self, kept: bytes) -> bytes:
        """Whole header lines as the target gets them."""
        if not self.gone:
            return kept
        left = (line for line in kept.split(b"\r\n") if line and not self._takes(line.partition(b":")[0]))
        return b"".join(b"%b\r\n" % line for line in left) + self.lines

    def fields_of(self, fields: Fields) -> Fields:
        """Names and values, without those that are taken out."""
        return tuple(field for field in fields if not self._takes(field[0]))

    def _takes(self, name: bytes) -> bool:
        return (_folded(name) if len(name) <= _SHORT else _folded.__wrapped__(name)) in self.gone


_SHORT = 64  # names that are remembered: programs have few of them


@lru_cache(512)
def _folded(name: bytes) -> str:
    return folded(name.decode("latin-1"))


def _texts(options: Mapping[str, object], key: str) -> Iterable[str]:
    value = options.get(key, ())
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else []
