"""The ways out that a worker has to its server, from its options and its surroundings, and which one it prefers.

The one that worked last comes first. Where there are several, what worked is kept with the state, by the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from aero import logs
from aero.config.roles import ClientConfig
from aero.endpoint import Endpoint
from aero.errors import AeroError
from aero.net.wayout import Guise, WayOut

log = logs.get("link")


class Outlets:
    """The ways of one configuration, and which of them is in use."""

    def __init__(
        self, config: ClientConfig, environ: Mapping[str, str], before: Outlets | None = None
    ) -> None:
        """``environ``: names a proxy perhaps; ``before``: those of the configuration until now.

        Raises ConfigError where the environment names a proxy that cannot be.
        """
        guise = Guise(
            config.ca,
            config.tls_pin,
            config.tls_insecure,
            config.tls_name,
            config.header,
            config.ws_mask,
            config.link_path,
        )
        self.ways = tuple(_way(each, config, environ, guise) for each in config.server.ways)
        #: The way that was got through by last; before that, the one to begin with.
        self.last: WayOut = before.last if before is not None and before.last in self.ways else self.ways[0]
        self._told: dict[WayOut, str] = {}  # why a way failed the last time, as the log has it
        self._state = config.state
        self._known = len(self.ways) < 2 or self.last is not self.ways[0]  # whether the state was asked

    def in_order(self) -> tuple[WayOut, ...]:
        """All ways, the one to begin with first."""
        if not self._known:
            from aero.worker import networks

            self._known = True
            recalled = networks.recall(self._state, self._digest())
            self.last = next((way for way in self.ways if str(way.endpoint) == recalled), self.last)
        return (self.last, *(way for way in self.ways if way is not self.last))

    def worked(self, way: WayOut) -> None:
        """A way got us through to the server."""
        self.last = way
        self._told.pop(way, None)
        if len(self.ways) > 1:
            from aero.worker import networks

            networks.remember(self._state, self._digest(), str(way.endpoint))

    def failed(self, way: WayOut, error: AeroError) -> None:
        """One of several ways did not get through: a line of the log says why, once until that changes."""
        say = log.debug if self._told.get(way) == str(error) else log.info
        self._told[way] = str(error)
        say("no way to the server", way=way, why=error)

    def _digest(self) -> str:
        """What stands for these ways in the state's file, which workers with other ones share."""
        import hashlib

        return hashlib.sha256("\n".join(str(way.endpoint) for way in self.ways).encode()).hexdigest()[:12]


def _way(endpoint: Endpoint, config: ClientConfig, environ: Mapping[str, str], guise: Guise) -> WayOut:
    """One endpoint with its proxy: the option's for all; the environment's only for what is TLS to a network."""
    proxy = None
    if isinstance(config.proxy, tuple):
        proxy = config.proxy
    elif not config.proxy and endpoint.by_tls:
        from aero.proxies import Surroundings

        proxy = Surroundings.of(environ).proxy_to(endpoint.host, endpoint.port)
    return WayOut(endpoint, proxy, guise)
