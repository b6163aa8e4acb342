"""Whether this server compresses. What does is loaded once a worker comes that offers to: 0.6 MB."""

from __future__ import annotations

from aero import logs
from aero.core import features
from aero.core.memory import Memory
from aero.errors import HostError

log = logs.get("server")


class Compression:
    """zstd, for all links of a process: not loaded yet, loaded, or not to be had here."""

    def __init__(self, memory: Memory) -> None:
        """``memory`` gets the packer."""
        self.lacks: set[str] = set()  # options of targets that this host cannot honour
        self._memory = memory
        self._tried = False

    def offered(self, theirs: int) -> int:
        """The bits of core/features.py that this end has, for a worker with these."""
        if theirs & features.ZSTD:
            self.load()
        return features.OFFERED | (features.ZSTD if self._memory.packer is not None else 0)

    def load(self) -> None:
        """Loads it unless that was tried before."""
        if self._tried:
            return
        self._tried = True
        from aero.core import packing

        try:
            self._memory.packer = packing.make(self._memory.incoming.set_aside)
        except HostError as error:
            self.lacks.add("zstd")
            log.info("this host has no zstd: streams go uncompressed", why=error)
