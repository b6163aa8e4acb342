"""The configuration that a running server goes by. Knows nothing of where it comes from or what it changes."""

from __future__ import annotations

from aero.config.roles import ServerConfig


class Present:
    """Holds the configuration as it is now; a reload puts a new one in its place."""

    __slots__ = ("config",)

    def __init__(self, config: ServerConfig) -> None:
        """``config``: as it is at the start."""
        self.config = config
